//! The guard over disks that were deployed: whether an order may write over one. See `docs/formats/warrant.md`.
//!
//! It believes the keys in the boot image, what this machine's disk says, and nobody else; above all not the server that the
//! order comes from.

use std::error::Error;

use ed25519_dalek::{Signature, VerifyingKey};
use wire::device_api::RefusalReason;
use wire::facts::TEXT_CHARS_MAX;
use wire::keys::{DevicePublicKey, PublicKey};
use wire::mark::{MarkState, StagingMark};
use wire::order::Order;
use wire::plain::clean;
use wire::warrant::{InvalidWarrant, SignedWarrant, Warrant, signed_bytes};

use crate::connection::Connection;
use crate::host::Host;
use crate::journal::{OrderState, load_order};
use crate::log;

/// Why an order must not write over this machine's disk.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoWarrant {
    #[error("it can't be told whether this disk was deployed")]
    Unknown(#[source] Box<dyn Error + Send + Sync>),
    #[error("this disk was deployed, and the order brings no warrant to write over it")]
    None,
    #[error("the order's warrant is signed with the key {0}, which this boot image doesn't know")]
    UnknownKey(PublicKey),
    #[error("the signature of the order's warrant isn't good")]
    BadSignature,
    #[error("the order's warrant can't be read")]
    Unreadable(#[source] InvalidWarrant),
    #[error("the order's warrant is for {0}")]
    Other(&'static str),
}

impl NoWarrant {
    /// The same for programs.
    pub(crate) const fn reason(&self) -> RefusalReason {
        match self {
            Self::Unknown(_) => RefusalReason::UnknownDisk,
            Self::None => RefusalReason::NoWarrant,
            Self::UnknownKey(_) => RefusalReason::UnknownKey,
            Self::BadSignature | Self::Unreadable(_) => RefusalReason::BadWarrant,
            Self::Other(_) => RefusalReason::OtherWarrant,
        }
    }
}

/// Whether `order` may be begun or gone on with. Writes nothing. What is let in without a warrant, because no deployed disk is
/// there, may use none that shows later either.
pub(crate) fn check(
    host: &dyn Host,
    connection: &Connection,
    order: &Order,
) -> Result<(), NoWarrant> {
    let keys = connection.wipe_keys();
    if keys.is_empty() {
        return Ok(());
    }
    let unknown = |error: anyhow::Error| NoWarrant::Unknown(error.into());
    let mark = host.mark().map_err(unknown)?;
    // Without a disk of ours the wipe guard lets no other be written but a blank one.
    let Some(mark) = mark.filter(|mark| mark.state == MarkState::Deployed) else {
        host.let_in_without_warrant(Some(order.run));
        return Ok(());
    };
    if !is_underway(host, order) {
        let warrant = connection.warrant().ok_or(NoWarrant::None)?;
        let warrant = read(&warrant, keys)?;
        let key = connection.public_key().map_err(unknown)?;
        fits(&warrant, &key, &host.facts().serial, &mark, order)?;
    }
    host.let_in_without_warrant(None);
    Ok(())
}

/// Whether this very order is on the disk and hasn't ended: it was let in before. Its mark may be set already, as the power may
/// have gone before the last line of its journal.
fn is_underway(host: &dyn Host, order: &Order) -> bool {
    let Some(folder) = host.folder() else {
        return false;
    };
    match load_order(host.files(), &folder) {
        Ok(Some((stored, state))) => {
            let has_ended = matches!(state, OrderState::Unreported | OrderState::Reported);
            stored == *order && !has_ended
        }
        Ok(None) => false,
        Err(error) => {
            log::note(&format!("the order on the disk can't be read: {error}"));
            false
        }
    }
}

/// The text of a warrant, once it is known that one of `keys` has signed it.
fn read(warrant: &SignedWarrant, keys: &[PublicKey]) -> Result<Warrant, NoWarrant> {
    if !keys.contains(&warrant.key) {
        return Err(NoWarrant::UnknownKey(warrant.key));
    }
    let key = VerifyingKey::from_bytes(warrant.key.as_bytes());
    let signature = Signature::from_bytes(warrant.signature.as_bytes());
    key.and_then(|key| key.verify_strict(&signed_bytes(&warrant.text), &signature))
        .map_err(|_| NoWarrant::BadSignature)?;
    Warrant::parse(&warrant.text).map_err(NoWarrant::Unreadable)
}

/// Whether it is about this device, its disk as it is now, and this order.
fn fits(
    warrant: &Warrant,
    key: &DevicePublicKey,
    serial: &str,
    mark: &StagingMark,
    order: &Order,
) -> Result<(), NoWarrant> {
    let other = if warrant.device_key != *key {
        "another device"
    } else if told(&warrant.serial) != told(serial) {
        "another serial number"
    } else if order.deployment.as_ref() != Some(&warrant.deployment) {
        "another deployment"
    } else if warrant.run != mark.run {
        "what this disk was before: it was used already"
    } else {
        return Ok(());
    };
    Err(NoWarrant::Other(other))
}

/// A serial number as a server stores it, which whoever signs gets it from.
fn told(serial: &str) -> String {
    clean(serial, TEXT_CHARS_MAX)
}

#[cfg(test)]
mod tests {
    use wire::warrant::{WarrantFile, WarrantRequest};

    use super::*;

    #[test]
    fn the_warrants_of_version_1() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/warrant-1/");
        let file = |name: &str| std::fs::read(format!("{folder}{name}")).unwrap();
        let request = WarrantRequest::parse(&file("autumn.request")).unwrap();
        let signed = WarrantFile::parse(&file("autumn.warrants")).unwrap();
        assert_eq!(request.machines.len(), signed.warrants.len());
        for (machine, part) in request.machines.iter().zip(signed.warrants) {
            let signed = SignedWarrant {
                text: part.text,
                key: signed.key,
                signature: part.signature,
            };
            let says = read(&signed, &[signed.key]).unwrap();
            assert_eq!(says, request.warrant(machine));
            assert_eq!(says.text(), signed.text);
        }
    }
}
