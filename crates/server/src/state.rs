//! What every handler and page shares: the database, the content library, live runs, and who listens for changes.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use content::Library;
use tokio::sync::{Semaphore, broadcast, watch};
use wire::boot_config::Trust;
use wire::names::{DeviceId, RunId};

use crate::catalog::keys;
use crate::db::{DatabaseUrl, Db};
use crate::error::{Failure, chain};
use crate::fleet::import::stage::sweep;
use crate::fleet::targeting::membership::Cache as MemberCache;
use crate::fleet::view::FleetView;
use crate::health::Readiness;
use crate::limits::{CHANGES_MAX, LOGINS_AT_ONCE};
use crate::metrics::Metrics;
use crate::people::audit::chain_old_rows;
use crate::people::idempotency::InProgress;
use crate::people::oidc::{Oidc, OidcConfig};
use crate::people::throttle::Throttle;
use crate::runs::challenge::Challenges;
use crate::runs::history::History;
use crate::runs::live::{Views, name_old_runs};
use crate::secret;
use crate::serve::Patience;
use crate::vault::seal::Vault;
use crate::webhooks::sign::WebhookKey;

/// Where secrets lie, in the data folder.
const KEYS_FOLDER: &str = "keys";

/// Something that a list or a page shows has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Change {
    /// A device: its state, its names, its collections.
    Device(DeviceId),
    /// A run: a step, its progress, its end.
    Run(RunId),
}

/// Shared by all handlers; cheap to clone.
#[derive(Clone)]
pub struct AppState {
    inner: Arc<Inner>,
}

struct Inner {
    db: Db,
    data: Utf8PathBuf,
    library: Arc<Library>,
    challenges: Challenges,
    home: Trust,
    changes: broadcast::Sender<Change>,
    views: Views,
    fleet_view: FleetView,
    history: History,
    members: MemberCache,
    throttle: Throttle,
    in_progress: InProgress,
    oidc: Option<Oidc>,
    passwords: Semaphore,
    builds: tokio::sync::Mutex<()>,
    collecting: tokio::sync::RwLock<()>,
    published: tokio::sync::Notify,
    planning: tokio::sync::Mutex<()>,
    stopping: watch::Receiver<bool>,
    vault: Vault,
    webhook_key: WebhookKey,
    patience: Patience,
    second_person_above: u32,
    metrics: Metrics,
    readiness: Readiness,
}

