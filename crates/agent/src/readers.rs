//! The readers of bytes from outside, as the fuzz targets call them: each takes anything and panics at nothing.

use std::fs::File;

use anyhow::Result;
use client::RunKey;

use crate::block::BlockFile;
use crate::esp::{FIRMWARE_PATH, Fat, LoaderConf, format};
use crate::{command_line, gpt, network, secure_boot, tpm};

/// The largest file that is read from a FAT volume.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// An answer from a DHCP server, to a question of the machine `mac`.
pub fn dhcp(bytes: &[u8], transaction: u32, mac: [u8; 6]) {
    let _ = network::dhcp::parse(bytes, transaction, mac);
}

/// The kernel's command line.
pub fn kernel_command_line(text: &str) {
    let _ = command_line::parse(text);
}

/// The sector that says what starts.
pub fn loader_conf(bytes: &[u8]) {
    if let Some(conf) = LoaderConf::decode(bytes) {
        assert_eq!(LoaderConf::decode(&conf.encode()), Some(conf));
    }
}

/// A secret that the server sealed. Nobody has sealed anything to this key.
pub fn sealed_secret(bytes: &[u8]) {
    if let Ok(answer) = serde_json::from_slice(bytes) {
        assert!(RunKey::from_chance(&[7; 32]).open(&answer, "").is_err());
    }
}

/// Makes `file` an empty FAT volume, to be spoilt.
///
/// # Errors
/// It can't be written.
pub fn format_volume(file: File) -> Result<()> {
    format(&BlockFile::whole(file)?, b"FORESTAGE  ")
}

/// A FAT volume of anybody's, a stick's for example. Nothing is written.
pub fn volume(file: File) {
    let Ok(fat) = BlockFile::whole(file)
        .map_err(Into::into)
        .and_then(|device| Fat::open(&device))
    else {
        return;
    };
    let _ = fat.has_file(FIRMWARE_PATH);
    let _ = fat.read(FIRMWARE_PATH, FILE_BYTES_MAX);
    let _ = fat.loader_conf();
}

/// A disk's partition table.
pub fn partition_table(file: File) {
    let Ok(disk) = BlockFile::whole(file) else {
        return;
    };
    if let Ok(partitions) = gpt::read_table(&disk) {
        let _ = gpt::has_table(&disk, &partitions);
    }
}

/// A TPM's answer, to the question for its key or for a signature.
pub fn tpm_answer(bytes: &[u8]) {
    if let Ok((handle, key)) = tpm::read_created(bytes) {
        assert_eq!(handle >> 24, 0x80, "a place for keys that aren't stored");
        assert!(key.len() < bytes.len());
    }
    let _ = tpm::read_signed(bytes);
}

/// Whom firmware trusts, or no more.
pub fn signature_lists(bytes: &[u8]) {
    secure_boot::fuzz_lists(bytes);
}

/// A boot image with its signatures.
pub fn signed_image(bytes: &[u8]) {
    secure_boot::fuzz_image(bytes);
}
