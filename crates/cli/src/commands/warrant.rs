//! `forestage warrant`: what must be signed before a deployment may write over disks that were deployed.

use std::collections::BTreeMap;

use camino::Utf8PathBuf;
use clap::{Args, Subcommand};
use ed25519_dalek::{Signer as _, SigningKey};
use serde::Serialize;
use wire::bundle::SignatureText;
use wire::names::DeploymentName;
use wire::warrant::{WarrantFile, WarrantPart, WarrantRequest, WarrantsTaken, signed_bytes};

use crate::ask;
use crate::commands::prestage::write_new;
use crate::failure::{Outcome, Trying};
use crate::output::{Look, Output, Table, clean};
use crate::settings::{connect, read_limited};
use crate::signing_key;

/// What must be signed before a deployment may write over disks that were deployed.
#[derive(Debug, Subcommand)]
pub(crate) enum Warrant {
    /// Fetch what is to be signed: the machines of a deployment that need a warrant
    ///
    /// Those whose disk was deployed before and that have no warrant for this deployment yet. Boot images that know a wipe
    /// key let nothing else be written over such a disk.
    #[command(after_help = "Example:\n  forestage warrant request autumn --output autumn.request")]
    Request(Request),
    /// Sign warrants, on the computer that has the key; needs no server
    ///
    /// Shows the deployment, how many machines of which sites, and each by serial number, and asks.
    #[command(
        after_help = "Example:\n  forestage warrant sign autumn.request --key wipe.key --output autumn.warrants"
    )]
    Sign(Sign),
    /// Bring warrants back to the server
    ///
    /// The server checks each signature, and hands each warrant out with the order of its machine. A warrant is spent when
    /// the run that it allowed has finished.
    #[command(after_help = "Example:\n  forestage warrant add autumn.warrants")]
    Add {
        /// The warrants, as `warrant sign` wrote them
        warrants: Utf8PathBuf,
    },
}

/// `warrant request`
#[derive(Debug, Args)]
pub(crate) struct Request {
    /// The deployment
    deployment: DeploymentName,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    output: Utf8PathBuf,
}

/// `warrant sign`
#[derive(Debug, Args)]
pub(crate) struct Sign {
    /// What is to be signed, as `warrant request` wrote it
    request: Utf8PathBuf,
    /// The file with the private half of the key
    #[arg(long, value_name = "FILE")]
    key: Utf8PathBuf,
    /// The file to write: the warrants
    #[arg(long, value_name = "FILE")]
    output: Utf8PathBuf,
    /// Don't ask
    #[arg(long)]
    yes: bool,
}

/// What was written.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Written<'w> {
    file: &'w Utf8PathBuf,
    deployment: &'w DeploymentName,
    machines: usize,
}

/// Does what was asked.
pub(crate) fn run(command: &Warrant, output: &Output) -> Outcome<()> {
    match command {
        Warrant::Request(command) => fetch(command, output),
        Warrant::Sign(command) => sign(command, output),
        Warrant::Add { warrants } => add(warrants, output),
    }
}

fn fetch(command: &Request, output: &Output) -> Outcome<()> {
    let request = connect()?.warrant_request(&command.deployment).trying(|| {
        format!(
            "cannot fetch what is to be signed for {}",
            command.deployment
        )
    })?;
    let written = Written {
        file: &command.output,
        deployment: &request.deployment,
        machines: request.machines.len(),
    };
    if request.machines.is_empty() {
        return output.answer(&written, |_| {
            format!(
                "{}: no machine needs a warrant, nothing was written\n",
                command.deployment
            )
        });
    }
    write_json(&command.output, &request)?;
    output.answer(&written, |_| {
        format!(
            "{}: {} machines of {} need a warrant; sign where the key is: `forestage warrant sign {} --key KEY --output FILE`\n",
            command.output, written.machines, command.deployment, command.output
        )
    })
}

fn write_json(file: &Utf8PathBuf, value: &impl Serialize) -> Outcome<()> {
    let mut text = serde_json::to_string(value).trying(|| format!("cannot write {file}"))?;
    text.push('\n');
    write_new(file, text.as_bytes())
}

/// Shows what is signed, asks, signs. Without a server.
fn sign(command: &Sign, output: &Output) -> Outcome<()> {
    let file = &command.request;
    let bytes = read_limited(file, WarrantRequest::BYTES_MAX as u64)
        .trying(|| format!("cannot read {file}"))?;
    let request = WarrantRequest::parse(&bytes)
        .trying(|| format!("cannot sign {file}"))
        .map_err(|failure| {
            failure.hint(
                "sign what `forestage warrant request` wrote, with the release that the server has",
            )
        })?;
    output.show(|look| render_request(&request, look));
    let question = format!(
        "Let {} write over the disks of these {} machines, once each?",
        request.deployment,
        request.machines.len()
    );
    ask::confirmed(&question, command.yes)?;
    let key = signing_key::open(&command.key)?;
    let signed = signed(&request, &key);
    write_json(&command.output, &signed)?;
    let written = Written {
        file: &command.output,
        deployment: &request.deployment,
        machines: signed.warrants.len(),
    };
    output.answer(&written, |_| {
        format!(
            "{}: {} warrants for {} with the key {}\n",
            command.output, written.machines, request.deployment, signed.key
        )
    })
}

