//! What a device reads that isn't content: disks, the network, its own notes.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

use sequence::journal_line;
use wire::digest::Digest;
use wire::mark::{MARK_BYTES, StagingMark};
use wire::warrant::{Warrant, WarrantFile, WarrantRequest};

/// As in the answers of the corpus.
const TRANSACTION: u32 = 7;
const MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
/// The smallest FAT32 volume with sectors of 512 bytes has 65525 clusters.
const VOLUME_BYTES: u64 = 40 << 20;
const SECTOR: usize = 512;
/// What of an input lies where the root folder begins.
const FOLDER_BYTES: usize = 8 * SECTOR;
/// A disk with room for both copies of a table.
const DISK_BYTES: u64 = 1 << 20;

/// The kernel's command line.
pub fn command_line(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        agent::readers::kernel_command_line(text);
    }
}

/// A DHCP server's answer.
pub fn dhcp(bytes: &[u8]) {
    agent::readers::dhcp(bytes, TRANSACTION, MAC);
}

/// A TPM's answer.
pub fn tpm_answer(bytes: &[u8]) {
    agent::readers::tpm_answer(bytes);
}

/// A device's journal.
pub fn journal(bytes: &[u8]) {
    let (events, good) = journal_line::decode(bytes);
    assert!(good <= bytes.len());
    let _ = sequence::view::RunView::of(&events);
    let again: Vec<u8> = events.iter().flat_map(journal_line::encode).collect();
    assert_eq!(journal_line::decode(&again).0, events);
}

/// The sector that says what starts.
pub fn loader_conf(bytes: &[u8]) {
    agent::readers::loader_conf(bytes);
}

/// A secret that the server sealed.
pub fn sealed_secret(bytes: &[u8]) {
    agent::readers::sealed_secret(bytes);
}

/// A disk with a partition table.
pub fn partition_table(bytes: &[u8]) {
    let disk = tempfile::tempfile().expect("a temporary file");
    disk.write_all_at(bytes, 0).expect("room for the input");
    disk.set_len(DISK_BYTES.max(bytes.len() as u64))
        .expect("room for a small disk");
    agent::readers::partition_table(disk);
}

/// The boot sector of a FAT volume, the first sector of its allocation table, and the root folder.
pub fn boot_sector(bytes: &[u8]) {
    static VOLUME: OnceLock<(File, u64, u64)> = OnceLock::new();
    let (volume, table_at, folder_at) = VOLUME.get_or_init(|| {
        let file = tempfile::tempfile().expect("a temporary file");
        file.set_len(VOLUME_BYTES).expect("room for a small volume");
        agent::readers::format_volume(file.try_clone().expect("a second handle"))
            .expect("room for a small volume");
        let mut sector = [0; SECTOR];
        file.read_exact_at(&mut sector, 0)
            .expect("it was just made");
        let number = |at: usize, count: usize| {
            sector[at..at + count]
                .iter()
                .rev()
                .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
        };
        // Reserved sectors, then the tables, then the root folder's cluster.
        let (reserved, tables, table_sectors) = (number(14, 2), number(16, 1), number(36, 4));
        let at = |sector: u64| sector * SECTOR as u64;
        (file, at(reserved), at(reserved + tables * table_sectors))
    });
    let mut rest = bytes;
    for (at, length) in [(0, SECTOR), (*table_at, SECTOR), (*folder_at, FOLDER_BYTES)] {
        let mut part = vec![0; length];
        let count = rest.len().min(length);
        part[..count].copy_from_slice(&rest[..count]);
        rest = &rest[count..];
        volume.write_all_at(&part, at).expect("room in the volume");
    }
    agent::readers::volume(volume.try_clone().expect("a second handle"));
}

/// Whom firmware trusts, or no more.
pub fn signature_lists(bytes: &[u8]) {
    agent::readers::signature_lists(bytes);
}

/// A boot image with its signatures.
pub fn signed_image(bytes: &[u8]) {
    agent::readers::signed_image(bytes);
}

/// A staging mark: as it is, and with the digest that fits.
pub fn staging_mark(bytes: &[u8]) {
    let _ = StagingMark::decode(bytes);
    // With the right digest, so that the JSON is reached.
    let mut sector = [0; MARK_BYTES];
    sector[..16].copy_from_slice(b"FORESTAGE-MARK-1");
    let body = MARK_BYTES - Digest::BYTES;
    let count = bytes.len().min(body - 16);
    sector[16..16 + count].copy_from_slice(&bytes[..count]);
    let digest = Digest::of(&sector[..body]);
    sector[body..].copy_from_slice(digest.as_bytes());
    if let Some(mark) = StagingMark::decode(&sector) {
        let again = StagingMark::decode(&mark.encode()).expect("we wrote it");
        assert_eq!(again.state, mark.state);
        assert_eq!(again.uuid, mark.uuid);
    }
}

/// A warrant, what is signed elsewhere, and what comes back from there.
pub fn warrant(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(warrant) = Warrant::parse(text)
    {
        assert_eq!(Warrant::parse(&warrant.text()), Ok(warrant));
    }
    if let Ok(request) = WarrantRequest::parse(bytes) {
        let mut texts: Vec<String> = request
            .machines
            .iter()
            .map(|machine| request.warrant(machine).text())
            .collect();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), request.machines.len(), "one text for each");
    }
    if let Ok(file) = WarrantFile::parse(bytes) {
        let written = serde_json::to_vec(&file).expect("it is JSON");
        assert_eq!(WarrantFile::parse(&written), Ok(file));
    }
}
