//! The file that says where people sign in, and what their groups mean.

use camino::{Utf8Path, Utf8PathBuf};
use serde::Deserialize;
use wire::people::Role;

/// A longer file is no configuration.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// A longer secret is no secret of a client.
const SECRET_BYTES_MAX: usize = 4096;

/// Where people sign in, and what their groups mean.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct OidcConfig {
    /// The provider's issuer, exactly as it calls itself. HTTPS, or HTTP on this very machine.
    pub issuer: String,
    /// What the provider calls this server.
    pub client_id: String,
    /// A file with the secret that the provider gave this server.
    pub client_secret_file: Utf8PathBuf,
    /// What the login page calls the provider: "Sign in with …".
    #[serde(default = "usual_title")]
    pub title: String,
    /// The certificates that the provider's may be signed by, as PEM.
    #[serde(default = "usual_ca")]
    pub ca_file: Utf8PathBuf,
    /// What is asked for. `openid` is always among them.
    #[serde(default = "usual_scopes")]
    pub scopes: Vec<String>,
    /// The claim with the groups: a list of texts, or one text.
    #[serde(default = "usual_groups")]
    pub groups_claim: String,
    /// The claim with the name of the account.
    #[serde(default = "usual_name")]
    pub name_claim: String,
    /// What groups mean; the first that fits counts.
    pub roles: Vec<GroupRole>,
    /// The secret itself; read from its file.
    #[serde(skip)]
    pub(super) secret: String,
}

/// What a group means.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct GroupRole {
    /// The group, exactly.
    pub group: String,
    /// What its members are.
    pub role: Role,
    /// The site they are kept to.
    #[serde(default)]
    pub site: String,
}

fn usual_title() -> String {
    "the organisation's account".into()
}

fn usual_ca() -> Utf8PathBuf {
    "/etc/ssl/certs/ca-certificates.crt".into()
}

fn usual_scopes() -> Vec<String> {
    ["openid", "profile"].map(str::to_owned).into()
}

fn usual_groups() -> String {
    "groups".into()
}

fn usual_name() -> String {
    "preferred_username".into()
}

/// Why the file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum OidcConfigError {
    /// A file can't be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: Utf8PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no configuration.
    #[error("{path} can't be understood: {problem}")]
    Document {
        /// The file.
        path: Utf8PathBuf,
        /// Where and why.
        problem: String,
    },
    /// It says something that can't be.
    #[error("{0}")]
    Nonsense(String),
}

impl std::fmt::Debug for OidcConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OidcConfig")
            .field("issuer", &self.issuer)
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

impl OidcConfig {
    /// Reads the file, and the secret from the file it names (relative to its own folder).
    ///
    /// # Errors
    /// See [`OidcConfigError`].
    pub fn load(path: &Utf8Path) -> Result<Self, OidcConfigError> {
        let mut config = Self::parse(&read(path)?).map_err(|problem| match problem {
            OidcConfigError::Nonsense(text) => OidcConfigError::Document {
                path: path.to_owned(),
                problem: text,
            },
            other => other,
        })?;
        let folder = path.parent().unwrap_or(Utf8Path::new("."));
        let secret = read(&folder.join(&config.client_secret_file))?;
        config.secret = secret.trim().to_owned();
        config.ca_file = folder.join(&config.ca_file);
        if config.secret.is_empty() || config.secret.len() > SECRET_BYTES_MAX {
            return Err(OidcConfigError::Nonsense(
                "the file with the client's secret holds none".into(),
            ));
        }
        Ok(config)
    }

