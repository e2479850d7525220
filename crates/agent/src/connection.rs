//! The device's side of the server: its key, checking in, and the session that comes of it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use camino::Utf8Path;
use client::{Client, ClientError, RunKey};
use sequence::secret::wipe;
use serde_json::json;
use wire::boot_config::{TRUST_PATH, Trust};
use wire::device_api::{CheckInBody, CheckInReply, RefusedOrder, Staged, ToldMark};
use wire::keys::{DevicePublicKey, PublicKey};
use wire::names::RunId;
use wire::warrant::SignedWarrant;

use crate::device_key::DeviceKey;
use crate::files::{Files, SystemFiles};
use crate::host::Host;
use crate::{durable, log};

/// Trust is a certificate, a few addresses and keys.
const TRUST_BYTES_MAX: u64 = 1 << 20;
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
    key: Mutex<Option<DeviceKey>>,
    session: Mutex<Option<Client>>,
    run: Mutex<Option<RunId>>,
    wishes: Mutex<Option<Wishes>>,
    warrant: Mutex<Option<SignedWarrant>>,
    refused: Mutex<Option<RefusedOrder>>,
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
            refused: Mutex::default(),
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

    /// The order that this machine didn't take, if it is so; told at every check-in until the server has another answer.
    pub(crate) fn set_refused(&self, refused: Option<RefusedOrder>) {
        *lock(&self.refused) = refused;
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
        let key = self.key()?;
        let body = self.body(&key)?;
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

    fn check_in_at(&self, url: &str, key: &DeviceKey, body: &str) -> Result<CheckInReply> {
        let server = self.host.client(url, &self.trust.ca_pem, CALL_TIMEOUT)?;
        let challenge = server.challenge()?.challenge;
        let reply = server.check_in(&key.check_in(&*self.host, challenge, body.to_owned())?)?;
        let run = match &reply {
            CheckInReply::Run { order, .. } => Some(order.run),
            _ => None,
        };
        lock(&self.refused).take_if(|refused| Some(refused.run) != run);
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
                *lock(&self.warrant) = warrant.as_deref().cloned();
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
        if matches!(reply, CheckInReply::Run { .. } | CheckInReply::Idle { .. }) {
            self.key_is_accepted();
        }
        Ok(reply)
    }

    fn key_is_accepted(&self) {
        let accepted = |key: &mut DeviceKey| key.accepted(&*self.host);
        if let Some(Err(error)) = lock(&self.key).as_mut().map(accepted) {
            // It is told once more at the next check-in.
            log::warn("the disk doesn't say which key the server knows", &error);
        }
    }

    fn body(&self, key: &DeviceKey) -> Result<String> {
        let staged = match self.host.folder() {
            Some(folder) => read_staged(self.host.files(), &folder)?,
            None => None,
        };
        let body = CheckInBody {
            facts: self.host.facts(),
            agent: env!("CARGO_PKG_VERSION").to_owned(),
            environment: Some(self.host.environment()),
            key: Some(key.place().clone()),
            staged,
            run: *lock(&self.run),
            mark: self.mark(),
            wipe_keys: self.trust.wipe_keys.clone(),
            refused: lock(&self.refused).clone(),
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
    pub(crate) fn public_key(&self) -> Result<DevicePublicKey> {
        Ok(self.key()?.public())
    }

    /// The device's key. Made at the first check-in; durable as soon as there is a staging partition.
    fn key(&self) -> Result<DeviceKey> {
        let mut held = lock(&self.key);
        let key = DeviceKey::choose(&*self.host, held.as_ref())?;
        if held.as_ref().map(DeviceKey::place) != Some(key.place()) {
            log::milestone("device-key", json!(key.place()));
        }
        *held = Some(key.clone());
        Ok(key)
    }

    /// What whoever stands in front of the machine should know of its key.
    pub(crate) fn key_problem(&self) -> Option<String> {
        lock(&self.key).as_ref().and_then(DeviceKey::problem)
    }

    /// A signature of the device's key, as it goes over the line. What is signed begins with what it is for.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<String> {
        let (_key, signature) = self.key()?.sign(&*self.host, message)?;
        Ok(signature)
    }

    /// A new key for one run, for memory alone.
    pub(crate) fn run_key(&self) -> Result<RunKey> {
        let mut chance = [0; 32];
        let made = self
            .host
            .random(&mut chance)
            .context("the kernel gave no random bytes");
        let key = made.map(|()| RunKey::from_chance(&chance));
        wipe(&mut chance);
        key
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

fn retry_pause(failures: u32, random: u8) -> Duration {
    let whole =
        Duration::from_secs(1 << failures.clamp(1, 6).saturating_sub(1)).min(RETRY_PAUSE_MAX);
    whole.mul_f64(1.0 - f64::from(random) / 512.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_are_bounded() {
        assert_eq!(retry_pause(1, 0), Duration::from_secs(1));
        assert!(retry_pause(1, 255) > Duration::from_millis(500));
        assert_eq!(retry_pause(40, 0), RETRY_PAUSE_MAX);
        assert!(retry_pause(40, 255) >= Duration::from_secs(15));
    }
}
