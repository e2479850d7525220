//! `forestage prestage`: what the factory gets for a model.

use std::io::{Read as _, Write as _};

use camino::{Utf8Path, Utf8PathBuf};
use clap::{Args, Subcommand};
use client::Client;
use wire::admin_api::{PlanItem, PrestageDefinition, PrestagePlan, PrestageVersion};
use wire::bundle::{BundleRoot, BundleSignature};
use wire::digest::Digest;
use wire::drift::{PrestageDiff, PrestageDrift, PrestageId, StepDifference, VersionDrift};
use wire::keys::SignatureState;
use wire::names::{KeyName, PackageName, PackageVersion, PrestageName, SequenceName};
use wire::package::Model;

use crate::ask;
use crate::bundle::{PrestageRef, download, keys_of};
use crate::failure::{Failure, Outcome, Trying};
use crate::output::{Look, Output, Table, bytes, clean, count, moment};
use crate::settings::{connect, read_limited};
use crate::signing_key;

/// The longest root that a bundle can have.
const ROOT_BYTES_MAX: u64 = 16 << 20;

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
    /// Build the next version: one bundle, signed at once if the key is on the server
    #[command(after_help = "Example:\n  forestage prestage build book-14")]
    Build {
        /// The prestage
        name: PrestageName,
    },
    /// List all versions that were built
    #[command(after_help = "Example:\n  forestage prestage list")]
    List,
    /// Show what changed between two versions of a prestage
    ///
    /// Packages that were added, removed or changed, and what a device staged with the first version would fetch for the
    /// second; then the steps of the factory sequence that differ. With one version it is compared with the latest, with
    /// none the last two versions are compared.
    #[command(after_help = "Example:\n  forestage prestage diff book-14@1 book-14@3")]
    Diff(Diff),
    /// Show how far staged devices are behind what they would run today
    ///
    /// For every version that a device carries, and the latest: each package as it was staged and as it is now, and the
    /// bytes that a device fetches for it at most when it is deployed. Packages count if the sequence could ask for them
    /// on this model.
    #[command(after_help = "Example:\n  forestage prestage drift book-14")]
    Drift {
        /// The prestage, with @N for one version
        #[arg(value_name = "NAME[@N]")]
        prestage: PrestageRef,
    },
    /// Download a bundle and check its signature
    #[command(
        after_help = "Example:\n  forestage prestage download book-14@2 --output book-14.bundle"
    )]
    Download(Download),
    /// Fetch the root of a version: what is signed
    ///
    /// It lists all that the bundle holds, by digest. Carry it to the computer with the key, and sign it there.
    #[command(after_help = "Example:\n  forestage prestage root book-14@2 --output book-14.root")]
    Root(Root),
    /// Sign a root, where the key is
    ///
    /// Shows what is signed and asks. Needs no server and no network. The passphrase of the key is asked for, or taken from
    /// FORESTAGE_PASSPHRASE.
    #[command(
        after_help = "Example:\n  forestage prestage sign book-14.root --key vault.key --output book-14.signature"
    )]
    Sign(Sign),
    /// Bring the signature of a version back to the server
    ///
    /// The server checks the whole bundle with it. Then the bundle can be fetched, and media can be built from it.
    #[command(
        after_help = "Example:\n  forestage prestage add-signature book-14@2 book-14.signature"
    )]
    AddSignature(AddSignature),
}

/// `prestage root`
#[derive(Debug, Args)]
pub(crate) struct Root {
    /// The prestage, with @N for a version other than the latest
    #[arg(value_name = "NAME[@N]")]
    prestage: PrestageRef,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    output: Utf8PathBuf,
}

/// `prestage sign`
#[derive(Debug, Args)]
pub(crate) struct Sign {
    /// The root, as `prestage root` wrote it
    root: Utf8PathBuf,
    /// The file with the private half of the key
    #[arg(long, value_name = "FILE")]
    key: Utf8PathBuf,
    /// The file to write: the signature
    #[arg(long, value_name = "FILE")]
    output: Utf8PathBuf,
    /// Don't ask
    #[arg(long)]
    yes: bool,
}

/// `prestage add-signature`
#[derive(Debug, Args)]
pub(crate) struct AddSignature {
    /// The prestage, with @N for a version other than the latest
    #[arg(value_name = "NAME[@N]")]
    prestage: PrestageRef,
    /// The signature, as `prestage sign` wrote it
    signature: Utf8PathBuf,
}

