//! Machines in quarantine, and decisions about them.

use wire::quarantine::{Decide, QuarantineRow};

use crate::{Client, ClientError};

impl Client {
    /// Everything in quarantine, last seen first.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn quarantine(&self) -> Result<Vec<QuarantineRow>, ClientError> {
        self.get("/api/v1/quarantine")
    }

    /// Decides about machines: all of them or none. It takes effect when they ask again.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn decide(&self, decide: &Decide) -> Result<Vec<QuarantineRow>, ClientError> {
        self.send("POST", "/api/v1/quarantine/decide", decide)
    }

    /// Takes a decision back that the machine hasn't acted on yet. `machine` is a [`QuarantineRow::machine`].
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn undo_decision(&self, machine: &str) -> Result<QuarantineRow, ClientError> {
        let machine = crate::admin::query_value(machine);
        self.send("POST", &format!("/api/v1/quarantine/{machine}/undo"), &())
    }
}
