//! The admin API, asked a hundred thousand random questions by people of every role: it answers as its description says, and
//! never with an error of its own.
//!
//! Schemathesis makes them from the OpenAPI document: examples, values at the edges, random ones, and sequences in which one
//! answer leads to the next question.

use anyhow::{Context, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::{Value, json};

use crate::{console, guides, load, python};

const REQUIREMENTS: &str = include_str!("requirements.txt");
/// Those who ask, with what their accounts need besides a role.
const ASKING: [(&str, &[&str]); 5] = [
    ("admin", &[]),
    ("school-admin", &["--site", "BJO"]),
    ("asset-clerk", &[]),
    ("factory-operator", &["--prestage", "book-14"]),
    ("viewer", &[]),
];
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
    response_schema_conformance,ignored_auth";
/// Whoever asks these of themselves has no token afterwards to ask anything else with.
const ENDING: [&str; 5] = [
    "DELETE /api/v1/tokens/{id}",
    "DELETE /api/v1/users/{name}",
    "POST /api/v1/me/password",
    "POST /api/v1/users/{name}/reset-password",
    "PUT /api/v1/users/{name}/role",
];
const CA: &str = "$DATA/tls/ca.pem";
const FAILURES_MAX: usize = 10;
const PASSWORD: &str = "Nordlys-over-Tromsø-2026";

/// Options of `e2e api`.
#[derive(clap::Args, Clone)]
pub(crate) struct Options {
    /// How many random questions of each kind, for each role
    #[arg(long, value_name = "N", default_value_t = 120)]
    examples: u32,
    /// Another number gives other questions
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u32,
    /// Write the figures as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<Utf8PathBuf>,
}

/// Asks.
pub(crate) fn run(options: &Options) -> Result<()> {
    let root = guides::root();
    let folder = root.join("target/api");
    std::fs::create_dir_all(&folder)?;
    let schemathesis = python::program(&folder, "schemathesis", REQUIREMENTS)?;
    let world = guides::World::start(root, &guides::program()?, "api")?;
    world.run_script(&populated())?;
    // Before anybody asks: random sign-ins close the door for a while.
    for (role, more) in ASKING {
        sign_up(&world, role, more).with_context(|| format!("making an account of a {role}"))?;
    }
    let mut asked = Vec::new();
    for (role, _) in ASKING {
        let report = ask(&world, &schemathesis, role, options)
            .with_context(|| format!("asking as {role}"))?;
        console::say(&format!(
            "{role}: {} questions, {} answered otherwise than described",
            report["generated"], report["failures"]
        ));
        asked.push(report);
    }
    world.run_script("forestage audit verify && forestage device list >/dev/null")?;
    let log = world.work().join("../server.log");
    let log = std::fs::read_to_string(&log).with_context(|| format!("cannot read {log}"))?;
    ensure!(
        !log.contains("panicked"),
        "the server panicked: see its log"
    );
    let all: u64 = asked
        .iter()
        .filter_map(|one| one["generated"].as_u64())
        .sum();
    let failures: u64 = asked
        .iter()
        .filter_map(|one| one["failures"].as_u64())
        .sum();
    let figures = json!({
        "name": "api",
        "seed": options.seed,
        "questions": all,
        "failures": failures,
        "roles": asked,
    });
    load::write(options.json.as_deref(), &figures)?;
    console::say(&format!(
        "the admin API: {all} questions of {} roles",
        ASKING.len()
    ));
    ensure!(
        failures == 0,
        "{failures} kinds of answers differ from the description; they are named above"
    );
    Ok(())
}

/// A small fleet that has had its first day, so that there is something to ask for.
fn populated() -> String {
    let sequence = guides::root().join("e2e/sequences/storm.yaml");
    let mut script: Vec<String> = testkit::drill::commands(&sequence, 30, 3)
        .iter()
        .map(|words| format!("forestage '{}' >/dev/null", words.join("' '")))
        .collect();
    script.push("forestage simulate run --speed 60 --within 3s >/dev/null".into());
    script.push("forestage prestage define book-14 --sequence storm --vendor Acme --product 'Book 14' >/dev/null".into());
    script.push("forestage webhook add https://eiendeler.example/1 >/dev/null".into());
    script.join("\n")
}

/// An account of this role, with a token.
fn sign_up(world: &guides::World, role: &str, more: &[&str]) -> Result<()> {
    let url = world.url();
    world.run_script(&format!(
        "one_time=$(forestage --json user add ask-{role} --role {role} {} | jq -r '.\"one-time-password\"')\n\
         export FORESTAGE_CONFIG=$PWD/ask-{role}.json\n\
         FORESTAGE_PASSWORD=$one_time FORESTAGE_NEW_PASSWORD='{PASSWORD}' \
         forestage login {url} --ca {CA} --user ask-{role} >/dev/null\n\
         forestage --json token create questions | jq -r .token >{role}.token",
        more.join(" "),
    ))
}

/// All questions of somebody of this role, who must be let in afterwards as before.
fn ask(
    world: &guides::World,
    schemathesis: &Utf8Path,
    role: &str,
    options: &Options,
) -> Result<Value> {
    let url = world.url();
    let report = format!("{role}.json");
    world.run_script(&format!(
        "curl -sf --cacert {CA} -H \"Authorization: Bearer $(<{role}.token)\" {url}/api/v1/openapi.json >openapi.json\n\
         {schemathesis} run openapi.json --no-color --url {url} --tls-verify {CA} \
         --header \"Authorization: Bearer $(<{role}.token)\" --checks {CHECKS} --continue-on-failure \
         --max-examples {} --seed {} --report-json-path {report} {} >{role}.log 2>&1 || true\n\
         curl -sf --cacert {CA} -H \"Authorization: Bearer $(<{role}.token)\" {url}/api/v1/me >/dev/null",
        options.examples,
        options.seed,
        ENDING.map(|name| format!("--exclude-name '{name}'")).join(" "),
    ))
    .with_context(|| format!("see {}/{role}.log", world.work()))?;
    let path = world.work().join(&report);
    let text = std::fs::read(&path).with_context(|| format!("cannot read {path}"))?;
    let report: Value = serde_json::from_slice(&text)?;
    ensure!(
        report["complete"] == true,
        "it could not ask everything: see {}/{role}.log",
        world.work()
    );
    let failures = report["failures"].as_array().cloned().unwrap_or_default();
    for failure in failures.iter().take(FAILURES_MAX) {
        console::say(&format!("{role}: {failure}"));
    }
    Ok(json!({
        "role": role,
        "operations": report["operations"]["tested"],
        "generated": report["test_cases"]["generated"],
        "failures": failures.len(),
        "unanswered": report["test_cases"]["errored"],
        "seconds": report["running_time"],
    }))
}
