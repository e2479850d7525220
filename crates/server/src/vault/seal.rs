//! How secrets lie in the database, and how they go over the line.
//!
//! At rest: ChaCha20-Poly1305, by a key that only the data folder holds, each bound to its name and site, so that a row that is
//! moved or copied to another name doesn't open. On the line: HPKE, to a key that the device made for its run.

use camino::Utf8Path;
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem, OpModeS, Serializable as _, single_shot_seal};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use sequence::secret::{Secret, wipe};
use wire::device_api::{SECRET_CONTEXT, SealedSecret};
use wire::names::SecretName;

use crate::db::Db;
use crate::error::{Doing as _, Failure};
use crate::secret;

/// What the keys are derived for; another use of the same file gives another key.
const CONTEXT: &str = "forestage 2026 secrets at rest 1";
const FINGERPRINTS_CONTEXT: &str = "forestage 2026 fingerprints of requests 1";

/// A device's key for one run, that secrets are sealed to.
pub(crate) struct RunKey(<X25519HkdfSha256 as Kem>::PublicKey);

impl RunKey {
    /// Reads 64 hexadecimal digits.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let bytes = secret::unhex::<32>(text)?;
        Deserializable::from_bytes(&bytes).ok().map(Self)
    }

    /// Seals a secret to this key, for the request that this is `asked` for in.
    pub(super) fn seal(&self, value: &Secret, asked: &str) -> Result<SealedSecret, Failure> {
        let sealed = single_shot_seal::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256, _>(
            &OpModeS::Base,
            &self.0,
            SECRET_CONTEXT,
            value.expose().as_bytes(),
            asked.as_bytes(),
            &mut rand_core::OsRng,
        );
        // A key of small order is the only one that nothing can be sealed to.
        let (key, sealed) = sealed.map_err(|_| {
            Failure::bad_request(
                "bad-run-key",
                "nothing can be sealed to this key of the run",
            )
        })?;
        Ok(SealedSecret {
            encapsulated_key: secret::hex(&key.to_bytes()),
            sealed: secret::hex(&sealed),
        })
    }
}

/// Seals and opens what is stored.
pub(crate) struct Vault {
    key: LessSafeKey,
    fingerprints: [u8; 32],
}

impl Vault {
    /// Reads the key from `folder`, making it at the first start. Never a new one beside secrets that the lost one has sealed.
    pub(crate) async fn open(db: &Db, folder: &Utf8Path) -> Result<Self, Failure> {
        let path = folder.join("secrets.key");
        if !path.exists() {
            refuse_lost(db).await?;
        }
        let mut seed = secret::seed(&path)?;
        let vault = Self::new(&seed);
        wipe(&mut seed);
        Ok(vault)
    }

    fn new(seed: &[u8; 32]) -> Self {
        let mut key = blake3::derive_key(CONTEXT, seed);
        let unbound = UnboundKey::new(&CHACHA20_POLY1305, &key)
            .expect("a key of this algorithm has 32 bytes");
        wipe(&mut key);
        Self {
            key: LessSafeKey::new(unbound),
            fingerprints: blake3::derive_key(FINGERPRINTS_CONTEXT, seed),
        }
    }

    /// The key for fingerprints of what may hold a secret: without it, nobody can try guesses on them.
    pub(crate) const fn fingerprints(&self) -> &[u8; 32] {
        &self.fingerprints
    }

    /// What is stored of a secret: a nonce and what it seals.
    pub(super) fn seal(
        &self,
        name: &SecretName,
        site: &str,
        value: &Secret,
    ) -> Result<Vec<u8>, Failure> {
        let chance = secret::random()?;
        let mut nonce = [0; NONCE_LEN];
        nonce.copy_from_slice(&chance[..NONCE_LEN]);
        let mut sealed = nonce.to_vec();
        let mut bytes = value.expose().as_bytes().to_vec();
        let tag = self
            .key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                bound_to(name, site),
                &mut bytes,
            )
            .map_err(|_| broken("seal a secret", "it is too long"))?;
        sealed.extend_from_slice(&bytes);
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    /// The secret of this name and site.
    pub(super) fn unseal(
        &self,
        name: &SecretName,
        site: &str,
        sealed: &[u8],
    ) -> Result<Secret, Failure> {
        let cannot = || {
            broken(
                "open a secret",
                "it was sealed by another key than `keys/secrets.key`, or for another name; set it anew",
            )
        };
        let (nonce, bytes) = sealed.split_first_chunk::<NONCE_LEN>().ok_or_else(cannot)?;
        let mut bytes = bytes.to_vec();
        let opened = self
            .key
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                bound_to(name, site),
                &mut bytes,
            )
            .map_err(|_| cannot())?;
        let text = std::str::from_utf8(opened).map(str::to_owned);
        wipe(&mut bytes);
        text.map(Secret::new).map_err(|_| cannot())
    }
}

