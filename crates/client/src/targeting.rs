//! The calls about rules of collections and the life of deployments. See [`wire::collections`], [`wire::deployments`].

use serde_json::{Value, json};
use wire::admin_api::{CollectionRow, Deployment, MemberChange};
use wire::collections::{CollectionPreview, ExclusionChange, RuleChange};
use wire::deployments::{
    Acted, ApproveRequest, CapRequest, DeclineRequest, DeploymentPreview, DeploymentStatus,
    DeviceList, ResumeRequest, StopRequest,
};
use wire::names::{CollectionName, DeploymentName};

use crate::admin::query_value;
use crate::connection::Client;
use crate::error::ClientError;

fn of_collection(name: &CollectionName, what: &str) -> String {
    format!("/api/v1/collections/{}/{what}", query_value(name.as_str()))
}

fn of_deployment(name: &DeploymentName, what: &str) -> String {
    format!("/api/v1/deployments/{}/{what}", query_value(name.as_str()))
}

impl Client {
    /// Changes the rule of a collection.
    ///
    /// # Errors
    /// See [`ClientError`]; this goes for all calls below.
    pub fn put_collection_rule(
        &self,
        name: &CollectionName,
        change: &RuleChange,
    ) -> Result<CollectionPreview, ClientError> {
        self.send("PUT", &of_collection(name, "rule"), change)
    }

    /// Who is in and why, with a change of the rule if one is given.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn collection_preview(
        &self,
        name: &CollectionName,
        change: Option<&RuleChange>,
        limit: usize,
    ) -> Result<CollectionPreview, ClientError> {
        let mut supposed = String::new();
        if let Some(change) = change {
            let parts = [("rule", &change.rule), ("limit-to", &change.limit_to)];
            for (name, value) in parts {
                if let Some(value) = value {
                    supposed.push_str(&format!("&{name}={}", query_value(value)));
                }
            }
        }
        self.get(&of_collection(
            name,
            &format!("preview?limit={limit}{supposed}"),
        ))
    }

    /// Puts devices in by hand, or takes them out.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn change_members(
        &self,
        name: &CollectionName,
        change: &MemberChange,
    ) -> Result<CollectionRow, ClientError> {
        self.send("POST", &of_collection(name, "members"), change)
    }

    /// Keeps devices out, or lets them in again.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn change_exclusions(
        &self,
        name: &CollectionName,
        change: &ExclusionChange,
    ) -> Result<CollectionPreview, ClientError> {
        self.send("POST", &of_collection(name, "excluded"), change)
    }

    /// What a deployment would do.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn preview_deployment(
        &self,
        deployment: &Deployment,
    ) -> Result<DeploymentPreview, ClientError> {
        self.send("POST", "/api/v1/deployments/preview", deployment)
    }

    /// Makes a deployment, with the words that a person typed. A name that is taken is refused.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn create_deployment(
        &self,
        deployment: &Deployment,
        confirm: &str,
    ) -> Result<Deployment, ClientError> {
        self.put_deployment(deployment, confirm, "")
    }

    /// Changes a deployment that exists, with the words that a person typed.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn change_deployment(
        &self,
        deployment: &Deployment,
        confirm: &str,
    ) -> Result<Deployment, ClientError> {
        self.put_deployment(deployment, confirm, "?change=true")
    }

    fn put_deployment(
        &self,
        deployment: &Deployment,
        confirm: &str,
        query: &str,
    ) -> Result<Deployment, ClientError> {
        let mut body = json!(deployment);
        if let Value::Object(fields) = &mut body {
            fields.insert("confirm".into(), json!(confirm));
        }
        let path = format!(
            "/api/v1/deployments/{}{query}",
            query_value(deployment.name.as_str())
        );
        self.send("PUT", &path, &body)
    }

    /// How a deployment stands.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn deployment_status(
        &self,
        name: &DeploymentName,
    ) -> Result<DeploymentStatus, ClientError> {
        self.get(&of_deployment(name, "status"))
    }

    /// Stops a deployment.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn stop_deployment(
        &self,
        name: &DeploymentName,
        request: &StopRequest,
    ) -> Result<Deployment, ClientError> {
        self.send("POST", &of_deployment(name, "stop"), request)
    }

    /// Resumes a deployment.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn resume_deployment(
        &self,
        name: &DeploymentName,
        request: &ResumeRequest,
    ) -> Result<Deployment, ClientError> {
        self.send("POST", &of_deployment(name, "resume"), request)
    }

    /// Changes how many devices a deployment may touch.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn change_cap(
        &self,
        name: &DeploymentName,
        request: &CapRequest,
    ) -> Result<DeploymentStatus, ClientError> {
        self.send("POST", &of_deployment(name, "cap"), request)
    }

    /// Approves what another administrator asked of a deployment.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn approve_deployment(
        &self,
        name: &DeploymentName,
        request: &ApproveRequest,
    ) -> Result<DeploymentStatus, ClientError> {
        self.send("POST", &of_deployment(name, "approve"), request)
    }

    /// Declines what was asked of a deployment, or takes it back.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn decline_deployment(
        &self,
        name: &DeploymentName,
        request: &DeclineRequest,
    ) -> Result<DeploymentStatus, ClientError> {
        self.send("POST", &of_deployment(name, "decline"), request)
    }

    /// Has an available deployment begin on devices.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn start_deployment(
        &self,
        name: &DeploymentName,
        devices: &DeviceList,
    ) -> Result<Acted, ClientError> {
        self.send("POST", &of_deployment(name, "start"), devices)
    }

    /// Has a deployment leave devices alone.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn cancel_deployment(
        &self,
        name: &DeploymentName,
        devices: &DeviceList,
    ) -> Result<Acted, ClientError> {
        self.send("POST", &of_deployment(name, "cancel"), devices)
    }

    /// Has a deployment no longer leave devices alone.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn uncancel_deployment(
        &self,
        name: &DeploymentName,
        devices: &DeviceList,
    ) -> Result<Acted, ClientError> {
        self.send("POST", &of_deployment(name, "uncancel"), devices)
    }

    /// Has every failed run of a deployment gone on with.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn retry_failed(&self, name: &DeploymentName) -> Result<Acted, ClientError> {
        self.send("POST", &of_deployment(name, "retry-failed"), &())
    }
}
