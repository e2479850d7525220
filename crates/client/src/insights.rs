//! The call about figures of the rollout. See [`wire::insights`].

use wire::insights::Insights;

use crate::admin::query;
use crate::connection::Client;
use crate::error::ClientError;

impl Client {
    /// Figures about the devices that match the filter: names and values as in the address of the overview.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn insights(&self, filter: &[(&str, &str)]) -> Result<Insights, ClientError> {
        self.get(&format!("/api/v1/insights?{}", query(filter)))
    }
}
