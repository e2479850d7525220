//! What live updates need from the server, as a port: their tests need no database.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::{broadcast, watch};
use wire::admin_api::{DeviceRow, RunDetail};
use wire::names::{DeviceId, RunId};

use crate::error::Failure;
use crate::fleet::view::Fleet;
use crate::people::auth::User;
use crate::state::{AppState, Change};

/// What has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::web) enum Touched {
    /// This device.
    Device(DeviceId),
    /// This run.
    Run(RunId),
    /// Changes were missed: anything.
    Anything,
}

/// Changes as they happen.
pub(in crate::web) trait Changes: Send + 'static {
    /// Waits for the next change; `None` when the server stops. Nothing is lost if the wait is given up.
    fn next(&mut self) -> impl Future<Output = Option<Touched>> + Send;
}

type Answer<T> = Result<T, Failure>;

/// What open pages follow.
pub(in crate::web) trait Source: Clone + Send + Sync + 'static {
    /// How changes arrive.
    type Changes: Changes;

    /// Begins to listen for changes.
    fn changes(&self) -> Self::Changes;
    /// Begins to listen for updates of the fleet.
    fn news(&self) -> Self::Changes;
    /// Who looks at the page.
    fn user(&self) -> &User;
    /// All devices, as they are kept.
    fn fleet(&self) -> impl Future<Output = Answer<Arc<Fleet>>> + Send;
    /// One device.
    fn device_row(
        &self,
        device: DeviceId,
    ) -> impl Future<Output = Answer<Option<DeviceRow>>> + Send;
    /// One run.
    fn run_detail(&self, run: RunId) -> impl Future<Output = Answer<Option<RunDetail>>> + Send;
}

/// The changes of the server's state, until it stops.
pub(in crate::web) struct StateChanges {
    heard: Heard,
    stopping: watch::Receiver<bool>,
}

enum Heard {
    Changes(broadcast::Receiver<Change>),
    Fleet(watch::Receiver<u64>),
}

impl Heard {
    async fn next(&mut self) -> Option<Touched> {
        match self {
            Self::Changes(changes) => match changes.recv().await {
                Ok(Change::Device(device)) => Some(Touched::Device(device)),
                Ok(Change::Run(run)) => Some(Touched::Run(run)),
                Err(broadcast::error::RecvError::Lagged(_)) => Some(Touched::Anything),
                Err(broadcast::error::RecvError::Closed) => None,
            },
            Self::Fleet(news) => news.changed().await.ok().map(|()| Touched::Anything),
        }
    }
}

impl Changes for StateChanges {
    async fn next(&mut self) -> Option<Touched> {
        tokio::select! {
            _ = self.stopping.wait_for(|stopping| *stopping) => None,
            touched = self.heard.next() => touched,
        }
    }
}

/// The server's state as one person sees it.
#[derive(Clone)]
pub(in crate::web) struct Seen {
    user: User,
    state: AppState,
}

impl Seen {
    pub(in crate::web) const fn by(user: User, state: AppState) -> Self {
        Self { user, state }
    }
}

impl Source for Seen {
    type Changes = StateChanges;

    fn changes(&self) -> StateChanges {
        StateChanges {
            heard: Heard::Changes(self.state.subscribe()),
            stopping: self.state.stopping(),
        }
    }

    fn news(&self) -> StateChanges {
        StateChanges {
            heard: Heard::Fleet(self.state.fleet_view().news()),
            stopping: self.state.stopping(),
        }
    }

    fn user(&self) -> &User {
        &self.user
    }

    async fn fleet(&self) -> Result<Arc<Fleet>, Failure> {
        self.state.fleet().await
    }

    async fn device_row(&self, device: DeviceId) -> Result<Option<DeviceRow>, Failure> {
        self.state.device_row_for(&self.user, device).await
    }

    async fn run_detail(&self, run: RunId) -> Result<Option<RunDetail>, Failure> {
        self.state.run_detail_for(&self.user, run).await
    }
}
