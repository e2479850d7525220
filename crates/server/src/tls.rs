//! The server's certificate: an own certificate authority, made at the first start, and nothing else that devices
//! trust.

use std::collections::BTreeSet;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use crate::error::Failure;
use crate::secret;

/// The authority outlives every machine that has it in its boot image.
const CA_LIFE: Duration = Duration::days(30 * 365);
/// The server's own certificate.
const SERVER_LIFE: Duration = Duration::days(2 * 365);
/// When it is made anew, before its end: a server is started more often than this.
const RENEWED_BEFORE: Duration = Duration::days(180);

/// What the server shows and what devices trust.
pub(crate) struct Tls {
    pub(crate) config: Arc<ServerConfig>,
    pub(crate) ca_pem: String,
    pub(crate) ca_path: Utf8PathBuf,
}

/// What a server certificate was made for, kept beside it so that nobody has to parse it.
#[derive(Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
struct Made {
    names: BTreeSet<String>,
    not_after: i64,
}

/// Opens `folder`, making what is missing or due.
pub(crate) fn open(folder: &Utf8Path, urls: &[String]) -> Result<Tls, Failure> {
    secret::private_folder(folder)?;
    let (ca_pem, issuer) = authority(folder)?;
    let mut names: BTreeSet<String> = urls.iter().filter_map(|url| host(url)).collect();
    names.extend(["localhost".to_owned(), "127.0.0.1".to_owned()]);
    let (certificate_pem, key_pem) = server_certificate(folder, &issuer, names)?;
    let chain = vec![
        CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(|source| stored("server certificate", source))?,
    ];
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
        .map_err(|source| stored("server key", source))?;
    let mut config =
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|source| system("set up TLS", source))?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|source| system("use the server certificate", source))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Tls {
        config: Arc::new(config),
        ca_pem,
        ca_path: folder.join("ca.pem"),
    })
}

fn authority(folder: &Utf8Path) -> Result<(String, Issuer<'static, KeyPair>), Failure> {
    let (certificate_path, key_path) = (folder.join("ca.pem"), folder.join("ca.key"));
    if let Some(pem) = read(&certificate_path)? {
        let Some(key) = read(&key_path)? else {
            let source = std::io::Error::from(std::io::ErrorKind::NotFound);
            return Err(Failure::File {
                what: "read",
                path: key_path,
                source,
            });
        };
        let key =
            KeyPair::from_pem(&key).map_err(|source| stored("key of the authority", source))?;
        return Ok((pem, Issuer::new(authority_params(), key)));
    }
    let key = KeyPair::generate().map_err(|source| system("make a key", source))?;
    let params = authority_params();
    let pem = params
        .self_signed(&key)
        .map_err(|source| system("make the authority", source))?
        .pem();
    // The key first: a certificate without its key would be useless for ever.
    secret::write_durably(&key_path, key.serialize_pem().as_bytes(), 0o600)?;
    secret::write_durably(&certificate_path, pem.as_bytes(), 0o644)?;
    Ok((pem, Issuer::new(params, key)))
}

/// The clock of an unboxed laptop is wrong, so nothing begins in the present.
fn authority_params() -> CertificateParams {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, "Forestage certificate authority");
    let mut params = CertificateParams::default();
    params.distinguished_name = name;
    params.not_after = OffsetDateTime::now_utc() + CA_LIFE;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn server_certificate(
    folder: &Utf8Path,
    issuer: &Issuer<'_, KeyPair>,
    names: BTreeSet<String>,
) -> Result<(String, String), Failure> {
    let paths = [
        folder.join("server.pem"),
        folder.join("server.key"),
        folder.join("server.json"),
    ];
    if let (Some(pem), Some(key), Some(made)) =
        (read(&paths[0])?, read(&paths[1])?, read(&paths[2])?)
        && let Ok(made) = serde_json::from_str::<Made>(&made)
        && made.names == names
        && made.not_after > (OffsetDateTime::now_utc() + RENEWED_BEFORE).unix_timestamp()
    {
        return Ok((pem, key));
    }
    let not_after = OffsetDateTime::now_utc() + SERVER_LIFE;
    let mut params = CertificateParams::new(names.iter().cloned().collect::<Vec<_>>())
        .map_err(|source| system("put the server's names into a certificate", source))?;
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, "Forestage server");
    params.distinguished_name = name;
    params.not_after = not_after;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate().map_err(|source| system("make a key", source))?;
    let pem = params
        .signed_by(&key, issuer)
        .map_err(|source| system("make the server certificate", source))?
        .pem();
    let made = crate::error::to_json(
        "write what a certificate is for",
        &Made {
            names,
            not_after: not_after.unix_timestamp(),
        },
    )?;
    // The description goes first and last: while key and certificate may not fit, nothing vouches for them.
    remove(&paths[2])?;
    secret::write_durably(&paths[1], key.serialize_pem().as_bytes(), 0o600)?;
    secret::write_durably(&paths[0], pem.as_bytes(), 0o644)?;
    secret::write_durably(&paths[2], made.as_bytes(), 0o644)?;
    Ok((pem, key.serialize_pem()))
}

/// The host of a URL.
fn host(url: &str) -> Option<String> {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = authority.split(['/', '?', '#']).next()?;
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0,
        None => authority
            .rsplit_once(':')
            .map_or(authority, |(host, _)| host),
    };
    (!host.is_empty()).then(|| host.to_owned())
}

fn read(path: &Utf8Path) -> Result<Option<String>, Failure> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Failure::File {
            what: "read",
            path: path.to_owned(),
            source,
        }),
    }
}

fn remove(path: &Utf8Path) -> Result<(), Failure> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(Failure::File {
            what: "remove",
            path: path.to_owned(),
            source,
        }),
        _ => secret::sync_parent(path),
    }
}

fn system(what: &'static str, source: impl std::error::Error + Send + Sync + 'static) -> Failure {
    Failure::System {
        what,
        source: source.into(),
    }
}

fn stored(what: &'static str, source: impl std::error::Error + Send + Sync + 'static) -> Failure {
    Failure::Stored {
        what,
        source: source.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::{host, open};
    use camino::Utf8PathBuf;

    #[test]
    fn hosts_are_found_in_urls() {
        let cases = [
            ("https://fs.example:8443/x", Some("fs.example")),
            ("https://10.0.2.2:8443", Some("10.0.2.2")),
            ("https://[::1]:8443/", Some("::1")),
            ("https://fs", Some("fs")),
            ("https://", None),
        ];
        for (url, expected) in cases {
            assert_eq!(host(url).as_deref(), expected, "{url}");
        }
    }

    #[test]
    fn the_authority_stays_and_the_certificate_follows_the_names() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8PathBuf::from_path_buf(folder.path().join("tls")).unwrap();
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
        let one = open(&folder, &["https://one.example".into()])
            .unwrap()
            .ca_pem;
        let first = read("server.pem");
        assert_eq!(
            open(&folder, &["https://one.example".into()])
                .unwrap()
                .ca_pem,
            one
        );
        assert_eq!(read("server.pem"), first);
        assert_eq!(
            open(&folder, &["https://two.example".into()])
                .unwrap()
                .ca_pem,
            one
        );
        assert_ne!(read("server.pem"), first);
    }
}
