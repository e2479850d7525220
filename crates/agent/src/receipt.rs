//! The receipt on the boot medium: what the factory did to this machine. One file per machine, replaced if it is there.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use wire::digest::Digest;
use wire::facts::Facts;
use wire::layout::MEDIUM_RECEIPTS_FOLDER;
use wire::names::PrestageName;
use wire::receipt::{Receipt, ReceiptResult, ReceiptSecureBoot};

use crate::block::BlockFile;
use crate::clock;
use crate::esp::Fat;

/// A stick that hiccups gets another chance, and a third.
const TRIES_MAX: u32 = 3;
const RETRY_PAUSE: Duration = Duration::from_secs(2);

/// How staging ended, as far as the receipt tells.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ending {
    /// The prestage and its version, if the bundle could be read.
    pub(crate) prestage: Option<(PrestageName, u32, Digest)>,
    /// The kernel's name of the disk that was staged.
    pub(crate) disk: Option<String>,
    /// The error chain; empty if all went well.
    pub(crate) errors: Vec<String>,
    /// The step that failed.
    pub(crate) failed_step: Option<String>,
    /// What the firmware makes of the boot image.
    pub(crate) secure_boot: Option<ReceiptSecureBoot>,
    /// Seconds since power-on.
    pub(crate) seconds: u64,
}

/// The receipt.
pub(crate) fn make(facts: &Facts, ending: &Ending) -> Receipt {
    let disk = ending
        .disk
        .as_ref()
        .and_then(|path| facts.disks.iter().find(|disk| &disk.path == path));
    let prestage = ending.prestage.as_ref();
    Receipt {
        format: 1,
        serial: facts.serial.clone(),
        uuid: facts.uuid,
        vendor: facts.vendor.clone(),
        product: facts.product.clone(),
        macs: facts
            .network
            .iter()
            .map(|interface| interface.mac.clone())
            .collect(),
        disk: disk.map(|disk| disk.path.clone()).unwrap_or_default(),
        disk_serial: disk.map(|disk| disk.serial.clone()).unwrap_or_default(),
        disk_bytes: disk.map_or(0, |disk| disk.size_bytes),
        prestage: prestage.map(|(name, _, _)| name.clone()),
        prestage_version: prestage.map(|(_, version, _)| *version),
        bundle: prestage.map(|(_, _, digest)| *digest),
        seconds: ending.seconds,
        result: if ending.errors.is_empty() {
            ReceiptResult::Staged
        } else {
            ReceiptResult::Failed
        },
        errors: ending.errors.clone(),
        failed_step: ending.failed_step.clone(),
        secure_boot: ending.secure_boot.clone(),
        agent: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// The file name: from the serial number (hostile text) and the UUID, so that two machines never share one.
pub(crate) fn file_name(receipt: &Receipt) -> String {
    /// FAT names have 255 characters; nobody needs that many.
    const SERIAL_CHARS_MAX: usize = 40;
    let clean = |char: char| {
        if char.is_ascii_alphanumeric() || char == '-' {
            char
        } else {
            '_'
        }
    };
    let serial: String = receipt
        .serial
        .chars()
        .take(SERIAL_CHARS_MAX)
        .map(clean)
        .collect();
    let serial = if serial.is_empty() {
        "no-serial".to_owned()
    } else {
        serial
    };
    let uuid = receipt.uuid.unwrap_or_default().simple().to_string();
    format!("{serial}-{}.json", &uuid[..8])
}

/// Writes the receipt to the FAT volume at `node`, durably, with a few tries.
pub(crate) fn write(node: &Path, receipt: &Receipt) -> Result<String> {
    let mut tries = 0;
    loop {
        let device = BlockFile::read_write(node)
            .with_context(|| format!("cannot write to {}", node.display()));
        match device.and_then(|device| write_to(&device, receipt)) {
            Ok(name) => return Ok(name),
            Err(error) => {
                tries += 1;
                if tries >= TRIES_MAX {
                    return Err(error);
                }
                clock::pause(RETRY_PAUSE);
            }
        }
    }
}

/// Writes the receipt to a FAT volume.
pub(crate) fn write_to(device: &BlockFile, receipt: &Receipt) -> Result<String> {
    let name = file_name(receipt);
    let json = serde_json::to_vec_pretty(receipt)?;
    let fat = Fat::open(device)?;
    fat.replace(
        &format!("{MEDIUM_RECEIPTS_FOLDER}/{name}"),
        &mut json.as_slice(),
    )?;
    fat.close()?;
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::sparse;
    use crate::esp;

    fn facts() -> Facts {
        Facts {
            serial: "PF/3 ÅBC".into(),
            uuid: Some(uuid::Uuid::from_u128(0xabcd_ef01 << 96)),
            ..Facts::default()
        }
    }

    #[test]
    fn a_receipt_is_replaced_not_added() {
        let device = sparse(64 << 20);
        esp::format(&device, b"MEDIUM     ").unwrap();
        let failed = make(
            &facts(),
            &Ending {
                errors: vec!["no disk".into()],
                ..Ending::default()
            },
        );
        assert_eq!(failed.result, ReceiptResult::Failed);
        let name = write_to(&device, &failed).unwrap();
        assert_eq!(name, "PF_3__BC-abcdef01.json");
        let staged = make(&facts(), &Ending::default());
        assert_eq!(write_to(&device, &staged).unwrap(), name);
        let bytes = Fat::open(&device)
            .unwrap()
            .read(&format!("receipts/{name}"), 1 << 20)
            .unwrap()
            .unwrap();
        assert_eq!(serde_json::from_slice::<Receipt>(&bytes).unwrap(), staged);
    }

    #[test]
    fn a_machine_without_names_has_a_receipt_too() {
        assert_eq!(
            file_name(&make(&Facts::default(), &Ending::default())),
            "no-serial-00000000.json"
        );
        let long = Facts {
            serial: "x".repeat(500),
            ..Facts::default()
        };
        assert!(file_name(&make(&long, &Ending::default())).len() < 64);
    }
}
