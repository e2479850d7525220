//! The call about figures of the rollout. See [`wire::insights`].

use wire::insights::Insights;

use crate::admin::query;
use crate::connection::Client;
use crate::error::ClientError;

/// Tables and drawings are cut off by the server: this is many times the largest.
const FILE_BYTES_MAX: u64 = 16 << 20;

impl Client {
    /// Figures about the devices that match the filter: names and values as in the address of the overview.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn insights(&self, filter: &[(&str, &str)]) -> Result<Insights, ClientError> {
        self.get(&format!("/api/v1/insights?{}", query(filter)))
    }

    /// A part of them as a table for a spreadsheet: `rollout`, `failures`, `steps`, `days` or `hours`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn insights_csv(
        &self,
        part: &str,
        filter: &[(&str, &str)],
    ) -> Result<Vec<u8>, ClientError> {
        let path = format!(
            "/api/v1/insights.csv?{}&{}",
            query(&[("part", part)]),
            query(filter)
        );
        self.get_bytes(&path, FILE_BYTES_MAX)
    }

    /// All of them as one file that needs nothing else.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn insights_html(&self, filter: &[(&str, &str)]) -> Result<Vec<u8>, ClientError> {
        let path = format!("/api/v1/insights.html?{}", query(filter));
        self.get_bytes(&path, FILE_BYTES_MAX)
    }
}
