//! The file of a private key that never meets a server. See `docs/formats/bundle-signature.md`.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use age::secrecy::SecretString;
use camino::{Utf8Path, Utf8PathBuf};
use ed25519_dalek::SigningKey;
use wire::digest::Digest;
use wire::keys::PublicKey;

use crate::ask;
use crate::failure::{Failure, Outcome, Trying};
use crate::settings::read_limited;

/// In front of the digits in the file.
const PREFIX: &str = "FORESTAGE-KEY-1-";
/// Where scripts put the passphrase.
const VARIABLE: &str = "FORESTAGE_PASSPHRASE";
/// Whoever steals the file can try billions of shorter ones.
const PASSPHRASE_CHARS_MIN: usize = 12;
/// A key file has about 400 bytes.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// The public half.
pub(crate) fn public_half(key: &SigningKey) -> PublicKey {
    PublicKey::from_bytes(key.verifying_key().as_bytes())
}

/// The file with the public half, beside that of the private one.
pub(crate) fn public_file(file: &Utf8Path) -> Utf8PathBuf {
    Utf8PathBuf::from(format!("{file}.pub"))
}

/// Makes a key and writes both halves; nothing is ever written over.
pub(crate) fn make(file: &Utf8Path) -> Outcome<PublicKey> {
    let public_file = public_file(file);
    for file in [file, &public_file] {
        if file.exists() {
            return Err(Failure::refused(format!(
                "{file} exists, and a key is never written over"
            ))
            .hint("name another file"));
        }
    }
    let passphrase = new_passphrase()?;
    let key = SigningKey::from_bytes(&random()?);
    let public_key = public_half(&key);
    let text = format!(
        "# forestage key, public half: {public_key}\n{PREFIX}{}\n",
        Digest::from_bytes(key.to_bytes())
    );
    let recipient = age::scrypt::Recipient::new(SecretString::from(passphrase));
    let sealed = age::encrypt(&recipient, text.as_bytes())
        .trying(|| format!("cannot encrypt the key {file}"))?;
    write_new(&public_file, 0o644, format!("{public_key}\n").as_bytes())
        .trying(|| format!("cannot write {public_file}"))?;
    write_new(file, 0o600, &sealed).trying(|| format!("cannot write the key {file}"))?;
    Ok(public_key)
}

/// Writes a file that isn't there, whoever else is making one at this moment.
fn write_new(path: &Utf8Path, mode: u32, bytes: &[u8]) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Opens the file of a private key with its passphrase.
pub(crate) fn open(file: &Utf8Path) -> Outcome<SigningKey> {
    let using = || format!("cannot use the key {file}");
    let sealed = read_limited(file, FILE_BYTES_MAX).trying(using)?;
    let passphrase = ask::secret(VARIABLE, &format!("Passphrase of {file}: "), "passphrase")?;
    let identity = age::scrypt::Identity::new(SecretString::from(passphrase));
    let text = age::decrypt(&identity, &sealed).map_err(|error| {
        Failure::new(using()).because(error).hint(
            "the passphrase is wrong, or this is no file that `forestage trust make-key` wrote",
        )
    })?;
    parse(&text).ok_or_else(|| {
        Failure::new(using()).because(Failure::new(format!("no line of it begins with {PREFIX}")))
    })
}

fn parse(text: &[u8]) -> Option<SigningKey> {
    let text = std::str::from_utf8(text).ok()?;
    let digits = text
        .lines()
        .find_map(|line| line.trim().strip_prefix(PREFIX))?;
    let seed: Digest = digits.parse().ok()?;
    Some(SigningKey::from_bytes(seed.as_bytes()))
}

fn new_passphrase() -> Outcome<String> {
    let passphrase = ask::secret(VARIABLE, "New passphrase: ", "passphrase")?;
    if passphrase.chars().count() < PASSPHRASE_CHARS_MIN {
        return Err(Failure::usage(format!(
            "the passphrase is too short: it needs {PASSPHRASE_CHARS_MIN} characters"
        ))
        .hint("five or six words that nobody would say together are easy to keep"));
    }
    let again = ask::secret(VARIABLE, "The same again: ", "passphrase")?;
    if again != passphrase {
        return Err(Failure::usage("the two passphrases differ").hint("nothing was written"));
    }
    Ok(passphrase)
}

fn random() -> Outcome<[u8; 32]> {
    let mut bytes = [0; 32];
    let mut filled = 0;
    while filled < bytes.len() {
        filled +=
            rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())
                .trying(|| "the kernel gave no random bytes".into())?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_key_is_one_line_among_others() {
        let digits = "ab".repeat(32);
        let key = parse(format!("# mine\n\nFORESTAGE-KEY-1-{digits}\n").as_bytes()).unwrap();
        assert_eq!(key.to_bytes(), [0xab; 32]);
        for text in [
            "",
            "FORESTAGE-KEY-1-",
            "FORESTAGE-KEY-1-abc",
            &digits,
            "FORESTAGE-KEY-2-",
        ] {
            assert!(parse(text.as_bytes()).is_none(), "{text}");
        }
        assert!(parse(b"FORESTAGE-KEY-1-\xff").is_none());
    }
}