impl AppState {
    /// Opens everything in the data folder.
    pub(crate) async fn open(
        data: &Utf8Path,
        database: Option<&DatabaseUrl>,
        home: Trust,
        oidc: Option<OidcConfig>,
        stopping: watch::Receiver<bool>,
        patience: Patience,
        second_person_above: u32,
    ) -> Result<Self, Failure> {
        let db = Db::open(&data.join("forestage.db"), database).await?;
        name_old_runs(&db).await?;
        chain_old_rows(&db).await?;
        sweep(&db, None).await?;
        let folder = data.join("library");
        let library = blocking(move || {
            Library::open(&folder).map_err(|source| Failure::Content {
                what: format!("open the content library in {folder}"),
                source,
            })
        })
        .await?;
        secret::private_folder(&data.join("bundles"))?;
        let folder = data.join(KEYS_FOLDER);
        secret::private_folder(&folder)?;
        keys::take_over(&db, &folder).await?;
        let vault = Vault::open(&db, &folder).await?;
        let webhook_key = WebhookKey::open(&folder)?;
        let challenges = Challenges::open(&folder)?;
        let (changes, _) = broadcast::channel(CHANGES_MAX);
        let inner = Inner {
            db,
            data: data.to_owned(),
            library: Arc::new(library),
            challenges,
            home,
            changes,
            views: Views::default(),
            fleet_view: FleetView::default(),
            history: History::default(),
            members: MemberCache::default(),
            throttle: Throttle::default(),
            in_progress: InProgress::default(),
            oidc: oidc.map(Oidc::new).transpose()?,
            passwords: Semaphore::new(LOGINS_AT_ONCE),
            builds: tokio::sync::Mutex::new(()),
            collecting: tokio::sync::RwLock::new(()),
            published: tokio::sync::Notify::new(),
            planning: tokio::sync::Mutex::new(()),
            stopping,
            vault,
            webhook_key,
            patience,
            second_person_above,
            metrics: Metrics::default(),
            readiness: Readiness::default(),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Hears of every change from now on. Whoever falls behind gets `Lagged` and reads everything again.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Change> {
        self.inner.changes.subscribe()
    }

    /// Becomes `true` when the server stops; endless replies end then.
    #[must_use]
    pub fn stopping(&self) -> watch::Receiver<bool> {
        self.inner.stopping.clone()
    }

    /// Where devices call home, and the authority they trust there; without the keys, which change while the server runs.
    pub(crate) fn home(&self) -> &Trust {
        &self.inner.home
    }

    pub(crate) fn changed(&self, change: Change) {
        self.inner.fleet_view.mark(change);
        // Nobody listening is fine.
        let _listeners = self.inner.changes.send(change);
    }

    pub(crate) fn db(&self) -> &Db {
        &self.inner.db
    }

    pub(crate) fn library(&self) -> Arc<Library> {
        Arc::clone(&self.inner.library)
    }

    pub(crate) fn views(&self) -> &Views {
        &self.inner.views
    }

    pub(crate) fn fleet_view(&self) -> &FleetView {
        &self.inner.fleet_view
    }

    pub(crate) fn history(&self) -> &History {
        &self.inner.history
    }

    pub(crate) fn members(&self) -> &MemberCache {
        &self.inner.members
    }

    pub(crate) fn throttle(&self) -> &Throttle {
        &self.inner.throttle
    }

    pub(crate) fn oidc(&self) -> Option<&Oidc> {
        self.inner.oidc.as_ref()
    }

    pub(crate) fn in_progress(&self) -> &InProgress {
        &self.inner.in_progress
    }

    pub(crate) fn passwords(&self) -> &Semaphore {
        &self.inner.passwords
    }

    pub(crate) fn challenges(&self) -> &Challenges {
        &self.inner.challenges
    }

    /// What is counted as it happens.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    /// Whether the server could do its work a moment ago.
    pub(crate) fn readiness(&self) -> &Readiness {
        &self.inner.readiness
    }

    /// The data folder.
    pub(crate) fn data(&self) -> &Utf8Path {
        &self.inner.data
    }

    /// Seals and opens the secrets of devices.
    pub(crate) fn vault(&self) -> &Vault {
        &self.inner.vault
    }

    /// How long a release of a secret is answered again to whoever got it.
    pub(crate) fn secrets_open_for(&self) -> Duration {
        self.inner.patience.secrets_open_for
    }

    /// Makes the secrets of webhooks.
    pub(crate) fn webhook_key(&self) -> &WebhookKey {
        &self.inner.webhook_key
    }

    /// The waits between attempts to deliver a message.
    pub(crate) fn webhook_waits(&self) -> &[Duration] {
        &self.inner.patience.webhook_waits
    }

    /// How long content stays in any case.
    pub(crate) fn content_settles_after(&self) -> Duration {
        self.inner.patience.content_settles_after
    }

    /// Read by whoever is about to need content, written by whoever removes it.
    pub(crate) fn collecting(&self) -> &tokio::sync::RwLock<()> {
        &self.inner.collecting
    }

    /// Wakes whoever makes patches for a package that was published.
    pub(crate) fn published(&self) -> &tokio::sync::Notify {
        &self.inner.published
    }

    /// How long a run may be silent until somebody is told.
    pub(crate) fn stalled_after(&self) -> Duration {
        self.inner.patience.stalled_after
    }

    /// How many machines one person decides about, if what is done writes over disks; 0 for any number.
    pub(crate) fn second_person_above(&self) -> u32 {
        self.inner.second_person_above
    }

    /// Only one bundle is built at a time: each uses all the disk there is.
    pub(crate) fn builds(&self) -> &tokio::sync::Mutex<()> {
        &self.inner.builds
    }

    /// Runs are planned for one fleet at a time: each uses all the processors there are.
    pub(crate) fn planning(&self) -> &tokio::sync::Mutex<()> {
        &self.inner.planning
    }

    pub(crate) fn keys_folder(&self) -> Utf8PathBuf {
        self.inner.data.join(KEYS_FOLDER)
    }

    pub(crate) fn bundles(&self) -> Utf8PathBuf {
        self.inner.data.join("bundles")
    }
}

/// What tells the time of day; the system's clock unless [`tell_time_by`] said otherwise.
static CLOCK: OnceLock<fn() -> i64> = OnceLock::new();

/// Milliseconds since 1970, now.
#[must_use]
pub fn now_ms() -> i64 {
    CLOCK
        .get()
        .map_or_else(|| jiff::Timestamp::now().as_millisecond(), |clock| clock())
}

/// From now on this program's server tells the time by another clock than the system's. The first one said stays.
pub fn tell_time_by(clock: fn() -> i64) {
    let _first = CLOCK.set(clock);
}

/// Waits until the server stops.
pub(crate) async fn stopped(mut stopping: watch::Receiver<bool>) {
    // An error means that the server is gone altogether.
    let _stopping = stopping.wait_for(|stopping| *stopping).await.is_ok();
}

/// Runs blocking work beside the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => {
            tracing::error!(error = %chain(&error), "a blocking task ended early");
            Err(Failure::System {
                what: "finish a task",
                source: error.into(),
            })
        }
    }
}
