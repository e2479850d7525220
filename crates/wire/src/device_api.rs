//! The device API, version 1: what an agent sends and gets. See `docs/formats/device-api.md`.
//!
//! | request | answers |
//! | --- | --- |
//! | `POST /device/v1/challenge` | [`Challenge`] |
//! | `POST /device/v1/check-in` with [`CheckIn`] | [`CheckInReply`] |
//! | `POST /device/v1/runs/{run}/events` with [`EventBatch`] | [`EventAck`] |
//! | `POST /device/v1/runs/{run}/secrets` with [`SecretRequest`] | [`SealedSecret`] |
//! | `GET /device/v1/content/manifests/{digest}` | the manifest's bytes |
//! | `GET /device/v1/content/manifests/{digest}/patches` | [`PatchList`] |
//! | `GET /device/v1/content/manifests/{digest}/patches/{from}` | the patch's bytes, or a range of them |
//! | `POST /device/v1/content/chunks` with [`ChunkRequest`] | frames, as in a pack |
//!
//! The first two are public. All others carry `Authorization: Bearer <session>`.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::digest::Digest;
use crate::event::Environment;
use crate::facts::Facts;
use crate::keys::PublicKey;
use crate::mark::MarkState;
use crate::names::{DeviceId, PrestageName, RunId, SecretName};
use crate::order::Order;
use crate::warrant::SignedWarrant;

/// Events in one batch; more wait for the next.
pub const EVENTS_MAX: usize = 500;
/// Digests in one [`ChunkRequest`].
pub const CHUNKS_MAX: usize = 1024;
/// What a check-in's signature covers begins with this, so that the signature is good for nothing else.
pub const CHECK_IN_CONTEXT: &[u8] = b"forestage check-in 1\0";
/// The same for a request for a secret. What is sealed in answer is sealed for this use alone.
pub const SECRET_CONTEXT: &[u8] = b"forestage secret 1\0";

/// A random value to be signed once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Challenge {
    /// 64 hexadecimal digits, good for two minutes and one check-in.
    pub challenge: String,
}

/// "Here I am." The signature covers [`CHECK_IN_CONTEXT`], the challenge's text and the bytes of `body`.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct CheckIn {
    /// The challenge being answered.
    pub challenge: String,
    /// The device's public key. 64 hexadecimal digits are an Ed25519 key; 128 are a point of P-256, x before y.
    pub device_key: String,
    /// The signature, 128 hexadecimal digits: of Ed25519, or r before s of ECDSA over SHA-256 with s in the lower half.
    pub signature: String,
    /// A [`CheckInBody`] as JSON text.
    pub body: String,
}

/// What a device says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct CheckInBody {
    /// What it observed.
    pub facts: Facts,
    /// The version of the agent.
    pub agent: String,
    /// Where that agent runs; `None` from older agents.
    #[serde(default)]
    pub environment: Option<Environment>,
    /// Where it keeps its key; `None` from older agents, which have a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyPlace>,
    /// What was staged, if anything.
    #[serde(default)]
    pub staged: Option<Staged>,
    /// The run it is in the middle of, if any.
    #[serde(default)]
    pub run: Option<RunId>,
    /// What the mark of its own disk says; `None` from older agents, and if there is no such disk.
    #[serde(default)]
    pub mark: Option<ToldMark>,
    /// The keys of which one must have signed a warrant before its disk is written over, once it was deployed.
    #[serde(default)]
    pub wipe_keys: Vec<PublicKey>,
    /// The order that it was given last, if it didn't take that; `None` from older agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<RefusedOrder>,
}

/// An order that a device didn't take, so that nothing of it was written, as it says itself: nothing here is proved. See
/// `docs/formats/warrant.md`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct RefusedOrder {
    /// The run of the order.
    pub run: RunId,
    /// Why, for programs.
    pub reason: RefusalReason,
    /// Why, for people, in English.
    pub text: String,
}

/// Why a device didn't take an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalReason {
    /// No warrant came with it.
    NoWarrant,
    /// Its warrant is by a key that the boot image doesn't know.
    UnknownKey,
    /// The signature of its warrant isn't good, or the warrant can't be read.
    BadWarrant,
    /// Its warrant is for another machine, another deployment, or what the disk was before.
    OtherWarrant,
    /// It can't be told whether the disk was deployed.
    UnknownDisk,
    /// Something that this release doesn't know.
    #[serde(other)]
    Unknown,
}

/// What a device tells of its disk's mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ToldMark {
    /// How far the disk has come.
    pub state: MarkState,
    /// The run that deployed it last, if the mark names one.
    pub run: Option<RunId>,
}

/// Where a device keeps its key, as it says itself: nothing here is proved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(
    tag = "place",
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case"
)]
pub enum KeyPlace {
    /// In its TPM.
    Tpm {
        /// The disk names the key of another TPM: this one was cleared or replaced, or the disk comes from elsewhere.
        #[serde(default)]
        is_other: bool,
    },
    /// In a file on its staging partition.
    Software {
        /// Why it isn't in the TPM, if there is one or was one, in words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
    /// Somewhere that this release doesn't know.
    #[serde(other)]
    Unknown,
}

/// What a device carries since the factory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Staged {
    /// The prestage.
    pub prestage: PrestageName,
    /// Its version.
    pub version: u32,
    /// The digest of the bundle's signed root.
    pub bundle: Digest,
}

