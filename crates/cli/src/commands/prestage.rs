//! `forestage prestage`: what the factory gets for a model.

use camino::Utf8PathBuf;
use clap::{Args, Subcommand};
use wire::admin_api::{PlanItem, PrestageDefinition, PrestagePlan, PrestageVersion};
use wire::names::{PackageName, PrestageName, SequenceName};
use wire::package::Model;

use crate::bundle::{PrestageRef, download, keys_of};
use crate::failure::{Outcome, Trying};
use crate::output::{Look, Output, Table, bytes, clean, count, moment};
use crate::settings::connect;

/// What the factory gets for a model.
#[derive(Debug, Subcommand)]
pub(crate) enum Prestage {
    /// Define a prestage: a sequence, cut down to what could run on one model
    ///
    /// The names are those in the machine's firmware (SMBIOS): `dmidecode -t system` shows them.
    #[command(after_help = "Example:\n\
            \x20 forestage prestage define book-14 --sequence pupil-laptop --vendor Acme --product \"Book 14\"")]
    Define(Define),
    /// Show what would be in the bundle and what is left out, and why
    #[command(after_help = "Example:\n  forestage prestage plan book-14")]
    Plan {
        /// The prestage
        name: PrestageName,
    },
    /// Build the next version: one signed bundle
    #[command(after_help = "Example:\n  forestage prestage build book-14")]
    Build {
        /// The prestage
        name: PrestageName,
    },
    /// List all versions that were built
    #[command(after_help = "Example:\n  forestage prestage list")]
    List,
    /// Download a bundle and check its signature
    #[command(
        after_help = "Example:\n  forestage prestage download book-14@2 --output book-14.bundle"
    )]
    Download(Download),
}

/// `prestage define`
#[derive(Debug, Args)]
pub(crate) struct Define {
    /// Its name: small letters, digits and - _ . +
    name: PrestageName,
    /// The task sequence it is derived from
    #[arg(long, value_name = "NAME")]
    sequence: SequenceName,
    /// The manufacturer, as the firmware says it
    #[arg(long)]
    vendor: String,
    /// The product name, as the firmware says it
    #[arg(long)]
    product: String,
    /// The SKU number, as the firmware says it
    #[arg(long, default_value = "", hide_default_value = true)]
    sku: String,
    /// The baseboard's product name, as the firmware says it
    #[arg(long, default_value = "", hide_default_value = true)]
    baseboard: String,
    /// A package to carry although no step asks for it; may be repeated
    #[arg(long, value_name = "PACKAGE")]
    extra: Vec<PackageName>,
    /// A package to leave out although a step may ask for it; may be repeated
    #[arg(long, value_name = "PACKAGE")]
    omit: Vec<PackageName>,
}

/// `prestage download`
#[derive(Debug, Args)]
pub(crate) struct Download {
    /// The prestage, with @N for a version other than the latest
    #[arg(value_name = "NAME[@N]")]
    prestage: PrestageRef,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    output: Utf8PathBuf,
}

/// Does what was asked.
pub(crate) fn run(command: &Prestage, output: &Output) -> Outcome<()> {
    let client = connect()?;
    match command {
        Prestage::Define(define) => {
            let definition = define.definition();
            client
                .put_prestage(&define.name, &definition)
                .trying(|| format!("cannot define the prestage {}", define.name))?;
            output.answer(&definition, |_| {
                let model = clean(&definition.model.to_string());
                format!(
                    "prestage {}: {} for {model}\n",
                    define.name, definition.sequence
                )
            })
        }
        Prestage::Plan { name } => {
            let plan = client
                .plan_prestage(name)
                .trying(|| format!("cannot plan the prestage {name}"))?;
            output.answer(&plan, |look| render_plan(&plan, look))
        }
        Prestage::Build { name } => {
            output.say(&format!(
                "building {name}: the server gathers, signs and writes the bundle"
            ));
            let built = client
                .build_prestage(name)
                .trying(|| format!("cannot build the prestage {name}"))?;
            output.answer(&built, |look| render_built(&built, look))
        }
        Prestage::List => {
            let rows = client
                .prestages()
                .trying(|| "cannot list prestages".into())?;
            output.answer(&rows, |look| render_list(&rows, look))
        }
        Prestage::Download(wanted) => {
            let row = wanted.prestage.resolve(&client)?;
            let keys = keys_of(
                &client
                    .trust()
                    .trying(|| "cannot ask the server whom to trust".into())?,
            )?;
            download(&client, &row, &wanted.output, &keys, output)?;
            output.answer(&row, |_| {
                let size = bytes(row.bundle_bytes);
                format!(
                    "{}: {}@{}, {size}, signature good\n",
                    wanted.output, row.prestage, row.version
                )
            })
        }
    }
}

