//! Secure Boot with own keys, on firmware that enforces it: what we sign starts, what we don't sign and what was altered
//! doesn't, and what wouldn't start is said before the disk is touched.
//!
//! The firmware's variables are written before power-on, as a vendor would enrol keys; the firmware itself decides what starts.

mod firmware;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use testkit::vm::{AgentLine, Bus, Network, Start, Vm, VmDisk, VmSpec};
use wire::layout::MEDIUM_BOOT_PARTITION_NAME;
use wire::receipt::{Receipt, ReceiptResult, SecureBootState};

use crate::check;
use crate::console::{chapter, failure, results, say};
use crate::documents;
use crate::fleet::Laptop;
use crate::scenarios::shared::Shared;
use crate::world::{Places, World};
use firmware::{Enrolled, Firmware};

/// What firmware says of a program that it doesn't start.
const DENIED: &str = "Access Denied";
/// What it says when there is nothing else to start.
const NOTHING_STARTS: &str = "No bootable option or device was found";

type Scenario = fn(&Signed) -> Result<()>;

const SCENARIOS: &[(&str, Scenario)] = &[
    (
        "a signed stick stages, the disk deploys, the OS starts",
        whole_path,
    ),
    (
        "an unsigned stick and one with an altered byte don't start",
        strangers,
    ),
    ("a boot image that was withdrawn, enforced", withdrawn),
    (
        "a boot image that was withdrawn, not enforced",
        withdrawn_but_off,
    ),
];

/// How many machines run side by side: two cores, and firmware is single-threaded.
const SIDE_BY_SIDE: usize = 2;

/// A world whose boot images are signed.
struct Signed {
    shared: Shared,
    firmware: Firmware,
    keys: Utf8PathBuf,
    boot_image: Utf8PathBuf,
}

/// Runs all scenarios.
pub(crate) fn run() -> Result<()> {
    chapter(0, "Secure Boot with own keys");
    let world = World::start(Places::new("secure-boot")?)?;
    let firmware = Firmware::new(&world.places)?;
    let keys = world.places.work.join("keys");
    world.run(&[
        "secure-boot",
        "create-keys",
        keys.as_str(),
        "--name",
        "Ås kommune",
    ])?;
    let boot_image = world.boot_image(Some(&keys))?;
    let shared = Shared::with_boot_image(world, &boot_image, true, &["tiny"])?;
    let signed = Signed {
        shared,
        firmware,
        keys,
        boot_image,
    };
    let queue = std::sync::Mutex::new(SCENARIOS.iter());
    let next = || queue.lock().expect("taking the next never panics").next();
    let work = || {
        let mut failed = 0;
        while let Some((title, scenario)) = next() {
            let start = Instant::now();
            let outcome = scenario(&signed);
            let seconds = start.elapsed().as_secs();
            match outcome {
                Ok(()) => say(&format!("\x1b[32mok\x1b[0m      {title} ({seconds} s)")),
                Err(error) => {
                    say(&format!("\x1b[31mFAILED\x1b[0m  {title} ({seconds} s)"));
                    failure(&error);
                    failed += 1;
                }
            }
        }
        failed
    };
    let failed: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..SIDE_BY_SIDE).map(|_| scope.spawn(work)).collect();
        let counts = threads.into_iter().map(|thread| thread.join());
        counts.map(|count| count.expect("no scenario panics")).sum()
    });
    results(SCENARIOS.len() - failed, failed);
    let world = &signed.shared.world;
    if failed > 0 {
        bail!(
            "{failed} scenarios failed; their logs are in {}",
            world.places.work
        );
    }
    let page = world.places.root.join(documents::RUN_WITH_SECURE_BOOT);
    let text = std::fs::read_to_string(&page).with_context(|| format!("cannot read {page}"))?;
    let shown = documents::check_text(&text, &world.commands())
        .with_context(|| documents::RUN_WITH_SECURE_BOOT)?;
    say(&format!("all {shown} commands of its guide were run"));
    Ok(())
}

