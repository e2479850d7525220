//! The keys that sign bundles and warrants: which there are, which one signs, and which no boot image is to believe any more.
//!
//! One key signs bundles at a time; all wipe keys that aren't retired count. A key that is retired stays so, and its private
//! half is removed. What devices believe is decided by their boot image, which is built with the keys that weren't retired then.

use std::collections::BTreeMap;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use camino::Utf8Path;
use ed25519_dalek::{SigningKey, VerifyingKey};
use sqlx::{AnyConnection, FromRow};
use wire::boot_config::Trust;
use wire::keys::{
    KeyPlace, KeyPurpose, KeyRow, KeyState, NewKey, PublicKey, SignatureState, SignedBy,
};
use wire::names::KeyName;

use crate::db::{Db, commit};
use crate::error::{Doing as _, Failure, stored_text};
use crate::limits::JSON_BYTES_MAX;
use crate::people::audit::audit;
use crate::people::auth::User;
use crate::routes::{parse, read_json};
use crate::secret;
use crate::state::{AppState, blocking, now_ms};

/// What the key is called that a server makes at its first start, or had before keys had names.
const FIRST_NAME: &str = "server";
/// Where its private half lies.
const FIRST_FILE: &str = "bundle.key";
/// Keys that aren't retired: with more, nobody knows any more what a boot image believes.
const KEYS_MAX: usize = 16;

/// A key as stored.
#[derive(Debug, Clone, FromRow)]
struct Stored {
    name: String,
    purpose: String,
    public_key: String,
    state: String,
    place: String,
    file: String,
    added_at_ms: i64,
    retired_at_ms: i64,
}

impl Stored {
    fn public_key(&self) -> Result<PublicKey, Failure> {
        stored_text("public key", &self.public_key)
    }

    fn is(&self, state: KeyState) -> bool {
        self.state == state.as_str()
    }

    fn purpose(&self) -> KeyPurpose {
        match self.purpose.as_str() {
            "wipe" => KeyPurpose::Wipe,
            _ => KeyPurpose::Bundle,
        }
    }

    /// Whether it is retired and its private half is here still: the server was cut off in between.
    fn is_left_over(&self) -> bool {
        self.is(KeyState::Retired) && self.place == KeyPlace::Server.as_str()
    }

    fn row(&self) -> Result<KeyRow, Failure> {
        let state = KeyState::ALL.into_iter().find(|state| self.is(*state));
        Ok(KeyRow {
            name: stored_text("name of a key", &self.name)?,
            purpose: self.purpose(),
            public_key: self.public_key()?,
            state: state.ok_or_else(|| Failure::Stored {
                what: "state of a key",
                source: self.state.clone().into(),
            })?,
            place: match self.place.as_str() {
                "server" => KeyPlace::Server,
                "removed" => KeyPlace::Removed,
                _ => KeyPlace::Elsewhere,
            },
            added_at_ms: self.added_at_ms,
            retired_at_ms: (self.retired_at_ms > 0).then_some(self.retired_at_ms),
            bundles: 0,
            staged: 0,
        })
    }
}

/// Every key there ever was, in the order in which they came.
async fn all(db: &mut AnyConnection) -> Result<Vec<Stored>, Failure> {
    sqlx::query_as(
        "SELECT name, purpose, public_key, state, place, file, added_at_ms, retired_at_ms FROM signing_keys \
         ORDER BY added_at_ms, name",
    )
    .fetch_all(db)
    .await
    .doing("read the keys")
}

async fn named(db: &mut AnyConnection, name: &KeyName) -> Result<Stored, Failure> {
    let all = all(db).await?.into_iter();
    let mut named = all.filter(|key| key.name == name.as_str());
    named
        .next()
        .ok_or_else(|| Failure::not_found(format!("key {name}")))
}

async fn set_state(
    db: &mut AnyConnection,
    name: &str,
    state: KeyState,
    retired_at_ms: i64,
) -> Result<(), Failure> {
    sqlx::query("UPDATE signing_keys SET state = $1, retired_at_ms = $2 WHERE name = $3")
        .bind(state.as_str())
        .bind(retired_at_ms)
        .bind(name)
        .execute(db)
        .await
        .doing("change a key")
        .map(|_| ())
}

