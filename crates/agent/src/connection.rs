//! The device's side of the server: its key, checking in, and the session that comes of it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use camino::Utf8Path;
use client::{Client, ClientError};
use ed25519_dalek::{Signer, SigningKey};
use serde_json::json;
use wire::boot_config::{TRUST_PATH, Trust};
use wire::device_api::{CHECK_IN_CONTEXT, CheckIn, CheckInBody, CheckInReply, Staged, ToldMark};
use wire::keys::PublicKey;
use wire::names::RunId;
use wire::warrant::SignedWarrant;

use crate::files::{Files, SystemFiles};
use crate::host::Host;
use crate::{durable, log};

/// Trust is a certificate, a few addresses and keys.
const TRUST_BYTES_MAX: u64 = 1 << 20;
const KEY_FILE: &str = "device.key";
const STAGED_FILE: &str = "staged.json";
const SMALL_FILE_BYTES_MAX: u64 = 64 << 10;
/// How long connecting, or a reply that stands still, may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);
/// The longest wait between attempts to reach the server.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(30);

/// Reads whom this device trusts.
pub(crate) fn load_trust() -> Result<Trust> {
    let bytes = SystemFiles
        .read(Utf8Path::new(TRUST_PATH), TRUST_BYTES_MAX)
        .with_context(|| format!("cannot read {TRUST_PATH}"))?
        .with_context(|| format!("{TRUST_PATH} is missing: this boot image trusts nobody"))?;
    serde_json::from_slice(&bytes).with_context(|| format!("cannot read {TRUST_PATH}"))
}

/// Everything the device knows of the server.
pub struct Connection {
    trust: Trust,
    host: Arc<dyn Host>,
    key: Mutex<Option<SigningKey>>,
    session: Mutex<Option<Client>>,
    run: Mutex<Option<RunId>>,
    wishes: Mutex<Option<Wishes>>,
    warrant: Mutex<Option<SignedWarrant>>,
}

/// What an admin wants of a run, as of the last check-in.
#[derive(Debug, Clone, Copy)]
struct Wishes {
    run: RunId,
    go_on: bool,
    stop: bool,
}

impl Connection {
    /// Nothing is sent yet.
    pub(crate) fn new(trust: Trust, host: Arc<dyn Host>) -> Self {
        Self {
            trust,
            host,
            key: Mutex::default(),
            session: Mutex::default(),
            run: Mutex::default(),
            wishes: Mutex::default(),
            warrant: Mutex::default(),
        }
    }

    /// The machine whose connection this is.
    pub(crate) fn host(&self) -> &Arc<dyn Host> {
        &self.host
    }

    /// Whether it makes sense to talk to the server.
    pub(crate) fn is_online(&self) -> bool {
        self.host.is_online()
    }

    /// How long to wait after so many failures: 1, 2, 4, … 30 seconds, with a random part, so that a school full of machines
    /// does not knock in step.
    pub(crate) fn retry_pause(&self, failures: u32) -> Duration {
        let mut random = [0];
        // Without random bytes the pause is simply the full one.
        let _ = self.host.random(&mut random);
        retry_pause(failures, random[0])
    }

    /// The run the device is in the middle of; told at every check-in.
    pub(crate) fn set_run(&self, run: Option<RunId>) {
        *lock(&self.run) = run;
    }

    /// The address of the first server this device trusts.
    pub(crate) fn server_url(&self) -> Option<&str> {
        self.trust.server_urls.first().map(String::as_str)
    }

    /// Keys of which one must have signed a warrant before a deployed disk is written over.
    pub(crate) fn wipe_keys(&self) -> &[PublicKey] {
        &self.trust.wipe_keys
    }

    /// The warrant that came with the order of the last check-in.
    pub(crate) fn warrant(&self) -> Option<SignedWarrant> {
        lock(&self.warrant).clone()
    }

    /// Whether an admin wants this run gone on with although it failed or was stopped here.
    pub(crate) fn is_to_go_on(&self, run: RunId) -> bool {
        lock(&self.wishes).is_some_and(|wishes| wishes.run == run && wishes.go_on)
    }

    /// Whether an admin wants this run stopped.
    pub(crate) fn is_to_stop(&self, run: RunId) -> bool {
        lock(&self.wishes).is_some_and(|wishes| wishes.run == run && wishes.stop)
    }

    /// The session of the last check-in, if there was one.
    pub(crate) fn session(&self) -> Option<Client> {
        lock(&self.session).clone()
    }

    /// Forgets the session, after the server did.
    pub(crate) fn forget_session(&self) {
        *lock(&self.session) = None;
    }

    /// The session; checks in first if there is none.
    pub(crate) fn require_session(&self) -> Result<Client> {
        if let Some(session) = self.session() {
            return Ok(session);
        }
        match self.check_in()? {
            CheckInReply::Run { .. } | CheckInReply::Idle { .. } => {
                self.session().context("no session")
            }
            CheckInReply::Quarantined { message, .. } | CheckInReply::Refused { message } => {
                anyhow::bail!("the server does not let this machine in: {message}")
            }
        }
    }