/// The server's answer to a check-in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(
    tag = "answer",
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case"
)]
pub enum CheckInReply {
    /// Recognised, and there is something to run (or to go on with).
    Run {
        /// The device's id.
        device: DeviceId,
        /// The bearer token of this session; kept in memory only.
        session: String,
        /// What to run.
        order: Order,
        /// The run isn't over as far as the server knows: a device that waits after a failure or a stop goes on with it.
        #[serde(default)]
        go_on: bool,
        /// Whether an admin wants this run stopped.
        #[serde(default)]
        stop: bool,
        /// What allows the order's deployment to write over a deployed disk of this device, if anybody signed that.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        warrant: Option<Box<SignedWarrant>>,
    },
    /// Recognised, and nothing is to be done.
    Idle {
        /// The device's id.
        device: DeviceId,
        /// The bearer token of this session.
        session: String,
        /// Why, for the screen.
        message: String,
        /// When to ask again, in seconds; `None` from servers that leave that to the device.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_seconds: Option<u64>,
    },
    /// Not (yet) recognised: shown to the admin, ask again later.
    Quarantined {
        /// Why, for the screen.
        message: String,
        /// When to ask again, in seconds.
        retry_seconds: u64,
    },
    /// Refused for good, such as a second machine that claims a bound serial.
    Refused {
        /// Why, for the screen.
        message: String,
    },
}

/// Events after a cursor, oldest first. The server stores each as received.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct EventBatch {
    /// The events, each an [`crate::event::Event`].
    pub events: Vec<Box<RawValue>>,
    /// Bytes the machine's network interfaces received and sent since power-on, as the kernel counts them.
    #[serde(default)]
    pub interface_bytes: u64,
}

/// What the server has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct EventAck {
    /// All events up to this `seq` are durable at the server.
    pub acknowledged: u64,
    /// Whether an admin wants this run stopped.
    #[serde(default)]
    pub stop: bool,
}

/// "A step of this run needs a secret." The signature covers [`SECRET_CONTEXT`] and the bytes of `body`. See
/// `docs/formats/secrets.md`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct SecretRequest {
    /// By the device's key, 128 hexadecimal digits.
    pub signature: String,
    /// A [`SecretWanted`] as JSON text.
    pub body: String,
}

/// Which secret a device wants, and to what key it is to be sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct SecretWanted {
    /// The run.
    pub run: RunId,
    /// The secret.
    pub secret: SecretName,
    /// An X25519 public key that the device made for this run and keeps in memory alone, 64 hexadecimal digits.
    pub run_key: String,
}

/// A secret, sealed to the key of a [`SecretWanted`]: HPKE (RFC 9180), base mode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct SealedSecret {
    /// The encapsulated key, 64 hexadecimal digits.
    pub encapsulated_key: String,
    /// The secret and its tag, as hexadecimal digits.
    pub sealed: String,
}

/// Chunks wanted, at most [`CHUNKS_MAX`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ChunkRequest {
    /// Their digests, in the order wanted.
    pub digests: Vec<Digest>,
}

/// The patches that lead to a manifest, the shortest first. See `docs/formats/patch.md`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct PatchList {
    /// One for each manifest that something leads from.
    pub patches: Vec<PatchOffer>,
}

/// A patch that the server has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct PatchOffer {
    /// The manifest that it leads from.
    pub from: Digest,
    /// How long it is.
    pub bytes: u64,
    /// How long it is up to its first part: what is fetched at once.
    pub front_bytes: u64,
}

/// The body of every error reply of both APIs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ApiError {
    /// A stable word for programs, such as `not-found`.
    pub code: String,
    /// What went wrong, for people.
    pub message: String,
    /// What to do, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_other_releases_tell_at_a_check_in_is_read() {
        let older = r#"{ "facts": { "serial": "PF1" }, "agent": "0.40.0" }"#;
        let older: CheckInBody = serde_json::from_str(older).unwrap();
        assert_eq!((older.refused.is_none(), older.mark), (true, None));
        assert!(!serde_json::to_string(&older).unwrap().contains("refused"));
        let newer = r#"{ "facts": { "serial": "PF1" }, "agent": "9", "refused": {
            "run": "00000000-0000-0000-0000-000000000001", "reason": "a-new-one", "text": "because", "more": 1 } }"#;
        let newer: CheckInBody = serde_json::from_str(newer).unwrap();
        let refused = newer.refused.unwrap();
        assert_eq!(refused.reason, RefusalReason::Unknown);
        assert_eq!(refused.text, "because");
        let word = serde_json::to_value(RefusalReason::NoWarrant).unwrap();
        assert_eq!(word, "no-warrant");
    }
}