/// The private half of a key isn't here any more.
async fn forget_file(db: &mut AnyConnection, name: &str) -> Result<(), Failure> {
    sqlx::query("UPDATE signing_keys SET place = 'removed', file = '' WHERE name = $1")
        .bind(name)
        .execute(db)
        .await
        .doing("change a key")
        .map(|_| ())
}

async fn insert(db: &mut AnyConnection, key: &Stored) -> Result<(), Failure> {
    sqlx::query(
        "INSERT INTO signing_keys (name, purpose, public_key, state, place, file, added_at_ms, retired_at_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, 0)",
    )
    .bind(&key.name)
    .bind(&key.purpose)
    .bind(&key.public_key)
    .bind(&key.state)
    .bind(&key.place)
    .bind(&key.file)
    .bind(key.added_at_ms)
    .execute(db)
    .await
    .doing("store a key")
    .map(|_| ())
}

/// Makes the first key, or takes over the one of a release that had no more than one. Ends what a retirement began.
pub(crate) async fn take_over(db: &Db, folder: &Utf8Path) -> Result<(), Failure> {
    let mut db = db.write().await?;
    let known = all(&mut db).await?;
    if !known.is_empty() {
        for key in known.iter().filter(|key| key.is_left_over()) {
            secret::remove(&folder.join(&key.file))?;
            forget_file(&mut db, &key.name).await?;
        }
        return commit(db).await;
    }
    let seed = secret::seed(&folder.join(FIRST_FILE))?;
    let public_key = public_half(&SigningKey::from_bytes(&seed)).to_string();
    let first = Stored {
        name: FIRST_NAME.to_owned(),
        purpose: KeyPurpose::Bundle.as_str().to_owned(),
        public_key: public_key.clone(),
        state: KeyState::Signing.as_str().to_owned(),
        place: KeyPlace::Server.as_str().to_owned(),
        file: FIRST_FILE.to_owned(),
        added_at_ms: now_ms(),
        retired_at_ms: 0,
    };
    insert(&mut db, &first).await?;
    sqlx::query("UPDATE prestage_versions SET signer = $1 WHERE signer = ''")
        .bind(&public_key)
        .execute(&mut *db)
        .await
        .doing("note who signed what was built")?;
    commit(db).await
}

fn public_half(key: &SigningKey) -> PublicKey {
    PublicKey::from_bytes(key.verifying_key().as_bytes())
}

fn verifying(key: &PublicKey) -> Result<VerifyingKey, Failure> {
    VerifyingKey::from_bytes(key.as_bytes()).map_err(|source| Failure::Stored {
        what: "public key",
        source: source.into(),
    })
}

/// Who signs what is built now.
pub(crate) enum Signer {
    /// The server itself.
    Here(SigningKey),
    /// A person, elsewhere.
    Elsewhere(PublicKey),
}

impl Signer {
    pub(crate) const fn key(&self) -> Option<&SigningKey> {
        match self {
            Self::Here(key) => Some(key),
            Self::Elsewhere(_) => None,
        }
    }

    pub(crate) fn public_key(&self) -> PublicKey {
        match self {
            Self::Here(key) => public_half(key),
            Self::Elsewhere(key) => *key,
        }
    }
}

/// The key that signs.
pub(crate) async fn signer(state: &AppState) -> Result<Signer, Failure> {
    let mut db = state.db().read().acquire().await.doing("read the keys")?;
    let all = all(&mut db).await?;
    drop(db);
    let signing = all.into_iter().find(|key| key.is(KeyState::Signing));
    let Some(key) = signing else {
        return Err(Failure::conflict("no-key", "no key signs")
            .hint("`forestage trust use` says which one is to"));
    };
    let public_key = key.public_key()?;
    if key.place != KeyPlace::Server.as_str() {
        return Ok(Signer::Elsewhere(public_key));
    }
    let path = state.keys_folder().join(&key.file);
    blocking(move || {
        let private = SigningKey::from_bytes(&secret::known_seed(&path)?);
        if public_half(&private) == public_key {
            return Ok(Signer::Here(private));
        }
        Err(Failure::File {
            what: "sign with",
            path,
            source: std::io::Error::new(
                std::io::ErrorKind::InvalidData,
                format!("it isn't the private half of the key {}", key.name),
            ),
        })
    })
    .await
}

