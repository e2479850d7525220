//! Webhooks: part of the admin API.

use wire::webhooks::{DeliveryRow, MadeWebhook, NewWebhook, WebhookChange, WebhookRow};

use crate::admin::query_value;
use crate::{Client, ClientError};

impl Client {
    /// All webhooks.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn webhooks(&self) -> Result<Vec<WebhookRow>, ClientError> {
        self.get("/api/v1/webhooks")
    }

    /// Adds a webhook; the answer holds its secret, which is never shown again.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn add_webhook(&self, new: &NewWebhook) -> Result<MadeWebhook, ClientError> {
        self.send("POST", "/api/v1/webhooks", new)
    }

    /// Changes a webhook; its secret and its log stay.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn change_webhook(
        &self,
        webhook: i64,
        change: &WebhookChange,
    ) -> Result<WebhookRow, ClientError> {
        self.send("PUT", &format!("/api/v1/webhooks/{webhook}"), change)
    }

    /// Gives a webhook a new secret; the answer holds it, and it is never shown again.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn new_webhook_secret(&self, webhook: i64) -> Result<MadeWebhook, ClientError> {
        self.send(
            "POST",
            &format!("/api/v1/webhooks/{webhook}/new-secret"),
            &(),
        )
    }

    /// Removes a webhook with its log.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn remove_webhook(&self, webhook: i64) -> Result<(), ClientError> {
        self.send("DELETE", &format!("/api/v1/webhooks/{webhook}"), &())
    }

    /// Sends a message of the event `test` at once; the answer says what came of it.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn test_webhook(&self, webhook: i64) -> Result<DeliveryRow, ClientError> {
        self.send("POST", &format!("/api/v1/webhooks/{webhook}/test"), &())
    }

    /// Has a webhook wait.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn pause_webhook(&self, webhook: i64) -> Result<WebhookRow, ClientError> {
        self.send("POST", &format!("/api/v1/webhooks/{webhook}/pause"), &())
    }

    /// Has a webhook go on.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn resume_webhook(&self, webhook: i64) -> Result<WebhookRow, ClientError> {
        self.send("POST", &format!("/api/v1/webhooks/{webhook}/resume"), &())
    }

    /// The newest deliveries of a webhook, with every attempt.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn webhook_deliveries(&self, webhook: i64) -> Result<Vec<DeliveryRow>, ClientError> {
        self.get(&format!("/api/v1/webhooks/{webhook}/deliveries"))
    }

    /// Delivers a message once more, under the same id.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn resend_webhook(&self, webhook: i64, message: &str) -> Result<DeliveryRow, ClientError> {
        let message = query_value(message);
        let path = format!("/api/v1/webhooks/{webhook}/deliveries/{message}/resend");
        self.send("POST", &path, &())
    }
}
