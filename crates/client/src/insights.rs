//! The call about figures of the rollout. See [`wire::insights`].

use wire::insights::Insights;

use crate::admin::query_value;
use crate::connection::Client;
use crate::error::ClientError;

impl Client {
    /// Figures about the devices that match the filter: names and values as in the address of the overview.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn insights(&self, filter: &[(&str, &str)]) -> Result<Insights, ClientError> {
        let pairs = filter
            .iter()
            .map(|(name, value)| format!("{name}={}", query_value(value)));
        let query = pairs.collect::<Vec<_>>().join("&");
        self.get(&format!("/api/v1/insights?{query}"))
    }
}