/// Every key that ever signed here: what lies on our own disk is ours, whatever became of its key.
pub(crate) async fn all_verifying(state: &AppState) -> Result<Vec<VerifyingKey>, Failure> {
    let mut db = state.db().read().acquire().await.doing("read the keys")?;
    let all = all(&mut db).await?;
    all.iter()
        .filter(|key| key.purpose() == KeyPurpose::Bundle)
        .map(|key| verifying(&key.public_key()?))
        .collect()
}

/// The key of a signature that somebody brings, if devices are to believe it.
pub(crate) async fn believed(
    state: &AppState,
    public_key: &PublicKey,
    purpose: KeyPurpose,
) -> Result<VerifyingKey, Failure> {
    let mut db = state.db().read().acquire().await.doing("read the keys")?;
    let text = public_key.to_string();
    let all = all(&mut db).await?;
    let mut all = all.iter().filter(|key| key.purpose() == purpose);
    match all.find(|key| key.public_key == text) {
        None => Err(Failure::refused(
            StatusCode::UNPROCESSABLE_ENTITY,
            "unknown-key",
            format!("no {purpose} key here has the public half {public_key}"),
        )
        .hint("`forestage trust add` adds it, if it is yours")),
        Some(key) if key.is(KeyState::Retired) => Err(Failure::refused(
            StatusCode::UNPROCESSABLE_ENTITY,
            "retired-key",
            format!("the key {} is retired", key.name),
        )
        .hint("sign with one that isn't: `forestage trust list` shows them")),
        Some(_) => verifying(public_key),
    }
}

/// The wipe keys that count: what warrants are signed with.
pub(crate) async fn wipe_keys(db: &mut AnyConnection) -> Result<Vec<PublicKey>, Failure> {
    let all = all(db).await?.into_iter();
    all.filter(|key| key.purpose() == KeyPurpose::Wipe && !key.is(KeyState::Retired))
        .map(|key| key.public_key())
        .collect()
}

/// Who signed something, by their public keys.
pub(crate) struct Signers(BTreeMap<String, (KeyName, bool)>);

impl Signers {
    pub(crate) async fn read(db: &mut AnyConnection) -> Result<Self, Failure> {
        let all = all(db).await?.into_iter();
        let known = all.map(|key| {
            let name = stored_text("name of a key", &key.name)?;
            let is_retired = key.is(KeyState::Retired);
            Ok((key.public_key, (name, is_retired)))
        });
        known.collect::<Result<_, Failure>>().map(Self)
    }

    /// Who signed a version of a prestage, or is to.
    pub(crate) fn of(&self, signer: &str, is_signed: bool) -> SignedBy {
        let known = self.0.get(signer);
        // A retired key signs nothing any more: nobody knows which one will.
        let known = known.filter(|(_, is_retired)| is_signed || !is_retired);
        SignedBy {
            state: match known {
                _ if !is_signed => SignatureState::Waiting,
                Some((_, true)) => SignatureState::Retired,
                _ => SignatureState::Good,
            },
            key: known.map(|(name, _)| name.clone()),
        }
    }
}

/// The keys that were retired, by the versions of prestages that they signed (`book-14@3`).
pub(crate) async fn retired(db: &mut AnyConnection) -> Result<BTreeMap<String, KeyName>, Failure> {
    let rows: Vec<(String, i64, String)> = sqlx::query_as(
        "SELECT v.prestage, v.version, k.name FROM prestage_versions v \
         JOIN signing_keys k ON k.public_key = v.signer WHERE k.state = 'retired' AND v.signed = 1",
    )
    .fetch_all(db)
    .await
    .doing("read what retired keys signed")?;
    let rows = rows.into_iter().map(|(prestage, version, key)| {
        Ok((
            format!("{prestage}@{version}"),
            stored_text("name of a key", &key)?,
        ))
    });
    rows.collect()
}