fn signed(request: &WarrantRequest, key: &SigningKey) -> WarrantFile {
    let warrants = request.machines.iter().map(|machine| {
        let text = request.warrant(machine).text();
        let signature = key.sign(&signed_bytes(&text));
        WarrantPart {
            text,
            signature: SignatureText::from_bytes(&signature.to_bytes()),
        }
    });
    WarrantFile {
        format: 1,
        deployment: request.deployment.clone(),
        key: signing_key::public_half(key),
        warrants: warrants.collect(),
    }
}

fn add(file: &Utf8PathBuf, output: &Output) -> Outcome<()> {
    let bytes = read_limited(file, WarrantFile::BYTES_MAX as u64)
        .trying(|| format!("cannot read {file}"))?;
    let warrants =
        WarrantFile::parse(&bytes).trying(|| format!("cannot use the warrants {file}"))?;
    let taken = connect()?
        .bring_warrants(&warrants)
        .trying(|| format!("cannot bring the warrants for {}", warrants.deployment))?;
    output.answer(&taken, |_| render_taken(&warrants.deployment, &taken))
}

fn render_taken(deployment: &DeploymentName, taken: &WarrantsTaken) -> String {
    let mut text = format!(
        "{deployment}: {} machines have a warrant now\n",
        taken.taken
    );
    if taken.left_out > 0 {
        text.push_str(&format!(
            "left out, as their machine has changed since, needs none, or doesn't know the key: {}\n",
            taken.left_out
        ));
    }
    for key in &taken.needed_keys {
        text.push_str(&format!("a key that such a machine knows: {key}\n"));
    }
    if taken.wait > 0 {
        text.push_str(&format!("machines that wait for one: {}\n", taken.wait));
    }
    text
}

/// In plain words, what whoever signs lets happen.
fn render_request(request: &WarrantRequest, look: &Look) -> String {
    let mut text = format!(
        "Deployment {} may write over the disks of {} machines, once each.\nWhat is on those disks is lost.\n\n",
        look.paint.bold(request.deployment.as_str()),
        look.paint.bold(&request.machines.len().to_string()),
    );
    let mut sites: BTreeMap<&str, u32> = BTreeMap::new();
    for machine in &request.machines {
        *sites.entry(machine.site.as_str()).or_default() += 1;
    }
    let mut by_site = Table::new(&["site", ">machines"]);
    for (site, machines) in sites {
        by_site.row([clean(site), machines.to_string()]);
    }
    text.push_str(&format!("{}\n", by_site.render(look, "  ")));
    let mut machines = Table::new(&[
        "serial number",
        "device key begins",
        "name",
        "site",
        "model",
    ]);
    for machine in &request.machines {
        machines.row([
            clean(&machine.serial),
            machine.device_key.to_string()[..16].to_owned(),
            clean(&machine.name),
            clean(&machine.site),
            clean(&machine.model),
        ]);
    }
    // Whoever can't trust the server compares serial numbers with a list of their own.
    text.push_str(&format!(
        "{}\nSigned are deployment, serial numbers and device keys; names, sites and models are what the server says.\n",
        machines.render(look, "  ")
    ));
    text
}

#[cfg(test)]
mod tests {
    use wire::warrant::WarrantWanted;

    use super::*;
    use crate::output::Paint;

    #[test]
    fn whoever_signs_reads_what_they_let_happen() {
        let machine = |serial: &str, name: &str, site: &str, digit: &str| WarrantWanted {
            device_key: digit.repeat(64).parse().unwrap(),
            serial: serial.into(),
            run: None,
            name: name.into(),
            site: site.into(),
            model: "Acme Book 14".into(),
        };
        let request = WarrantRequest {
            format: 1,
            deployment: "autumn".parse().unwrap(),
            machines: vec![
                machine("PF3ABC", "bjo-8b-01", "Bjørnøya skole", "a"),
                machine("PF3ABD", "", "Bjørnøya skole", "b"),
                machine("PF4\u{202e}X", "hav-01", "Havna skole", "c"),
            ],
        };
        insta::assert_snapshot!(render_request(
            &request,
            &Look {
                paint: Paint::NONE,
                width: 110
            }
        ));
        let signed = signed(&request, &SigningKey::from_bytes(&[1; 32]));
        let texts = signed.warrants.iter().map(|part| part.text.clone());
        let expected = request
            .machines
            .iter()
            .map(|machine| request.warrant(machine).text());
        assert!(texts.eq(expected));
    }
}
