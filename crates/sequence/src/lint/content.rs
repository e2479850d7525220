//! Drivers and disk sizes: what the published packages and the known models tell.

use super::{Linter, Surroundings};
use crate::document::ParsedStep;
use crate::problem::Code;
use crate::size;
use crate::steps::apply_drivers::{Ambiguous, ApplyDrivers, choose};
use crate::steps::apply_image::ApplyImage;
use crate::steps::format_disk::FormatDisk;
use crate::steps::{PackageUse, Step};

/// What partition tables and alignment take at most.
const OVERHEAD_BYTES: u64 = 4 << 20;

impl Linter {
    /// Models with two drivers that fit equally well, and models without any.
    pub(super) fn drivers(&mut self, steps: &[ParsedStep], around: &Surroundings<'_>) {
        let applies = |step: &&ParsedStep| step.compiled.kind == ApplyDrivers::KIND;
        let Some(step) = steps.iter().find(applies) else {
            return;
        };
        for known in around.models {
            match choose(around.packages, &known.model) {
                Ok(Some(_)) => {}
                Ok(None) => {
                    let message = format!("no driver is published for {}", known.model);
                    let hint =
                        "publish one with a model rule, or leave it if the OS brings all drivers";
                    self.warning(Code::Driver, step.place, message, hint);
                }
                Err(ambiguous) => {
                    let hint = Some(Ambiguous::HINT.to_owned());
                    self.error(Code::Driver, step.place, ambiguous.to_string(), hint);
                }
            }
        }
    }

    /// Volumes and OS images that don't fit on the smallest disk seen of a model.
    pub(super) fn disks(&mut self, steps: &[ParsedStep], around: &Surroundings<'_>) {
        let layout = steps
            .iter()
            .find(|step| step.compiled.kind == FormatDisk::KIND)
            .and_then(|step| {
                let format: FormatDisk = serde_json::from_value(step.compiled.with.clone()).ok()?;
                Some((step, format))
            });
        let Some((format_step, format)) = layout else {
            return;
        };
        for known in around.models {
            let Some(disk_bytes) = known.smallest_disk_bytes else {
                continue;
            };
            let Some(left_bytes) = disk_bytes.checked_sub(format.fixed_bytes() + OVERHEAD_BYTES)
            else {
                let message = format!(
                    "the volumes take {}, and the smallest disk seen of {} has {}",
                    size::in_words(format.fixed_bytes()),
                    known.model,
                    size::in_words(disk_bytes)
                );
                let hint = Some("make the volumes smaller".to_owned());
                self.error(Code::DiskSize, format_step.place, message, hint);
                continue;
            };
            let os_bytes = format.os_bytes().unwrap_or(left_bytes);
            self.images(steps, around, os_bytes, known);
        }
    }

    fn images(
        &mut self,
        steps: &[ParsedStep],
        around: &Surroundings<'_>,
        os_bytes: u64,
        known: &super::KnownModel,
    ) {
        let applied = steps
            .iter()
            .filter(|step| step.compiled.kind == ApplyImage::KIND);
        for step in applied {
            for wanted in step.step.iter().flat_map(|step| step.packages()) {
                let PackageUse::Named(name, kind) = wanted else {
                    continue;
                };
                let found = around
                    .packages
                    .iter()
                    .find(|package| package.name == name && package.kind == kind);
                if let Some(package) = found.filter(|package| package.content_bytes > os_bytes) {
                    let message = format!(
                        "{name} needs at least {}, and the OS volume of {} gets {}",
                        size::in_words(package.content_bytes),
                        known.model,
                        size::in_words(os_bytes)
                    );
                    let hint = "make the image or the other volumes smaller";
                    self.error(Code::DiskSize, step.place, message, Some(hint.to_owned()));
                }
            }
        }
    }
}
