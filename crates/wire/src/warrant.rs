//! Warrants: what must be signed, for one device, before a disk that was deployed is written over. See
//! `docs/formats/warrant.md`.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::bundle::SignatureText;
use crate::keys::{DevicePublicKey, PublicKey};
use crate::names::{DeploymentName, RunId};

/// What a warrant's signature covers begins with this, so that the signature is good for nothing else.
pub const WARRANT_CONTEXT: &[u8] = b"forestage warrant 1\0";

/// What is signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Warrant {
    /// 1.
    pub format: u32,
    /// The deployment that may write.
    pub deployment: DeploymentName,
    /// The device's public key.
    pub device_key: DevicePublicKey,
    /// Its serial number, as the device tells it.
    pub serial: String,
    /// The run that its disk's mark names.
    pub run: Option<RunId>,
}

/// Why some bytes aren't what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidWarrant {
    /// Something else.
    #[error("this is no {0}")]
    NotOne(&'static str),
    /// A newer release made it.
    #[error("it has format {0}; this release reads format 1")]
    Newer(u32),
    /// A device stands in it twice.
    #[error("the device with serial number {0} stands in it twice")]
    Twice(String),
}

impl Warrant {
    /// The longest text: a serial number that a server takes has 128 characters.
    pub const BYTES_MAX: usize = 1024;

    /// Reads a text. Whether it is signed is another question, to be asked before.
    ///
    /// # Errors
    /// If it is no warrant, or a newer one.
    pub fn parse(text: &str) -> Result<Self, InvalidWarrant> {
        parse(text.as_bytes(), Self::BYTES_MAX, "warrant")
    }

    /// The text that is signed.
    #[must_use]
    pub fn text(&self) -> String {
        serde_json::to_string(self).expect("a warrant has only texts")
    }
}

/// The bytes that a signature over this text covers.
#[must_use]
pub fn signed_bytes(text: &str) -> Vec<u8> {
    [WARRANT_CONTEXT, text.as_bytes()].concat()
}

/// A warrant as a device gets it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct SignedWarrant {
    /// A [`Warrant`], as it was signed.
    pub text: String,
    /// The public half of the key that signed it.
    pub key: PublicKey,
    /// The signature.
    pub signature: SignatureText,
}

/// The machines of a deployment that need a warrant, for whoever signs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct WarrantRequest {
    /// 1.
    pub format: u32,
    /// The deployment that may write.
    pub deployment: DeploymentName,
    /// The machines.
    pub machines: Vec<WarrantWanted>,
}

/// A machine that needs a warrant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct WarrantWanted {
    /// The device's public key.
    pub device_key: DevicePublicKey,
    /// Its serial number.
    pub serial: String,
    /// The run that its disk's mark names.
    pub run: Option<RunId>,
    /// What it is called, for people.
    pub name: String,
    /// Where it belongs, for people.
    pub site: String,
    /// What it is, for people.
    pub model: String,
}

impl WarrantRequest {
    /// The longest file: a hundred thousand machines.
    pub const BYTES_MAX: usize = 64 << 20;

    /// Reads a file.
    ///
    /// # Errors
    /// If it is no request, a newer one, or names a device twice.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidWarrant> {
        let what = "request for warrants";
        let request: Self = parse(bytes, Self::BYTES_MAX, what)?;
        let mut keys = BTreeSet::new();
        for machine in &request.machines {
            if !keys.insert(&machine.device_key) {
                return Err(InvalidWarrant::Twice(machine.serial.clone()));
            }
        }
        Ok(request)
    }

    /// What is to be signed for one of its machines.
    #[must_use]
    pub fn warrant(&self, machine: &WarrantWanted) -> Warrant {
        Warrant {
            format: 1,
            deployment: self.deployment.clone(),
            device_key: machine.device_key.clone(),
            serial: machine.serial.clone(),
            run: machine.run,
        }
    }
}

/// The warrants for the machines of a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct WarrantFile {
    /// 1.
    pub format: u32,
    /// The deployment that may write.
    pub deployment: DeploymentName,
    /// The public half of the key that signed them.
    pub key: PublicKey,
    /// One for each machine.
    pub warrants: Vec<WarrantPart>,
}

