//! `forestage login`, `logout`, `status`: which server we speak to, and as whom.

use camino::Utf8PathBuf;
use clap::Args;
use client::ClientError;
use serde::Serialize;
use wire::admin_api::Login as Request;

use crate::ask;
use crate::failure::{Failure, Outcome, Trying};
use crate::output::{Output, Table};
use crate::settings::{self, Settings, connect_anonymously, read_text};

/// A PEM file with more than this is no CA certificate.
const CA_BYTES_MAX: u64 = 1 << 20;
/// The server's word for "this password was good for one login".
const NEW_PASSWORD_NEEDED: &str = "new-password-needed";

/// `login`
#[derive(Debug, Args)]
pub(crate) struct Login {
    /// The server's URL, as `forestage serve` prints it
    url: String,
    /// The certificate authority to trust, and no other: a file `forestage serve` names
    #[arg(long, value_name = "FILE")]
    ca: Utf8PathBuf,
    /// Who logs in
    #[arg(long, default_value = "admin")]
    user: String,
}

/// Logs in; a one-time password is replaced on the way.
pub(crate) fn run_login(command: &Login, output: &Output) -> Outcome<()> {
    let url = command.url.trim_end_matches('/');
    let ca_pem = read_text(&command.ca, CA_BYTES_MAX)?;
    let client = connect_anonymously(url, &ca_pem)?;
    let password = password(
        "FORESTAGE_PASSWORD",
        &format!("Password of {}: ", command.user),
    )?;
    let mut request = Request {
        user: command.user.clone(),
        password,
        token_name: format!("forestage on {}", host_name()),
        new_password: None,
    };
    let answer = match client.login(&request) {
        Err(ClientError::Refused { error, .. }) if error.code == NEW_PASSWORD_NEEDED => {
            output.say("This password was good for one login. Choose the one to use from now on.");
            request.new_password = Some(new_password()?);
            client.login(&request)
        }
        other => other,
    };
    let token = answer.trying(|| format!("cannot log in to {url}"))?.token;
    let path = Settings {
        url: url.to_owned(),
        ca_pem,
        token,
    }
    .store()?;
    let status = Status {
        url: url.to_owned(),
        reachable: true,
        logged_in: true,
        error: None,
        user: Some(command.user.clone()),
        role: None,
    };
    output.answer(&status, |_| {
        format!(
            "logged in to {url} as {}; the token is in {path}\n",
            command.user
        )
    })
}

/// Revokes the token and forgets it. It is forgotten even if the server can't be told; then it ends by itself.
pub(crate) fn run_logout(output: &Output) -> Outcome<()> {
    let settings = Settings::load()?;
    let told = settings
        .connect()
        .is_ok_and(|client| client.revoke_token("current").is_ok());
    Settings::forget()?;
    let answer = serde_json::json!({ "logged-in": false, "revoked": told });
    output.answer(&answer, |_| {
        let rest = if told {
            ""
        } else {
            "the server could not be told: if the token may have been copied, revoke it with `forestage token revoke`\n"
        };
        format!("logged out of {}\n{rest}", settings.url)
    })
}

/// What `status` answers.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Status {
    url: String,
    reachable: bool,
    logged_in: bool,
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<wire::people::Role>,
}

/// Says which server we speak to, and whether it answers.
pub(crate) fn run_status(output: &Output) -> Outcome<()> {
    let settings = Settings::load()?;
    let client = settings.connect()?;
    let answer = client.me();
    let status = Status {
        url: settings.url.clone(),
        reachable: !matches!(answer, Err(ClientError::Unreachable { .. })),
        logged_in: answer.is_ok(),
        error: answer.as_ref().err().map(ToString::to_string),
        user: answer.as_ref().ok().map(|me| me.user.name.clone()),
        role: answer.as_ref().ok().map(|me| me.user.role),
    };
    output.answer(&status, |look| {
        let mut table = Table::new(&["", ""]);
        table.row(["server".into(), status.url.clone()]);
        table.row(["reachable".into(), yes(status.reachable)]);
        table.row(["token good".into(), yes(status.logged_in)]);
        if let (Some(user), Some(role)) = (&status.user, status.role) {
            table.row(["user".into(), format!("{user}, {role}")]);
        }
        table.row([
            "settings".into(),
            settings::path()
                .map(|path| path.to_string())
                .unwrap_or_default(),
        ]);
        table
            .render(look, "")
            .lines()
            .skip(2)
            .map(|line| format!("{line}\n"))
            .collect()
    })?;
    answer
        .map(|_| ())
        .trying(|| format!("cannot work with {}", settings.url))
}

fn yes(is: bool) -> String {
    if is { "yes" } else { "no" }.into()
}

fn password(variable: &str, prompt: &str) -> Outcome<String> {
    ask::secret(variable, prompt, "password")
}

fn new_password() -> Outcome<String> {
    const VARIABLE: &str = "FORESTAGE_NEW_PASSWORD";
    let first = password(VARIABLE, "New password: ")?;
    if std::env::var_os(VARIABLE).is_none() && password(VARIABLE, "The same again: ")? != first {
        return Err(
            Failure::usage("the two passwords differ").hint("nothing was changed; log in again")
        );
    }
    Ok(first)
}

/// The name of this machine, for the list of tokens.
fn host_name() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = text.trim();
    if name.is_empty() {
        "an unnamed machine".into()
    } else {
        name.into()
    }
}
