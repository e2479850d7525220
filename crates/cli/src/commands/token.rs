//! `forestage token`: API tokens for programs.

use clap::{Args, Subcommand};
use wire::people::{NewToken, TOKEN_DAYS, TokenMade, TokenRow};

use crate::failure::{Outcome, Trying};
use crate::output::{Look, Output, Table, moment};
use crate::settings::connect;

/// API tokens for programs.
#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Make an API token for yourself
    ///
    /// It may do what you may, or only what its scopes name, and never more than its user may at the time. Scopes are
    /// view, view-pupils, assign, operate, change-assets, see-receipts, send-receipts, see-prestages, fetch-bundles,
    /// deploy, publish and administer.
    #[command(
        after_help = "Example:\n  forestage token create \"asset system\" --scope view --days 365"
    )]
    Create(Create),
    /// List your API tokens; an admin sees all
    #[command(after_help = "Example:\n  forestage token list")]
    List,
    /// Revoke an API token: it is worth nothing from now on
    #[command(after_help = "Example:\n  forestage token revoke 5f1c0a9be2d34471")]
    Revoke {
        /// Its id, as `forestage token list` shows it
        id: String,
    },
}

/// `token create`
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// What it is for
    title: String,
    /// What it may do; may be repeated. Without: all that you may
    #[arg(long, value_name = "SCOPE")]
    scope: Vec<String>,
    /// How many days it lives, at most 730
    #[arg(long, default_value_t = TOKEN_DAYS)]
    days: u32,
}

/// Does what was asked.
pub(crate) fn run(command: &Token, output: &Output) -> Outcome<()> {
    let client = connect()?;
    match command {
        Token::Create(create) => {
            let new = NewToken {
                title: create.title.clone(),
                scopes: create.scope.clone(),
                days: create.days,
            };
            let made = client
                .create_token(&new)
                .trying(|| "cannot make a token".into())?;
            output.answer(&made, |look| render_made(&made, look))
        }
        Token::List => {
            let rows = client.tokens().trying(|| "cannot list tokens".into())?;
            output.answer(&rows, |look| render_list(&rows, look))
        }
        Token::Revoke { id } => {
            client
                .revoke_token(id)
                .trying(|| format!("cannot revoke the token {id}"))?;
            let answer = serde_json::json!({ "revoked": id });
            output.answer(&answer, |_| format!("token {id} revoked\n"))
        }
    }
}

fn scopes(row: &TokenRow) -> String {
    match row.scopes.is_empty() {
        true => "all".into(),
        false => row.scopes.join(" "),
    }
}

fn render_made(made: &TokenMade, look: &Look) -> String {
    format!(
        "{}\n  shown only now; it ends {} and may: {}\n",
        look.paint.bold(&made.token),
        moment(made.row.expires_at_ms),
        scopes(&made.row)
    )
}

fn render_list(rows: &[TokenRow], look: &Look) -> String {
    let mut table = Table::new(&["id", "user", "for", "may", "ends", "last used"]);
    for row in rows {
        table.row([
            row.id.clone(),
            row.user.clone(),
            row.title.clone(),
            scopes(row),
            moment(row.expires_at_ms),
            row.last_used_at_ms.map_or_else(|| "never".into(), moment),
        ]);
    }
    table.render(look, "")
}