/// From the signed stick to the installed OS, all of it with Secure Boot on.
fn whole_path(signed: &Signed) -> Result<()> {
    let shared = &signed.shared;
    let laptop = shared.laptop("SBOK-0001")?;
    shared.import(&laptop, "tiny")?;
    let variables = signed.variables("enforced", true, None)?;
    let stick = laptop.stick(&shared.stick)?;
    let mut vm = signed.start(&laptop, "factory", &[&stick], Network::None, &variables)?;
    vm.wait_for_milestone("stage-done")?;
    vm.wait_for_power_off()?;
    let said = receipt(&stick, &laptop)?
        .secure_boot
        .context("the receipt says nothing of Secure Boot")?;
    ensure!(
        said.state == SecureBootState::Enforced && said.refuses.is_empty(),
        "the receipt says {said:?}"
    );
    shared.world.run(&["receipt", "import", stick.as_str()])?;
    shared.world.run(&["receipt", "list"])?;
    let network = shared.network(&laptop, "school");
    let mut vm = signed.start(&laptop, "school", &[], network, &variables)?;
    vm.wait_for_milestone("reported")?;
    vm.wait_for_power_off()?;
    // Its own firmware starts Debian's kernel as Debian signed it, and once more with the kernel that the OS got meanwhile.
    for (name, entry, update) in [
        ("os", "forestage-os.conf", "done"),
        ("os-again", "forestage-os-b.conf", "none"),
    ] {
        let mut vm = signed.start(&laptop, name, &[], Network::None, &variables)?;
        let os = vm.wait_for_milestone("os-started")?.value;
        ensure!(
            os["facts"]["secure-boot"] == true && os["entry"] == entry && os["update"] == update,
            "the OS says {os}"
        );
        vm.wait_for_power_off()?;
    }
    laptop.discard()
}

/// Two sticks: ours without a signature, and ours with one byte changed in its kernel. Firmware starts neither.
fn strangers(signed: &Signed) -> Result<()> {
    let laptop = signed.shared.laptop("SBNO-0001")?;
    let stick = laptop.stick(&signed.shared.stick)?;
    let altered = laptop.folder().join("altered.img");
    crate::fleet::copy_sparse(&stick, &altered)?;
    alter(&altered, |image| {
        let entry = signatures_entry(image)?;
        let signed_bytes = u32::from_le_bytes(image[entry..entry + 4].try_into()?) as usize;
        image[signed_bytes / 2] ^= 1;
        Ok(())
    })?;
    alter(&stick, without_signature)?;
    let variables = signed.variables("strangers", true, None)?;
    let sticks = [&*stick, &*altered];
    let mut vm = signed.start(&laptop, "strangers", &sticks, Network::None, &variables)?;
    let is_ended = |line: &str| match AgentLine::parse(line) {
        Some(_) => Some(false),
        None => line.contains(NOTHING_STARTS).then_some(true),
    };
    let is_refused = vm.wait_for_line("the end of what firmware tries", is_ended)?;
    ensure!(is_refused, "something of ours was started");
    let denied = vm.lines().iter().filter(|(_, line)| line.contains(DENIED));
    let denied = denied.count();
    ensure!(
        denied >= sticks.len(),
        "firmware refused {denied} of two sticks"
    );
    vm.cut_power();
    laptop.discard()
}

/// The stick starts, but what it would install doesn't: the disk isn't touched.
fn withdrawn(signed: &Signed) -> Result<()> {
    let laptop = signed.shared.laptop("SBDX-0001")?;
    let deploy = signed.boot_image.join("deploy.efi");
    let variables = signed.variables("withdrawn", true, Some(&deploy))?;
    let stick = laptop.stick(&signed.shared.stick)?;
    let mut vm = signed.start(&laptop, "factory", &[&stick], Network::None, &variables)?;
    let line = vm.wait_for("the refusal", |line| {
        line.is_milestone("stage-failed") || line.is_milestone("stage-done")
    })?;
    ensure!(
        line.is_milestone("stage-failed"),
        "staging succeeded, but must not"
    );
    laptop.picture(&vm, "refused")?;
    vm.cut_power();
    let receipt = receipt(&stick, &laptop)?;
    let said = receipt.errors.join(": ");
    ensure!(
        receipt.result == ReceiptResult::Failed
            && said.contains("deploy.efi")
            && said.contains("dbx"),
        "the receipt says {receipt:?}"
    );
    // A blank disk is a file without a single block; the first write would give it one.
    let blocks = std::fs::metadata(&laptop.disk)?.blocks();
    ensure!(blocks == 0, "something was written to the disk");
    laptop.discard()
}

