//! The server's content library.

use std::time::Duration;

use wire::content::{CollectContent, Collected, ContentReport, ContentStats};

use crate::{Client, ClientError};

/// Reading 1 TB at the 200 MB/s of a slow disk array takes an hour and a half.
const READ_PATIENCE: Duration = Duration::from_secs(2 * 60 * 60);

impl Client {
    /// How much content the server has, and for which packages.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn content_stats(&self) -> Result<ContentStats, ClientError> {
        self.get("/api/v1/content/stats")
    }

    /// Has the server read all content. Damaged chunks count as lost from then on.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn verify_content(&self) -> Result<ContentReport, ClientError> {
        let client = self.with_patience(READ_PATIENCE);
        client.send("POST", "/api/v1/content/verify", &())
    }

    /// Has the server remove what no package needs, or tell what would go.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn collect_content(&self, dry_run: bool) -> Result<Collected, ClientError> {
        let client = self.with_patience(READ_PATIENCE);
        client.send("POST", "/api/v1/content/gc", &CollectContent { dry_run })
    }
}
