//! Files that vendors send: upload, look, accept, take back.

use wire::imports::{
    AcceptImport, ImportDraft, ImportProfile, ImportRow, ImportSettings, RowResult, UndoImport,
    UndoReport,
};

use crate::admin::query_value;
use crate::{Client, ClientError};

impl Client {
    /// Uploads a file as a draft; nothing else changes.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn upload_import(
        &self,
        file: &str,
        bytes: &[u8],
        settings: &ImportSettings,
    ) -> Result<ImportDraft, ClientError> {
        let path = format!(
            "/api/v1/imports?file={}&collection={}&sheet={}&profile={}",
            query_value(file),
            query_value(&settings.collection),
            settings.sheet,
            query_value(&settings.profile),
        );
        let mut body = bytes;
        let length = Some(bytes.len() as u64);
        self.upload("POST", &path, "application/octet-stream", &mut body, length)
    }

    /// All imports, newest first.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn imports(&self) -> Result<Vec<ImportRow>, ClientError> {
        self.get("/api/v1/imports")
    }

    /// One import and its first `limit` rows of one kind, or of all.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn import(
        &self,
        import: i64,
        result: Option<RowResult>,
        limit: usize,
    ) -> Result<ImportDraft, ClientError> {
        let result = result.map_or("", RowResult::word);
        self.get(&format!(
            "/api/v1/imports/{import}?result={result}&limit={limit}"
        ))
    }

    /// Has a draft read in another way.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn set_import(
        &self,
        import: i64,
        settings: &ImportSettings,
    ) -> Result<ImportDraft, ClientError> {
        self.send(
            "POST",
            &format!("/api/v1/imports/{import}/settings"),
            settings,
        )
    }

    /// Puts the rows of a draft into the fleet.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn accept_import(
        &self,
        import: i64,
        accept: &AcceptImport,
    ) -> Result<ImportRow, ClientError> {
        self.send("POST", &format!("/api/v1/imports/{import}/accept"), accept)
    }

    /// Throws a draft away.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn discard_import(&self, import: i64) -> Result<ImportRow, ClientError> {
        self.send("POST", &format!("/api/v1/imports/{import}/discard"), &())
    }

    /// Takes an accepted import back.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn undo_import(&self, import: i64, undo: &UndoImport) -> Result<UndoReport, ClientError> {
        self.send("POST", &format!("/api/v1/imports/{import}/undo"), undo)
    }

    /// All import profiles.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn import_profiles(&self) -> Result<Vec<ImportProfile>, ClientError> {
        self.get("/api/v1/import-profiles")
    }

    /// Saves an import profile under its name.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn put_import_profile(
        &self,
        profile: &ImportProfile,
    ) -> Result<ImportProfile, ClientError> {
        let path = format!("/api/v1/import-profiles/{}", query_value(&profile.name));
        self.send("PUT", &path, profile)
    }

    /// Removes an import profile.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn remove_import_profile(&self, name: &str) -> Result<ImportProfile, ClientError> {
        let path = format!("/api/v1/import-profiles/{}/remove", query_value(name));
        self.send("POST", &path, &())
    }
}
