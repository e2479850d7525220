//! `forestage sequence plan`: how a run would go, before a machine is touched.

use camino::Utf8PathBuf;
use clap::Args;
use wire::device_plan::{
    DevicePlan, PlanDetail, PlanDevices, PlanReply, PlanRequest, PlanWhat, PlannedContent,
};
use wire::names::{CollectionName, SequenceName};
use wire::run_plan::{Decision, PlannedStep};

use crate::api::SEQUENCE_BYTES_MAX;
use crate::commands::sequence::{refuse_errors, render_findings};
use crate::commands::variable::{in_words, origin_in_words};
use crate::failure::{Failure, Outcome, Trying};
use crate::output::{Look, Output, Table, bytes, clean, count};
use crate::settings::{connect, read_text};

/// Host names that several assets would get, as far as they are named in the error; all are in the answer.
const CLASHES_SHOWN_MAX: usize = 3;

/// `sequence plan`
#[derive(Debug, Args)]
pub(crate) struct Plan {
    /// The sequence; that of the required deployment that is due if not given
    name: Option<SequenceName>,
    /// A sequence file that need not be stored on the server
    #[arg(long, value_name = "FILE", conflicts_with = "name")]
    file: Option<Utf8PathBuf>,
    #[command(flatten)]
    whom: Whom,
}

/// On which assets.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Whom {
    /// The asset with this serial number
    #[arg(long, value_name = "SERIAL")]
    asset: Option<String>,
    /// The assets in this collection
    #[arg(long, value_name = "NAME")]
    collection: Option<CollectionName>,
    /// All assets
    #[arg(long)]
    all: bool,
}

impl Whom {
    fn devices(&self) -> PlanDevices {
        match (&self.asset, &self.collection) {
            (Some(serial), _) => PlanDevices::Serials {
                serials: vec![serial.clone()],
            },
            (None, Some(name)) => PlanDevices::Collection { name: name.clone() },
            (None, None) => PlanDevices::All,
        }
    }
}

/// Does what was asked.
pub(crate) fn run(plan: &Plan, output: &Output) -> Outcome<()> {
    let client = connect()?;
    let what = match (&plan.name, &plan.file) {
        (Some(name), _) => PlanWhat::Sequence { name: name.clone() },
        (None, None) => PlanWhat::Due,
        (None, Some(file)) => {
            let text = read_text(file, SEQUENCE_BYTES_MAX)?;
            let findings = client
                .lint_sequence(&text)
                .trying(|| format!("cannot have {file} checked"))?;
            if let Err(failure) = refuse_errors(file, &findings) {
                output.answer(&findings, |look| render_findings(file, &findings, look))?;
                return Err(failure);
            }
            PlanWhat::Document { text }
        }
    };
    let request = PlanRequest {
        what,
        devices: plan.whom.devices(),
        detailed: plan.whom.asset.is_some(),
    };
    let reply = client
        .plan_runs(&request)
        .trying(|| "cannot plan the run".into())?;
    match (plan.whom.asset.is_some(), reply.plans.as_slice()) {
        (true, [device]) => {
            output.answer(device, |look| render_device(device, look))?;
            judge_device(device)
        }
        _ => {
            output.answer(&reply, |look| render_fleet(&reply, look))?;
            judge_fleet(&reply)
        }
    }
}

fn judge_device(plan: &DevicePlan) -> Outcome<()> {
    match (&plan.sequence, &plan.problem) {
        (None, _) => Err(
            Failure::new(format!("there is no run to plan on {}", plan.serial))
                .because(Failure::new("no required deployment is due on it"))
                .hint("name the sequence: `forestage sequence plan NAME --asset SERIAL`"),
        ),
        (Some(_), None) => Ok(()),
        (Some(sequence), Some(problem)) => Err(Failure::new(format!(
            "the sequence {sequence} would fail on {}",
            plan.serial
        ))
        .because(Failure::new(problem.clone()))),
    }
}

fn judge_fleet(reply: &PlanReply) -> Outcome<()> {
    if reply.failing > 0 {
        return Err(Failure::new(format!(
            "{} of {} would fail",
            reply.failing,
            count(reply.plans.len(), "run")
        ))
        .hint("`forestage sequence plan --asset SERIAL` shows one of them step by step"));
    }
    if reply.clashes.is_empty() {
        return Ok(());
    }
    let shown = reply.clashes.iter().take(CLASHES_SHOWN_MAX).map(|clash| {
        let serials = clash.serials.join(", ");
        format!("{} for {serials}", clash.host_name)
    });
    let shown = shown.collect::<Vec<_>>().join("; ");
    let names = count(reply.clashes.len(), "host name");
    Err(
        Failure::new(format!("{names} would be given more than once"))
            .because(Failure::new(shown))
            .hint("make the host name of `set-identity` depend on more of the serial number"),
    )
}

