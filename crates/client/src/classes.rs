//! The calls about classes, models and names. See [`wire::classes`].

use wire::classes::{
    AliasChange, ClassChange, ClassRow, ModelAlias, ModelRow, NamePlan, NameRequest,
};

use crate::admin::query_value;
use crate::connection::Client;
use crate::error::ClientError;

fn of_alias(name: &str) -> String {
    format!("/api/v1/model-aliases/{}", query_value(name))
}

fn of_class(site: &str, name: &str) -> String {
    format!(
        "/api/v1/classes/{}/{}",
        query_value(site),
        query_value(name)
    )
}

impl Client {
    /// All classes that someone made or an asset names.
    ///
    /// # Errors
    /// See [`ClientError`]; this goes for all calls below.
    pub fn classes(&self) -> Result<Vec<ClassRow>, ClientError> {
        self.get("/api/v1/classes")
    }

    /// Makes a class or changes it.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn put_class(
        &self,
        site: &str,
        name: &str,
        change: &ClassChange,
    ) -> Result<ClassRow, ClientError> {
        self.send("PUT", &of_class(site, name), change)
    }

    /// Forgets what is known of a class.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn remove_class(&self, site: &str, name: &str) -> Result<ClassRow, ClientError> {
        self.send("DELETE", &of_class(site, name), &())
    }

    /// All models, and what is missing for each.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn models(&self) -> Result<Vec<ModelRow>, ClientError> {
        self.get("/api/v1/models")
    }

    /// The names that vendors use for models.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn model_aliases(&self) -> Result<Vec<ModelAlias>, ClientError> {
        self.get("/api/v1/model-aliases")
    }

    /// Says which model a vendor's name stands for.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn put_model_alias(
        &self,
        name: &str,
        change: &AliasChange,
    ) -> Result<ModelAlias, ClientError> {
        self.send("PUT", &of_alias(name), change)
    }

    /// Forgets a vendor's name for a model.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn remove_model_alias(&self, name: &str) -> Result<ModelAlias, ClientError> {
        self.send("DELETE", &of_alias(name), &())
    }

    /// Names for devices from a template, shown or stored.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn name_devices(&self, request: &NameRequest) -> Result<NamePlan, ClientError> {
        self.send("POST", "/api/v1/device-names", request)
    }
}