    /// Checks in at the first server that answers.
    pub(crate) fn check_in(&self) -> Result<CheckInReply> {
        let body = self.body()?;
        let key = self.key()?;
        let mut last = None;
        for url in &self.trust.server_urls {
            log::milestone("checking-in", json!({ "server": url }));
            match self.check_in_at(url, &key, &body) {
                Ok(reply) => return Ok(reply),
                Err(error) => {
                    log::milestone(
                        "unreachable",
                        json!({ "server": url, "message": format!("{error:#}") }),
                    );
                    last = Some(error);
                }
            }
        }
        Err(last.unwrap_or_else(|| anyhow::anyhow!("this boot image knows no server")))
    }

    fn check_in_at(&self, url: &str, key: &SigningKey, body: &str) -> Result<CheckInReply> {
        let server = self.host.client(url, &self.trust.ca_pem, CALL_TIMEOUT)?;
        let challenge = server.challenge()?.challenge;
        let reply = server.check_in(&sign(key, challenge, body.to_owned()))?;
        match &reply {
            CheckInReply::Run {
                session,
                order,
                device,
                go_on,
                stop,
                warrant,
            } => {
                log::milestone("checked-in", json!({ "device": device, "run": order.run }));
                *lock(&self.wishes) = Some(Wishes {
                    run: order.run,
                    go_on: *go_on,
                    stop: *stop,
                });
                *lock(&self.warrant) = warrant.clone();
                *lock(&self.session) = Some(server.with_token(session));
            }
            CheckInReply::Idle {
                session,
                device,
                message,
                ..
            } => {
                log::milestone(
                    "checked-in",
                    json!({ "device": device, "message": message }),
                );
                *lock(&self.wishes) = None;
                *lock(&self.warrant) = None;
                *lock(&self.session) = Some(server.with_token(session));
            }
            CheckInReply::Quarantined { message, .. } => {
                log::milestone("quarantined", json!({ "message": message }))
            }
            CheckInReply::Refused { message } => {
                log::milestone("refused", json!({ "message": message }))
            }
        }
        Ok(reply)
    }

    fn body(&self) -> Result<String> {
        let staged = match self.host.folder() {
            Some(folder) => read_staged(self.host.files(), &folder)?,
            None => None,
        };
        let body = CheckInBody {
            facts: self.host.facts(),
            agent: env!("CARGO_PKG_VERSION").to_owned(),
            environment: Some(self.host.environment()),
            staged,
            run: *lock(&self.run),
            mark: self.mark(),
            wipe_keys: self.trust.wipe_keys.clone(),
        };
        serde_json::to_string(&body).context("cannot write the check-in")
    }

    fn mark(&self) -> Option<ToldMark> {
        match self.host.mark() {
            Ok(mark) => mark.map(|mark| ToldMark {
                state: mark.state,
                run: mark.run,
            }),
            Err(error) => {
                log::warn("the server isn't told what the disk's mark says", &error);
                None
            }
        }
    }

    /// The device's public key.
    pub(crate) fn public_key(&self) -> Result<PublicKey> {
        let key = self.key()?.verifying_key();
        Ok(PublicKey::from_bytes(key.as_bytes()))
    }

    /// The device's key. Made at the first check-in; durable as soon as there is a staging partition.
    fn key(&self) -> Result<SigningKey> {
        let mut held = lock(&self.key);
        let key = match (&*held, self.host.folder()) {
            (Some(key), None) => key.clone(),
            (None, None) => fresh_key(&*self.host)?,
            (held, Some(folder)) => load_or_store_key(&*self.host, &folder, held.as_ref())?,
        };
        *held = Some(key.clone());
        Ok(key)
    }

    /// Stores a key that was made before there was a staging partition.
    pub(crate) fn store_key(&self) -> Result<()> {
        if lock(&self.key).is_some() {
            self.key()?;
        }
        Ok(())
    }
}

