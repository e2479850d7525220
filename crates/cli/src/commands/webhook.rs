//! `forestage webhook`: other systems are told what happens.

use camino::Utf8PathBuf;
use clap::{Args, Subcommand};
use wire::webhooks::{
    AttemptRow, DeliveryRow, MadeWebhook, NewWebhook, OLD_SECRET_HOURS, WEBHOOK_CA_BYTES_MAX,
    WebhookChange, WebhookEvent, WebhookRow,
};

use crate::failure::{Failure, Outcome, Trying};
use crate::output::{Look, Output, Table, clean, count, moment};
use crate::settings::{connect, read_limited};

/// Systems that are told what happens, by signed messages.
#[derive(Debug, Subcommand)]
pub(crate) enum Webhook {
    /// Add a receiver
    ///
    /// The secret that it checks signatures with is shown this once. Without `--event` it is told of everything; the
    /// events are device.staged, device.checked-in, device.quarantined, run.started, run.completed, run.failed,
    /// run.stopped, run.refused, run.stalled, assignment.made, assignment.ended, import.accepted, deployment.stopped,
    /// deployment.cap-reached.
    #[command(
        after_help = "Example:\n  forestage webhook add https://assets.example/forestage --event run.completed --event run.failed"
    )]
    Add(Add),
    /// List all receivers and how they are
    #[command(after_help = "Example:\n  forestage webhook list")]
    List,
    /// Send a test message now and say what came of it
    #[command(after_help = "Example:\n  forestage webhook test 1")]
    Test(One),
    /// Show the newest messages and every attempt to deliver them
    #[command(after_help = "Example:\n  forestage webhook log 1 --failed")]
    Log(Log),
    /// Deliver one message once more, under the same id
    #[command(after_help = "Example:\n  forestage webhook resend 1 msg_6f1d…")]
    Resend(Resend),
    /// Let a receiver wait; what happens meanwhile is kept
    #[command(after_help = "Example:\n  forestage webhook pause 1")]
    Pause(One),
    /// Let a receiver go on, and deliver what waits
    #[command(after_help = "Example:\n  forestage webhook resume 1")]
    Resume(One),
    /// Change a receiver; what isn't said stays, and so do its secret and its log
    #[command(
        after_help = "Example:\n  forestage webhook change 1 --event run.completed --event run.failed"
    )]
    Change(Change),
    /// Give a receiver a new secret
    ///
    /// It is shown this once. For 24 hours messages are signed with the old one, too.
    #[command(after_help = "Example:\n  forestage webhook new-secret 1")]
    NewSecret(One),
    /// Remove a receiver with its log
    #[command(after_help = "Example:\n  forestage webhook remove 1")]
    Remove(One),
}

/// `webhook add`
#[derive(Debug, Args)]
pub(crate) struct Add {
    /// Where to: https://…, or http:// to the server's own machine
    url: String,
    /// One line for people
    #[arg(long, default_value = "", hide_default_value = true)]
    title: String,
    /// What it is told; may be repeated
    #[arg(long = "event", value_name = "EVENT")]
    events: Vec<WebhookEvent>,
    /// The authority of the receiver's certificate (PEM), in place of those the server's system trusts
    #[arg(long, value_name = "FILE")]
    ca: Option<Utf8PathBuf>,
}

/// `webhook change`
#[derive(Debug, Args)]
pub(crate) struct Change {
    #[command(flatten)]
    one: One,
    /// Where to: https://…, or http:// to the server's own machine
    #[arg(long)]
    url: Option<String>,
    /// One line for people
    #[arg(long)]
    title: Option<String>,
    /// What it is told, and nothing else; may be repeated
    #[arg(long = "event", value_name = "EVENT")]
    events: Vec<WebhookEvent>,
    /// It is told of everything
    #[arg(long, conflicts_with = "events")]
    all_events: bool,
    /// The authority of the receiver's certificate (PEM), in place of those the server's system trusts
    #[arg(long, value_name = "FILE")]
    ca: Option<Utf8PathBuf>,
    /// The authorities that the server's system trusts
    #[arg(long, conflicts_with = "ca")]
    no_ca: bool,
}

