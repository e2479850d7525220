//! The staging mark: one sector that says which device a disk was staged for. See `docs/formats/staging-mark.md`.
//!
//! It is the first thing written to a blank disk and one sector long, so that a power cut leaves either a blank disk
//! or one that the wipe guard knows.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::digest::Digest;
use crate::names::RunId;

/// Where the mark lies: the last 512 bytes before the first MiB, a gap that no partition table uses.
pub const MARK_OFFSET: u64 = (1 << 20) - MARK_BYTES as u64;
/// The length of the mark.
pub const MARK_BYTES: usize = 512;
const MAGIC: &[u8; 16] = b"FORESTAGE-MARK-1";
const JSON_BYTES_MAX: usize = MARK_BYTES - MAGIC.len() - 2 - Digest::BYTES;

/// For which device a disk was staged, and how far it has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StagingMark {
    /// SMBIOS serial number of the device, cut to 64 characters.
    pub serial: String,
    /// SMBIOS UUID of the device.
    pub uuid: Option<Uuid>,
    /// How far it has come.
    pub state: MarkState,
    /// The run that deployed it last; marks of earlier releases name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
}

/// How far a staged device has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MarkState {
    /// Being staged, or staged and not handed out.
    Staged,
    /// A deployment has finished: the disk may hold a person's work.
    Deployed,
}

impl StagingMark {
    /// The mark for a device.
    #[must_use]
    pub fn new(serial: &str, uuid: Option<Uuid>, state: MarkState) -> Self {
        Self {
            serial: serial.chars().take(64).collect(),
            uuid,
            state,
            run: None,
        }
    }

    /// Whether this mark was made for the device with these names.
    #[must_use]
    pub fn is_for(&self, serial: &str, uuid: Option<Uuid>) -> bool {
        let other = Self::new(serial, uuid, self.state);
        other.serial == self.serial && other.uuid == self.uuid
    }

    /// The sector to write.
    ///
    /// # Panics
    /// Never: the serial is cut so that the JSON always fits (64 characters of at most 6 escaped bytes each would not,
    /// so longer encodings fall back to an empty serial, and the UUID decides).
    #[must_use]
    pub fn encode(&self) -> [u8; MARK_BYTES] {
        let mut json = serde_json::to_vec(self).expect("a mark has only texts");
        if json.len() > JSON_BYTES_MAX {
            let short = Self {
                serial: String::new(),
                ..self.clone()
            };
            json = serde_json::to_vec(&short).expect("a mark has only texts");
        }
        let mut sector = [0_u8; MARK_BYTES];
        let length = u16::try_from(json.len()).expect("shorter than a sector");
        sector[..16].copy_from_slice(MAGIC);
        sector[16..18].copy_from_slice(&length.to_le_bytes());
        sector[18..18 + json.len()].copy_from_slice(&json);
        let digest = Digest::of(&sector[..MARK_BYTES - Digest::BYTES]);
        sector[MARK_BYTES - Digest::BYTES..].copy_from_slice(digest.as_bytes());
        sector
    }

    /// Reads a sector; `None` if it holds no whole mark.
    #[must_use]
    pub fn decode(sector: &[u8]) -> Option<Self> {
        let sector: &[u8; MARK_BYTES] = sector.try_into().ok()?;
        if &sector[..16] != MAGIC {
            return None;
        }
        let (body, digest) = sector.split_at(MARK_BYTES - Digest::BYTES);
        if Digest::of(body).as_bytes() != digest {
            return None;
        }
        let length = usize::from(u16::from_le_bytes([sector[16], sector[17]]));
        serde_json::from_slice(body.get(18..18 + length)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::{MarkState, StagingMark};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(serial in ".{0,80}") {
            let mut mark = StagingMark::new(&serial, Some(uuid::Uuid::from_u128(7)), MarkState::Staged);
            mark.run = Some(crate::names::RunId::random());
            let read = StagingMark::decode(&mark.encode()).unwrap();
            prop_assert_eq!((read.uuid, read.run), (mark.uuid, mark.run));
            prop_assert!(read.serial == mark.serial || read.serial.is_empty());
        }

        #[test]
        fn a_flipped_bit_is_no_mark(at in 0_usize..512, bit in 0_u8..8) {
            let mut sector = StagingMark::new("PF3ABC", None, MarkState::Staged).encode();
            sector[at] ^= 1 << bit;
            prop_assert!(StagingMark::decode(&sector).is_none());
        }

        #[test]
        fn garbage_is_no_mark(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            prop_assert!(StagingMark::decode(&bytes).is_none());
        }
    }
}