impl AppState {
    /// Whom devices are to trust, and where they call home: what is baked into a boot image that is built now.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn trust(&self) -> Result<Trust, Failure> {
        let mut db = self.db().read().acquire().await.doing("read the keys")?;
        let mut keys = all(&mut db).await?;
        keys.retain(|key| !key.is(KeyState::Retired));
        // Who signs stands first.
        keys.sort_by_key(|key| !key.is(KeyState::Signing));
        let (bundle, wipe): (Vec<Stored>, Vec<Stored>) = keys
            .into_iter()
            .partition(|key| key.purpose() == KeyPurpose::Bundle);
        Ok(Trust {
            bundle_keys: bundle.into_iter().map(|key| key.public_key).collect(),
            wipe_keys: wipe
                .iter()
                .map(Stored::public_key)
                .collect::<Result<_, _>>()?,
            ..self.home().clone()
        })
    }

    /// Every key there ever was, with what hangs on it.
    pub(crate) async fn key_rows(&self) -> Result<Vec<KeyRow>, Failure> {
        let mut db = self.db().read().acquire().await.doing("read the keys")?;
        let mut rows = all(&mut db)
            .await?
            .iter()
            .map(Stored::row)
            .collect::<Result<Vec<_>, _>>()?;
        let signed: Vec<(String, i64, String)> = sqlx::query_as(
            "SELECT prestage, version, signer FROM prestage_versions WHERE signed = 1",
        )
        .fetch_all(&mut *db)
        .await
        .doing("read what was signed")?;
        drop(db);
        let fleet = self.fleet().await?;
        let mut staged: BTreeMap<&str, u32> = BTreeMap::new();
        // A machine that has begun to run has what the server gave it, not what the factory did.
        for row in fleet.rows().iter().filter(|row| row.run.is_none()) {
            if let Some(bundle) = &row.bundle {
                *staged.entry(bundle).or_default() += 1;
            }
        }
        for row in &mut rows {
            let key = row.public_key.to_string();
            for (prestage, version, _) in signed.iter().filter(|(_, _, signer)| *signer == key) {
                row.bundles += 1;
                let carried = staged.get(format!("{prestage}@{version}").as_str());
                row.staged += carried.copied().unwrap_or(0);
            }
        }
        Ok(rows)
    }

    async fn key_row(&self, name: &KeyName) -> Result<Json<KeyRow>, Failure> {
        let rows = self.key_rows().await?;
        let row = rows.into_iter().find(|row| row.name == *name);
        row.map(Json)
            .ok_or_else(|| Failure::not_found(format!("key {name}")))
    }
}

/// `GET /api/v1/trust`
pub(crate) async fn trust(State(state): State<AppState>) -> Result<Json<Trust>, Failure> {
    state.trust().await.map(Json)
}

/// `GET /api/v1/trust/keys`
pub(crate) async fn list(State(state): State<AppState>) -> Result<Json<Vec<KeyRow>>, Failure> {
    state.key_rows().await.map(Json)
}

/// `POST /api/v1/trust/keys`
pub(crate) async fn add(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    body: Body,
) -> Result<Json<KeyRow>, Failure> {
    let new: NewKey = read_json(body, JSON_BYTES_MAX).await?;
    let name = new.name;
    let mut db = state.db().write().await?;
    let known = all(&mut db).await?;
    if known.iter().any(|key| key.name == name.as_str()) {
        return Err(Failure::conflict(
            "key-exists",
            format!("there is a key {name} already, and a name is used once"),
        )
        .hint("give it another name"));
    }
    let usable = known.iter().filter(|key| !key.is(KeyState::Retired));
    if usable.count() >= KEYS_MAX {
        return Err(Failure::conflict(
            "too-many-keys",
            format!("there are {KEYS_MAX} keys that aren't retired"),
        )
        .hint("retire those that nothing needs"));
    }
    let (public_key, place, file) = match new.public_key {
        Some(public_key) => (checked(public_key)?, KeyPlace::Elsewhere, String::new()),
        None if new.purpose == KeyPurpose::Wipe => {
            return Err(Failure::bad_request(
                "wipe-key-elsewhere",
                "a wipe key never lies on the server",
            )
            .hint("it guards against the server: make it elsewhere with `forestage trust make-key`, and bring its public half"));
        }
        None => {
            let file = format!("bundle-{name}.key");
            let seed = secret::seed(&state.keys_folder().join(&file))?;
            let public_key = public_half(&SigningKey::from_bytes(&seed));
            (public_key, KeyPlace::Server, file)
        }
    };
    let text = public_key.to_string();
    if let Some(same) = known.iter().find(|key| key.public_key == text) {
        let message = format!("this is the key {}, which is {}", same.name, same.state);
        return Err(Failure::conflict("key-exists", message)
            .hint("a key is added once, and one that was retired never comes back"));
    }
    let key = Stored {
        name: name.to_string(),
        purpose: new.purpose.as_str().to_owned(),
        public_key: text,
        state: KeyState::Trusted.as_str().to_owned(),
        place: place.as_str().to_owned(),
        file,
        added_at_ms: now_ms(),
        retired_at_ms: 0,
    };
    insert(&mut db, &key).await?;
    let purpose = new.purpose;
    let detail = format!("{public_key}, signs: {purpose}, private half: {place}");
    audit(&mut db, &user.name, "key-added", name.as_str(), &detail).await?;
    commit(db).await?;
    state.key_row(&name).await
}

