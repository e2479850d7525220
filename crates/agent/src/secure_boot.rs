//! Whether firmware with Secure Boot would start what we are about to install: the same question that firmware asks, asked
//! before anything is written. See `docs/formats/secure-boot.md`.
//!
//! What is in the image itself is believed, not what the builder wrote down about it: its signature is checked against the
//! lists that this machine's firmware has. Deliberately absent: SBAT and MOK, which are the business of `shim`, and we
//! install none; changing the firmware's variables.

mod der;
mod image;
mod lists;
mod signature;

use std::fs::File;
use std::io::{self, Read};

use anyhow::{Context, Result};
use camino::Utf8Path;
use wire::receipt::{ReceiptSecureBoot, SecureBootState};

use crate::machine::facts::Kernel;
use image::{IMAGE_BYTES_MAX, Image};
use lists::{Entry, LISTS_BYTES_MAX};
use signature::{Certificate, Signature};

/// What of a boot image package firmware starts from the disk.
pub(crate) const STARTED_FILES: [&str; 2] = ["loader.efi", "deploy.efi"];

/// The GUID of the variables that say how firmware starts (UEFI 2.10, section 3.3).
const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// That of `db` and `dbx` (section 32.6.1).
const DATABASE: &str = "d719b2cb-3d3a-4596-a3bc-dad00e67656f";

/// Something that firmware would not start. Trying again would not help.
#[derive(Debug, thiserror::Error)]
#[error("Secure Boot is on, and the firmware would not start {0}")]
pub(crate) struct WouldNotStart(pub(crate) String);

impl WouldNotStart {
    /// What to do.
    pub(crate) const HINT: &'static str = "sign the boot image with a key whose certificate is in this firmware's db, or \
        enrol that certificate in the firmware setup; instead of one that was withdrawn, build a newer one";
}

/// What this machine's firmware starts.
#[derive(Debug)]
pub(crate) struct Firmware {
    pub(crate) state: SecureBootState,
    lists: Result<Lists, String>,
}

/// Whom firmware trusts, and whom no more.
#[derive(Debug, Default)]
struct Lists {
    db: Vec<Entry>,
    dbx: Vec<Entry>,
}

impl Firmware {
    /// Asks the firmware; `None` if it has no Secure Boot.
    ///
    /// # Errors
    /// If the firmware's variables can't be read: nobody knows then what would start.
    pub(crate) fn read(kernel: &Kernel) -> Result<Option<Self>> {
        let flag = |name: &str| -> Result<Option<bool>> {
            let value = variable(kernel, name, GLOBAL)
                .with_context(|| format!("cannot read the firmware's {name}"))?;
            Ok(value.map(|value| value.first() == Some(&1)))
        };
        let Some(is_enforced) = flag("SecureBoot")? else {
            return Ok(None);
        };
        let state = match (is_enforced, flag("SetupMode")?) {
            (true, _) => SecureBootState::Enforced,
            (false, Some(true)) => SecureBootState::SetupMode,
            (false, _) => SecureBootState::Off,
        };
        let list = |name: &str| -> Result<Vec<Entry>> {
            let value = variable(kernel, name, DATABASE)
                .with_context(|| format!("cannot read the firmware's {name}"))?;
            lists::parse(&value.unwrap_or_default())
                .with_context(|| format!("cannot read the firmware's {name}"))
        };
        let lists = || -> Result<Lists> {
            Ok(Lists {
                db: list("db")?,
                dbx: list("dbx")?,
            })
        };
        Ok(Some(Self {
            state,
            lists: lists().map_err(|error| format!("{error:#}")),
        }))
    }

    /// What speaks against starting `image`; `None` if the firmware would start it, or has no keys to ask.
    pub(crate) fn objection(&self, image: &[u8]) -> Option<String> {
        if self.state == SecureBootState::SetupMode {
            return None;
        }
        match &self.lists {
            Ok(lists) => lists.objection(image),
            Err(error) => Some(error.clone()),
        }
    }

    /// What speaks against starting the files of a boot image package, one text for each that would not start.
    pub(crate) fn objections(&self, folder: &Utf8Path) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for name in STARTED_FILES {
            let path = folder.join(name);
            let mut file = File::open(&path).with_context(|| {
                format!("cannot open {path}: the boot-image package is incomplete")
            })?;
            let image = read_image(&mut file).with_context(|| format!("cannot read {path}"))?;
            found.extend(self.objection(&image).map(|why| format!("{name}: {why}")));
        }
        Ok(found)
    }

    /// What a receipt says of it.
    pub(crate) fn receipt(&self, refuses: Vec<String>) -> ReceiptSecureBoot {
        ReceiptSecureBoot {
            state: self.state,
            refuses,
        }
    }

    /// Whether what it objects to can't be installed.
    pub(crate) fn is_enforced(&self) -> bool {
        self.state == SecureBootState::Enforced
    }
}

