//! Secure Boot with an admin's own keys: making them, and signing what firmware starts. See `docs/formats/secure-boot.md`.
//!
//! `openssl` makes keys and certificates, `sbsigntool` signs; what they make is checked by `sbverify`. A private key is
//! only ever named to them, and never read here.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use camino::{Utf8Path, Utf8PathBuf};
use uuid::Uuid;

use crate::command::{CommandError, Program};
use crate::error::MediaError;
use crate::tree;

/// Debian's certificate authority for Secure Boot, as its package `shim-unsigned` has it: it vouches for Debian's kernels.
const DEBIAN_CA: &[u8] = include_bytes!("secure_boot/debian-ca.cer");
/// Firmware of all ages knows RSA with 2048 bits; longer keys are not known to all.
const KEY_KIND: &str = "rsa:2048";
/// `PK is ours`: a common name has 64 characters, and ours adds a few.
const NAME_CHARS_MAX: usize = 40;
/// A certificate has 1 to 2 KiB.
const CERTIFICATE_BYTES_MAX: u64 = 64 << 10;
/// A signed image is a little longer than the image.
const SIGNED_BYTES_MAX: u64 = 2 << 30;

/// The three keys of a machine's firmware, and what each is for. Each is vouched for by the one before.
const KEYS: [(&str, &str); 3] = [
    ("PK", "platform key"),
    ("KEK", "key exchange key"),
    ("db", "boot images"),
];

/// What a set of keys is made from.
#[derive(Debug, Clone)]
pub struct KeySet<'a> {
    /// Whose keys they are: the certificates' name.
    pub name: &'a str,
    /// How long the certificates are good for. Firmware doesn't look.
    pub days: u32,
    /// Whether Debian's kernels start, too.
    pub with_debian: bool,
    /// Certificates (PEM or DER) whose holders' programs start, too.
    pub also: &'a [Utf8PathBuf],
}

/// A set of keys that was made.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct MadeKeys {
    /// Where.
    pub folder: Utf8PathBuf,
    /// The owner's identifier in the firmware's lists.
    pub owner: Uuid,
    /// Whose programs will start: the names of the certificates in `db`.
    pub starts: Vec<String>,
    /// All files.
    pub files: Vec<String>,
}

/// Makes the folder `out` with new keys `PK`, `KEK` and `db`, and the files that firmware takes for them. There as a whole
/// or not at all.
///
/// # Errors
/// If `out` holds something, a certificate can't be used, or a program fails.
pub fn create_keys(set: &KeySet<'_>, out: &Utf8Path) -> Result<MadeKeys, MediaError> {
    check_name(set.name)?;
    let folder = out
        .parent()
        .filter(|folder| !folder.as_str().is_empty())
        .unwrap_or(Utf8Path::new("."));
    if fs::read_dir(out).map_or_else(|_| out.exists(), |mut entries| entries.next().is_some()) {
        return Err(MediaError::Exists { path: out.into() });
    }
    let (scratch, work) = tree::scratch(folder)?;
    // Before there is anything in it.
    fs::set_permissions(&work, fs::Permissions::from_mode(0o700))
        .map_err(MediaError::write(&work))?;
    let owner = Uuid::new_v4();
    for (key, purpose) in KEYS {
        make_key(
            &work,
            key,
            &format!("{} {key}, {purpose}", set.name),
            set.days,
        )?;
    }
    let mut certificates = vec![work.join("db.pem")];
    if set.with_debian {
        let file = work.join("debian-ca.cer");
        tree::write(&file, DEBIAN_CA)?;
        certificates.push(file);
    }
    certificates.extend_from_slice(set.also);
    let mut starts = Vec::new();
    let mut list = Vec::new();
    for certificate in &certificates {
        let certificate = Certificate::load(certificate)?;
        list.extend(signature_list(&work, &certificate, owner)?);
        starts.push(certificate.subject);
    }
    tree::write(&work.join("db.esl"), &list)?;
    for key in ["PK", "KEK"] {
        let certificate = Certificate::load(&work.join(format!("{key}.pem")))?;
        let list = signature_list(&work, &certificate, owner)?;
        tree::write(&work.join(format!("{key}.esl")), &list)?;
    }
    for (variable, signer) in [("PK", "PK"), ("KEK", "PK"), ("db", "KEK")] {
        sign_update(&work, variable, signer)?;
    }
    tree::write(&work.join("owner.txt"), format!("{owner}\n").as_bytes())?;
    let mut files: Vec<String> = tree::files(&work)?
        .iter()
        .filter_map(|path| path.file_name().map(ToOwned::to_owned))
        .collect();
    files.sort();
    for path in tree::files(&work)? {
        let synced = fs::File::open(&path).and_then(|file| file.sync_all());
        synced.map_err(MediaError::write(&path))?;
    }
    let synced = fs::File::open(&work).and_then(|folder| folder.sync_all());
    synced.map_err(MediaError::write(&work))?;
    let failed = MediaError::write(out);
    // Over an empty folder, and over nothing else.
    fs::rename(&work, out)
        .and_then(|()| fs::File::open(folder)?.sync_all())
        .map_err(failed)?;
    // It has another name now, and nothing is to be removed.
    let _moved = scratch.keep();
    Ok(MadeKeys {
        folder: out.to_owned(),
        owner,
        starts,
        files,
    })
}

