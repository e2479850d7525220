//! The calls about sites. See [`wire::sites`].

use wire::sites::{SiteChange, SiteDetail, SiteMove, SiteMoved, SiteRow};

use crate::admin::query_value;
use crate::connection::Client;
use crate::error::ClientError;

impl Client {
    /// All sites, and what goes on there.
    ///
    /// # Errors
    /// See [`ClientError`]; this goes for all calls below.
    pub fn sites(&self) -> Result<Vec<SiteRow>, ClientError> {
        self.get("/api/v1/sites")
    }

    /// One site, with who waits and who is in the wrong place.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn site(&self, code: &str) -> Result<SiteDetail, ClientError> {
        self.get(&format!("/api/v1/sites/{}", query_value(code)))
    }

    /// Makes a site or changes it.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn put_site(&self, code: &str, change: &SiteChange) -> Result<SiteDetail, ClientError> {
        self.send(
            "PUT",
            &format!("/api/v1/sites/{}", query_value(code)),
            change,
        )
    }

    /// Removes a site that no device belongs to.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn remove_site(&self, code: &str) -> Result<SiteRow, ClientError> {
        self.send(
            "DELETE",
            &format!("/api/v1/sites/{}", query_value(code)),
            &(),
        )
    }

    /// These devices belong where they were last seen.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn move_to_seen_site(&self, devices: &SiteMove) -> Result<SiteMoved, ClientError> {
        self.send("POST", "/api/v1/devices/move-to-seen-site", devices)
    }
}
