//! `forestage site`: schools, their networks, and how many machines run there at a time.

use clap::{Args, Subcommand};
use wire::sites::{SiteChange, SiteDetail, SiteMove, SiteRow};

use crate::commands::deployment::parse_expected;
use crate::failure::{Outcome, Trying};
use crate::output::{Look, Output, Table, clean, count, moment, seconds};
use crate::settings::connect;

/// Schools: their networks, and how many machines run there at a time.
#[derive(Debug, Subcommand)]
pub(crate) enum Site {
    /// Make a site or change it; what isn't said stays as it is
    ///
    /// A machine is at the site whose subnet holds the address it checks in from; of several subnets the longest prefix
    /// wins. Slots are how many machines run at a time: the others wait in order of arrival and begin by themselves. A
    /// machine that is switched off in the middle frees its place after five minutes.
    #[command(after_help = "Example:\n\
            \x20 forestage site set BJO --name \"Bjørnøya skole\" --subnet 10.17.0.0/16 --slots 40 \\\n\
            \x20     --expected 16m --time-zone Europe/Oslo")]
    Set(Set),
    /// List all sites and what goes on there
    #[command(after_help = "Example:\n  forestage site list")]
    List,
    /// Show a site: its machines by state, who waits, who is in the wrong place
    #[command(after_help = "Example:\n  forestage site show BJO")]
    Show {
        /// The site's code
        code: String,
    },
    /// Remove a site that no device belongs to
    #[command(after_help = "Example:\n  forestage site remove OLD")]
    Remove {
        /// The site's code
        code: String,
    },
    /// Let devices belong to this site that were last seen there
    #[command(after_help = "Example:\n  forestage site adopt BJO")]
    Adopt {
        /// The site's code
        code: String,
    },
}

/// `site set`
#[derive(Debug, Args)]
pub(crate) struct Set {
    /// Its code, as asset files have it
    code: String,
    /// Its name for people
    #[arg(long)]
    name: Option<String>,
    /// A subnet of it; may be repeated, and replaces those it had
    #[arg(long, value_name = "CIDR")]
    subnet: Vec<String>,
    /// It has no subnet any more
    #[arg(long, conflicts_with = "subnet")]
    no_subnets: bool,
    /// How many machines run at a time; 0 for no limit
    #[arg(long, value_name = "N")]
    slots: Option<u32>,
    /// How long a run is expected to take there, such as 16m, for deployments that don't say it; 0 takes it away
    #[arg(long, value_name = "TIME", value_parser = parse_expected)]
    expected: Option<u64>,
    /// Its time zone, such as Europe/Oslo
    #[arg(long, value_name = "NAME")]
    time_zone: Option<String>,
}

impl Set {
    fn change(&self) -> SiteChange {
        let says_subnets = self.no_subnets || !self.subnet.is_empty();
        SiteChange {
            name: self.name.clone(),
            subnets: says_subnets.then(|| self.subnet.clone()),
            slots: self.slots,
            expected_seconds: self.expected,
            time_zone: self.time_zone.clone(),
        }
    }
}

/// Does what was asked.
pub(crate) fn run(command: &Site, output: &Output) -> Outcome<()> {
    let client = connect()?;
    match command {
        Site::Set(set) => {
            let detail = client
                .put_site(&set.code, &set.change())
                .trying(|| format!("cannot store the site {}", set.code))?;
            output.answer(&detail, |look| render_detail(&detail, look))
        }
        Site::List => {
            let rows = client.sites().trying(|| "cannot list sites".into())?;
            output.answer(&rows, |look| render_list(&rows, look))
        }
        Site::Show { code } => {
            let detail = client
                .site(code)
                .trying(|| format!("cannot show the site {code}"))?;
            output.answer(&detail, |look| render_detail(&detail, look))
        }
        Site::Remove { code } => {
            let row = client
                .remove_site(code)
                .trying(|| format!("cannot remove the site {code}"))?;
            output.answer(&row, |_| format!("site {code} removed\n"))
        }
        Site::Adopt { code } => {
            let detail = client
                .site(code)
                .trying(|| format!("cannot show the site {code}"))?;
            let seen_here = detail.misplaced.iter().filter(|one| one.seen_site == *code);
            let devices = seen_here.map(|one| one.device).collect();
            let moved = client
                .move_to_seen_site(&SiteMove { devices })
                .trying(|| format!("cannot move devices to {code}"))?;
            output.answer(&moved, |_| {
                format!(
                    "{} moved to {code}\n",
                    count(moved.moved as usize, "device")
                )
            })
        }
    }
}

fn slots(row: &SiteRow) -> String {
    match row.slots {
        0 => format!("{} of any", row.live),
        slots => format!("{} of {slots}", row.live),
    }
}

fn render_list(rows: &[SiteRow], look: &Look) -> String {
    let mut table = Table::new(&[
        "code",
        "name",
        ">devices",
        ">running",
        ">waiting",
        ">elsewhere",
        "subnets",
    ]);
    for row in rows {
        table.row([
            row.code.clone(),
            row.name.clone(),
            row.devices.to_string(),
            slots(row),
            row.waiting.to_string(),
            row.elsewhere.to_string(),
            row.subnets.join(" "),
        ]);
    }
    if table.is_empty() {
        "no sites yet\n".into()
    } else {
        table.render(look, "")
    }
}

fn render_detail(detail: &SiteDetail, look: &Look) -> String {
    let site = &detail.site;
    let mut text = format!(
        "{} {}\n",
        look.paint.bold(&clean(&site.code)),
        clean(&site.name)
    );
    let subnets = match site.subnets.is_empty() {
        true => "none: machines can't be seen to be here".to_owned(),
        false => site.subnets.join(", "),
    };
    let states: Vec<String> = site
        .states
        .iter()
        .map(|(state, number)| format!("{number} {}", state.replace('-', " ")))
        .collect();
    let zone = match site.time_zone.is_empty() {
        true => "UTC",
        false => &site.time_zone,
    };
    let expected = match site.expected_seconds {
        0 => "not said here".to_owned(),
        expected => seconds(expected),
    };
    for (name, value) in [
        ("subnets", subnets.as_str()),
        ("running", &slots(site)),
        ("waiting", &site.waiting.to_string()),
        ("expected", &expected),
        ("time zone", zone),
        (
            "devices",
            &format!("{}: {}", site.devices, states.join(", ")),
        ),
    ] {
        text.push_str(&format!("  {name:<10} {}\n", clean(value)));
    }
    let mut queue = Table::new(&["serial", "deployment", "since"]);
    for waiting in &detail.queue {
        queue.row([
            waiting.serial.clone(),
            waiting.deployment.to_string(),
            moment(waiting.arrived_at_ms),
        ]);
    }
    if !queue.is_empty() {
        text.push_str(&format!(
            "\nwaiting for a place\n{}",
            queue.render(look, "  ")
        ));
    }
    let mut misplaced = Table::new(&["serial", "import says", "seen at"]);
    for one in &detail.misplaced {
        misplaced.row([one.serial.clone(), one.site.clone(), one.seen_site.clone()]);
    }
    if !misplaced.is_empty() {
        text.push_str(&format!(
            "\nnot where the import says\n{}",
            misplaced.render(look, "  ")
        ));
    }
    text
}