async fn refuse_lost(db: &Db) -> Result<(), Failure> {
    let sealed: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM secrets")
        .fetch_one(db.read())
        .await
        .doing("count the secrets")?;
    match sealed {
        0 => Ok(()),
        _ => Err(broken(
            "open the secrets in the database",
            "`keys/secrets.key` of the data folder is missing, and they were sealed by it; put it back from a copy of the folder or \
             a backup. If it is lost for good, write a new one (`openssl rand -hex 32`) and set every secret anew",
        )),
    }
}

/// Neither name nor site holds a line break.
fn bound_to(name: &SecretName, site: &str) -> Aad<Vec<u8>> {
    Aad::from(format!("{name}\n{site}").into_bytes())
}

fn broken(what: &'static str, why: &'static str) -> Failure {
    Failure::System {
        what,
        source: why.into(),
    }
}

#[cfg(test)]
mod tests {
    use camino::Utf8Path;
    use sequence::secret::Secret;

    use super::{RunKey, Vault};
    use crate::db::{Db, commit};
    use crate::error::chain;

    #[tokio::test]
    async fn a_lost_key_is_not_replaced_while_there_are_secrets() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(folder.path()).unwrap();
        let db = Db::open(&folder.join("a.db"), None).await.unwrap();
        let key = folder.join("secrets.key");
        Vault::open(&db, folder).await.unwrap();
        let first = std::fs::read(&key).unwrap();
        // Nothing was sealed by it yet.
        std::fs::remove_file(&key).unwrap();
        Vault::open(&db, folder).await.unwrap();
        assert_ne!(std::fs::read(&key).unwrap(), first);
        let mut write = db.write().await.unwrap();
        let row = "INSERT INTO secrets (name, site, sealed, changed_by, changed_at_ms) VALUES ('wifi', '', $1, 'a', 1)";
        sqlx::query(row)
            .bind(vec![0_u8; 28])
            .execute(&mut *write)
            .await
            .unwrap();
        commit(write).await.unwrap();
        Vault::open(&db, folder).await.unwrap();
        std::fs::remove_file(&key).unwrap();
        let Err(refused) = Vault::open(&db, folder).await else {
            panic!("it must not begin with another key");
        };
        assert!(chain(&refused).contains("put it back"), "{refused}");
        assert!(!key.exists());
    }

    #[test]
    fn a_secret_opens_with_its_key_under_its_name_and_site_alone() {
        let (vault, other) = (Vault::new(&[1; 32]), Vault::new(&[2; 32]));
        let (name, another) = ("domain-join".parse().unwrap(), "wifi".parse().unwrap());
        let value = Secret::new("Blåbær 7".to_owned());
        let sealed = vault.seal(&name, "BJO", &value).unwrap();
        assert_ne!(sealed, vault.seal(&name, "BJO", &value).unwrap());
        let opened = vault.unseal(&name, "BJO", &sealed).unwrap();
        assert_eq!(opened.expose(), "Blåbær 7");
        assert!(other.unseal(&name, "BJO", &sealed).is_err());
        assert!(vault.unseal(&another, "BJO", &sealed).is_err());
        assert!(vault.unseal(&name, "", &sealed).is_err());
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(vault.unseal(&name, "BJO", &flipped).is_err(), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert!(vault.unseal(&name, "BJO", &sealed[..length]).is_err());
        }
    }

    #[test]
    fn nothing_is_sealed_to_what_is_no_key() {
        let value = Secret::new("s".to_owned());
        assert!(RunKey::parse("00").is_none() && RunKey::parse(&"x".repeat(64)).is_none());
        // Whatever is agreed on with the point at infinity, everybody knows.
        let nobody = RunKey::parse(&"0".repeat(64));
        assert!(nobody.is_none_or(|key| key.seal(&value, "").is_err()));
    }
}