/// Whether the server no longer knows the session.
pub(crate) fn is_session_gone(error: &ClientError) -> bool {
    error.status() == Some(401)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Values are replaced as a whole; a panic can't leave one half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What was staged, if that is known. A damaged file only means that nobody is told: it must not keep a machine from its server.
pub(crate) fn read_staged(files: &dyn Files, folder: &Utf8Path) -> Result<Option<Staged>> {
    let path = folder.join(STAGED_FILE);
    let bytes = files
        .read(&path, SMALL_FILE_BYTES_MAX)
        .with_context(|| format!("cannot read {path}"))?;
    let Some(bytes) = bytes else {
        return Ok(None);
    };
    let staged =
        durable::without_checksum(&bytes).and_then(|object| serde_json::from_slice(&object).ok());
    if staged.is_none() {
        log::note(&format!("{path} is damaged and counts as missing"));
    }
    Ok(staged)
}

/// Writes what was staged; the last file of a staging but the loader.
///
/// # Errors
/// It can't be written.
pub fn write_staged(files: &dyn Files, folder: &Utf8Path, staged: &Staged) -> Result<()> {
    let path = folder.join(STAGED_FILE);
    let bytes = durable::with_checksum(&serde_json::to_vec(staged)?);
    durable::write(files, &path, &bytes, 0o644).with_context(|| format!("cannot write {path}"))
}

fn fresh_key(host: &dyn Host) -> Result<SigningKey> {
    let mut seed = [0; 32];
    host.random(&mut seed)
        .context("the kernel gave no random bytes")?;
    Ok(SigningKey::from_bytes(&seed))
}

fn load_or_store_key(
    host: &dyn Host,
    folder: &Utf8Path,
    held: Option<&SigningKey>,
) -> Result<SigningKey> {
    if let Some(key) = load_key(host.files(), folder)? {
        return Ok(key);
    }
    let key = match held {
        Some(key) => key.clone(),
        None => fresh_key(host)?,
    };
    store_key(host.files(), folder, &key)?;
    Ok(key)
}

fn load_key(files: &dyn Files, folder: &Utf8Path) -> Result<Option<SigningKey>> {
    let path = folder.join(KEY_FILE);
    let stored = files
        .read(&path, SMALL_FILE_BYTES_MAX)
        .with_context(|| format!("cannot read {path}"))?;
    let seed = stored.and_then(|bytes| parse_hex(&bytes));
    Ok(seed.map(|seed| SigningKey::from_bytes(&seed)))
}

fn store_key(files: &dyn Files, folder: &Utf8Path, key: &SigningKey) -> Result<()> {
    let path = folder.join(KEY_FILE);
    durable::write(files, &path, to_hex(key.as_bytes()).as_bytes(), 0o600)
        .with_context(|| format!("cannot write {path}"))
}

fn retry_pause(failures: u32, random: u8) -> Duration {
    let whole =
        Duration::from_secs(1 << failures.clamp(1, 6).saturating_sub(1)).min(RETRY_PAUSE_MAX);
    whole.mul_f64(1.0 - f64::from(random) / 512.0)
}

fn sign(key: &SigningKey, challenge: String, body: String) -> CheckIn {
    let mut message = CHECK_IN_CONTEXT.to_vec();
    message.extend_from_slice(challenge.as_bytes());
    message.extend_from_slice(body.as_bytes());
    let signature = to_hex(&key.sign(&message).to_bytes());
    CheckIn {
        challenge,
        device_key: to_hex(key.verifying_key().as_bytes()),
        signature,
        body,
    }
}

fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string never fails.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Reads 64 hexadecimal digits.
pub(crate) fn parse_hex(text: &[u8]) -> Option<[u8; 32]> {
    let text = std::str::from_utf8(text).ok()?.trim();
    Some(*blake3::Hash::from_hex(text).ok()?.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::Signature;

    #[test]
    fn the_key_stays_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(folder.path()).unwrap();
        assert!(load_key(&SystemFiles, path).unwrap().is_none());
        let key = SigningKey::from_bytes(&[7; 32]);
        store_key(&SystemFiles, path, &key).unwrap();
        let loaded = load_key(&SystemFiles, path).unwrap().unwrap();
        assert_eq!(loaded.to_bytes(), key.to_bytes());
        std::fs::write(path.join(KEY_FILE), "torn").unwrap();
        assert!(load_key(&SystemFiles, path).unwrap().is_none());
    }

    #[test]
    fn pauses_grow_and_are_bounded() {
        assert_eq!(retry_pause(1, 0), Duration::from_secs(1));
        assert!(retry_pause(1, 255) > Duration::from_millis(500));
        assert_eq!(retry_pause(40, 0), RETRY_PAUSE_MAX);
        assert!(retry_pause(40, 255) >= Duration::from_secs(15));
    }

    #[test]
    fn a_check_in_is_signed_with_its_context() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let signed = sign(&key, "ab".repeat(32), "{}".into());
        let message = [CHECK_IN_CONTEXT, "ab".repeat(32).as_bytes(), b"{}"].concat();
        let bytes: Vec<u8> = (0..64)
            .map(|at| u8::from_str_radix(&signed.signature[at * 2..at * 2 + 2], 16).unwrap())
            .collect();
        let signature = Signature::from_slice(&bytes).unwrap();
        assert!(
            key.verifying_key()
                .verify_strict(&message, &signature)
                .is_ok()
        );
        assert_eq!(
            parse_hex(signed.device_key.as_bytes()).unwrap(),
            *key.verifying_key().as_bytes()
        );
    }
}
