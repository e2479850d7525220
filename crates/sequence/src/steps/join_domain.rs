//! Joins the OS to a domain.

use std::fmt;

use camino::Utf8Path;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wire::event::Environment;
use wire::names::SecretName;

use super::{OnRestart, Outcome, PlanCx, Step, StepCx, command_failed};
use crate::ports::{Command, StepError};
use crate::problem::{Code, Problems};
use crate::scope::Template;
use crate::secret::Secret;

/// The longest DNS name (RFC 1035, 2.3.4).
const DOMAIN_BYTES_MAX: usize = 253;
/// Users and organizational units of real directories stay far below.
const TEXT_CHARS_MAX: usize = 512;
/// The longest name of a computer in Active Directory: a longer one is cut off, and two machines become one.
const COMPUTER_NAME_BYTES_MAX: usize = 15;
const REALM: &str = "/usr/sbin/realm";

/// Joins the OS to an Active Directory domain with realmd. A machine that has joined already is left alone.
///
/// The machine needs a network, and a host name of at most 15 characters: put it after `set-identity` and
/// `wait-for-network`. The password of `user` is a secret; give that user the right to join machines, and no other.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct JoinDomain {
    /// The domain, such as `ad.skole.example`.
    pub domain: Template,
    /// The user who may join machines.
    pub user: Template,
    /// The name of the secret that is the user's password.
    pub secret: SecretName,
    /// The organizational unit for the machine, such as `OU=Laptops,DC=ad,DC=skole,DC=example`; the domain's own if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub computer_ou: Option<Template>,
}

/// What is joined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Plan {
    /// The domain.
    pub domain: String,
    /// The user who may join machines.
    pub user: String,
    /// The name of the secret that is the user's password.
    pub secret: SecretName,
    /// The organizational unit for the machine.
    pub computer_ou: Option<String>,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            domain,
            user,
            secret,
            computer_ou,
        } = self;
        write!(f, "join {domain} as {user} with the secret {secret}")?;
        match computer_ou {
            Some(unit) => write!(f, ", into {unit}"),
            None => Ok(()),
        }
    }
}

fn is_domain(text: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    text.len() <= DOMAIN_BYTES_MAX && text.contains('.') && text.split('.').all(is_label)
}

/// Whether a text can be an argument: it isn't taken for an option, and prints as it is.
fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && text.chars().count() <= TEXT_CHARS_MAX
        && !text.starts_with('-')
        && !text.contains(char::is_control)
}

/// A template, filled in and checked.
fn filled(
    template: &Template,
    is_right: fn(&str) -> bool,
    what: &str,
    cx: &PlanCx<'_>,
) -> Result<String, StepError> {
    let text = cx.render(template)?;
    if is_right(&text) {
        return Ok(text);
    }
    Err(StepError::refused(format!("{text:?} is not {what}"))
        .hint(format!("it comes from the template `{}`", template.0)))
}

/// The domains the machine has joined.
fn joined(cx: &StepCx<'_>) -> Result<Vec<String>, StepError> {
    let output = cx.command_ok("realm", &["list", "--name-only"])?;
    let names = output.stdout.lines().map(|line| line.trim().to_lowercase());
    Ok(names.filter(|name| !name.is_empty()).collect())
}

fn check_host_name(cx: &StepCx<'_>) -> Result<(), StepError> {
    let name = cx.machine().read_file(Utf8Path::new("/etc/hostname"))?;
    let name = String::from_utf8_lossy(&name.unwrap_or_default()).into_owned();
    // Only the first label counts.
    let name = name.trim().split('.').next().unwrap_or_default();
    if (1..=COMPUTER_NAME_BYTES_MAX).contains(&name.len()) {
        return Ok(());
    }
    let text = format!("the host name {name:?} can't be the name of a computer in the domain");
    Err(StepError::refused(text).hint(format!(
        "give the machine a name of at most {COMPUTER_NAME_BYTES_MAX} characters in `set-identity`: a longer one would \
         be cut off, and could take another machine's place"
    )))
}

