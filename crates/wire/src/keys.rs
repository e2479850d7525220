//! The keys that sign bundles and warrants, as the admin API tells of them.

use serde::{Deserialize, Serialize};

use crate::names::KeyName;

hex_bytes!(
    /// An Ed25519 public key (RFC 8032), as 64 hexadecimal digits.
    PublicKey,
    32,
    "64 small hexadecimal digits"
);

/// A device's public key as it goes over the line and is stored: 64 small hexadecimal digits of an Ed25519 key (RFC 8032), or 128
/// of a point of P-256, x before y. See `docs/formats/device-key.md`.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
pub struct DevicePublicKey(#[schemars(regex(pattern = r"^([0-9a-f]{64}|[0-9a-f]{128})$"))] String);

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Why a text is no public key of a device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a device's key is 64 or 128 small hexadecimal digits")]
pub struct InvalidDeviceKey;

impl DevicePublicKey {
    /// That of an Ed25519 key.
    #[must_use]
    pub fn of_ed25519(key: &[u8; 32]) -> Self {
        Self(hex(key))
    }

    /// That of a point of P-256.
    #[must_use]
    pub fn of_p256(point: &[u8; 64]) -> Self {
        Self(hex(point))
    }

    /// Its digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for DevicePublicKey {
    type Error = InvalidDeviceKey;

    fn try_from(text: String) -> Result<Self, InvalidDeviceKey> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        match matches!(text.len(), 64 | 128) && text.bytes().all(is_digit) {
            true => Ok(Self(text)),
            false => Err(InvalidDeviceKey),
        }
    }
}

impl std::str::FromStr for DevicePublicKey {
    type Err = InvalidDeviceKey;

    fn from_str(text: &str) -> Result<Self, InvalidDeviceKey> {
        text.to_owned().try_into()
    }
}

impl From<DevicePublicKey> for String {
    fn from(key: DevicePublicKey) -> Self {
        key.0
    }
}

impl std::fmt::Display for DevicePublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

/// What a key signs.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum KeyPurpose {
    /// Bundles: what is staged at the factory.
    #[default]
    Bundle,
    /// Warrants: what may write over a disk that was deployed.
    Wipe,
}

impl KeyPurpose {
    /// How it is written everywhere.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bundle => "bundle",
            Self::Wipe => "wipe",
        }
    }
}

impl std::fmt::Display for KeyPurpose {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// How far a key has come. It only ever goes on: what is retired stays so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum KeyState {
    /// Boot images are built to trust it; the server signs no bundle with it. All wipe keys that count are in this state.
    Trusted,
    /// Boot images trust it, and new bundles are signed with it: one key at a time.
    Signing,
    /// Boot images that are built from now on refuse what it has signed.
    Retired,
}

impl KeyState {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Trusted, Self::Signing, Self::Retired];

    /// How it is written everywhere.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trusted => "trusted",
            Self::Signing => "signing",
            Self::Retired => "retired",
        }
    }
}

impl std::fmt::Display for KeyState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// Where the private half of a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum KeyPlace {
    /// With the server, which signs by itself.
    Server,
    /// With a person, who signs elsewhere.
    Elsewhere,
    /// It was removed when the key was retired.
    Removed,
}

impl KeyPlace {
    /// How it is written everywhere.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Elsewhere => "elsewhere",
            Self::Removed => "removed",
        }
    }
}

impl std::fmt::Display for KeyPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// A key that signs bundles or warrants, or did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct KeyRow {
    /// What people call it.
    pub name: KeyName,
    /// What it signs.
    #[serde(default)]
    pub purpose: KeyPurpose,
    /// Its public half.
    pub public_key: PublicKey,
    /// How far it has come.
    pub state: KeyState,
    /// Where its private half is.
    pub place: KeyPlace,
    /// When it was added.
    pub added_at_ms: i64,
    /// When it was retired.
    pub retired_at_ms: Option<i64>,
    /// How many versions of prestages it has signed.
    pub bundles: u32,
    /// How many machines lie staged with one of them and were not deployed since.
    pub staged: u32,
}

/// `POST /api/v1/trust/keys`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct NewKey {
    /// What people will call it. A name is used once.
    pub name: KeyName,
    /// What it signs.
    #[serde(default)]
    pub purpose: KeyPurpose,
    /// The public half of a key whose private half stays elsewhere; without it the server makes a key and keeps it. A wipe
    /// key never lies on the server: it is the server that it guards against.
    #[serde(default)]
    pub public_key: Option<PublicKey>,
}

/// Who has signed a version of a prestage.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum SignatureState {
    /// A key that devices trust.
    #[default]
    Good,
    /// Nobody yet: it waits for a key that isn't on the server.
    Waiting,
    /// A key that was retired since.
    Retired,
}

/// Who has signed a version of a prestage, or is to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct SignedBy {
    /// Whether devices believe it.
    pub state: SignatureState,
    /// The key; none is told by servers of earlier releases, which had one.
    pub key: Option<KeyName>,
}