/// A command about one webhook.
#[derive(Debug, Args)]
pub(crate) struct One {
    /// Its number, from `forestage webhook list`
    webhook: i64,
}

/// `webhook log`
#[derive(Debug, Args)]
pub(crate) struct Log {
    #[command(flatten)]
    one: One,
    /// Only messages that were given up or have had a failed attempt
    #[arg(long)]
    failed: bool,
}

/// `webhook resend`
#[derive(Debug, Args)]
pub(crate) struct Resend {
    #[command(flatten)]
    one: One,
    /// The message, from `forestage webhook log`
    message: String,
}

/// Does what was asked.
pub(crate) fn run(command: &Webhook, output: &Output) -> Outcome<()> {
    match command {
        Webhook::Add(command) => add(command, output),
        Webhook::List => {
            let rows = connect()?
                .webhooks()
                .trying(|| "cannot list webhooks".into())?;
            output.answer(&rows, |look| render_list(&rows, look))
        }
        Webhook::Test(One { webhook }) => {
            let row = connect()?
                .test_webhook(*webhook)
                .trying(|| format!("cannot test webhook {webhook}"))?;
            output.answer(&row, |look| render_log(std::slice::from_ref(&row), look))?;
            if row.state == "delivered" {
                return Ok(());
            }
            Err(
                Failure::new(format!("webhook {webhook} has not taken the message"))
                    .hint("it is tried again; the log above says why"),
            )
        }
        Webhook::Log(Log { one, failed }) => {
            let mut rows = connect()?
                .webhook_deliveries(one.webhook)
                .trying(|| format!("cannot read the log of webhook {}", one.webhook))?;
            rows.retain(|row| !failed || row.state == "failed" || has_failed(row));
            output.answer(&rows, |look| render_log(&rows, look))
        }
        Webhook::Resend(Resend { one, message }) => {
            let row = connect()?
                .resend_webhook(one.webhook, message)
                .trying(|| format!("cannot send {message} again"))?;
            output.answer(&row, |_| {
                format!("{} is delivered once more\n", clean(message))
            })
        }
        Webhook::Pause(One { webhook }) => {
            let row = connect()?
                .pause_webhook(*webhook)
                .trying(|| format!("cannot pause webhook {webhook}"))?;
            output.answer(&row, |_| format!("webhook {webhook} is paused\n"))
        }
        Webhook::Resume(One { webhook }) => {
            let row = connect()?
                .resume_webhook(*webhook)
                .trying(|| format!("cannot resume webhook {webhook}"))?;
            let waiting = count(
                usize::try_from(row.waiting).unwrap_or(usize::MAX),
                "message",
            );
            output.answer(&row, |_| {
                format!("webhook {webhook} goes on, {waiting} waiting\n")
            })
        }
        Webhook::Change(command) => change(command, output),
        Webhook::NewSecret(One { webhook }) => {
            let made = connect()?
                .new_webhook_secret(*webhook)
                .trying(|| format!("cannot give webhook {webhook} a new secret"))?;
            output.answer(&made, |look| render_secret(&made, look))
        }
        Webhook::Remove(One { webhook }) => {
            connect()?
                .remove_webhook(*webhook)
                .trying(|| format!("cannot remove webhook {webhook}"))?;
            output.answer(&(), |_| format!("webhook {webhook} removed\n"))
        }
    }
}

fn add(add: &Add, output: &Output) -> Outcome<()> {
    let ca_pem = read_ca(add.ca.as_ref())?.unwrap_or_default();
    let new = NewWebhook {
        url: add.url.clone(),
        title: add.title.clone(),
        events: add.events.clone(),
        ca_pem,
    };
    let made = connect()?
        .add_webhook(&new)
        .trying(|| format!("cannot add a webhook to {}", add.url))?;
    output.answer(&made, |look| render_made(&made, look))
}

