//! The events of a run as the server holds them.

use wire::names::RunId;
use wire::run_events::RunEvents;

use crate::connection::Client;
use crate::error::ClientError;

impl Client {
    /// A page of a run's events: those after `seq`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn run_events(&self, run: RunId, after: u64) -> Result<RunEvents, ClientError> {
        self.get(&format!("/api/v1/runs/{run}/events?after={after}"))
    }
}