    /// Understands the text of the file.
    ///
    /// # Errors
    /// See [`OidcConfigError`].
    pub fn parse(text: &str) -> Result<Self, OidcConfigError> {
        let mut config: Self = serde_saphyr::from_str(text)
            .map_err(|error| OidcConfigError::Nonsense(error.to_string()))?;
        if !is_safe(&config.issuer) {
            return Err(OidcConfigError::Nonsense(
                "the issuer must be an https:// address".into(),
            ));
        }
        if !config.scopes.iter().any(|scope| scope == "openid") {
            config.scopes.insert(0, "openid".into());
        }
        for GroupRole { group, role, site } in &config.roles {
            let is_kept = !site.is_empty();
            let fits = match role {
                Role::SchoolAdmin => is_kept,
                Role::Admin | Role::FactoryOperator => !is_kept,
                Role::AssetClerk | Role::Viewer => true,
            };
            if group.is_empty() || !fits {
                return Err(OidcConfigError::Nonsense(format!(
                    "group {group:?}: a {role} needs {} site",
                    if is_kept { "no" } else { "a" }
                )));
            }
        }
        Ok(config)
    }

    /// What someone in these groups is.
    pub(super) fn role_of(&self, groups: &[String]) -> Option<&GroupRole> {
        self.roles.iter().find(|rule| groups.contains(&rule.group))
    }
}

/// Whether what goes to this address can't be read on the way.
pub(super) fn is_safe(url: &str) -> bool {
    let host = |rest: &str| {
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        rest[..end].to_owned()
    };
    if let Some(rest) = url.strip_prefix("https://") {
        return !host(rest).is_empty();
    }
    let Some(rest) = url.strip_prefix("http://") else {
        return false;
    };
    let host = host(rest);
    let name = host
        .rsplit_once(':')
        .map_or(host.as_str(), |(name, _)| name);
    ["127.0.0.1", "localhost", "[::1]"].contains(&name)
}

fn read(path: &Utf8Path) -> Result<String, OidcConfigError> {
    let failed = |source| OidcConfigError::Read {
        path: path.to_owned(),
        source,
    };
    if std::fs::metadata(path).map_err(failed)?.len() > FILE_BYTES_MAX {
        return Err(OidcConfigError::Nonsense(format!("{path} is too long")));
    }
    std::fs::read_to_string(path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::{OidcConfig, is_safe};

    fn check(rest: &str) -> Result<OidcConfig, String> {
        let text = format!("client-id: forestage\nclient-secret-file: secret\n{rest}");
        OidcConfig::parse(&text).map_err(|error| error.to_string())
    }

    #[test]
    fn the_first_group_that_fits_counts() {
        let config = check(
            "issuer: https://login.example\nroles:\n  - { group: it, role: admin }\n  \
             - { group: bjo, role: school-admin, site: BJO }\n  - { group: all, role: viewer }\n",
        )
        .unwrap();
        let role = |groups: &[&str]| {
            let groups: Vec<String> = groups.iter().map(|group| (*group).to_owned()).collect();
            config.role_of(&groups).map(|rule| rule.role.as_str())
        };
        assert_eq!(role(&["all", "bjo"]), Some("school-admin"));
        assert_eq!(role(&["all", "it"]), Some("admin"));
        assert_eq!(role(&["IT"]), None);
        assert_eq!(role(&[]), None);
        assert_eq!(config.scopes, ["openid", "profile"]);
    }

    #[test]
    fn what_would_let_people_in_by_mistake_is_refused() {
        for rest in [
            "issuer: http://login.example\nroles: []",
            "issuer: https://login.example\nroles: [{ group: '', role: admin }]",
            "issuer: https://login.example\nroles: [{ group: a, role: school-admin }]",
            "issuer: https://login.example\nroles: [{ group: a, role: admin, site: BJO }]",
            "issuer: https://login.example\nroles: [{ group: a, role: boss }]",
            "issuer: https://login.example\nroles: []\nclient-secret: abc",
        ] {
            assert!(check(rest).is_err(), "{rest}");
        }
    }

    #[test]
    fn only_this_very_machine_may_be_asked_without_tls() {
        for url in [
            "https://a.example/x",
            "http://localhost:9400",
            "http://127.0.0.1",
            "http://[::1]:1/a",
        ] {
            assert!(is_safe(url), "{url}");
        }
        for url in [
            "http://a.example",
            "https://",
            "http://localhost.example",
            "http://a@b",
            "ftp://a",
            "",
        ] {
            assert!(!is_safe(url), "{url}");
        }
    }
}
