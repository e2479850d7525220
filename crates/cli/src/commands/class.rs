//! `forestage class`: groups of pupils, and the software they need.

use clap::{Args, Subcommand};
use wire::classes::{ClassChange, ClassRow};
use wire::names::PackageName;

use crate::failure::{Outcome, Trying};
use crate::output::{Look, Output, Table};
use crate::settings::connect;

/// Groups of pupils, and the software they need.
#[derive(Debug, Subcommand)]
pub(crate) enum Class {
    /// Make a class or change it; what isn't said stays as it is
    ///
    /// Sequences see the packages of a device's class as the list `class_software`, such as in
    /// `when: "'geogebra' in class_software"`.
    #[command(
        after_help = "Example:\n  forestage class set BJO 1STA --year 2026/27 --title \"Naturfag\" --software geogebra"
    )]
    Set(Set),
    /// List classes: those that were made, and those that assets name
    #[command(after_help = "Example:\n  forestage class list --site BJO")]
    List {
        /// Only this site (its code)
        #[arg(long, value_name = "CODE")]
        site: Option<String>,
    },
    /// Forget what is known of a class; devices keep its name
    #[command(after_help = "Example:\n  forestage class remove BJO 1STA")]
    Remove {
        /// The site's code
        site: String,
        /// The class
        name: String,
    },
}

/// `class set`
#[derive(Debug, Args)]
pub(crate) struct Set {
    /// The site's code
    site: String,
    /// Its name, as asset files have it
    name: String,
    /// The school year, such as 2026/27
    #[arg(long)]
    year: Option<String>,
    /// One line for people
    #[arg(long)]
    title: Option<String>,
    /// Who teaches it
    #[arg(long)]
    teacher: Option<String>,
    /// A package it needs; may be repeated, and replaces all that it needed
    #[arg(long, value_name = "PACKAGE")]
    software: Vec<PackageName>,
    /// It needs no package any more
    #[arg(long, conflicts_with = "software")]
    no_software: bool,
}

/// Does what was asked.
pub(crate) fn run(command: &Class, output: &Output) -> Outcome<()> {
    let client = connect()?;
    match command {
        Class::Set(set) => {
            let says_software = set.no_software || !set.software.is_empty();
            let change = ClassChange {
                school_year: set.year.clone(),
                title: set.title.clone(),
                teacher: set.teacher.clone(),
                software: says_software.then(|| set.software.clone()),
            };
            let row = client
                .put_class(&set.site, &set.name, &change)
                .trying(|| format!("cannot store the class {}", set.name))?;
            output.answer(&row, |look| render_list(std::slice::from_ref(&row), look))
        }
        Class::List { site } => {
            let mut rows = client.classes().trying(|| "cannot list classes".into())?;
            rows.retain(|row| site.as_ref().is_none_or(|site| row.site == *site));
            output.answer(&rows, |look| render_list(&rows, look))
        }
        Class::Remove { site, name } => {
            let row = client
                .remove_class(site, name)
                .trying(|| format!("cannot remove the class {name}"))?;
            output.answer(&row, |_| format!("class {name} at {site} removed\n"))
        }
    }
}

fn render_list(rows: &[ClassRow], look: &Look) -> String {
    let mut table = Table::new(&[
        "site",
        "class",
        "year",
        "title",
        ">devices",
        "software",
        "not published",
    ]);
    for row in rows {
        let software: Vec<String> = row.class.software.iter().map(ToString::to_string).collect();
        table.row([
            row.site.clone(),
            row.name.clone(),
            row.class.school_year.clone(),
            row.class.title.clone(),
            row.devices.to_string(),
            software.join(" "),
            row.missing.join(" "),
        ]);
    }
    if table.is_empty() {
        "no classes yet\n".into()
    } else {
        table.render(look, "")
    }
}
