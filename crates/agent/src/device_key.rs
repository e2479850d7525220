//! The device's key: in the TPM if there is one, else in a file. Which of the two is decided once and kept: a server knows the
//! machine by it. See `docs/formats/device-key.md`.

use anyhow::{Context, Result, ensure};
use camino::Utf8Path;
use ed25519_dalek::{Signer, SigningKey};
use wire::device_api::{CHECK_IN_CONTEXT, CheckIn, KeyPlace};
use wire::keys::DevicePublicKey;

use crate::files::Files;
use crate::host::KeySource;
use crate::tpm::{self, Point};
use crate::{durable, log};

/// The seed of a key that isn't in a TPM.
const SEED_FILE: &str = "device.key";
/// The public half of the TPM's key that the machine is known by.
const TPM_FILE: &str = "device.tpm";
/// Both are one line.
const FILE_BYTES_MAX: u64 = 64 << 10;
/// What to do with a machine that had a TPM.
const NO_TPM_NOW: &str =
    "the TPM that has this machine's key is not there now; switch it on in the firmware setup";

/// What to do with one that was enrolled before.
const KEPT: &str =
    "it lay in a file before; stage the machine anew and reset its key to have it in the TPM";

/// A key, and what is to be said of it.
#[derive(Clone)]
pub(crate) struct DeviceKey {
    kind: Kind,
    place: KeyPlace,
}

#[derive(Clone)]
enum Kind {
    Software(SigningKey),
    /// The public half; the TPM has the other.
    Tpm(Point),
}

/// What lies on the staging partition.
#[derive(Default)]
struct Stored {
    seed: Option<SigningKey>,
    tpm: Option<Point>,
}

impl DeviceKey {
    /// The key that this machine signs with: the one it had a moment ago, the one its disk says, the TPM's, a new one. Durable as
    /// soon as there is a staging partition.
    pub(crate) fn choose(source: &dyn KeySource, held: Option<&Self>) -> Result<Self> {
        let folder = source.folder();
        let stored = match &folder {
            Some(folder) => Stored::load(source.files(), folder)?,
            None => Stored::default(),
        };
        let key = Self::of(source, held, &stored)?;
        if let Some(folder) = folder {
            key.store(source.files(), &folder, &stored)?;
        }
        Ok(key)
    }

    fn of(source: &dyn KeySource, held: Option<&Self>, stored: &Stored) -> Result<Self> {
        let (held_seed, held_point) = match held.map(|key| &key.kind) {
            Some(Kind::Software(seed)) => (Some(seed), None),
            Some(Kind::Tpm(point)) => (None, Some(*point)),
            None => (None, None),
        };
        let why = match held.map(|key| &key.place) {
            Some(KeyPlace::Software { why }) => why.clone(),
            _ => None,
        };
        let seed = stored.seed.as_ref().or(held_seed);
        match seed {
            // Whoever is known by a key in a file stays so.
            Some(seed) if stored.tpm.is_none() && held_point.is_none() => {
                let kept = || matches!(source.tpm(), Ok(Some(_))).then(|| KEPT.to_owned());
                Ok(Self::software(seed.clone(), why.or_else(kept)))
            }
            _ => match held_point.map_or_else(|| of_tpm(source, stored.tpm.is_some()), Ok) {
                Ok(point) => {
                    let is_other = stored.tpm.is_some_and(|known| known != point);
                    Ok(Self {
                        kind: Kind::Tpm(point),
                        place: KeyPlace::Tpm { is_other },
                    })
                }
                Err(why) => Ok(Self::software(
                    seed.cloned().map_or_else(|| fresh_seed(source), Ok)?,
                    why,
                )),
            },
        }
    }

    const fn software(seed: SigningKey, why: Option<String>) -> Self {
        Self {
            kind: Kind::Software(seed),
            place: KeyPlace::Software { why },
        }
    }

    /// Its public half.
    pub(crate) fn public(&self) -> DevicePublicKey {
        match &self.kind {
            Kind::Software(seed) => DevicePublicKey::of_ed25519(seed.verifying_key().as_bytes()),
            Kind::Tpm(point) => DevicePublicKey::of_p256(point),
        }
    }

    /// Where it is, for the server.
    pub(crate) const fn place(&self) -> &KeyPlace {
        &self.place
    }

