//! At the factory.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use camino::Utf8Path;
use testkit::vm::AgentLine;
use wire::layout::MEDIUM_BUNDLE_PARTITION_NAME;
use wire::receipt::{Receipt, ReceiptResult};

use super::shared::Shared;
use crate::check;
use crate::fleet::Laptop;

/// One flipped bit in the signed root: refused before the first write.
pub(super) fn altered_root(shared: &Shared) -> Result<()> {
    let laptop = shared.laptop("ROOT-0001")?;
    let stick = laptop.stick(&shared.stick)?;
    flip_bit(&stick, 300)?;
    let said = refused(shared, &laptop, &stick)?;
    ensure!(
        said.contains("sign"),
        "the reason must name the signature: {said}"
    );
    ensure!(
        is_untouched(&laptop.disk)?,
        "something was written to the disk"
    );
    Ok(())
}

/// One flipped bit in the middle of the content: refused, and the disk does not start.
pub(super) fn altered_chunk(shared: &Shared) -> Result<()> {
    let laptop = shared.laptop("CHNK-0001")?;
    let stick = laptop.stick(&shared.stick)?;
    flip_bit(&stick, std::fs::metadata(&shared.bundle)?.len() / 2)?;
    refused(shared, &laptop, &stick)?;
    let disk = File::open(&laptop.disk)?;
    ensure!(
        !contains(disk, b"systemd-boot")?,
        "a boot manager is on a disk that was not finished"
    );
    Ok(())
}

/// Too small for the layout: refused before the first write.
pub(super) fn small_disk(shared: &Shared) -> Result<()> {
    let laptop = shared.laptop("SMAL-0001")?;
    File::options()
        .write(true)
        .open(&laptop.disk)?
        .set_len(256 << 20)?;
    let said = refused(shared, &laptop, &laptop.stick(&shared.stick)?)?;
    ensure!(
        said.contains("small") || said.contains("MiB"),
        "the reason must name the size: {said}"
    );
    ensure!(
        is_untouched(&laptop.disk)?,
        "something was written to the disk"
    );
    Ok(())
}

/// A disk with somebody's filesystem on it: not one byte is changed.
pub(super) fn foreign_disk(shared: &Shared) -> Result<()> {
    let laptop = shared.laptop("FRGN-0001")?;
    let status = Command::new("mke2fs")
        .args([
            "-q",
            "-t",
            "ext4",
            "-F",
            "-L",
            "bilder",
            laptop.disk.as_str(),
        ])
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .status()?;
    ensure!(status.success(), "cannot make a filesystem");
    let before = digest(&laptop.disk)?;
    refused(shared, &laptop, &laptop.stick(&shared.stick)?)?;
    ensure!(
        digest(&laptop.disk)? == before,
        "the disk of somebody else was changed"
    );
    Ok(())
}

/// A stick for another model: refused before the first write.
pub(super) fn other_model(shared: &Shared) -> Result<()> {
    let mut laptop = shared.laptop("MODL-0001")?;
    "Note 15".clone_into(&mut laptop.identity.product);
    let said = refused(shared, &laptop, &laptop.stick(&shared.stick)?)?;
    ensure!(
        said.contains("Book 14") && said.contains("Note 15"),
        "the reason must name both models: {said}"
    );
    ensure!(
        is_untouched(&laptop.disk)?,
        "something was written to the disk"
    );
    Ok(())
}

/// The power goes while content is written; the next start finishes the job.
pub(super) fn power_cut(shared: &Shared) -> Result<()> {
    let laptop = shared.laptop("PCUT-0001")?;
    let stick = laptop.stick(&shared.stick)?;
    let mut vm = shared.at_factory(&laptop, "factory-cut", &stick)?;
    // A quick machine tells no progress of a small image; then the next step begins while most is still to be written.
    vm.wait_for("content being staged", |line| {
        let is_on_the_way = line.is_event("progress", Some("os"))
            && line.value["body"]["current"].as_u64() > Some(0);
        is_on_the_way || line.is_event("step-started", Some("content"))
    })?;
    vm.cut_power();
    let mut vm = shared.at_factory(&laptop, "factory-again", &stick)?;
    vm.wait_for_milestone("stage-done")?;
    vm.wait_for_power_off()?;
    let bundle = check::open_bundle(&shared.bundle, &shared.world.trust()?)?;
    check::staged_disk(&laptop.disk, &bundle)?;
    Ok(())
}

/// Stages and expects a refusal: on the screen, on the serial line, in the receipt. Returns the reason.
fn refused(shared: &Shared, laptop: &Laptop, stick: &Utf8Path) -> Result<String> {
    let mut vm = shared.at_factory(laptop, "factory", stick)?;
    let ended =
        |line: &AgentLine| line.is_milestone("stage-failed") || line.is_milestone("stage-done");
    let line = vm.wait_for("the refusal", ended)?;
    ensure!(
        line.is_milestone("stage-failed"),
        "staging succeeded, but must not"
    );
    laptop.picture(&vm, "refused")?;
    vm.cut_power();
    let receipts = media::medium::read_receipts(stick)?;
    let receipt: Receipt = receipts
        .into_iter()
        .find_map(|file| {
            file.receipt
                .ok()
                .filter(|receipt| receipt.serial == laptop.identity.serial)
        })
        .context("the stick has no receipt")?;
    ensure!(
        receipt.result == ReceiptResult::Failed && !receipt.errors.is_empty(),
        "the receipt says {receipt:?}"
    );
    Ok(receipt.errors.join(": "))
}

fn flip_bit(stick: &Utf8Path, offset: u64) -> Result<()> {
    let mut file = File::options().read(true).write(true).open(stick)?;
    let table = gptman::GPT::find_from(&mut file)?;
    let (_, bundle) = table
        .iter()
        .find(|(_, entry)| entry.partition_name.as_str() == MEDIUM_BUNDLE_PARTITION_NAME)
        .context("the stick has no bundle")?;
    let at = bundle.starting_lba * table.sector_size + offset;
    let mut byte = [0];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut byte)?;
    byte[0] ^= 0x10;
    file.seek(SeekFrom::Start(at))?;
    file.write_all(&byte)?;
    Ok(())
}

/// A blank disk is a file without a single block; the first write would give it one.
fn is_untouched(disk: &Utf8Path) -> Result<bool> {
    Ok(std::fs::metadata(disk)?.blocks() == 0)
}

fn digest(disk: &Utf8Path) -> Result<blake3::Hash> {
    Ok(blake3::Hasher::new()
        .update_reader(File::open(disk)?)?
        .finalize())
}

fn contains(mut file: File, wanted: &[u8]) -> Result<bool> {
    let (mut block, mut kept) = (vec![0; 1 << 20], Vec::new());
    loop {
        let length = file.read(&mut block)?;
        if length == 0 {
            return Ok(false);
        }
        kept.extend_from_slice(&block[..length]);
        if kept.windows(wanted.len()).any(|window| window == wanted) {
            return Ok(true);
        }
        kept.drain(..kept.len().saturating_sub(wanted.len()));
    }
}
