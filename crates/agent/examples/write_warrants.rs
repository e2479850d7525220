//! Writes what is signed before a deployed disk is written over, and the warrants, into a new folder: what this release writes, for
//! later releases to read. Old fixtures are never written again.
//!
//! `cargo run -p agent --example write_warrants -- fixtures/warrant-<n>`

use std::error::Error;
use std::fs;

use camino::Utf8PathBuf;
use ed25519_dalek::{Signer, SigningKey};
use wire::bundle::SignatureText;
use wire::keys::{DevicePublicKey, PublicKey};
use wire::names::RunId;
use wire::warrant::{WarrantFile, WarrantPart, WarrantRequest, WarrantWanted, signed_bytes};

/// Signs nothing but fixtures.
const SEED: [u8; 32] = [9; 32];

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1).map(Utf8PathBuf::from);
    let folder = folder.ok_or("name a folder that doesn't exist yet")?;
    fs::create_dir(&folder)?;
    let key = SigningKey::from_bytes(&SEED);
    let public_key = PublicKey::from_bytes(key.verifying_key().as_bytes());
    let machine = |digit: u8, serial: &str, run: Option<RunId>| WarrantWanted {
        device_key: DevicePublicKey::of_ed25519(&[digit; 32]),
        serial: serial.to_owned(),
        run,
        name: "bjo-8b-01".to_owned(),
        site: "Bjørnøya skole".to_owned(),
        model: "Acme Book 14".to_owned(),
    };
    let run = RunId("0a9d2c1e-5b7f-4c3d-8e6a-000000000001".parse()?);
    let request = WarrantRequest {
        format: 1,
        deployment: "autumn".parse()?,
        machines: vec![machine(1, "PF1", Some(run)), machine(2, "PF2", None)],
    };
    let warrants = request.machines.iter().map(|machine| {
        let text = request.warrant(machine).text();
        let signature = key.sign(&signed_bytes(&text)).to_bytes();
        WarrantPart {
            text,
            signature: SignatureText::from_bytes(&signature),
        }
    });
    let file = WarrantFile {
        format: 1,
        deployment: request.deployment.clone(),
        key: public_key,
        warrants: warrants.collect(),
    };
    fs::write(folder.join("autumn.request"), serde_json::to_vec(&request)?)?;
    fs::write(folder.join("autumn.warrants"), serde_json::to_vec(&file)?)?;
    fs::write(
        folder.join("README.md"),
        "# Warrants, version 1\n\nWritten by `cargo run -p agent --example write_warrants`; never edited, never written again. \
         `autumn.warrants`\nholds what is asked for in `autumn.request`, signed with a key that signs nothing else.\n",
    )?;
    Ok(())
}
