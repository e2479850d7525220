//! `forestage serve`: the server.

use std::net::SocketAddr;

use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use serde::Serialize;
use server::people::oidc::OidcConfig;
use server::{Patience, Ready, ServerConfig, TrustedProxy};

use crate::commands::database::DatabaseArgs;
use crate::failure::{Failure, Outcome, Trying};
use crate::output::Output;
use crate::settings::write_private;

/// How the log is written: text or json.
const LOG_FORMAT_VARIABLE: &str = "FORESTAGE_LOG_FORMAT";

/// Every connection is an open file: as many as the server takes, and room for its own.
const OPEN_FILES: u64 = 8192 + 256;

/// `serve`
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// The data folder
    #[arg(long, value_name = "DIR")]
    data: Utf8PathBuf,
    /// Address and port to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8443")]
    listen: SocketAddr,
    /// An address devices and people reach it at; may be repeated, the first is tried first
    #[arg(long, value_name = "URL")]
    url: Vec<String>,
    #[command(flatten)]
    database: DatabaseArgs,
    /// A file that says at which identity provider people may sign in (OpenID Connect), and what their groups mean
    #[arg(long, value_name = "FILE")]
    oidc: Option<Utf8PathBuf>,
    /// A reverse proxy, or the subnet of some, such as 10.0.0.5 or 10.0.0.0/24, whose headers Forwarded and
    /// X-Forwarded-For are believed; may be repeated. From everyone else they are ignored
    #[arg(long, value_name = "CIDR")]
    trusted_proxy: Vec<TrustedProxy>,
    /// What would write over the disks of more machines than this awaits the approval of a second administrator: a deployment
    /// that begins, is resumed or may touch more machines, and failed runs that are retried together. 0: one person decides
    #[arg(
        long,
        value_name = "MACHINES",
        default_value_t = 0,
        hide_default_value = true
    )]
    second_person_above: u32,
    /// When ready, write {"url","address","ca","one-time-login"} to this file, for scripts
    #[arg(long, value_name = "FILE")]
    ready_file: Option<Utf8PathBuf>,
}

/// What the ready file holds.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct ReadyFile {
    url: String,
    address: SocketAddr,
    ca: Utf8PathBuf,
    one_time_login: Option<String>,
}

/// Serves until it is told to stop.
pub(crate) fn run(command: &Serve, output: &Output) -> Outcome<()> {
    crate::core_dumps::forbid();
    let filter = tracing_subscriber::EnvFilter::try_from_env("FORESTAGE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    start_log(filter)?;
    let config = ServerConfig {
        data: command.data.clone(),
        listen: command.listen,
        urls: command.url.clone(),
        database: command.database.url()?,
        trusted_proxies: command.trusted_proxy.clone(),
        patience: Patience::default(),
        second_person_above: command.second_person_above,
        oidc: oidc(command)?,
    };
    if let Err(most) = crate::open_files::allow(OPEN_FILES) {
        output.say(&format!(
            "this process may open {most} files; as many connections as the server takes need {OPEN_FILES}"
        ));
    }
    let runtime = tokio::runtime::Runtime::new()
        .trying(|| "cannot start the threads of the server".into())?;
    let ready_file = command.ready_file.clone();
    let output = *output;
    let tell = move |ready: Ready| {
        let told = announce(&ready.into(), ready_file.as_deref(), &output);
        if let Err(failure) = told {
            output.say_failure(&failure);
        }
    };
    runtime
        .block_on(server::serve(config, tell))
        .trying(|| format!("cannot serve {}", command.data))
}

/// Logs to stderr: for people, or one JSON object a line for programs that gather logs.
fn start_log(filter: tracing_subscriber::EnvFilter) -> Outcome<()> {
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match std::env::var(LOG_FORMAT_VARIABLE).as_deref() {
        Ok("json") => log.json().flatten_event(true).init(),
        Ok("text" | "") | Err(_) => log.init(),
        Ok(other) => {
            return Err(Failure::usage(format!("there is no log format `{other}`"))
                .hint(format!("set {LOG_FORMAT_VARIABLE} to text or json")));
        }
    }
    Ok(())
}

/// Where people may sign in, too.
fn oidc(command: &Serve) -> Outcome<Option<OidcConfig>> {
    let load = |path: &Utf8PathBuf| {
        OidcConfig::load(path).map_err(|error| {
            Failure::usage("cannot use the identity provider")
                .because(error)
                .hint("the guide \"People and access\" shows such a file")
        })
    };
    command.oidc.as_ref().map(load).transpose()
}

impl From<Ready> for ReadyFile {
    fn from(ready: Ready) -> Self {
        let url = ready
            .urls
            .first()
            .cloned()
            .unwrap_or_else(|| format!("https://{}", ready.address));
        Self {
            url,
            address: ready.address,
            ca: ready.ca_path,
            one_time_login: ready.one_time_login,
        }
    }
}

/// Tells people (or, as JSON, programs) how to reach the server.
fn announce(ready: &ReadyFile, ready_file: Option<&Utf8Path>, output: &Output) -> Outcome<()> {
    if let Some(path) = ready_file {
        let text = serde_json::to_vec_pretty(ready)
            .map_err(|error| Failure::new("cannot write JSON").because(error))?;
        write_private(path, &text).trying(|| format!("cannot write the ready file {path}"))?;
    }
    output.answer(ready, |look| {
        let mut text = format!("Forestage is ready at {}\n", look.paint.bold(&ready.url));
        text.push_str(&format!("  certificate authority  {}\n", ready.ca));
        if let Some(password) = &ready.one_time_login {
            text.push_str(&format!(
                "  user                   {}\n",
                look.paint.bold("admin")
            ));
            text.push_str(&format!(
                "  one-time password      {}  (shown only now; choose your own when you log in)\n",
                look.paint.bold(password)
            ));
        }
        text.push_str(&format!(
            "\n  forestage login {} --ca {}\n",
            ready.url, ready.ca
        ));
        text
    })
}
