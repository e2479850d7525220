//! Secrets for devices: part of the admin API. Nothing reads one back.

use wire::names::SecretName;
use wire::secrets::{SecretChange, SecretRow};

use crate::admin::query_value;
use crate::{Client, ClientError};

impl Client {
    /// All secrets, without their values.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn secrets(&self) -> Result<Vec<SecretRow>, ClientError> {
        self.get("/api/v1/secrets")
    }

    /// Sets a secret: for one site, or for all that have no value of their own.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn set_secret(
        &self,
        name: &SecretName,
        change: &SecretChange,
    ) -> Result<SecretRow, ClientError> {
        self.send("PUT", &format!("/api/v1/secrets/{name}"), change)
    }

    /// Removes a secret: the value of one site, or the one for all that have none of their own.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn remove_secret(&self, name: &SecretName, site: &str) -> Result<(), ClientError> {
        let path = match site {
            "" => format!("/api/v1/secrets/{name}"),
            site => format!("/api/v1/secrets/{name}?site={}", query_value(site)),
        };
        self.send("DELETE", &path, &())
    }
}