/// The name ends up in a certificate's subject, where `/`, `+`, `=` and others mean more than themselves.
fn check_name(name: &str) -> Result<(), MediaError> {
    let good = |char: char| char.is_alphanumeric() || " -_.".contains(char);
    let is_good = (1..=NAME_CHARS_MAX).contains(&name.chars().count())
        && name.chars().all(good)
        && name.trim() == name;
    if is_good {
        return Ok(());
    }
    Err(MediaError::refused(
        format!("{name:?} can't be the name of keys"),
        format!("take 1 to {NAME_CHARS_MAX} letters, digits, spaces and - _ ."),
    ))
}

fn make_key(work: &Utf8Path, key: &str, subject: &str, days: u32) -> Result<(), MediaError> {
    let private = work.join(format!("{key}.key"));
    Program::new("openssl")
        .args(["req", "-new", "-x509", "-sha256", "-noenc", "-utf8"])
        .args(["-newkey", KEY_KIND, "-days", &days.to_string()])
        .args(["-subj", &format!("/CN={subject}")])
        .args(["-keyout", private.as_str()])
        .args(["-out", work.join(format!("{key}.pem")).as_str()])
        .run()
        .map_err(MediaError::command(format!("make the key {key}")))?;
    fs::File::open(&private)
        .and_then(|file| tree::set_mode(&file, 0o600))
        .map_err(MediaError::write(&private))?;
    let certificate = Certificate::load(&work.join(format!("{key}.pem")))?;
    tree::write(&work.join(format!("{key}.cer")), &certificate.der)
}

/// A certificate as an EFI_SIGNATURE_LIST.
fn signature_list(
    work: &Utf8Path,
    certificate: &Certificate,
    owner: Uuid,
) -> Result<Vec<u8>, MediaError> {
    let (_scratch, scratch) = tree::scratch(work)?;
    let (der, list) = (scratch.join("der"), scratch.join("list"));
    tree::write(&der, &certificate.der)?;
    Program::new("sbsiglist")
        .args(["--type", "x509", "--owner", &owner.to_string()])
        .args(["--output", list.as_str(), der.as_str()])
        .run()
        .map_err(MediaError::command(format!(
            "make a signature list of {}",
            certificate.subject
        )))?;
    tree::read(&list, CERTIFICATE_BYTES_MAX)
}

/// Signs a list as the update of a firmware's variable.
fn sign_update(work: &Utf8Path, variable: &str, signer: &str) -> Result<(), MediaError> {
    let file = |name: &str, ending: &str| work.join(format!("{name}.{ending}")).to_string();
    Program::new("sbvarsign")
        .args(["--key", &file(signer, "key")])
        .args(["--cert", &file(signer, "pem")])
        .args(["--output", &file(variable, "auth")])
        .args([variable, &file(variable, "esl")])
        .run()
        .map(drop)
        .map_err(MediaError::command(format!("sign the list {variable}")))
}