impl Define {
    fn definition(&self) -> PrestageDefinition {
        PrestageDefinition {
            sequence: self.sequence.clone(),
            model: Model {
                vendor: self.vendor.clone(),
                product: self.product.clone(),
                sku: self.sku.clone(),
                baseboard: self.baseboard.clone(),
            },
            extra: self.extra.clone(),
            omit: self.omit.clone(),
        }
    }
}

/// The plan: what is in, what is out, why, and how much.
fn render_plan(plan: &PrestagePlan, look: &Look) -> String {
    let model = clean(&plan.model.to_string());
    let mut text = format!(
        "Prestage {} for {}\n\n",
        look.paint.bold(plan.prestage.as_str()),
        look.paint.bold(&model)
    );
    let (mut kept, mut omitted) = (
        items_table("+", &plan.kept),
        items_table("-", &plan.omitted),
    );
    kept.align_with(&mut omitted);
    text.push_str(&format!(
        "{}\n{}\n",
        look.paint.bold("In the bundle"),
        kept.render(look, "  ")
    ));
    if plan.omitted.is_empty() {
        text.push_str("Nothing is left out.\n");
    } else {
        text.push_str(&format!(
            "{}\n{}",
            look.paint.bold("Left out"),
            omitted.render(look, "  ")
        ));
    }
    text
}

fn items_table(sign: &str, items: &[PlanItem]) -> Table {
    let mut table = Table::new(&["", "package", "version", "kind", ">size", "why"]);
    for item in items {
        table.row([
            sign.into(),
            item.name.to_string(),
            item.version.to_string(),
            item.kind.to_string(),
            bytes(item.content_bytes),
            item.reason.clone(),
        ]);
    }
    let total: u64 = items.iter().map(|item| item.content_bytes).sum();
    let packages = count(items.len(), "package");
    table.sums([
        String::new(),
        packages,
        String::new(),
        String::new(),
        bytes(total),
        String::new(),
    ]);
    table
}

fn render_built(built: &PrestageVersion, look: &Look) -> String {
    format!(
        "{}@{} for {}: {}, {} of content in a bundle of {}\nsigned root {}\n",
        look.paint.bold(built.prestage.as_str()),
        built.version,
        clean(&built.model.to_string()),
        count(built.plan.kept.len(), "package"),
        bytes(built.content_bytes),
        bytes(built.bundle_bytes),
        built.bundle,
    )
}

fn render_list(rows: &[PrestageVersion], look: &Look) -> String {
    let mut table = Table::new(&[
        "prestage",
        "model",
        ">packages",
        ">content",
        ">bundle",
        "built",
        "signed root",
    ]);
    for row in rows {
        table.row([
            format!("{}@{}", row.prestage, row.version),
            row.model.to_string(),
            row.plan.kept.len().to_string(),
            bytes(row.content_bytes),
            bytes(row.bundle_bytes),
            moment(row.built_at_ms),
            row.bundle.short(),
        ]);
    }
    if table.is_empty() {
        "no prestages built yet\n".into()
    } else {
        table.render(look, "")
    }
}

#[cfg(test)]
mod tests {
    use super::render_plan;
    use crate::output::{Look, Paint};
    use wire::admin_api::{PlanItem, PrestagePlan};
    use wire::package::{Model, PackageKind};

    fn item(
        name: &str,
        version: &str,
        kind: PackageKind,
        content_bytes: u64,
        reason: &str,
    ) -> PlanItem {
        let (name, version) = (name.parse().unwrap(), version.parse().unwrap());
        PlanItem {
            name,
            version,
            kind,
            content_bytes,
            reason: reason.into(),
        }
    }

    #[test]
    fn a_plan_says_what_is_in_and_out_and_why() {
        let plan = PrestagePlan {
            prestage: "book-14".parse().unwrap(),
            model: Model {
                vendor: "Acme".into(),
                product: "Book 14".into(),
                sku: "B14".into(),
                ..Model::default()
            },
            kept: vec![
                item(
                    "debian-12",
                    "12.11",
                    PackageKind::OsImage,
                    1_234_567_890,
                    "step `os` applies it",
                ),
                item(
                    "openjdk-17-jre",
                    "17.0.21.1+2-1~deb12u1",
                    PackageKind::Application,
                    198_000_000,
                    "step `apps/java` may run: `class` is not known before the machine is at school",
                ),
                item(
                    "acme-book-14-firmware",
                    "3",
                    PackageKind::Driver,
                    4_000_000,
                    "its models match Acme Book 14",
                ),
            ],
            omitted: vec![item(
                "acme-book-15-firmware",
                "3",
                PackageKind::Driver,
                5_000_000,
                "its models do not match",
            )],
        };
        insta::assert_snapshot!(render_plan(
            &plan,
            &Look {
                paint: Paint::NONE,
                width: 110
            }
        ));
    }
}
