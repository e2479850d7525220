//! `forestage user`: who may use the server, and as what.

use clap::{Args, Subcommand};
use wire::names::PrestageName;
use wire::people::{NewUser, OneTimePassword, Role, RoleChange, UserRow};

use crate::failure::{Outcome, Trying};
use crate::output::{Look, Output, Table, moment};
use crate::settings::connect;

/// Who may use the server, and as what.
#[derive(Debug, Subcommand)]
pub(crate) enum User {
    /// Make an account with a one-time password
    #[command(
        after_help = "Example:\n  forestage user add kari --role school-admin --site BJO\n  forestage user add acme --role factory-operator --prestage book-14"
    )]
    Add(Add),
    /// List all accounts
    #[command(after_help = "Example:\n  forestage user list")]
    List,
    /// Change what someone is
    ///
    /// It counts from their next request on. Site and prestages are replaced as a whole.
    #[command(after_help = "Example:\n  forestage user set-role kari --role viewer")]
    SetRole(SetRole),
    /// Give someone a new one-time password; their sessions and tokens end at once
    #[command(after_help = "Example:\n  forestage user reset-password kari")]
    ResetPassword {
        /// The account
        name: String,
    },
    /// Remove an account; its sessions and tokens end at once
    #[command(after_help = "Example:\n  forestage user remove kari")]
    Remove {
        /// The account
        name: String,
    },
}

/// `user add`
#[derive(Debug, Args)]
pub(crate) struct Add {
    /// The name: letters, digits and . _ - @
    name: String,
    #[command(flatten)]
    place: Place,
}

/// `user set-role`
#[derive(Debug, Args)]
pub(crate) struct SetRole {
    /// The account
    name: String,
    #[command(flatten)]
    place: Place,
}

/// What someone is, and where.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// admin, school-admin, asset-clerk, factory-operator or viewer
    #[arg(long)]
    role: Role,
    /// The site they are kept to, by its code; a school admin needs one
    #[arg(
        long,
        value_name = "CODE",
        default_value = "",
        hide_default_value = true
    )]
    site: String,
    /// A prestage whose bundles a factory operator may fetch; may be repeated
    #[arg(long, value_name = "NAME")]
    prestage: Vec<PrestageName>,
}

/// Does what was asked.
pub(crate) fn run(command: &User, output: &Output) -> Outcome<()> {
    let client = connect()?;
    match command {
        User::Add(add) => {
            let new = NewUser {
                name: add.name.clone(),
                role: add.place.role,
                site: add.place.site.clone(),
                prestages: add.place.prestage.clone(),
            };
            let made = client
                .create_user(&new)
                .trying(|| format!("cannot make the account {}", add.name))?;
            output.answer(&made, |look| render_password(&made, look))
        }
        User::List => {
            let rows = client.users().trying(|| "cannot list accounts".into())?;
            output.answer(&rows, |look| render_list(&rows, look))
        }
        User::SetRole(set) => {
            let change = RoleChange {
                role: set.place.role,
                site: set.place.site.clone(),
                prestages: set.place.prestage.clone(),
            };
            let row = client
                .set_role(&set.name, &change)
                .trying(|| format!("cannot change the role of {}", set.name))?;
            output.answer(&row, |_| format!("{} is {} now\n", row.name, what(&row)))
        }
        User::ResetPassword { name } => {
            let reset = client
                .reset_password(name)
                .trying(|| format!("cannot reset the password of {name}"))?;
            output.answer(&reset, |look| render_password(&reset, look))
        }
        User::Remove { name } => {
            client
                .remove_user(name)
                .trying(|| format!("cannot remove the account {name}"))?;
            let answer = serde_json::json!({ "removed": name });
            output.answer(&answer, |_| format!("account {name} removed\n"))
        }
    }
}

/// The role, and where it counts.
fn what(row: &UserRow) -> String {
    let mut text = row.role.to_string();
    if !row.site.is_empty() {
        text.push_str(&format!(" of {}", row.site));
    }
    if !row.prestages.is_empty() {
        let names: Vec<&str> = row.prestages.iter().map(PrestageName::as_str).collect();
        text.push_str(&format!(" for {}", names.join(", ")));
    }
    text
}

fn render_password(made: &OneTimePassword, look: &Look) -> String {
    format!(
        "{} is {}\n  one-time password  {}  (shown only now; they choose their own when they log in)\n",
        made.user.name,
        what(&made.user),
        look.paint.bold(&made.one_time_password)
    )
}

fn render_list(rows: &[UserRow], look: &Look) -> String {
    let mut table = Table::new(&["name", "role", "site", "prestages", "signs in", "last used"]);
    for row in rows {
        let prestages: Vec<&str> = row.prestages.iter().map(PrestageName::as_str).collect();
        table.row([
            row.name.clone(),
            row.role.to_string(),
            row.site.clone(),
            prestages.join(" "),
            match (row.issuer.as_str(), row.one_time) {
                ("", true) => "not yet".into(),
                ("", false) => "with a password".into(),
                (issuer, _) => format!("at {issuer}"),
            },
            row.last_used_at_ms.map(moment).unwrap_or_default(),
        ]);
    }
    table.render(look, "")
}