fn read_ca(path: Option<&Utf8PathBuf>) -> Outcome<Option<String>> {
    let Some(path) = path else { return Ok(None) };
    let bytes =
        read_limited(path, WEBHOOK_CA_BYTES_MAX as u64).trying(|| format!("cannot read {path}"))?;
    let pem = String::from_utf8(bytes).trying(|| format!("cannot read {path} as PEM"))?;
    Ok(Some(pem))
}

fn change(command: &Change, output: &Output) -> Outcome<()> {
    let says_events = command.all_events || !command.events.is_empty();
    let ca_pem = match command.no_ca {
        true => Some(String::new()),
        false => read_ca(command.ca.as_ref())?,
    };
    let change = WebhookChange {
        url: command.url.clone(),
        title: command.title.clone(),
        events: says_events.then(|| command.events.clone()),
        ca_pem,
    };
    let webhook = command.one.webhook;
    let row = connect()?
        .change_webhook(webhook, &change)
        .trying(|| format!("cannot change webhook {webhook}"))?;
    output.answer(&row, |look| render_list(std::slice::from_ref(&row), look))
}

fn render_secret(made: &MadeWebhook, look: &Look) -> String {
    format!(
        "webhook {} has a new secret\n  secret  {}  (shown only now; the old one is good for {OLD_SECRET_HOURS} hours)\n",
        made.webhook.webhook,
        look.paint.bold(&made.secret)
    )
}

fn render_made(made: &MadeWebhook, look: &Look) -> String {
    format!(
        "webhook {} added\n  secret  {}  (shown only now; the receiver checks signatures with it)\n\n  \
         forestage webhook test {}\n",
        made.webhook.webhook,
        look.paint.bold(&made.secret),
        made.webhook.webhook
    )
}

fn render_list(rows: &[WebhookRow], look: &Look) -> String {
    let mut table = Table::new(&[
        "webhook", "state", ">waiting", ">failed", "events", "address", "title",
    ]);
    for row in rows {
        let events: Vec<&str> = row.events.iter().map(|event| event.name()).collect();
        let state = match row.reason.as_str() {
            "" => row.state.clone(),
            reason => format!("{}: {reason}", row.state),
        };
        table.row([
            row.webhook.to_string(),
            state,
            row.waiting.to_string(),
            row.failed.to_string(),
            if events.is_empty() {
                "all".into()
            } else {
                events.join(" ")
            },
            row.url.clone(),
            row.title.clone(),
        ]);
    }
    if table.is_empty() {
        "no webhooks yet\n".into()
    } else {
        table.render(look, "")
    }
}

fn has_failed(row: &DeliveryRow) -> bool {
    row.attempts.iter().any(|attempt| !is_good(attempt))
}

fn is_good(attempt: &AttemptRow) -> bool {
    attempt
        .status
        .is_some_and(|status| (200..300).contains(&status))
}

fn render_log(rows: &[DeliveryRow], look: &Look) -> String {
    let mut table = Table::new(&["message", "event", "state", "attempt", ">ms", "answer"]);
    for row in rows {
        let mut head = [row.message.clone(), row.event.clone(), row.state.clone()];
        if row.attempts.is_empty() {
            let [message, event, state] = head.clone();
            table.row([
                message,
                event,
                state,
                String::new(),
                String::new(),
                String::new(),
            ]);
        }
        for attempt in &row.attempts {
            let [message, event, state] = std::mem::take(&mut head);
            let answer = match attempt.status {
                Some(status) => format!("{status} {}", attempt.answer),
                None => attempt.error.clone(),
            };
            let duration = attempt.duration_ms.to_string();
            table.row([
                message,
                event,
                state,
                moment(attempt.at_ms),
                duration,
                answer,
            ]);
        }
    }
    if table.is_empty() {
        "no messages yet\n".into()
    } else {
        table.render(look, "")
    }
}
