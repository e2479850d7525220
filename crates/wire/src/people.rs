//! People: accounts, roles, tokens. Times are milliseconds since 1970.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::PrestageName;

/// Accounts a server keeps: a county's staff of IT and its schools, ten times over.
pub const USERS_MAX: usize = 10_000;
/// A user's name, in characters: an e-mail address fits.
pub const USER_NAME_CHARS_MAX: usize = 100;
/// Tokens one user may have.
pub const TOKENS_MAX: usize = 100;
/// The longest a token may live, in days: two years.
pub const TOKEN_DAYS_MAX: u32 = 730;
/// How long a token lives if nobody says otherwise, in days: a school term.
pub const TOKEN_DAYS: u32 = 90;

/// What a person (or program) is to Forestage.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// May do everything, everywhere.
    Admin,
    /// Looks after the machines and pupils of one site.
    SchoolAdmin,
    /// Imports assets, decides who a machine is, hands machines out.
    AssetClerk,
    /// Fetches the bundles assigned to them and sends receipts; sees no machine.
    FactoryOperator,
    /// Looks on; never sees pupils.
    Viewer,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Admin,
        Self::SchoolAdmin,
        Self::AssetClerk,
        Self::FactoryOperator,
        Self::Viewer,
    ];

    /// How it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::SchoolAdmin => "school-admin",
            Self::AssetClerk => "asset-clerk",
            Self::FactoryOperator => "factory-operator",
            Self::Viewer => "viewer",
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no such role; there are admin, school-admin, asset-clerk, factory-operator and viewer"
)]
pub struct NoSuchRole;

impl std::str::FromStr for Role {
    type Err = NoSuchRole;

    fn from_str(text: &str) -> Result<Self, NoSuchRole> {
        Self::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or(NoSuchRole)
    }
}

/// An account. `GET /api/v1/users`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct UserRow {
    /// The name, by which they sign in.
    pub name: String,
    /// What they are.
    pub role: Role,
    /// The code of the site they are kept to; empty: none.
    #[serde(default)]
    pub site: String,
    /// The prestages whose bundles they may fetch; for factory operators.
    #[serde(default)]
    pub prestages: Vec<PrestageName>,
    /// Where they sign in: empty for a password of this server, else the issuer of the identity provider.
    #[serde(default)]
    pub issuer: String,
    /// What the identity provider calls them, for people.
    #[serde(default)]
    pub display: String,
    /// Whether their password is a one-time password that nobody has used yet.
    #[serde(default)]
    pub one_time: bool,
    /// When the account was made.
    pub created_at_ms: i64,
    /// The latest sign-in or use of a token that is known, if any.
    #[serde(default)]
    pub last_used_at_ms: Option<i64>,
}

/// `POST /api/v1/users`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct NewUser {
    /// The name: letters, digits and `. _ - @`, at most [`USER_NAME_CHARS_MAX`].
    pub name: String,
    /// What they are to be.
    pub role: Role,
    /// The site they are kept to. A school admin needs one.
    #[serde(default)]
    pub site: String,
    /// The prestages whose bundles a factory operator may fetch.
    #[serde(default)]
    pub prestages: Vec<PrestageName>,
}

/// `PUT /api/v1/users/{name}/role`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RoleChange {
    /// What they are to be.
    pub role: Role,
    /// The site they are kept to.
    #[serde(default)]
    pub site: String,
    /// The prestages whose bundles a factory operator may fetch.
    #[serde(default)]
    pub prestages: Vec<PrestageName>,
}

/// A one-time password: shown once, to be replaced at the first sign-in.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct OneTimePassword {
    /// The account.
    pub user: UserRow,
    /// The password.
    pub one_time_password: String,
}

/// Who is asking. `GET /api/v1/me`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Me {
    /// The account.
    pub user: UserRow,
    /// What this credential may do.
    pub scopes: Vec<String>,
    /// The language of the pages, such as `nb`; empty: the browser's.
    #[serde(default)]
    pub language: String,
}

/// `POST /api/v1/me/password`
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PasswordChange {
    /// The password so far.
    pub password: String,
    /// The one to use from now on.
    pub new_password: String,
}

/// `PUT /api/v1/me/language`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LanguageChange {
    /// `en`, `nb`, or empty for the browser's.
    pub language: String,
}

/// A token, without its secret. `GET /api/v1/tokens`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct TokenRow {
    /// What it is revoked by: the first 16 digits of its digest.
    pub id: String,
    /// Whose it is.
    pub user: String,
    /// What it is for.
    pub title: String,
    /// What it may do; empty: all that its user may.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// When it was made.
    pub created_at_ms: i64,
    /// When it ends.
    pub expires_at_ms: i64,
    /// When it was last used, to the minute.
    #[serde(default)]
    pub last_used_at_ms: Option<i64>,
}

/// `POST /api/v1/tokens`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct NewToken {
    /// What it is for.
    pub title: String,
    /// What it may do: a part of what you may. Empty: all of it.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// How long it lives, at most [`TOKEN_DAYS_MAX`]; 0 stands for [`TOKEN_DAYS`].
    #[serde(default)]
    pub days: u32,
}

/// The answer to [`NewToken`]: the only time that the secret is shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct TokenMade {
    /// The secret, for `Authorization: Bearer`.
    pub token: String,
    /// Its row in the list.
    pub row: TokenRow,
}
