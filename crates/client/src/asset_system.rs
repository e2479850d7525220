//! The asset system's table: part of the admin API.

use wire::asset_computers::AssetComputerPage;

use crate::admin::query_value;
use crate::{Client, ClientError};

/// A CSV of ten times the largest fleet.
const CSV_BYTES_MAX: u64 = 64 << 20;

impl Client {
    /// A page of computers: those after `after`, of one site and in one state unless these are empty.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn asset_computers(
        &self,
        after: &str,
        site: &str,
        state: &str,
    ) -> Result<AssetComputerPage, ClientError> {
        self.get(&format!(
            "/api/v1/asset-computers?after={}&site={}&state={}",
            query_value(after),
            query_value(site),
            query_value(state)
        ))
    }

    /// All computers as one CSV.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn asset_computers_csv(&self, site: &str, state: &str) -> Result<Vec<u8>, ClientError> {
        let path = format!(
            "/api/v1/asset-computers?format=csv&site={}&state={}",
            query_value(site),
            query_value(state)
        );
        self.get_bytes(&path, CSV_BYTES_MAX)
    }
}
