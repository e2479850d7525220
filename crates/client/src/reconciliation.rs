//! Orders against the factory's receipts.

use wire::drift::PrestageId;
use wire::reconciliation::{
    RECONCILED_ROWS_MAX, ReconcileSerials, ReconciledFilter, Reconciliation,
};

use crate::admin::query_value;
use crate::{Client, ClientError};

/// A CSV of ten times the largest order.
const CSV_BYTES_MAX: u64 = 64 << 20;

impl Client {
    /// An accepted import against the receipts, and all rows that are asked for. Versions of prestages older than the
    /// newest are good from `oldest` on.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn reconciliation(
        &self,
        import: i64,
        filter: ReconciledFilter,
        oldest: &[PrestageId],
    ) -> Result<Reconciliation, ClientError> {
        let query = query(filter, oldest);
        self.get(&format!(
            "/api/v1/imports/{import}/reconciliation?{query}&limit={RECONCILED_ROWS_MAX}"
        ))
    }

    /// The same as a CSV for the vendor.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn reconciliation_csv(
        &self,
        import: i64,
        filter: ReconciledFilter,
        oldest: &[PrestageId],
    ) -> Result<Vec<u8>, ClientError> {
        let query = query(filter, oldest);
        let path = format!("/api/v1/imports/{import}/reconciliation.csv?{query}");
        self.get_bytes(&path, CSV_BYTES_MAX)
    }

    /// A list of serial numbers against the receipts.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn reconcile_serials(
        &self,
        asked: &ReconcileSerials,
    ) -> Result<Reconciliation, ClientError> {
        self.send("POST", "/api/v1/receipts/reconcile", asked)
    }
}

fn query(filter: ReconciledFilter, oldest: &[PrestageId]) -> String {
    let oldest: Vec<String> = oldest.iter().map(ToString::to_string).collect();
    let oldest = query_value(&oldest.join(","));
    format!("state={}&oldest={oldest}", filter.word())
}