/// One asset, step by step.
fn render_device(plan: &DevicePlan, look: &Look) -> String {
    let serial = look.paint.bold(&clean(&plan.serial));
    let place = [
        plan.model.to_string(),
        plan.site_name.clone(),
        plan.class.clone(),
    ];
    let place: Vec<String> = place
        .into_iter()
        .filter(|text| !text.trim().is_empty())
        .collect();
    let mut text = format!("{serial}: {}\n", clean(&place.join(", ")));
    let (Some(sequence), Some(detail)) = (&plan.sequence, &plan.detail) else {
        return text;
    };
    let due = match &plan.deployment {
        Some(name) => format!(", deployment {name} is due"),
        None => String::new(),
    };
    text.push_str(&format!(
        "sequence {}{due}\n",
        look.paint.bold(sequence.as_str())
    ));
    text.push_str(if plan.is_seen {
        "planned with the facts of its latest check-in"
    } else {
        "it has never checked in: planned with what the asset file says"
    });
    match &plan.staged {
        Some(id) => text.push_str(&format!(", staged with {id}\n")),
        None => text.push_str(", and not staged as far as is known\n"),
    }
    match &plan.host_name {
        Some(name) => text.push_str(&format!("host name {}\n", look.paint.bold(&clean(name)))),
        None => text.push_str("host name not known yet\n"),
    }
    text.push_str(&format!(
        "\n{}",
        steps_table(&detail.run.steps).render(look, "  ")
    ));
    text.push_str(&render_detail(plan, detail, look));
    text
}

fn steps_table(steps: &[PlannedStep]) -> Table {
    let mut table = Table::new(&["step", "type", "is", "what"]);
    for step in steps {
        table.row([
            step.path.to_string(),
            step.kind.clone(),
            step.decision.to_string(),
            what(step),
        ]);
    }
    table
}