/// The same with Secure Boot switched off: it is staged, and said.
fn withdrawn_but_off(signed: &Signed) -> Result<()> {
    let laptop = signed.shared.laptop("SBOF-0001")?;
    let deploy = signed.boot_image.join("deploy.efi");
    let variables = signed.variables("off", false, Some(&deploy))?;
    let stick = laptop.stick(&signed.shared.stick)?;
    let mut vm = signed.start(&laptop, "factory", &[&stick], Network::None, &variables)?;
    vm.wait_for_milestone("stage-done")?;
    vm.wait_for_power_off()?;
    let receipt = receipt(&stick, &laptop)?;
    let said = receipt
        .secure_boot
        .context("the receipt says nothing of Secure Boot")?;
    ensure!(
        receipt.result == ReceiptResult::Staged
            && said.state == SecureBootState::Off
            && said.refuses.len() == 1
            && said.refuses[0].starts_with("deploy.efi"),
        "the receipt says {said:?}"
    );
    let bundle = check::open_bundle(&signed.shared.bundle, &signed.shared.world.trust()?)?;
    check::staged_disk(&laptop.disk, &bundle)?;
    laptop.discard()
}

impl Signed {
    /// Variables with our keys; `dbx` names `withdrawn` if there is one.
    fn variables(
        &self,
        name: &str,
        is_enforced: bool,
        withdrawn: Option<&Utf8Path>,
    ) -> Result<Utf8PathBuf> {
        let enrolled = Enrolled {
            keys: &self.keys,
            is_enforced,
            withdrawn,
        };
        self.firmware.variables(name, &enrolled)
    }

    /// Switches a laptop on, with these sticks in it.
    fn start(
        &self,
        laptop: &Laptop,
        name: &str,
        sticks: &[&Utf8Path],
        network: Network,
        variables: &Utf8Path,
    ) -> Result<Vm> {
        let stick = |path: &&Utf8Path| VmDisk {
            path: path.to_path_buf(),
            bus: Bus::Usb,
        };
        let mut disks: Vec<VmDisk> = sticks.iter().map(stick).collect();
        disks.push(laptop.own_disk());
        Vm::start(&VmSpec {
            start: Start::SecureBoot {
                variables: variables.to_owned(),
            },
            memory_mib: 1024,
            // Firmware in system management mode takes twice as long with two.
            cpus: 1,
            ..laptop.spec(name, disks, network)
        })
    }
}

fn receipt(stick: &Utf8Path, laptop: &Laptop) -> Result<Receipt> {
    media::medium::read_receipts(stick)?
        .into_iter()
        .filter_map(|file| file.receipt.ok())
        .find(|receipt| receipt.serial == laptop.identity.serial)
        .context("the stick has no receipt")
}

/// Changes the boot image of a stick where it lies.
fn alter(stick: &Utf8Path, change: impl FnOnce(&mut [u8]) -> Result<()>) -> Result<()> {
    let mut file = File::options().read(true).write(true).open(stick)?;
    let table = gptman::GPT::find_from(&mut file)?;
    let (_, boot) = table
        .iter()
        .find(|(_, entry)| entry.partition_name.as_str() == MEDIUM_BOOT_PARTITION_NAME)
        .context("the stick has no boot partition")?;
    let start = boot.starting_lba * table.sector_size;
    let mut volume = vec![0; usize::try_from((boot.ending_lba + 1) * table.sector_size - start)?];
    file.seek(SeekFrom::Start(start))?;
    file.read_exact(&mut volume)?;
    // A fresh volume holds one file, in one piece.
    let at = volume
        .windows(4)
        .position(|window| window == b"MZ\x90\0")
        .context("the stick has no boot image")?;
    change(&mut volume[at..])?;
    file.seek(SeekFrom::Start(start))?;
    file.write_all(&volume)?;
    Ok(())
}

/// Takes the place of the signatures out of the header: firmware finds none.
fn without_signature(image: &mut [u8]) -> Result<()> {
    let entry = signatures_entry(image)?;
    image[entry..entry + 8].fill(0);
    Ok(())
}

/// Where the header of a signed image says where its signatures begin: behind all that is signed.
fn signatures_entry(image: &[u8]) -> Result<usize> {
    let pe = u32::from_le_bytes(image[0x3c..0x40].try_into()?) as usize;
    ensure!(
        &image[pe..pe + 4] == b"PE\0\0",
        "the stick's boot image has no PE header"
    );
    let entry = pe + 24 + 112 + 4 * 8;
    ensure!(
        image[entry..entry + 8] != [0; 8],
        "the stick's boot image isn't signed"
    );
    Ok(entry)
}
