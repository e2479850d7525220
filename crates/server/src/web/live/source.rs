//! What live updates need from the server, as a port: their tests need no database.

use std::future::Future;

use tokio::sync::{broadcast, watch};
use wire::admin_api::{DeviceRow, RunDetail};
use wire::names::{DeviceId, RunId};

use crate::error::Failure;
use crate::state::{AppState, Change};

/// What has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Touched {
    /// This device.
    Device(DeviceId),
    /// This run.
    Run(RunId),
    /// Changes were missed: anything.
    Anything,
}

/// Changes as they happen.
pub(super) trait Changes: Send + 'static {
    /// Waits for the next change; `None` when the server stops. Nothing is lost if the wait is given up.
    fn next(&mut self) -> impl Future<Output = Option<Touched>> + Send;
}

type Answer<T> = Result<T, Failure>;

/// What open pages follow.
pub(super) trait Source: Clone + Send + Sync + 'static {
    /// How changes arrive.
    type Changes: Changes;

    /// Begins to listen for changes.
    fn changes(&self) -> Self::Changes;
    /// All devices.
    fn device_rows(&self) -> impl Future<Output = Answer<Vec<DeviceRow>>> + Send;
    /// One device.
    fn device_row(
        &self,
        device: DeviceId,
    ) -> impl Future<Output = Answer<Option<DeviceRow>>> + Send;
    /// One run.
    fn run_detail(&self, run: RunId) -> impl Future<Output = Answer<Option<RunDetail>>> + Send;
}

/// The changes of the server's state, until it stops.
pub(super) struct StateChanges {
    changes: broadcast::Receiver<Change>,
    stopping: watch::Receiver<bool>,
}

impl Changes for StateChanges {
    async fn next(&mut self) -> Option<Touched> {
        let change = tokio::select! {
            _ = self.stopping.wait_for(|stopping| *stopping) => return None,
            change = self.changes.recv() => change,
        };
        match change {
            Ok(Change::Device(device)) => Some(Touched::Device(device)),
            Ok(Change::Run(run)) => Some(Touched::Run(run)),
            Err(broadcast::error::RecvError::Lagged(_)) => Some(Touched::Anything),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

impl Source for AppState {
    type Changes = StateChanges;

    fn changes(&self) -> StateChanges {
        StateChanges {
            changes: self.subscribe(),
            stopping: self.stopping(),
        }
    }

    async fn device_rows(&self) -> Result<Vec<DeviceRow>, Failure> {
        Self::device_rows(self).await
    }

    async fn device_row(&self, device: DeviceId) -> Result<Option<DeviceRow>, Failure> {
        Self::device_row(self, device).await
    }

    async fn run_detail(&self, run: RunId) -> Result<Option<RunDetail>, Failure> {
        Self::run_detail(self, run).await
    }
}