/// A key of small order fits signatures that nobody made, and a point that can be spelled in two ways would be two keys.
fn checked(public_key: PublicKey) -> Result<PublicKey, Failure> {
    match VerifyingKey::from_bytes(public_key.as_bytes()) {
        Ok(key) if !key.is_weak() && is_canonical(public_key.as_bytes()) => Ok(public_key),
        _ => Err(Failure::bad_request(
            "bad-public-key",
            format!("{public_key} is no Ed25519 public key that can be trusted"),
        )
        .hint("`forestage trust make-key` makes one")),
    }
}

/// Whether the coordinate, without the bit of the sign, is below 2^255 - 19, little-endian.
fn is_canonical(point: &[u8; 32]) -> bool {
    let [first, middle @ .., last] = point;
    *first < 0xed || middle.iter().any(|byte| *byte != 0xff) || last & 0x7f != 0x7f
}

/// `POST /api/v1/trust/keys/{name}/use`
pub(crate) async fn start_using(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(name): Path<String>,
) -> Result<Json<KeyRow>, Failure> {
    let name: KeyName = parse(&name)?;
    let mut db = state.db().write().await?;
    let key = named(&mut db, &name).await?;
    if key.is(KeyState::Retired) {
        return Err(Failure::conflict(
            "retired-key",
            format!("the key {name} is retired, and that is for good"),
        )
        .hint("add another key"));
    }
    if key.purpose() == KeyPurpose::Wipe {
        return Err(Failure::conflict(
            "wipe-key",
            format!("the key {name} signs warrants, not bundles"),
        )
        .hint("it is in use already: every wipe key that isn't retired counts"));
    }
    if !key.is(KeyState::Signing) {
        for other in all(&mut db).await? {
            if other.is(KeyState::Signing) {
                set_state(&mut db, &other.name, KeyState::Trusted, 0).await?;
            }
        }
        set_state(&mut db, &key.name, KeyState::Signing, 0).await?;
        audit(&mut db, &user.name, "key-used", name.as_str(), "").await?;
    }
    commit(db).await?;
    state.key_row(&name).await
}

/// `POST /api/v1/trust/keys/{name}/retire`
pub(crate) async fn retire(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(name): Path<String>,
) -> Result<Json<KeyRow>, Failure> {
    let name: KeyName = parse(&name)?;
    // Whatever is being built is built first, and its key isn't taken from under it.
    let _nothing_is_built = state.builds().lock().await;
    let mut db = state.db().write().await?;
    let key = named(&mut db, &name).await?;
    if key.is(KeyState::Signing) {
        return Err(Failure::conflict(
            "signing-key",
            format!("new bundles are signed with the key {name}"),
        )
        .hint("have another one sign first: `forestage trust use`"));
    }
    if !key.is(KeyState::Retired) {
        set_state(&mut db, &key.name, KeyState::Retired, now_ms()).await?;
        audit(&mut db, &user.name, "key-retired", name.as_str(), "").await?;
    }
    commit(db).await?;
    // Only now: a key that is still in use must never be lost. If this fails, retiring it again goes on here.
    if key.place == KeyPlace::Server.as_str() {
        let path = state.keys_folder().join(&key.file);
        blocking(move || secret::remove(&path)).await?;
        let mut db = state.db().write().await?;
        forget_file(&mut db, &key.name).await?;
        commit(db).await?;
    }
    state.key_row(&name).await
}