fn join(plan: &Plan, cx: &StepCx<'_>) -> Result<(), StepError> {
    let password = cx.secret(&plan.secret)?;
    let mut args = vec!["join".to_owned(), format!("--user={}", plan.user)];
    if let Some(unit) = &plan.computer_ou {
        args.push(format!("--computer-ou={unit}"));
    }
    args.push(plan.domain.clone());
    // The password goes in by standard input: arguments are there for every user of the machine to see.
    let output = cx.run(Command {
        program: "realm".to_owned(),
        args,
        folder: "/".into(),
        stdin: Secret::new(format!("{}\n", password.expose())),
        ..Command::default()
    })?;
    if output.exit_code == Some(0) {
        Ok(())
    } else {
        Err(command_failed("realm join", &output))
    }
}

impl Step for JoinDomain {
    const KIND: &'static str = "join-domain";
    const EXAMPLE: &'static str = r#"- id: domain
  attempts: 3
  wait: 30s
  join-domain:
    domain: ad.skole.example
    user: join-laptops
    secret: domain-join
    computer-ou: "OU={{ site.code }},OU=Laptops,DC=ad,DC=skole,DC=example"
"#;
    type Plan = Plan;
    const ON_RESTART: OnRestart = OnRestart::Verify;
    const WRITES_INTO_OS: bool = true;
    const NEEDS: Option<Environment> = Some(Environment::Os);

    fn check(&self, problems: &mut Problems) {
        let domain = &self.domain.0;
        if !domain.contains("{{") && !is_domain(domain) {
            problems.error(
                Code::Step,
                format!("{domain:?} is not the DNS name of a domain"),
                "write it in full, such as `ad.skole.example`",
            );
        }
    }

    fn templates(&self) -> Vec<&Template> {
        [&self.domain, &self.user]
            .into_iter()
            .chain(&self.computer_ou)
            .collect()
    }

    fn secrets(&self) -> Vec<SecretName> {
        vec![self.secret.clone()]
    }

    fn plan(&self, cx: &PlanCx<'_>) -> Result<Plan, StepError> {
        let computer_ou = match &self.computer_ou {
            Some(unit) => Some(filled(unit, is_plain, "an organizational unit", cx)?),
            None => None,
        };
        Ok(Plan {
            domain: filled(&self.domain, is_domain, "the DNS name of a domain", cx)?,
            user: filled(&self.user, is_plain, "the name of a user", cx)?,
            secret: self.secret.clone(),
            computer_ou,
        })
    }

    fn apply(&self, plan: Plan, cx: &StepCx<'_>) -> Result<Outcome, StepError> {
        if cx.machine().read_file(Utf8Path::new(REALM))?.is_none() {
            return Err(StepError::refused("the OS has no realmd").hint(
                "build the OS image with the packages `realmd`, `adcli`, `sssd-ad`, `sssd-tools` and `libnss-sss`",
            ));
        }
        let domain = plan.domain.to_lowercase();
        let before = joined(cx)?;
        if before.contains(&domain) {
            return Ok(Outcome::skipped(format!(
                "the machine has joined {domain} already"
            )));
        }
        if let Some(other) = before.first() {
            return Err(StepError::refused(format!(
                "the machine has joined another domain, {other}"
            ))
            .hint("leave it with `realm leave`, or apply the OS image again"));
        }
        check_host_name(cx)?;
        join(&plan, cx)?;
        if joined(cx)?.contains(&domain) {
            return Ok(Outcome::done());
        }
        Err(StepError::new(format!(
            "realm said it succeeded, but the machine is not in {domain}"
        ))
        .hint("see the log of this step, and `realm list` on the machine"))
    }
}

#[cfg(test)]
mod tests {
    use super::{is_domain, is_plain};

    #[test]
    fn domains_and_arguments() {
        assert!(is_domain("ad.skole.example") && is_domain("AD-1.no"));
        for wrong in [
            "", "skole", ".no", "a..b", "-a.no", "a b.no", "æ.no", "a.no\n",
        ] {
            assert!(!is_domain(wrong), "{wrong}");
        }
        assert!(is_plain("OU=Bærbare,DC=skole") && is_plain("join user"));
        assert!(!is_plain("--verbose") && !is_plain("") && !is_plain("a\nb"));
    }
}