/// One of many warrants by the same key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct WarrantPart {
    /// A [`Warrant`], as it was signed.
    pub text: String,
    /// The signature.
    pub signature: SignatureText,
}

impl WarrantFile {
    /// The longest file: a hundred thousand machines.
    pub const BYTES_MAX: usize = 64 << 20;

    /// Reads a file. Whether its signatures are good is not known yet.
    ///
    /// # Errors
    /// If it is none, or a newer one.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidWarrant> {
        parse(bytes, Self::BYTES_MAX, "file with warrants")
    }
}

/// What became of the warrants that somebody brought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct WarrantsTaken {
    /// So many machines have one now.
    pub taken: u32,
    /// So many were left out, because their machine has changed since, or its boot image doesn't know the key.
    pub left_out: u32,
    /// The keys that such boot images know: one of them must sign.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needed_keys: Vec<PublicKey>,
    /// So many machines of the deployment still wait for one.
    pub wait: u32,
}

fn parse<T: serde::de::DeserializeOwned>(
    bytes: &[u8],
    bytes_max: usize,
    what: &'static str,
) -> Result<T, InvalidWarrant> {
    /// Read first: what a newer release writes may hold more.
    #[derive(Deserialize)]
    struct Head {
        format: u32,
    }
    let not_one = |_| InvalidWarrant::NotOne(what);
    if bytes.len() > bytes_max {
        return Err(InvalidWarrant::NotOne(what));
    }
    match serde_json::from_slice::<Head>(bytes)
        .map_err(not_one)?
        .format
    {
        0 => return Err(InvalidWarrant::NotOne(what)),
        1 => {}
        newer => return Err(InvalidWarrant::Newer(newer)),
    }
    serde_json::from_slice(bytes).map_err(not_one)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warrant() -> Warrant {
        Warrant {
            format: 1,
            deployment: "summer".parse().unwrap(),
            device_key: "ab".repeat(32).parse().unwrap(),
            serial: "PF3ÆØÅ".into(),
            run: None,
        }
    }

    #[test]
    fn a_warrant_is_read_as_it_is_written_and_nothing_else_is() {
        let text = warrant().text();
        let key = "ab".repeat(32);
        assert_eq!(
            text,
            format!(
                r#"{{"format":1,"deployment":"summer","device-key":"{key}","serial":"PF3ÆØÅ","run":null}}"#
            )
        );
        assert_eq!(Warrant::parse(&text), Ok(warrant()));
        assert_eq!(
            Warrant::parse(&text.replace(r#""format":1"#, r#""format":2,"until":7"#)),
            Err(InvalidWarrant::Newer(2))
        );
        for wrong in [
            String::new(),
            text.replace(r#""format":1"#, r#""format":0"#),
            text.replace(r#""run":null"#, r#""run":null,"until":7"#),
            text.replace(r#""run":null"#, r#""run":"all""#),
            text.replace(&key, &key[2..]),
            format!("{text}{}", " ".repeat(Warrant::BYTES_MAX)),
            format!("{text}{text}"),
        ] {
            assert_eq!(
                Warrant::parse(&wrong),
                Err(InvalidWarrant::NotOne("warrant")),
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_request_names_each_device_once() {
        let wanted = WarrantWanted {
            device_key: warrant().device_key,
            serial: "PF3ÆØÅ".into(),
            run: None,
            name: "senja-1".into(),
            site: "senja".into(),
            model: "Acme Book 14".into(),
        };
        let mut request = WarrantRequest {
            format: 1,
            deployment: "summer".parse().unwrap(),
            machines: vec![wanted.clone()],
        };
        assert_eq!(request.warrant(&wanted), warrant());
        let bytes = |request: &WarrantRequest| serde_json::to_vec(request).unwrap();
        assert_eq!(WarrantRequest::parse(&bytes(&request)), Ok(request.clone()));
        request.machines.push(wanted);
        assert_eq!(
            WarrantRequest::parse(&bytes(&request)),
            Err(InvalidWarrant::Twice("PF3ÆØÅ".into()))
        );
    }
}
