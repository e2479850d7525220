//! At the factory: from the boot medium to a staged disk and a receipt. No network, no key press, no question.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use camino::Utf8PathBuf;
use content::{Bundle, Manifest, NoMeter, Verified};
use ed25519_dalek::VerifyingKey;
use sequence::engine::{RunEnd, World};
use serde_json::json;
use wire::boot_config::Trust;
use wire::bundle::BundleRoot;
use wire::device_api::Staged;
use wire::event::FinishAction;
use wire::facts::Facts;
use wire::layout::{MEDIUM_BOOT_PARTITION_NAME, MEDIUM_BUNDLE_PARTITION_NAME};
use wire::names::{DeviceId, RunId};
use wire::order::Order;
use wire::package::{Model, Package, PackageKind};
use wire::receipt::SecureBootState;

use crate::block::BlockFile;
use crate::clock::MachineClock;
use crate::connection::write_staged;
use crate::content_port::{MediumSource, RunContent};
use crate::device_key::parse_hex;
use crate::files::SystemFiles;
use crate::journal::RunJournal;
use crate::machine::linux::LinuxMachine;
use crate::machine::volumes::Volumes;
use crate::receipt::{self, Ending};
use crate::runner::{self, Listeners};
use crate::screen::Phase;
use crate::secure_boot::{Firmware, WouldNotStart};
use crate::view::Board;
use crate::{clock, log, power};

/// A slow hub shows its stick within a minute.
const MEDIUM_WAIT: Duration = Duration::from_secs(60);
/// How long DONE stands before the power goes, so that someone across the hall sees it.
const DONE_PAUSE: Duration = Duration::from_secs(5);
const DONE_PAUSE_QUICK: Duration = Duration::from_secs(1);

/// What is known so far, for the receipt.
#[derive(Default)]
pub(crate) struct Known {
    pub(crate) ending: Ending,
    /// What to do about a failure before the first step, if more is known than usual.
    hint: Option<&'static str>,
    receipt_node: Option<PathBuf>,
    action: Option<FinishAction>,
}

/// Stages this machine. Ends with the power going off, or with a screen that says what went wrong.
pub(crate) fn run(
    board: &Arc<Board>,
    volumes: &Arc<Volumes>,
    trust: &Result<Trust>,
    is_quick: bool,
) -> ! {
    let facts = volumes.kernel.facts();
    board.set_machine(&facts);
    let mut known = Known::default();
    let result = match trust {
        Ok(trust) => stage(board, volumes, trust, &facts, &mut known),
        Err(error) => Err(anyhow::anyhow!("{error:#}")),
    };
    known.ending.seconds = clock::uptime_ms() / 1000;
    if let Err(error) = &result
        && known.ending.errors.is_empty()
    {
        known.ending.errors = error.chain().map(ToString::to_string).collect();
    }
    known.ending.disk = volumes
        .own_disk()
        .ok()
        .flatten()
        .map(|path| path.to_string_lossy().into_owned());
    let written = write_receipt(volumes, &known);
    match result {
        Ok(()) => done(board, volumes, &known, written, is_quick),
        Err(_) => failed(board, volumes, &known),
    }
}

fn done(board: &Board, volumes: &Volumes, known: &Known, written: Result<()>, is_quick: bool) -> ! {
    let message = match &written {
        Ok(()) => starts_only(known).unwrap_or_default(),
        Err(_) => {
            "Staged, but the receipt could not be written: the medium is write-protected or full."
                .to_owned()
        }
    };
    board.set_phase(Phase::StagedDone, &message);
    log::milestone(
        "stage-done",
        json!({ "seconds": known.ending.seconds, "receipt": written.is_ok() }),
    );
    volumes.release_all();
    clock::pause(if is_quick {
        DONE_PAUSE_QUICK
    } else {
        DONE_PAUSE
    });
    match known.action {
        Some(FinishAction::Restart) => power::restart(volumes),
        Some(FinishAction::Stay) => power::stay(),
        Some(FinishAction::ShutDown) | None => power::off(volumes),
    }
}

/// Of a machine that is staged, and will not start once somebody switches Secure Boot on.
fn starts_only(known: &Known) -> Option<String> {
    let why = known.ending.secure_boot.as_ref()?.refuses.first()?;
    Some(format!(
        "Staged. It starts only while Secure Boot is off: {why}."
    ))
}

fn failed(board: &Board, volumes: &Volumes, known: &Known) -> ! {
    let step = &known.ending.failed_step;
    if step.is_none() {
        let hint = known
            .hint
            .unwrap_or("switch off, check the boot medium and this machine's model, and try again");
        board.fail(&known.ending.errors, hint);
    }
    log::milestone(
        "stage-failed",
        json!({ "step": step, "errors": known.ending.errors }),
    );
    volumes.release_all();
    power::stay()
}

