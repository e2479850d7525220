//! Lays out the target disk.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wire::event::Environment;
use wire::facts::{Bus, Disk, DiskContent};
use wire::layout::VolumeRole;

use super::{OnRestart, Outcome, PlanCx, Step, StepCx};
use crate::layout::Layout;
use crate::ports::StepError;
use crate::problem::{Code, Problems};
use crate::size;

/// Erases the selected disk and creates the volumes listed, in this order. Volumes that are already there stay.
///
/// Refuses any disk that is neither blank nor staged for this very machine.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct FormatDisk {
    /// Which disk. The step refuses to run unless exactly one matches; the boot medium never does.
    #[serde(default)]
    pub disk: DiskRule,
    /// The volumes to create: `esp`, `os` and `staging`, once each.
    pub volumes: Vec<VolumeSpec>,
}

/// Selects a disk. Absent keys match every disk.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DiskRule {
    /// The bus it hangs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bus: Option<Bus>,
    /// Whether it is removable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removable: Option<bool>,
    /// The smallest size, such as `100GiB`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_size: Option<Size>,
    /// A part of its model string, letter case ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

/// A volume to create.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct VolumeSpec {
    /// What it is for.
    pub role: VolumeRole,
    /// How large: such as `1GiB`, or `rest` for all that the others leave.
    pub size: VolumeSize,
}

/// A size such as `8GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct Size(#[schemars(with = "String")] pub u64);

impl TryFrom<String> for Size {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        size::parse(&text).map(Self)
    }
}

impl From<Size> for String {
    fn from(size: Size) -> Self {
        format!("{}B", size.0)
    }
}

/// A size such as `8GiB`, or `rest`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum VolumeSize {
    /// This many bytes.
    Bytes(u64),
    /// All that the others leave.
    Rest,
}

impl TryFrom<String> for VolumeSize {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        if text == "rest" {
            Ok(Self::Rest)
        } else {
            size::parse(&text).map(Self::Bytes)
        }
    }
}

impl From<VolumeSize> for String {
    fn from(size: VolumeSize) -> Self {
        match size {
            VolumeSize::Bytes(bytes) => Size(bytes).into(),
            VolumeSize::Rest => "rest".to_owned(),
        }
    }
}

impl DiskRule {
    /// Why the disk doesn't match; `None` if it does.
    fn mismatch(&self, disk: &Disk) -> Option<String> {
        if disk.content == DiskContent::BootMedium {
            return Some("this machine started from it".to_owned());
        }
        if self.bus.is_some_and(|bus| bus != disk.bus) {
            return Some("another bus".to_owned());
        }
        match self.removable {
            Some(true) if !disk.removable => return Some("not removable".to_owned()),
            Some(false) if disk.removable => return Some("removable".to_owned()),
            _ => {}
        }
        if self.min_size.is_some_and(|size| disk.size_bytes < size.0) {
            return Some(format!("only {}", size::in_words(disk.size_bytes)));
        }
        let model = self.model.as_ref().map(|model| model.to_lowercase());
        model
            .is_some_and(|model| !disk.model.to_lowercase().contains(&model))
            .then(|| "another model".to_owned())
    }

    /// Whether the disk matches.
    pub(super) fn matches(&self, disk: &Disk) -> bool {
        self.mismatch(disk).is_none()
    }

    /// The one disk that matches.
    fn only_match<'a>(&self, disks: &'a [Disk]) -> Result<&'a Disk, StepError> {
        let matches: Vec<&Disk> = disks.iter().filter(|disk| self.matches(disk)).collect();
        match matches.as_slice() {
            [disk] => Ok(disk),
            [] => {
                let seen: Vec<String> = disks
                    .iter()
                    .map(|disk| {
                        format!(
                            "{} ({})",
                            disk.path,
                            self.mismatch(disk).unwrap_or_default()
                        )
                    })
                    .collect();
                let seen = if seen.is_empty() {
                    "there is none".to_owned()
                } else {
                    format!("seen: {}", seen.join(", "))
                };
                Err(StepError::refused(format!("no disk matches the disk rule; {seen}"))
                    .hint("check that the disk is built in and enabled in the firmware, or change the disk rule"))
            }
            several => {
                let paths: Vec<&str> = several.iter().map(|disk| disk.path.as_str()).collect();
                Err(StepError::refused(format!("{} disks match the disk rule: {}", paths.len(), paths.join(", ")))
                    .hint("make the disk rule more precise with `bus`, `model`, `min-size` or `removable`"))
            }
        }
    }
}

