//! Accounts, tokens, the audit. See [`wire::people`] and [`wire::audit`].

use wire::admin_api::AuditRow;
use wire::audit::AuditHead;
use wire::people::{
    Me, NewToken, NewUser, OneTimePassword, RoleChange, TokenMade, TokenRow, UserRow,
};

use crate::connection::Client;
use crate::error::ClientError;

/// Rows of the audit in one request.
const AUDIT_ROWS: usize = 1000;

impl Client {
    /// Who is asking, and what this token may do.
    ///
    /// # Errors
    /// See [`ClientError`]; this goes for all calls below.
    pub fn me(&self) -> Result<Me, ClientError> {
        self.get("/api/v1/me")
    }

    /// All accounts.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn users(&self) -> Result<Vec<UserRow>, ClientError> {
        self.get("/api/v1/users")
    }

    /// Makes an account.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn create_user(&self, user: &NewUser) -> Result<OneTimePassword, ClientError> {
        self.send("POST", "/api/v1/users", user)
    }

    /// Changes what someone is.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn set_role(&self, name: &str, change: &RoleChange) -> Result<UserRow, ClientError> {
        self.send("PUT", &user_path(name, "/role"), change)
    }

    /// Gives someone a new one-time password.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn reset_password(&self, name: &str) -> Result<OneTimePassword, ClientError> {
        self.send("POST", &user_path(name, "/reset-password"), &())
    }

    /// Removes an account.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn remove_user(&self, name: &str) -> Result<(), ClientError> {
        self.send("DELETE", &user_path(name, ""), &())
    }

    /// One's own tokens; an admin sees all.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn tokens(&self) -> Result<Vec<TokenRow>, ClientError> {
        self.get("/api/v1/tokens")
    }

    /// Makes a token.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn create_token(&self, token: &NewToken) -> Result<TokenMade, ClientError> {
        self.send("POST", "/api/v1/tokens", token)
    }

    /// Revokes a token.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn revoke_token(&self, id: &str) -> Result<(), ClientError> {
        self.send("DELETE", &format!("/api/v1/tokens/{}", encode(id)), &())
    }

    /// The rows of the audit that fit all of `filters` (names of the query's parameters and their values), newest first.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn audit(
        &self,
        filters: &[(&str, String)],
        limit: usize,
    ) -> Result<Vec<AuditRow>, ClientError> {
        let mut path = format!("/api/v1/audit?limit={limit}");
        for (name, value) in filters {
            path.push_str(&format!("&{name}={}", encode(value)));
        }
        self.get(&path)
    }

    /// The rows of the audit after row `number`, oldest first; none at the end.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn audit_after(&self, number: u64) -> Result<Vec<AuditRow>, ClientError> {
        self.get(&format!(
            "/api/v1/audit?order=oldest&limit={AUDIT_ROWS}&cursor={number}"
        ))
    }

    /// The end of the audit's chain, as the server tells it.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn audit_head(&self) -> Result<AuditHead, ClientError> {
        self.get("/api/v1/audit/head")
    }
}

fn user_path(name: &str, rest: &str) -> String {
    format!("/api/v1/users/{}{rest}", encode(name))
}

/// Percent-encodes everything but the unreserved characters (RFC 3986, section 2.3).
fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