/// Refuses what this machine's firmware would not start, if it enforces Secure Boot.
pub(crate) fn ensure_starts(
    kernel: &Kernel,
    objections: impl FnOnce(&Firmware) -> Result<Vec<String>>,
) -> Result<()> {
    let Some(firmware) = Firmware::read(kernel)?.filter(Firmware::is_enforced) else {
        return Ok(());
    };
    let found = objections(&firmware)?;
    if found.is_empty() {
        return Ok(());
    }
    Err(WouldNotStart(found.join("; ")).into())
}

/// An image of reasonable length.
pub(crate) fn read_image(from: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut image = Vec::new();
    from.take(IMAGE_BYTES_MAX + 1).read_to_end(&mut image)?;
    if image.len() as u64 > IMAGE_BYTES_MAX {
        return Err(io::Error::other("it is too long for a boot image"));
    }
    Ok(image)
}

impl Lists {
    fn certificates(entries: &[Entry]) -> Vec<Certificate<'_>> {
        let certificates = entries.iter().filter_map(|entry| match entry {
            Entry::Certificate(der) => Certificate::parse(der),
            _ => None,
        });
        certificates.collect()
    }

    fn objection(&self, bytes: &[u8]) -> Option<String> {
        let image = match Image::parse(bytes) {
            Ok(image) => image,
            Err(error) => return Some(error.to_string()),
        };
        let names_image = |entries: &[Entry]| entries.contains(&Entry::Image(image.digest));
        if names_image(&self.dbx) {
            return Some("the firmware's dbx names it: it was withdrawn".into());
        }
        let (trusted, withdrawn) = (Self::certificates(&self.db), Self::certificates(&self.dbx));
        let mut objection = None;
        let mut is_trusted = names_image(&self.db);
        for signature in &image.signatures {
            let signature = match Signature::verify(signature, &image.digest) {
                Ok(signature) => signature,
                Err(error) => {
                    objection = objection.or_else(|| Some(error.to_string()));
                    continue;
                }
            };
            let chain = signature.chain_to(&trusted);
            if let Some(name) = self.withdrawn(&signature, chain.as_deref(), &withdrawn) {
                return Some(format!(
                    "the firmware's dbx names the certificate {name}: it was withdrawn"
                ));
            }
            is_trusted |= chain.is_some();
            objection = objection.or_else(|| {
                let name = signature.signer.name();
                Some(format!("it is signed by {name}, and no certificate in the firmware's db vouches for that"))
            });
        }
        if is_trusted {
            return None;
        }
        Some(objection.unwrap_or_else(|| "it isn't signed".into()))
    }

    /// The certificate of a signature that `dbx` names, if it does.
    fn withdrawn<'a>(
        &self,
        signature: &Signature<'a>,
        chain: Option<&[Certificate<'a>]>,
        withdrawn: &[Certificate<'a>],
    ) -> Option<String> {
        if let Some(chain) = signature.chain_to(withdrawn) {
            return chain.last().map(Certificate::name);
        }
        let is_named = |certificate: &&Certificate<'_>| {
            self.dbx
                .contains(&Entry::CertificateDigest(certificate.digest()))
        };
        let mut used = signature
            .certificates()
            .iter()
            .chain(chain.unwrap_or_default());
        used.find(is_named).map(Certificate::name)
    }
}

/// A variable of the firmware, without the attributes that come before it; `None` if there is none.
fn variable(kernel: &Kernel, name: &str, guid: &str) -> io::Result<Option<Vec<u8>>> {
    const ATTRIBUTES_BYTES: usize = 4;
    let path = kernel
        .sys
        .join(format!("firmware/efi/efivars/{name}-{guid}"));
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut bytes = Vec::new();
    let bytes_max = LISTS_BYTES_MAX + ATTRIBUTES_BYTES + 1;
    file.take(bytes_max as u64).read_to_end(&mut bytes)?;
    if bytes.len() < ATTRIBUTES_BYTES {
        return Err(io::Error::other("it is cut off"));
    }
    bytes.drain(..ATTRIBUTES_BYTES);
    Ok(Some(bytes))
}

/// Whether firmware enforces Secure Boot.
pub(crate) fn is_enforced(kernel: &Kernel) -> bool {
    let value = variable(kernel, "SecureBoot", GLOBAL).ok().flatten();
    value.is_some_and(|value| value.first() == Some(&1))
}

/// For the fuzz targets: lists of the firmware.
pub(crate) fn fuzz_lists(bytes: &[u8]) {
    let Ok(entries) = lists::parse(bytes) else {
        return;
    };
    let dbx = entries.clone();
    let lists = Lists { db: entries, dbx };
    let _ = (Lists::certificates(&lists.db), lists.objection(&[]));
}

/// For the fuzz targets: an image, with its signature.
pub(crate) fn fuzz_image(bytes: &[u8]) {
    let Ok(image) = Image::parse(bytes) else {
        return;
    };
    for signature in &image.signatures {
        if let Ok(signature) = Signature::verify(signature, &image.digest) {
            let own = signature.certificates().to_vec();
            assert!(
                signature.chain_to(&own).is_some(),
                "its signer is among them"
            );
            let _ = signature.signer.name();
        }
    }
    assert!(
        Lists::default().objection(bytes).is_some(),
        "nobody is trusted"
    );
}

#[cfg(test)]
pub(crate) mod tests;