/// Refuses disks that may hold someone's work.
fn guard(disk: &Disk) -> Result<(), StepError> {
    let (why, hint) = match disk.content {
        DiskContent::Blank | DiskContent::StagedHere => return Ok(()),
        DiskContent::Foreign => (
            "it holds data that is not ours",
            "erase the disk by hand if nothing on it is needed, then start again",
        ),
        DiskContent::DeployedHere => (
            "this machine has been handed out since it was staged, and may hold someone's work",
            "erase the disk by hand if nothing on it is needed, then start again",
        ),
        DiskContent::StagedElsewhere => (
            "it was staged for another machine",
            "put the disk back where it belongs, or erase it by hand",
        ),
        DiskContent::BootMedium => (
            "it holds the medium this machine started from",
            "add `removable: false` to the disk rule",
        ),
    };
    Err(StepError::refused(format!("refused to format {}: {why}", disk.path)).hint(hint))
}

impl FormatDisk {
    /// The bytes of all volumes with a size of their own.
    pub(crate) fn fixed_bytes(&self) -> u64 {
        let bytes = |volume: &VolumeSpec| match volume.size {
            VolumeSize::Bytes(bytes) => bytes,
            VolumeSize::Rest => 0,
        };
        self.volumes.iter().map(bytes).sum()
    }

    /// The bytes of the OS volume, if it doesn't take the rest.
    pub(crate) fn os_bytes(&self) -> Option<u64> {
        let os = |volume: &&VolumeSpec| volume.role == VolumeRole::Os;
        match self.volumes.iter().find(os)?.size {
            VolumeSize::Bytes(bytes) => Some(bytes),
            VolumeSize::Rest => None,
        }
    }

    fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        for role in [VolumeRole::Esp, VolumeRole::Os, VolumeRole::Staging] {
            let count = self
                .volumes
                .iter()
                .filter(|volume| volume.role == role)
                .count();
            if count != 1 {
                mistakes.push(format!(
                    "the volume `{role}` stands {count} times in `volumes`, it must be there once"
                ));
            }
        }
        if self
            .volumes
            .iter()
            .filter(|volume| volume.size == VolumeSize::Rest)
            .count()
            > 1
        {
            mistakes.push("only one volume can take the rest".to_owned());
        }
        if self
            .volumes
            .iter()
            .any(|volume| volume.size == VolumeSize::Bytes(0))
        {
            mistakes.push("a volume can't be empty".to_owned());
        }
        mistakes
    }
}

/// The layout, as the journal keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Plan(pub Layout);

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Step for FormatDisk {
    const KIND: &'static str = "format-disk";
    const EXAMPLE: &'static str = r"- id: disk
  timeout: 5m
  format-disk:
    disk: { bus: nvme, removable: false }
    volumes:
      - { role: esp, size: 1GiB }
      - { role: os, size: rest }
      - { role: staging, size: 24GiB }
";
    type Plan = Plan;
    const ON_RESTART: OnRestart = OnRestart::Redo;
    const WIPES: bool = true;
    const FITS_FACTORY: bool = true;
    const MAKES_STAGING: bool = true;
    const OBSERVES: bool = true;
    const NEEDS: Option<Environment> = Some(Environment::BootImage);

    fn check(&self, problems: &mut Problems) {
        for mistake in self.mistakes() {
            problems.error(
                Code::Step,
                mistake,
                "a usual list: esp 1GiB, os rest, staging 8GiB",
            );
        }
        if self.disk.removable != Some(false) {
            problems.warning(
                Code::Step,
                "the disk rule also matches removable disks",
                "add `removable: false`, so that a forgotten USB disk is never a candidate",
            );
        }
    }

    fn plan(&self, cx: &PlanCx<'_>) -> Result<Plan, StepError> {
        if let Some(mistake) = self.mistakes().into_iter().next() {
            return Err(StepError::refused(mistake));
        }
        let disk = self.disk.only_match(&cx.facts.disks)?;
        guard(disk)?;
        let volumes: Vec<(VolumeRole, Option<u64>)> = self
            .volumes
            .iter()
            .map(|volume| match volume.size {
                VolumeSize::Bytes(bytes) => (volume.role, Some(bytes)),
                VolumeSize::Rest => (volume.role, None),
            })
            .collect();
        Layout::new(&disk.path, disk.size_bytes, &volumes).map(Plan)
    }

    fn apply(&self, plan: Plan, cx: &StepCx<'_>) -> Result<Outcome, StepError> {
        cx.machine().write_layout(&plan.0, cx.progress())?;
        Ok(Outcome::done().output(serde_json::json!({ "disk": plan.0.disk })))
    }
}