/// `prestage define`
#[derive(Debug, Args)]
pub(crate) struct Define {
    /// Its name: small letters, digits and - _ . +
    name: PrestageName,
    /// The task sequence it is derived from
    #[arg(long, value_name = "NAME")]
    sequence: SequenceName,
    /// A factory sequence of your own, instead of the one derived from the task sequence
    #[arg(long, value_name = "NAME")]
    stage: Option<SequenceName>,
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

/// `prestage diff`
#[derive(Debug, Args)]
pub(crate) struct Diff {
    /// The one version
    #[arg(value_name = "NAME[@N]")]
    from: PrestageRef,
    /// The other; the latest if not given
    #[arg(value_name = "NAME[@M]")]
    to: Option<PrestageRef>,
}

impl Diff {
    /// The versions meant.
    fn resolve(&self, client: &Client) -> Outcome<(PrestageId, PrestageId)> {
        let to = self.to.as_ref();
        let latest = PrestageRef {
            name: self.from.name.clone(),
            version: None,
        };
        let to = to.unwrap_or(&latest).resolve(client)?;
        let mut from = self.from.clone();
        if self.to.is_none() && from.version.is_none() {
            if to.version == 1 {
                return Err(Failure::new(format!(
                    "the prestage {} has only one version",
                    from.name
                ))
                .hint(format!(
                    "`forestage prestage drift {}` compares it with today's content",
                    from.name
                )));
            }
            from.version = Some(to.version - 1);
        }
        let id = |row: PrestageVersion| PrestageId {
            prestage: row.prestage,
            version: row.version,
        };
        Ok((id(from.resolve(client)?), id(to)))
    }
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
    match command {
        // Done where no server is.
        Prestage::Sign(command) => sign_root(command, output),
        Prestage::Root(command) => fetch_root(&connect()?, command, output),
        Prestage::AddSignature(command) => add_signature(&connect()?, command, output),
        Prestage::Define(define) => {
            let client = &connect()?;
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
            let client = &connect()?;
            let plan = client
                .plan_prestage(name)
                .trying(|| format!("cannot plan the prestage {name}"))?;
            output.answer(&plan, |look| render_plan(&plan, look))
        }
        Prestage::Build { name } => {
            let client = &connect()?;
            output.say(&format!(
                "building {name}: the server gathers and writes the bundle"
            ));
            let built = client
                .build_prestage(name)
                .trying(|| format!("cannot build the prestage {name}"))?;
            output.answer(&built, |look| render_built(&built, look))
        }
        Prestage::List => {
            let client = &connect()?;
            let rows = client
                .prestages()
                .trying(|| "cannot list prestages".into())?;
            output.answer(&rows, |look| render_list(&rows, look))
        }
        Prestage::Diff(diff) => {
            let client = &connect()?;
            let (from, to) = diff.resolve(client)?;
            let diff = client
                .prestage_diff(&from, &to)
                .trying(|| format!("cannot compare {from} with {to}"))?;
            output.answer(&diff, |look| render_diff(&diff, look))
        }
        Prestage::Drift { prestage } => {
            let client = &connect()?;
            let drift = client
                .prestage_drift(&prestage.name, prestage.version)
                .trying(|| format!("cannot find the drift of {}", prestage.name))?;
            output.answer(&drift, |look| render_drift(&drift, look))
        }
        Prestage::Download(wanted) => {
            let client = &connect()?;
            let row = wanted.prestage.resolve(client)?;
            let keys = keys_of(
                &client
                    .trust()
                    .trying(|| "cannot ask the server whom to trust".into())?,
            )?;
            download(client, &row, &wanted.output, &keys, output)?;
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

/// Writes the bytes that are signed.
fn fetch_root(client: &Client, wanted: &Root, output: &Output) -> Outcome<()> {
    let row = wanted.prestage.resolve(client)?;
    let fetching = || format!("cannot fetch the root of {}@{}", row.prestage, row.version);
    let (stream, _) = client
        .bundle_root(&row.prestage, row.version)
        .trying(fetching)?;
    let mut bytes = Vec::new();
    stream
        .take(ROOT_BYTES_MAX)
        .read_to_end(&mut bytes)
        .trying(fetching)?;
    if Digest::of(&bytes) != row.bundle {
        return Err(Failure::refused(fetching()).because(Failure::new(
            "what came has another digest than the server says",
        )));
    }
    write_new(&wanted.output, &bytes)?;
    output.answer(&row, |_| {
        format!(
            "{}: what is signed of {}@{}; sign it where the key is: `forestage prestage sign {} --key KEY --output FILE`\n",
            wanted.output, row.prestage, row.version, wanted.output
        )
    })
}

/// Writes a new file, over nothing: it could be the key.
pub(crate) fn write_new(file: &Utf8Path, bytes: &[u8]) -> Outcome<()> {
    let writing = || format!("cannot write {file}");
    let new = std::fs::File::options()
        .write(true)
        .create_new(true)
        .open(file);
    new.and_then(|mut new| new.write_all(bytes))
        .trying(writing)
        .map_err(|failure| failure.hint("name a file that isn't there yet"))
}

/// Shows what is signed, asks, signs. Without a server.
fn sign_root(command: &Sign, output: &Output) -> Outcome<()> {
    let bytes = read_limited(&command.root, ROOT_BYTES_MAX)
        .trying(|| format!("cannot read {}", command.root))?;
    let root = content::read_root(&bytes)
        .trying(|| format!("cannot sign {}", command.root))
        .map_err(|failure| {
            failure.hint(
                "sign what `forestage prestage root` wrote, with the release that the server has",
            )
        })?;
    output.show(|look| render_root(&root, &bytes, look));
    ask::confirmed("Sign this?", command.yes)?;
    let key = signing_key::open(&command.key)?;
    let signature = content::sign_root(&bytes, &key);
    let mut text =
        serde_json::to_string(&signature).trying(|| "cannot write the signature".into())?;
    text.push('\n');
    write_new(&command.output, text.as_bytes())?;
    output.answer(&signature, |_| {
        format!(
            "{}: the signature of {}@{} with the key {}\n",
            command.output, root.prestage, root.version, signature.key
        )
    })
}

fn add_signature(client: &Client, command: &AddSignature, output: &Output) -> Outcome<()> {
    let file = &command.signature;
    let bytes = read_limited(file, BundleSignature::BYTES_MAX as u64)
        .trying(|| format!("cannot read {file}"))?;
    let signature =
        BundleSignature::parse(&bytes).trying(|| format!("cannot use the signature {file}"))?;
    let row = command.prestage.resolve(client)?;
    let signed = client
        .sign_bundle(&row.prestage, row.version, &signature)
        .trying(|| format!("cannot sign {}@{}", row.prestage, row.version))?;
    output.answer(&signed, |_| {
        format!(
            "{}@{}: {}, it can be fetched now\n",
            signed.prestage,
            signed.version,
            said_signed(&signed)
        )
    })
}

/// Who signed a version, or is to, in a cell of a table.
fn signed_by(row: &PrestageVersion) -> String {
    let key = row.signed.key.as_ref().map_or("-", KeyName::as_str);
    match row.signed.state {
        SignatureState::Good => key.to_owned(),
        SignatureState::Waiting => format!("waits for {key}"),
        SignatureState::Retired => format!("{key} (retired)"),
    }
}

/// The same in a sentence.
fn said_signed(row: &PrestageVersion) -> String {
    match row.signed.state {
        SignatureState::Waiting => signed_by(row),
        _ => format!("signed by {}", signed_by(row)),
    }
}

/// In plain words, what whoever signs a root vouches for.
fn render_root(root: &BundleRoot, bytes_signed: &[u8], look: &Look) -> String {
    let mut text = format!(
        "{}@{} for {}, built {}\n{} of content; the root's digest is {}\n\n",
        look.paint.bold(root.prestage.as_str()),
        root.version,
        look.paint.bold(&clean(&root.model.to_string())),
        moment(root.built_at_ms),
        bytes(root.content_bytes),
        Digest::of(bytes_signed),
    );
    let mut packages = Table::new(&["package", "version", "kind", ">size", "manifest"]);
    for package in &root.packages {
        packages.row([
            package.name.to_string(),
            package.version.to_string(),
            package.kind.to_string(),
            bytes(package.content_bytes),
            package.manifest.to_string(),
        ]);
    }
    text.push_str(&format!(
        "{}\n{}\n",
        look.paint.bold("What it carries"),
        packages.render(look, "  ")
    ));
    let mut steps = Table::new(&["step", "does", "what"]);
    for step in &root.stage.steps {
        steps.row([step.path.to_string(), step.kind.clone(), clean(&step.title)]);
    }
    text.push_str(&format!(
        "{}\n{}",
        look.paint
            .bold("What a machine does with it at the factory"),
        steps.render(look, "  ")
    ));
    // Whoever can't trust the server reads what the machine is going to read: titles are only what somebody wrote.
    let stage = serde_json::to_string_pretty(&root.stage).unwrap_or_default();
    text.push_str(&format!("\n{}\n", look.paint.bold("The same in full")));
    for line in stage.lines() {
        text.push_str(&format!("  {}\n", clean(line)));
    }
    text
}

impl Define {
    fn definition(&self) -> PrestageDefinition {
        PrestageDefinition {
            sequence: self.sequence.clone(),
            stage: self.stage.clone(),
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
    let id = format!("{}@{}", built.prestage, built.version);
    let next = match built.signed.state {
        SignatureState::Waiting => format!(
            "it waits for its signature: `forestage prestage root {id}` fetches what is signed\n"
        ),
        _ => String::new(),
    };
    format!(
        "{}@{} for {}: {}, {} of content in a bundle of {}\nroot {}, {}\n{next}",
        look.paint.bold(built.prestage.as_str()),
        built.version,
        clean(&built.model.to_string()),
        count(built.plan.kept.len(), "package"),
        bytes(built.content_bytes),
        bytes(built.bundle_bytes),
        built.bundle,
        said_signed(built),
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
        "signed by",
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
            signed_by(row),
        ]);
    }
    if table.is_empty() {
        "no prestages built yet\n".into()
    } else {
        table.render(look, "")
    }
}

fn render_diff(diff: &PrestageDiff, look: &Look) -> String {
    let (from, to) = (diff.from.to_string(), diff.to.to_string());
    let mut text = format!(
        "{} → {}: bundle {} → {}, {} unchanged\n\n",
        look.paint.bold(&from),
        look.paint.bold(&to),
        bytes(diff.from_bytes),
        bytes(diff.to_bytes),
        count(diff.unchanged as usize, "package"),
    );
    if diff.packages.is_empty() {
        text.push_str("  no package differs\n");
    } else {
        let mut table = Table::new(&[
            "",
            "package",
            "kind",
            "before",
            "after",
            ">size before",
            ">size after",
            ">to fetch",
        ]);
        for package in &diff.packages {
            table.row([
                sign(package.from.is_some(), package.to.is_some()).into(),
                package.name.to_string(),
                package.kind.to_string(),
                or_dash(package.from.as_ref()),
                or_dash(package.to.as_ref()),
                bytes(package.from_bytes),
                bytes(package.to_bytes),
                bytes(package.fetch_bytes),
            ]);
        }
        let total = diff
            .packages
            .iter()
            .map(|package| package.fetch_bytes)
            .sum();
        let mut sums = [const { String::new() }; 8];
        sums[1] = count(diff.packages.len(), "package");
        sums[7] = bytes(total);
        table.sums(sums);
        text.push_str(&table.render(look, "  "));
    }
    text.push_str(&render_steps(diff.steps.as_deref(), look));
    text
}

fn render_drift(drift: &PrestageDrift, look: &Look) -> String {
    let versions: Vec<String> = drift
        .versions
        .iter()
        .map(|version| render_version(&drift.prestage, version, look))
        .collect();
    versions.join("\n")
}

fn render_version(name: &PrestageName, version: &VersionDrift, look: &Look) -> String {
    let id = format!("{name}@{}", version.version);
    let mut text = format!(
        "{} of {}: {} staged with it, {} deployed since\n",
        look.paint.bold(&id),
        moment(version.built_at_ms),
        count(version.devices as usize, "device"),
        version.deployed,
    );
    let mut table = Table::new(&["", "package", "kind", "staged", "now", ">to fetch"]);
    let mut same = 0;
    for package in &version.packages {
        if package.staged == package.now && package.fetch_bytes == 0 {
            same += 1;
            continue;
        }
        table.row([
            sign(package.staged.is_some(), package.now.is_some()).into(),
            package.name.to_string(),
            package.kind.to_string(),
            or_dash(package.staged.as_ref()),
            or_dash(package.now.as_ref()),
            bytes(package.fetch_bytes),
        ]);
    }
    if table.is_empty() {
        text.push_str(&format!("  {}, all as staged\n", count(same, "package")));
    } else {
        let mut sums = [const { String::new() }; 6];
        sums[1] = format!("{same} more as staged");
        sums[5] = bytes(version.fetch_bytes);
        table.sums(sums);
        text.push_str(&table.render(look, "  "));
    }
    if version.total_bytes() > 0 {
        let waiting = version.devices - version.deployed;
        text.push_str(&format!(
            "  {} not deployed yet will fetch {} together at most\n",
            count(waiting as usize, "device"),
            bytes(version.total_bytes()),
        ));
    }
    text.push_str(&render_steps(version.steps.as_deref(), look));
    text
}

/// Only in the first, only in the second, or in both.
const fn sign(before: bool, after: bool) -> &'static str {
    match (before, after) {
        (false, _) => "+",
        (_, false) => "-",
        _ => "~",
    }
}

fn or_dash(version: Option<&PackageVersion>) -> String {
    version.map_or_else(|| "-".into(), ToString::to_string)
}

/// What differs in the factory sequence.
fn render_steps(steps: Option<&[StepDifference]>, look: &Look) -> String {
    match steps {
        None => "  the factory sequence can't be compared: a bundle isn't there any more\n".into(),
        Some([]) => "  the factory sequence is the same\n".into(),
        Some(steps) => {
            let mut table = Table::new(&["factory step", "is", "what"]);
            for step in steps {
                let title = if step.title == step.path.as_str() {
                    String::new()
                } else {
                    step.title.clone()
                };
                let what = match step.details.as_slice() {
                    [] => title,
                    details => details.join("; "),
                };
                table.row([step.path.to_string(), step.change.to_string(), what]);
            }
            format!("\n{}", table.render(look, "  "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{render_diff, render_drift, render_plan};
    use crate::output::{Look, Paint, moment};
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
            said: None,
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

    const LOOK: Look = Look {
        paint: Paint::NONE,
        width: 110,
    };

    #[test]
    fn a_diff_says_what_it_costs() {
        let step = serde_json::json!({
            "path": "disk", "title": "Lay out the disk", "change": "changed",
            "details": ["with.volumes[2].size: 8 GiB → 12 GiB"]
        });
        let diff = serde_json::from_value(serde_json::json!({
            "from": { "prestage": "book-14", "version": 1 }, "to": { "prestage": "book-14", "version": 2 },
            "from-bytes": 3_000_000_000_u64, "to-bytes": 3_100_000_000_u64, "unchanged": 6, "steps": [step],
            "packages": [
                { "name": "java", "kind": "application", "from": "17.0.20", "to": "17.0.21", "from-bytes": 198_000_000,
                  "to-bytes": 199_000_000, "fetch-bytes": 12_000_000 },
                { "name": "word-lists", "kind": "files", "from": null, "to": "1", "from-bytes": 0, "to-bytes": 5_000_000,
                  "fetch-bytes": 2_000_000 },
                { "name": "zoo", "kind": "files", "from": "9", "to": null, "from-bytes": 700, "to-bytes": 0,
                  "fetch-bytes": 0 },
            ],
        }));
        insta::assert_snapshot!(render_diff(&diff.unwrap(), &LOOK));
    }

    #[test]
    fn a_drift_says_who_fetches_what() {
        let same = serde_json::json!({ "name": "debian-12", "kind": "os-image", "staged": "12.11", "now": "12.11",
            "fetch-bytes": 0 });
        let java = serde_json::json!({ "name": "java", "kind": "application", "staged": "17.0.20", "now": "17.0.21",
            "fetch-bytes": 12_000_000 });
        let drift = serde_json::from_value(serde_json::json!({
            "prestage": "book-14",
            "versions": [
                { "version": 2, "built-at-ms": 0, "devices": 0, "deployed": 0, "packages": [same], "fetch-bytes": 0,
                  "steps": [] },
                { "version": 1, "built-at-ms": 0, "devices": 1300, "deployed": 100, "packages": [same, java],
                  "fetch-bytes": 12_000_000, "steps": null },
            ],
        }));
        // The moment depends on the time zone of whoever runs the test.
        let text = render_drift(&drift.unwrap(), &LOOK).replace(&moment(0), "(moment)");
        insta::assert_snapshot!(text);
    }
}