/// What becomes of a step, and why.
fn what(step: &PlannedStep) -> String {
    let condition = step
        .condition
        .as_ref()
        .map(|condition| match step.decision {
            Decision::Skipped => format!("`{condition}` is false"),
            _ => format!("if `{condition}`"),
        });
    let until =
        (!step.until.is_empty()).then(|| format!("not known until {}", step.until.join(" and ")));
    let errors = (!step.errors.is_empty()).then(|| step.errors.join(": "));
    let hint = step.hint.as_ref().map(|hint| format!("hint: {hint}"));
    let parts = [condition, until, step.text.clone(), errors, hint];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

fn render_detail(plan: &DevicePlan, detail: &PlanDetail, look: &Look) -> String {
    let mut variables = Table::new(&["variable", "from", "value"]);
    for variable in &detail.variables {
        variables.row([
            variable.key.clone(),
            origin_in_words(&variable.origin),
            in_words(&variable.value),
        ]);
    }
    let mut text = format!("\n{}", variables.render(look, "  "));
    if detail.packages.is_empty() {
        text.push_str("\n  no step asks for content\n");
    } else {
        let packages = packages_table(&detail.packages, plan.fetch_bytes);
        text.push_str(&format!("\n{}", packages.render(look, "  ")));
    }
    if plan.fetch_bytes != plan.fetch_bytes_certain {
        text.push_str(&format!(
            "  {} of it for sure\n",
            bytes(plan.fetch_bytes_certain)
        ));
    }
    text
}

fn packages_table(packages: &[PlannedContent], total: u64) -> Table {
    let mut table = Table::new(&[
        "package",
        "kind",
        "version",
        "staged",
        "needed",
        ">to fetch",
    ]);
    for package in packages {
        table.row([
            package.name.to_string(),
            package.kind.to_string(),
            package.version.to_string(),
            package
                .staged
                .as_ref()
                .map_or_else(|| "-".into(), ToString::to_string),
            if package.certain { "yes" } else { "perhaps" }.into(),
            bytes(package.fetch_bytes),
        ]);
    }
    let mut sums = [const { String::new() }; 6];
    sums[0] = count(packages.len(), "package");
    sums[5] = bytes(total);
    table.sums(sums);
    table
}

/// One line per asset.
fn render_fleet(reply: &PlanReply, look: &Look) -> String {
    let mut table = Table::new(&[
        "serial",
        "host name",
        "sequence",
        ">runs",
        ">skipped",
        ">undecided",
        ">to fetch",
        "problem",
    ]);
    for plan in &reply.plans {
        let number = |number: u32| match plan.sequence {
            Some(_) => number.to_string(),
            None => "-".into(),
        };
        let problem = match (&plan.sequence, &plan.problem) {
            (None, _) => "nothing is due".into(),
            (Some(_), problem) => problem.clone().unwrap_or_default(),
        };
        table.row([
            plan.serial.clone(),
            plan.host_name.clone().unwrap_or_else(|| "-".into()),
            plan.sequence
                .as_ref()
                .map_or_else(|| "-".into(), ToString::to_string),
            number(plan.steps.runs),
            number(plan.steps.skipped),
            number(plan.steps.undecided),
            plan.sequence
                .as_ref()
                .map_or_else(|| "-".into(), |_| bytes(plan.fetch_bytes)),
            problem,
        ]);
    }
    if table.is_empty() {
        return "no such assets\n".into();
    }
    let mut sums = [const { String::new() }; 8];
    sums[0] = count(reply.plans.len(), "asset");
    sums[6] = bytes(reply.fetch_bytes);
    sums[7] = match reply.failing {
        0 => String::new(),
        failing => format!("{failing} would fail"),
    };
    table.sums(sums);
    table.render(look, "")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use wire::device_plan::{DevicePlan, HostNameClash, PlanReply};

    use super::{judge_fleet, render_device, render_fleet};
    use crate::output::{Look, Paint};

    const LOOK: Look = Look {
        paint: Paint::NONE,
        width: 110,
    };

    fn plan(serial: &str, more: Value) -> DevicePlan {
        let mut plan = json!({
            "device": uuid::Uuid::nil(), "serial": serial, "site": "BJØ", "site-name": "Bjørnøya skole", "class": "8B",
            "model": { "vendor": "Acme", "product": "Book 14", "sku": "", "baseboard": "" },
            "is-seen": false, "staged": { "prestage": "book", "version": 1 }, "deployment": "autumn",
            "sequence": "deploy", "host-name": "bjo-8b-pf1",
            "steps": { "runs": 2, "skipped": 1, "undecided": 1, "fails": 0 }, "problem": null,
            "fetch-bytes": 12_000_000, "fetch-bytes-certain": 2_000_000,
        });
        for (key, value) in more.as_object().unwrap() {
            plan[key] = value.clone();
        }
        serde_json::from_value(plan).unwrap()
    }

    fn detail() -> Value {
        let package = |name: &str, staged: Value, certain: bool, fetch: u64| {
            json!({ "name": name, "version": "2", "kind": "application", "content-bytes": 9_000_000, "certain": certain,
                    "staged": staged, "fetch-bytes": fetch })
        };
        json!({ "detail": {
            "run": { "sequence": "deploy", "host-name": null, "packages": [], "steps": [
                { "path": "disk", "title": "disk", "kind": "format-disk", "decision": "runs",
                  "until": ["the machine checks in"] },
                { "path": "apps/java", "title": "Java", "kind": "install-packages", "decision": "runs",
                  "text": "install java 2 unless already there" },
                { "path": "apps/word", "title": "Word", "kind": "install-packages", "decision": "undecided",
                  "condition": "memory_bytes > 8", "until": ["the machine checks in"], "text": "install word 2" },
                { "path": "boot", "title": "boot", "kind": "install-boot-image", "decision": "skipped",
                  "condition": "update" },
                { "path": "id", "title": "id", "kind": "set-identity", "decision": "fails",
                  "errors": ["cannot fill in the template `{{ room }}`", "it asks for a value that isn't there"],
                  "hint": "give it a value" },
            ] },
            "variables": [
                { "key": "class", "value": "8B", "origin": { "from": "asset" } },
                { "key": "update", "value": false, "origin": { "from": "scope", "scope": "class", "name": "8B" } },
            ],
            "packages": [package("java", json!("1"), true, 2_000_000), package("word", Value::Null, false, 10_000_000)],
        } })
    }

    #[test]
    fn an_asset_is_told_step_by_step() {
        insta::assert_snapshot!(render_device(&plan("PF1", detail()), &LOOK));
    }

    #[test]
    fn a_fleet_is_told_line_by_line() {
        let fails = json!({ "problem": "step `id`: cannot fill in the template `{{ room }}`", "host-name": null });
        let idle =
            json!({ "sequence": null, "deployment": null, "host-name": null, "fetch-bytes": 0 });
        let reply = PlanReply {
            plans: vec![
                plan("PF1", json!({})),
                plan("PF2", fails),
                plan("PF3", idle),
            ],
            clashes: vec![HostNameClash {
                host_name: "bjo-8b-pf1".into(),
                serials: vec!["PF1".into(), "PF9".into()],
            }],
            failing: 1,
            fetch_bytes: 24_000_000,
        };
        insta::assert_snapshot!(render_fleet(&reply, &LOOK));
        let failed = judge_fleet(&reply).unwrap_err();
        assert!(
            failed
                .render()
                .starts_with("error: 1 of 3 runs would fail\n")
        );
        let clashing = PlanReply {
            failing: 0,
            ..reply
        };
        insta::assert_snapshot!(judge_fleet(&clashing).unwrap_err().render());
        let good = PlanReply {
            clashes: vec![],
            ..clashing
        };
        assert!(judge_fleet(&good).is_ok());
    }
}