    /// What the person in front of the machine should know of it.
    pub(crate) fn problem(&self) -> Option<String> {
        match &self.place {
            KeyPlace::Tpm { is_other: true } => Some(
                "the TPM of this machine was cleared or replaced, or its disk comes from another machine"
                    .to_owned(),
            ),
            KeyPlace::Software { why } => why.clone(),
            KeyPlace::Tpm { is_other: false } | KeyPlace::Unknown => None,
        }
    }

    /// A check-in, signed.
    pub(crate) fn check_in(
        &self,
        source: &dyn KeySource,
        challenge: String,
        body: String,
    ) -> Result<CheckIn> {
        let mut message = CHECK_IN_CONTEXT.to_vec();
        message.extend_from_slice(challenge.as_bytes());
        message.extend_from_slice(body.as_bytes());
        let (device_key, signature) = self.sign(source, &message)?;
        Ok(CheckIn {
            challenge,
            device_key,
            signature,
            body,
        })
    }

    /// The public key and its signature of `message`, as they go over the line. What is signed begins with what it is for.
    pub(crate) fn sign(&self, source: &dyn KeySource, message: &[u8]) -> Result<(String, String)> {
        match &self.kind {
            Kind::Software(seed) => Ok((
                to_hex(seed.verifying_key().as_bytes()),
                to_hex(&seed.sign(message).to_bytes()),
            )),
            Kind::Tpm(point) => {
                let mut tpm = source.tpm()?.context("the TPM is gone")?;
                let signed = tpm::sign(&mut *tpm, message)?;
                ensure!(
                    signed.key == *point,
                    "the TPM has another key than a moment ago"
                );
                Ok((to_hex(point), to_hex(&signed.signature)))
            }
        }
    }

    fn store(&self, files: &dyn Files, folder: &Utf8Path, stored: &Stored) -> Result<()> {
        match &self.kind {
            Kind::Software(seed) if stored.seed.is_none() => {
                write(files, &folder.join(SEED_FILE), seed.as_bytes())
            }
            Kind::Tpm(point) if stored.tpm.is_none() => write(files, &folder.join(TPM_FILE), point),
            Kind::Software(_) | Kind::Tpm(_) => Ok(()),
        }
    }

    /// A server knows the machine by this key now: so it will, whatever the disk said before.
    pub(crate) fn accepted(&mut self, source: &dyn KeySource) -> Result<()> {
        let Some(folder) = source.folder() else {
            return Ok(());
        };
        let (files, path) = (source.files(), folder.join(TPM_FILE));
        let known = Stored::load(files, &folder)?.tpm;
        match &self.kind {
            Kind::Tpm(point) => {
                if known != Some(*point) {
                    write(files, &path, point)?;
                }
                self.place = KeyPlace::Tpm { is_other: false };
            }
            Kind::Software(_) if known.is_some() => {
                files
                    .remove(&path)
                    .and_then(|()| files.sync_folder(&folder))
                    .with_context(|| format!("cannot remove {path}"))?;
            }
            Kind::Software(_) => {}
        }
        Ok(())
    }
}

impl Stored {
    /// A damaged file counts as missing.
    fn load(files: &dyn Files, folder: &Utf8Path) -> Result<Self> {
        let seed: Option<[u8; 32]> = read(files, &folder.join(SEED_FILE))?;
        Ok(Self {
            seed: seed.map(|seed| SigningKey::from_bytes(&seed)),
            tpm: read(files, &folder.join(TPM_FILE))?,
        })
    }
}

/// The TPM's key; or why there is none, if that has to be said.
fn of_tpm(source: &dyn KeySource, was_there: bool) -> Result<Point, Option<String>> {
    let told = |error: anyhow::Error| {
        log::warn("the TPM can't be used", &error);
        Some(format!("{error:#}"))
    };
    let tpm = source
        .tpm()
        .context("the TPM can't be opened")
        .map_err(told)?;
    let mut tpm = tpm.ok_or_else(|| was_there.then(|| NO_TPM_NOW.to_owned()))?;
    tpm::public_key(&mut *tpm).map_err(|error| told(error.into()))
}

fn fresh_seed(source: &dyn KeySource) -> Result<SigningKey> {
    let mut seed = [0; 32];
    source
        .random(&mut seed)
        .context("the kernel gave no random bytes")?;
    Ok(SigningKey::from_bytes(&seed))
}