fn write_receipt(volumes: &Volumes, known: &Known) -> Result<()> {
    let node = known
        .receipt_node
        .as_ref()
        .context("there is no boot medium")?;
    let receipt = receipt::make(&volumes.kernel.facts(), &known.ending);
    match receipt::write(node, &receipt) {
        Ok(file) => {
            log::milestone(
                "receipt-written",
                json!({ "file": file, "result": receipt.result }),
            );
            Ok(())
        }
        Err(error) => {
            log::warn("the receipt is not written; the screen says so", &error);
            Err(error)
        }
    }
}

fn stage(
    board: &Arc<Board>,
    volumes: &Arc<Volumes>,
    trust: &Trust,
    facts: &Facts,
    known: &mut Known,
) -> Result<()> {
    board.set_phase(Phase::Starting, "Looking for the boot medium.");
    let medium = open_medium(volumes, known)?;
    stage_from(medium, board, volumes, trust, facts, known)
}

/// Stages from a medium that was found. Everything that can be wrong with the bundle but its chunks is refused before the
/// first write: see `docs/formats/bundle.md`.
pub(crate) fn stage_from(
    medium: BlockFile,
    board: &Arc<Board>,
    volumes: &Arc<Volumes>,
    trust: &Trust,
    facts: &Facts,
    known: &mut Known,
) -> Result<()> {
    let bundle = open_bundle(medium, trust)?;
    let root = bundle.root().clone();
    let staged = Staged {
        prestage: root.prestage.clone(),
        version: root.version,
        bundle: bundle.root_digest(),
    };
    known.ending.prestage = Some((root.prestage.clone(), root.version, staged.bundle));
    board.set_bundle(&format!(
        "{}@{} {}",
        root.prestage,
        root.version,
        staged.bundle.short()
    ));
    ensure!(
        fits(&root.model, facts),
        "this bundle is for {}, and this machine is a {} {}",
        root.model,
        facts.vendor,
        facts.product
    );
    judge_boot_images(&bundle, volumes, known)?;
    let order = order_of(root);
    let medium = MediumSource::start(bundle).context("cannot read the medium in the background")?;
    let content = RunContent::of_medium(order.packages.clone(), Arc::clone(volumes), medium);
    let machine = LinuxMachine::new(Arc::clone(volumes)).with_staged(staged.clone());
    let mut journal = RunJournal::open(order.run, Arc::clone(volumes) as _, None)?;
    board.begin_run(Phase::Staging, None, 0, &[]);
    let listeners = Listeners::new(Arc::clone(board), None);
    let world = World {
        machine: &machine,
        content: &content,
        observer: &listeners,
        clock: &MachineClock,
    };
    let end =
        runner::run(&order, &mut journal, &world, false).context("cannot write the journal")?;
    match end {
        RunEnd::Done(action) => {
            known.action = Some(action);
            // A replaced sequence may have no step that installs a boot image, which would have written it.
            write_staged(&SystemFiles, volumes.mount_staging()?, &staged)
        }
        RunEnd::Failed | RunEnd::Aborted => {
            let run = board.run();
            known.ending.failed_step = run.failed_step.map(|path| path.to_string());
            known.ending.errors = run.errors;
            bail!("staging failed")
        }
        RunEnd::Suspended(_) => {
            bail!("the stage sequence wants a restart, which staging has no use for")
        }
    }
}

/// Whether this machine's firmware would start the boot images of the bundle. If it wouldn't, and enforces Secure Boot, the
/// machine is refused before the first write; if it doesn't enforce it, the receipt says so.
///
/// They are unpacked where the step that installs them finds them, so nothing is read twice.
fn judge_boot_images(
    bundle: &Bundle<BlockFile, Verified>,
    volumes: &Volumes,
    known: &mut Known,
) -> Result<()> {
    let Some(firmware) = Firmware::read(&volumes.kernel)? else {
        return Ok(());
    };
    let mut objections = Vec::new();
    if firmware.state != SecureBootState::SetupMode {
        let packages = bundle.root().packages.iter();
        for package in packages.filter(|package| package.kind == PackageKind::BootImage) {
            let folder = unpack(bundle, package, volumes)
                .with_context(|| format!("cannot unpack {} {}", package.name, package.version))?;
            objections.extend(firmware.objections(&folder)?);
        }
    }
    log::milestone(
        "secure-boot",
        json!({ "state": firmware.state, "refuses": objections }),
    );
    let said = objections.join("; ");
    known.ending.secure_boot = Some(firmware.receipt(objections));
    if firmware.is_enforced() && !said.is_empty() {
        known.hint = Some(WouldNotStart::HINT);
        return Err(WouldNotStart(said).into());
    }
    Ok(())
}

