//! Writes a signature that was made where the bundle isn't, and the root it was made over, into a new folder: what this
//! release writes, for later releases to read. Old fixtures are never written again.
//!
//! `cargo run -p content --example write_signature -- fixtures/content-2/small.bundle fixtures/bundle-signature-<n>`

use std::error::Error;
use std::fs::{self, File};

use camino::Utf8PathBuf;
use content::{Bundle, sign_root};
use ed25519_dalek::SigningKey;

/// Signs nothing but fixtures.
const SEED: [u8; 32] = [8; 32];

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1).map(Utf8PathBuf::from);
    let bundle = words.next().ok_or("name a bundle")?;
    let folder = words.next().ok_or("name a folder that doesn't exist yet")?;
    fs::create_dir(&folder)?;
    let file = File::open(bundle)?;
    let available = file.metadata()?.len();
    let bundle = Bundle::open(file, available)?;
    let key = SigningKey::from_bytes(&SEED);
    let signature = sign_root(bundle.root_bytes(), &key);
    fs::write(folder.join("small.root"), bundle.root_bytes())?;
    fs::write(
        folder.join("small.signature"),
        serde_json::to_vec(&signature)?,
    )?;
    fs::write(folder.join("key.pub"), key.verifying_key().as_bytes())?;
    fs::write(
        folder.join("README.md"),
        "# The signature of a bundle, version 1\n\nWritten by `cargo run -p content --example write_signature`; never edited, \
         never written again. `small.signature`\nis made with the key in `key.pub`, which signs nothing else, over \
         `small.root`, the root of `content-2/small.bundle`.\n",
    )?;
    Ok(())
}
