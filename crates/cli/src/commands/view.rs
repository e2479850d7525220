//! `forestage view`: names for what the overview shows.

use clap::Subcommand;
use wire::views::{SavedView, ViewChange};

use crate::failure::{Outcome, Trying};
use crate::output::{Look, Output, Table, clean};
use crate::settings::connect;

/// Names for what the overview shows.
#[derive(Debug, Subcommand)]
pub(crate) enum View {
    /// List your views and those that are shared with everybody
    #[command(after_help = "Example:\n  forestage view list")]
    List,
    /// Show a view: its query and whether it is shared
    #[command(after_help = "Example:\n  forestage view show trouble")]
    Show {
        /// Its name
        name: String,
    },
    /// Save a view, or change it
    ///
    /// The query is what stands behind the `?` in the overview's address. A shared view is everybody's: whoever opens it sees
    /// the machines that they may see, and no others. Only administrators share views.
    #[command(
        after_help = "Example:\n  forestage view save trouble --query 'site=BJO&state=failed' --shared"
    )]
    Save {
        /// Its name
        name: String,
        /// The query, such as `site=BJO&state=failed`
        #[arg(long)]
        query: String,
        /// Share it with everybody
        #[arg(long)]
        shared: bool,
    },
    /// Forget a view
    #[command(after_help = "Example:\n  forestage view delete trouble --shared")]
    Delete {
        /// Its name
        name: String,
        /// The one that everybody has, not your own
        #[arg(long)]
        shared: bool,
    },
}

/// Does what was asked.
pub(crate) fn run(command: &View, output: &Output) -> Outcome<()> {
    let client = connect()?;
    match command {
        View::List => {
            let rows = client.views().trying(|| "cannot list the views".into())?;
            output.answer(&rows, |look| render_list(&rows, look))
        }
        View::Show { name } => {
            let row = client
                .view(name)
                .trying(|| format!("cannot show the view {name}"))?;
            output.answer(&row, |look| render_list(std::slice::from_ref(&row), look))
        }
        View::Save {
            name,
            query,
            shared,
        } => {
            let change = ViewChange {
                query: query.clone(),
                shared: *shared,
            };
            let row = client
                .save_view(name, &change)
                .trying(|| format!("cannot save the view {name}"))?;
            output.answer(&row, |look| render_list(std::slice::from_ref(&row), look))
        }
        View::Delete { name, shared } => {
            let row = client
                .delete_view(name, *shared)
                .trying(|| format!("cannot delete the view {name}"))?;
            output.answer(&row, |_| format!("view {} deleted\n", clean(&row.name)))
        }
    }
}

fn render_list(rows: &[SavedView], look: &Look) -> String {
    let mut table = Table::new(&["view", "whose", "query"]);
    for row in rows {
        table.row([
            clean(&row.name),
            if row.shared { "everybody's" } else { "yours" }.to_owned(),
            clean(&row.query),
        ]);
    }
    if table.is_empty() {
        "no views yet\n".into()
    } else {
        table.render(look, "")
    }
}