/// A certificate, as far as we look into it.
#[derive(Debug, Clone)]
struct Certificate {
    der: Vec<u8>,
    /// Its subject in one line.
    subject: String,
    /// From when on it is good, as `2026-11-29 15:26:04`, UTC.
    not_before: String,
}

impl Certificate {
    fn load(path: &Utf8Path) -> Result<Self, MediaError> {
        // So that a file that isn't there is named as such.
        let _bytes = tree::read(path, CERTIFICATE_BYTES_MAX)?;
        let converted = tempfile::NamedTempFile::new().map_err(MediaError::write(path))?;
        let der = Utf8Path::from_path(converted.path()).ok_or_else(|| {
            MediaError::unusable(
                path,
                "certificate",
                "temporary files have a path that is not UTF-8",
            )
        })?;
        let failed = || MediaError::command(format!("use the certificate {path}"));
        let openssl = || Program::new("openssl").args(["x509", "-in", path.as_str()]);
        openssl()
            .args(["-outform", "der", "-out", der.as_str()])
            .run()
            .map_err(failed())?;
        let said = openssl()
            .args([
                "-noout",
                "-subject",
                "-nameopt",
                "utf8,sep_comma_plus_space",
            ])
            .args(["-startdate", "-dateopt", "iso_8601"])
            .run()
            .map_err(failed())?;
        let line = |key: &str| {
            said.lines()
                .find_map(|line| line.strip_prefix(key))
                .map(|value| value.trim().trim_end_matches('Z').to_owned())
                .ok_or_else(|| MediaError::unusable(path, "certificate", format!("no {key}")))
        };
        Ok(Self {
            der: tree::read(der, CERTIFICATE_BYTES_MAX)?,
            subject: line("subject=")?,
            not_before: line("notBefore=")?,
        })
    }
}

/// Signs what firmware starts.
#[derive(Debug, Clone)]
pub struct ImageSigner {
    key: Utf8PathBuf,
    certificate_path: Utf8PathBuf,
    certificate: Certificate,
}

impl ImageSigner {
    /// The private key (PEM, without a password) and its certificate (PEM).
    ///
    /// # Errors
    /// If the certificate can't be used, or there is no program to sign with.
    pub fn new(key: &Utf8Path, certificate: &Utf8Path) -> Result<Self, MediaError> {
        // `faketime` wouldn't tell one that isn't there from one that fails.
        Program::new("sbsign")
            .arg("--version")
            .run()
            .map_err(MediaError::command("sign boot images"))?;
        fs::File::open(key).map_err(MediaError::read(key))?;
        Ok(Self {
            key: key.to_owned(),
            certificate_path: certificate.to_owned(),
            certificate: Certificate::load(certificate)?,
        })
    }

    /// Who signs: the subject of the certificate.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.certificate.subject
    }

    /// The certificate's bytes (DER).
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        &self.certificate.der
    }

    /// The same image, signed. The same image and key make the same bytes: the signature says that it was made when the
    /// certificate began to be good.
    pub(crate) fn sign(
        &self,
        image: &[u8],
        name: &str,
        scratch: &Utf8Path,
    ) -> Result<Vec<u8>, MediaError> {
        let (_work, work) = tree::scratch(scratch)?;
        let (plain, signed) = (work.join("plain.efi"), work.join("signed.efi"));
        tree::write(&plain, image)?;
        let failed = |source: CommandError| MediaError::Command {
            what: format!("sign {name} with {}", self.key),
            source,
        };
        Program::new("faketime")
            .env("TZ", "UTC")
            .args(["-f", &self.certificate.not_before, "sbsign"])
            .args(["--key", self.key.as_str()])
            .args(["--cert", self.certificate_path.as_str()])
            .args(["--output", signed.as_str(), plain.as_str()])
            .run()
            .map_err(failed)?;
        Program::new("sbverify")
            .args(["--cert", self.certificate_path.as_str(), signed.as_str()])
            .run()
            .map_err(failed)?;
        tree::read(&signed, SIGNED_BYTES_MAX)
    }
}

#[cfg(test)]
pub(crate) mod tests;