fn read<const N: usize>(files: &dyn Files, path: &Utf8Path) -> Result<Option<[u8; N]>> {
    let stored = files
        .read(path, FILE_BYTES_MAX)
        .with_context(|| format!("cannot read {path}"))?;
    Ok(stored.and_then(|text| parse_hex(&text)))
}

fn write(files: &dyn Files, path: &Utf8Path, bytes: &[u8]) -> Result<()> {
    durable::write(files, path, to_hex(bytes).as_bytes(), 0o600)
        .with_context(|| format!("cannot write {path}"))
}

fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string never fails.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Reads exactly `N` bytes of two hexadecimal digits each.
pub(crate) fn parse_hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let text = text.trim_ascii();
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *byte = u8::try_from(digit(0)? << 4 | digit(1)?).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::{Arc, Mutex};

    use camino::Utf8PathBuf;
    use ed25519_dalek::Signature;
    use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
    use testkit::swtpm::Swtpm;

    use super::*;
    use crate::files::SystemFiles;
    use crate::host::{State, Tpm};

    /// What a machine has for a TPM.
    #[derive(Clone)]
    enum Fitted {
        Nothing,
        Working(Arc<Mutex<Swtpm>>),
        Broken,
    }

    impl Fitted {
        fn new() -> Self {
            Self::Working(Arc::new(Mutex::new(Swtpm::start().unwrap())))
        }
    }

    impl Tpm for Arc<Mutex<Swtpm>> {
        fn exchange(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
            self.lock().unwrap().answer(command)
        }
    }

    /// A machine with a disk, or with none yet.
    struct Bench {
        disk: tempfile::TempDir,
        has_disk: bool,
        tpm: Fitted,
    }

    impl Bench {
        fn new(tpm: Fitted) -> Self {
            Self {
                disk: tempfile::tempdir().unwrap(),
                has_disk: true,
                tpm,
            }
        }

        fn path(&self, file: &str) -> Utf8PathBuf {
            Utf8Path::from_path(self.disk.path()).unwrap().join(file)
        }

        /// The machine is switched on and checks in.
        fn starts(&self) -> DeviceKey {
            DeviceKey::choose(self, None).unwrap()
        }
    }

    impl State for Bench {
        fn folder(&self) -> Option<Utf8PathBuf> {
            self.has_disk.then(|| self.path(""))
        }

        fn files(&self) -> &dyn Files {
            &SystemFiles
        }
    }

    impl KeySource for Bench {
        fn random(&self, bytes: &mut [u8]) -> io::Result<()> {
            bytes.copy_from_slice(&uuid::Uuid::new_v4().as_bytes().repeat(2));
            Ok(())
        }

        fn tpm(&self) -> io::Result<Option<Box<dyn Tpm>>> {
            match &self.tpm {
                Fitted::Nothing => Ok(None),
                Fitted::Working(tpm) => Ok(Some(Box::new(Arc::clone(tpm)))),
                Fitted::Broken => Err(io::Error::other("no answer")),
            }
        }
    }

    const IN_TPM: KeyPlace = KeyPlace::Tpm { is_other: false };

    /// The key as the server sees it, from a check-in whose signature fits.
    fn known_as(bench: &Bench, key: &DeviceKey) -> String {
        let signed = key.check_in(bench, "ab".repeat(32), "{}".into()).unwrap();
        let message = [CHECK_IN_CONTEXT, "ab".repeat(32).as_bytes(), b"{}"].concat();
        let signature: [u8; 64] = parse_hex(signed.signature.as_bytes()).unwrap();
        if let Some(point) = parse_hex::<64>(signed.device_key.as_bytes()) {
            let point = [&[4], &point[..]].concat();
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                .verify(&message, &signature)
                .unwrap();
        } else {
            let key = parse_hex(signed.device_key.as_bytes()).unwrap();
            ed25519_dalek::VerifyingKey::from_bytes(&key)
                .unwrap()
                .verify_strict(&message, &Signature::from_bytes(&signature))
                .unwrap();
        }
        signed.device_key
    }

    #[test]
    fn with_a_tpm_only_the_public_half_is_on_the_disk() {
        let mut bench = Bench::new(Fitted::new());
        let key = bench.starts();
        assert_eq!((key.place(), key.problem()), (&IN_TPM, None));
        let known = known_as(&bench, &key);
        assert_eq!(
            std::fs::read_to_string(bench.path(TPM_FILE)).unwrap(),
            known
        );
        assert!(!bench.path(SEED_FILE).exists());
        assert_eq!(known_as(&bench, &bench.starts()), known);
        // Staged anew it is the same machine.
        bench.disk = tempfile::tempdir().unwrap();
        assert_eq!(known_as(&bench, &bench.starts()), known);
    }

    #[test]
    fn a_copied_disk_is_worth_nothing_with_another_tpm_and_all_with_its_own() {
        let ours = Bench::new(Fitted::new());
        let known = known_as(&ours, &ours.starts());
        let other = Bench::new(Fitted::new());
        std::fs::copy(ours.path(TPM_FILE), other.path(TPM_FILE)).unwrap();
        let mut key = other.starts();
        assert_ne!(known_as(&other, &key), known);
        assert_eq!(key.place(), &KeyPlace::Tpm { is_other: true });
        assert!(key.problem().unwrap().contains("cleared or replaced"));
        // Nothing on the disk has changed: back in its own machine it is that machine.
        std::fs::copy(other.path(TPM_FILE), ours.path(TPM_FILE)).unwrap();
        assert_eq!(ours.starts().place(), &IN_TPM);
        // Until an administrator says that this is the machine now.
        key.accepted(&other).unwrap();
        assert_eq!(key.place(), &IN_TPM);
        assert_eq!(other.starts().place(), &IN_TPM);
    }

    #[test]
    fn without_a_tpm_the_key_is_a_file_and_stays_one() {
        let mut bench = Bench::new(Fitted::Nothing);
        let known = known_as(&bench, &bench.starts());
        let file = std::fs::metadata(bench.path(SEED_FILE)).unwrap();
        assert_eq!(file.permissions().mode() & 0o777, 0o600);
        assert_eq!(bench.starts().place(), &KeyPlace::Software { why: None });
        bench.tpm = Fitted::new();
        let key = bench.starts();
        assert_eq!(known_as(&bench, &key), known);
        assert!(key.problem().unwrap().contains("stage the machine anew"));
        std::fs::write(bench.path(SEED_FILE), "torn").unwrap();
        assert_eq!(bench.starts().place(), &IN_TPM, "it counts as missing");
    }

    #[test]
    fn a_tpm_that_fails_is_told_of() {
        let bench = Bench::new(Fitted::Broken);
        let key = bench.starts();
        assert_eq!(key.problem().unwrap(), "the TPM can't be opened: no answer");
        known_as(&bench, &key);
        let again = DeviceKey::choose(&bench, Some(&key)).unwrap();
        assert_eq!(again.problem(), key.problem());
    }

    #[test]
    fn a_tpm_that_is_switched_off_for_a_while_is_not_forgotten() {
        let mut bench = Bench::new(Fitted::new());
        let tpm = bench.tpm.clone();
        let known = known_as(&bench, &bench.starts());
        bench.tpm = Fitted::Nothing;
        let off = bench.starts();
        let known_off = known_as(&bench, &off);
        assert_ne!(known_off, known);
        assert!(off.problem().unwrap().contains("switch it on"));
        assert_eq!(known_as(&bench, &bench.starts()), known_off, "no third one");
        bench.tpm = tpm;
        assert_eq!(known_as(&bench, &bench.starts()), known);
        // Also while the machine is on.
        let on = DeviceKey::choose(&bench, Some(&off)).unwrap();
        assert_eq!(known_as(&bench, &on), known);
        // Once an administrator has taken the other key for the machine's, it is.
        let mut off = off;
        off.accepted(&bench).unwrap();
        assert_eq!(known_as(&bench, &bench.starts()), known_off);
    }

    #[test]
    fn a_key_from_before_there_was_a_disk_is_kept_on_it() {
        for tpm in [Fitted::Nothing, Fitted::Broken, Fitted::new()] {
            let mut bench = Bench::new(tpm);
            bench.has_disk = false;
            let key = bench.starts();
            let known = known_as(&bench, &key);
            let again = DeviceKey::choose(&bench, Some(&key)).unwrap();
            assert_eq!(known_as(&bench, &again), known);
            bench.has_disk = true;
            let stored = DeviceKey::choose(&bench, Some(&again)).unwrap();
            assert_eq!(known_as(&bench, &stored), known);
            assert_eq!(known_as(&bench, &bench.starts()), known);
        }
    }
}