/// The package's files, in memory.
fn unpack(
    bundle: &Bundle<BlockFile, Verified>,
    package: &Package,
    volumes: &Volumes,
) -> Result<Utf8PathBuf> {
    let mut manifests = bundle.manifests().iter();
    let (_, bytes) = manifests
        .find(|(digest, _)| *digest == package.manifest)
        .context("its manifest isn't in the bundle")?;
    let folder = volumes.scratch_of(package)?;
    let manifest = Manifest::decode(bytes)?;
    content::converge_tree(&manifest, &folder, &[bundle], &NoMeter)?;
    Ok(folder)
}

/// Finds the medium, and on it the partition with the bundle.
fn open_medium(volumes: &Volumes, known: &mut Known) -> Result<BlockFile> {
    let find = |name: &str| {
        volumes
            .kernel
            .partitions()
            .into_iter()
            .find(|part| part.name == name)
    };
    let mut found = None;
    clock::wait_until(MEDIUM_WAIT, || {
        found = find(MEDIUM_BUNDLE_PARTITION_NAME).filter(|part| part.node.exists());
        found.is_some()
    });
    let Some(partition) = found else {
        log::milestone("no-medium", json!({ "seconds": MEDIUM_WAIT.as_secs() }));
        bail!(
            "no boot medium with a bundle was found within {} seconds",
            MEDIUM_WAIT.as_secs()
        );
    };
    log::milestone("medium-found", json!({ "partition": partition.node }));
    let boot = volumes.kernel.partitions().into_iter();
    let mut boot =
        boot.filter(|part| part.name == MEDIUM_BOOT_PARTITION_NAME && part.disk == partition.disk);
    known.receipt_node = boot.next().map(|part| part.node);
    BlockFile::read_only(&partition.node)
        .with_context(|| format!("cannot open {}", partition.node.display()))
}

/// Checks the bundle's signature, manifests and indexes.
fn open_bundle(medium: BlockFile, trust: &Trust) -> Result<Bundle<BlockFile, Verified>> {
    let available = medium.length();
    let bundle =
        Bundle::open(medium, available).context("the bundle on the boot medium can't be used")?;
    bundle
        .verify(&bundle_keys(trust)?)
        .context("the bundle on the boot medium can't be trusted")
}

fn bundle_keys(trust: &Trust) -> Result<Vec<VerifyingKey>> {
    let keys: Option<Vec<VerifyingKey>> = trust
        .bundle_keys
        .iter()
        .map(|text| VerifyingKey::from_bytes(&parse_hex(text.as_bytes())?).ok())
        .collect();
    keys.context("the boot image trusts a key that is none")
}

/// Whether the bundle is for this machine. What the bundle leaves empty, it does not care about.
fn fits(model: &Model, facts: &Facts) -> bool {
    let same =
        |wanted: &str, found: &str| wanted.trim().to_lowercase() == found.trim().to_lowercase();
    let optional = |wanted: &str, found: &str| wanted.trim().is_empty() || same(wanted, found);
    same(&model.vendor, &facts.vendor)
        && same(&model.product, &facts.product)
        && optional(&model.sku, &facts.sku)
        && optional(&model.baseboard, &facts.baseboard)
}

/// The order of a staging: made on the spot, for whichever device this is.
fn order_of(root: BundleRoot) -> Order {
    Order {
        format: 1,
        run: RunId::random(),
        device: DeviceId(uuid::Uuid::nil()),
        deployment: None,
        sequence: root.stage,
        variables: BTreeMap::new(),
        packages: root.packages,
        expected_seconds: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_fits_its_model_only() {
        let facts = Facts {
            vendor: "ACME ".into(),
            product: "Book 14".into(),
            sku: "B14-8".into(),
            ..Facts::default()
        };
        let model = Model {
            vendor: "Acme".into(),
            product: "Book 14".into(),
            ..Model::default()
        };
        assert!(fits(&model, &facts));
        assert!(fits(
            &Model {
                sku: "b14-8".into(),
                ..model.clone()
            },
            &facts
        ));
        assert!(!fits(
            &Model {
                sku: "B14-16".into(),
                ..model.clone()
            },
            &facts
        ));
        assert!(!fits(
            &Model {
                product: "Book 1".into(),
                ..model.clone()
            },
            &facts
        ));
        assert!(!fits(
            &Model {
                baseboard: "X".into(),
                ..model
            },
            &facts
        ));
        assert!(
            !fits(&Model::default(), &facts),
            "a bundle without a model fits nothing"
        );
    }

    #[test]
    fn keys_are_all_or_nothing() {
        let key = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        let mut trust = Trust {
            format: 1,
            server_urls: vec![],
            ca_pem: String::new(),
            bundle_keys: vec![key.into()],
            wipe_keys: Vec::new(),
        };
        assert_eq!(bundle_keys(&trust).unwrap().len(), 1);
        trust.bundle_keys.push("zz".into());
        assert!(bundle_keys(&trust).is_err());
    }
}
