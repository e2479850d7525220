//! What a simulated fleet remembers between two calls of the program: its secret, and how far each machine is.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};

use super::device::Remembered;
use crate::failure::{Failure, Outcome, Trying};
use crate::settings::{read_limited, write_private};

/// A hundred thousand machines with 200 bytes each, and room.
const STATE_BYTES_MAX: u64 = 64 << 20;
/// Keys of a fleet are made from its secret, so that thousands need not be stored.
const KEY_CONTEXT: &[u8] = b"forestage simulated device key 1\0";

/// The file `fleet.json` in the state folder.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct FleetState {
    /// 64 hexadecimal digits; every key of the fleet is made from them.
    secret: String,
    /// By serial number.
    #[serde(default)]
    pub(super) devices: BTreeMap<String, Remembered>,
}

impl FleetState {
    /// Reads the folder's file, or begins a new fleet.
    pub(super) fn open(folder: &Utf8Path) -> Outcome<Self> {
        let path = file(folder);
        match read_limited(&path, STATE_BYTES_MAX) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .trying(|| format!("cannot understand {path}"))
                .map_err(|failure| {
                    failure.hint("delete the folder; the keys of its machines must be reset then")
                }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let [first, second] = [uuid::Uuid::new_v4(), uuid::Uuid::new_v4()];
                Ok(Self {
                    secret: format!("{}{}", first.simple(), second.simple()),
                    devices: BTreeMap::new(),
                })
            }
            Err(error) => Err(Failure::new(format!("cannot read {path}")).because(error)),
        }
    }

    /// Writes the file, for its owner alone.
    pub(super) fn store(&self, folder: &Utf8Path) -> Outcome<()> {
        let path = file(folder);
        let bytes = serde_json::to_vec(self).trying(|| "cannot write the state as JSON".into())?;
        write_private(&path, &bytes).trying(|| format!("cannot write {path}"))
    }

    /// The key of the machine with this name.
    pub(super) fn key(&self, name: &str) -> SigningKey {
        let text = [KEY_CONTEXT, self.secret.as_bytes(), b"\0", name.as_bytes()].concat();
        SigningKey::from_bytes(wire::digest::Digest::of(&text).as_bytes())
    }
}

fn file(folder: &Utf8Path) -> Utf8PathBuf {
    folder.join("fleet.json")
}
