//! The calls about saved views. See [`wire::views`].

use wire::views::{SavedView, ViewChange};

use crate::admin::query_value;
use crate::connection::Client;
use crate::error::ClientError;

fn address(name: &str) -> String {
    format!("/api/v1/views/{}", query_value(name))
}

impl Client {
    /// One's own views and those that are shared.
    ///
    /// # Errors
    /// See [`ClientError`]; this goes for all calls below.
    pub fn views(&self) -> Result<Vec<SavedView>, ClientError> {
        self.get("/api/v1/views")
    }

    /// The view of this name: one's own, else the shared one.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn view(&self, name: &str) -> Result<SavedView, ClientError> {
        self.get(&address(name))
    }

    /// Makes a view or changes it.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn save_view(&self, name: &str, change: &ViewChange) -> Result<SavedView, ClientError> {
        self.send("PUT", &address(name), change)
    }

    /// Forgets a view.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn delete_view(&self, name: &str, shared: bool) -> Result<SavedView, ClientError> {
        let path = format!("{}?shared={shared}", address(name));
        self.send("DELETE", &path, &())
    }
}
