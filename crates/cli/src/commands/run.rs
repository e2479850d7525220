//! `forestage run`: what happens on the devices, live and afterwards.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use client::{Client, ClientError};
use wire::admin_api::{DeviceState, RerunRequest, RunDetail, RunRow, StepRow};
use wire::event::ContentBytes;
use wire::names::RunId;

use crate::api;
use crate::commands::deployment::{parse_seconds, typed};
use crate::failure::{Failure, Outcome, Trying};
use crate::output::{Bar, Look, Output, Table, bytes, clean, count, moment, pad, seconds};
use crate::settings::connect;

/// Often enough to look live, rare enough that a hundred watchers are no load.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// A server that restarts is back within this time.
const UNREACHABLE_MAX: Duration = Duration::from_secs(120);

/// What happens on the devices.
#[derive(Debug, Subcommand)]
pub(crate) enum Run {
    /// List runs, newest first
    #[command(after_help = "Example:\n  forestage run list --state failed --site BJO")]
    List(List),
    /// Show a run: its steps, where content came from, and what went wrong
    #[command(after_help = "Example:\n  forestage run show PF3ABC12")]
    Show {
        /// The run's id or the code on the device's screen, or the serial number of a device (its latest run)
        #[arg(value_name = "RUN|SERIAL")]
        run: String,
    },
    /// Watch a run until it ends
    ///
    /// Exit code 0 if the run completed, 1 if it failed. With a serial number and `--wait`, a machine may still be in
    /// its box: its next run is awaited.
    #[command(after_help = "Example:\n  forestage run watch PF3ABC12 --wait --timeout 1h")]
    Watch(Watch),
    /// Stop a run at once
    ///
    /// A machine that is reached hears of it within seconds. It stops between attempts, while it waits, in the middle of
    /// writing content, and ends a program that runs; what was begun stays half done and is finished by `run retry`. A
    /// machine that is offline goes on until it reaches the server.
    #[command(after_help = "Example:\n  forestage run stop PF3ABC12")]
    Stop {
        /// The run's id or the code on the device's screen, or the serial number of a device (its latest run)
        #[arg(value_name = "RUN|SERIAL")]
        run: String,
    },
    /// Go on with a run that failed or was stopped, at the step where it was
    ///
    /// The device gets the same order as before, packages and variables included. A machine that waits in front of its
    /// failure picks it up within a minute; one that is switched off, when it is next switched on.
    #[command(after_help = "Example:\n  forestage run retry PF3ABC12")]
    Retry {
        /// The run's id or the code on the device's screen, or the serial number of a device (its latest run)
        #[arg(value_name = "RUN|SERIAL")]
        run: String,
    },
    /// Begin a run anew, at the first step, with the current sequence and packages
    ///
    /// It is a new run; the device is put back into the collection if it left. A disk that was handed out since is still
    /// never wiped: the run then fails at its first step and says what to do.
    #[command(after_help = "Example:\n  forestage run rerun PF3ABC12 --confirm \"rerun PF3ABC12\"")]
    Rerun {
        /// The run's id or the code on the device's screen, or the serial number of a device (its latest run)
        #[arg(value_name = "RUN|SERIAL")]
        run: String,
        /// The words `rerun SERIAL`, if it writes over the disk; asked for at a terminal
        #[arg(long, default_value = "", hide_default_value = true)]
        confirm: String,
    },
}

/// `run list`
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only runs in this state: running, stalled, failed, stopped or completed
    #[arg(long, value_parser = ["running", "stalled", "failed", "stopped", "completed"])]
    state: Option<String>,
    /// Only runs of machines of this site
    #[arg(long)]
    site: Option<String>,
    /// Only runs of deployments to this collection
    #[arg(long)]
    collection: Option<String>,
    /// Only runs of this deployment
    #[arg(long)]
    deployment: Option<String>,
    /// Only runs of machines of this model
    #[arg(long)]
    model: Option<String>,
    /// Only runs of this machine: its serial number, name or asset tag
    #[arg(long)]
    device: Option<String>,
    /// Only runs that began on this day or later, such as 2026-08-17
    #[arg(long, value_name = "DAY")]
    since: Option<String>,
    /// So many runs at most
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=5000))]
    limit: Option<u32>,
}

impl List {
    fn read(&self, client: &Client) -> Result<Vec<RunRow>, ClientError> {
        let limit = self.limit.map(|limit| limit.to_string());
        let filter = [
            ("state", &self.state),
            ("site", &self.site),
            ("collection", &self.collection),
            ("deployment", &self.deployment),
            ("model", &self.model),
            ("device", &self.device),
            ("since", &self.since),
            ("limit", &limit),
        ];
        let given = filter.iter();
        let given = given.filter_map(|(name, value)| Some((*name, value.as_deref()?)));
        client.runs_where(&given.collect::<Vec<_>>())
    }
}

/// `run watch`
#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// The run's id or the code on the device's screen, or the serial number of a device (its latest run)
    #[arg(value_name = "RUN|SERIAL")]
    run: String,
    /// Wait for a run that hasn't ended yet, if the device has none
    #[arg(long)]
    wait: bool,
    /// Give up (exit code 1) after this time, such as 30m
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    timeout: Option<u64>,
}

/// Does what was asked.
pub(crate) fn run(command: &Run, output: &Output) -> Outcome<()> {
    let client = connect()?;
    match command {
        Run::List(list) => {
            let rows = list.read(&client).trying(|| "cannot list runs".into())?;
            output.answer(&rows, |look| render_list(&rows, look))
        }
        Run::Show { run } => {
            let id = find(&client, run)?.ok_or_else(|| no_run(run))?;
            let detail = client
                .run(id)
                .trying(|| format!("cannot get the run {id}"))?;
            output.answer(&detail, |look| render_detail(&detail, look))
        }
        Run::Stop { run } => {
            let id = find(&client, run)?.ok_or_else(|| no_run(run))?;
            api::stop_run(&client, id).trying(|| format!("cannot stop the run {id}"))?;
            let answer = serde_json::json!({ "run": id, "stop": "asked" });
            output.answer(&answer, |_| {
                format!("run {id} is told to stop; a device that is reached stops within seconds\n")
            })
        }
        Run::Retry { run } => {
            let id = find(&client, run)?.ok_or_else(|| no_run(run))?;
            let row =
                api::retry_run(&client, id).trying(|| format!("cannot retry the run {id}"))?;
            output.answer(&row, |_| {
                format!("run {id} goes on where it was, as soon as the device asks: within a minute if it waits\n")
            })
        }
        Run::Rerun { run, confirm } => {
            let id = find(&client, run)?.ok_or_else(|| no_run(run))?;
            let doing = || format!("cannot run {id} anew");
            let detail = client.run(id).trying(doing)?;
            let request = RerunRequest {
                confirm: typed(confirm, detail.confirm_rerun.as_deref())?,
            };
            let row = api::rerun(&client, id, &request).trying(doing)?;
            output.answer(&row, |_| {
                let (serial, run) = (clean(&row.serial), row.run);
                format!("{serial} begins anew as run {run}, as soon as the device asks\n")
            })
        }
        Run::Watch(watch) => Watcher::new(&client, watch, output).watch(),
    }
}

/// The run meant by an id, a serial number (then the latest) or the code on a device's screen; `None` if there is none.
fn find(client: &Client, text: &str) -> Outcome<Option<RunId>> {
    if let Ok(id) = text.parse() {
        return Ok(Some(id));
    }
    Ok(latest(client, text)
        .trying(|| "cannot list runs".into())?
        .map(|row| row.run))
}

/// The digits a device shows of its run, in fours; the pages show them without the spaces.
const CODE_DIGITS: usize = 12;

fn latest(client: &Client, text: &str) -> Result<Option<RunRow>, ClientError> {
    Ok(pick(&client.runs()?, text).cloned())
}

/// The latest run of the device with this serial number, or the run that ends in this code.
fn pick<'a>(rows: &'a [RunRow], text: &str) -> Option<&'a RunRow> {
    let of_serial = rows.iter().filter(|row| row.serial == text);
    if let Some(row) = of_serial.max_by_key(|row| row.started_at_ms) {
        return Some(row);
    }
    let code = text.replace(' ', "").to_lowercase();
    let is_code = code.len() == CODE_DIGITS && code.bytes().all(|byte| byte.is_ascii_hexdigit());
    rows.iter()
        .find(|row| is_code && row.run.to_string().ends_with(&code))
}

fn no_run(text: &str) -> Failure {
    Failure::new(format!("there is no run of {text}"))
        .hint("`forestage run list` shows all; `run watch --wait` waits for one")
}

fn has_ended(row: &RunRow) -> bool {
    row.ended_at_ms.is_some()
        || matches!(
            row.state,
            DeviceState::Completed | DeviceState::Failed | DeviceState::Stopped
        )
}

/// Watches one run by asking again and again; survives a server that restarts.
struct Watcher<'a> {
    client: &'a Client,
    watch: &'a Watch,
    output: &'a Output,
    bar: Bar,
    started: Instant,
    answered: Instant,
    /// The states told so far, by step path.
    told: HashMap<String, String>,
    stalled: bool,
}

impl<'a> Watcher<'a> {
    fn new(client: &'a Client, watch: &'a Watch, output: &'a Output) -> Self {
        let now = Instant::now();
        let bar = output.steps_bar();
        Self {
            client,
            watch,
            output,
            bar,
            started: now,
            answered: now,
            told: HashMap::new(),
            stalled: false,
        }
    }

    fn watch(mut self) -> Outcome<()> {
        let id = self.wait_for_run()?;
        loop {
            let asked = self.client.run(id);
            if let Some(detail) = self.answer(asked, || format!("cannot get the run {id}"))? {
                self.tell(&detail)?;
                if has_ended(&detail.row) {
                    self.bar.clear();
                    return end(&detail, self.output);
                }
            }
            self.pause(&format!("the run {id} has not ended yet"))?;
        }
    }

    fn wait_for_run(&mut self) -> Outcome<RunId> {
        if let Ok(id) = self.watch.run.parse() {
            return Ok(id);
        }
        let serial = &self.watch.run;
        let mut said = false;
        loop {
            let asked = latest(self.client, serial);
            let row = self.answer(asked, || "cannot list runs".into())?;
            match row.flatten() {
                Some(row) if !self.watch.wait || !has_ended(&row) => return Ok(row.run),
                _ if !self.watch.wait => return Err(no_run(serial)),
                _ => {}
            }
            if !said {
                self.output
                    .say(&format!("waiting for {serial} to check in"));
                said = true;
            }
            self.pause(&format!("{serial} has not checked in yet"))?;
        }
    }

    /// An answer, or `None` if the server can't be reached just now; an error if that lasts too long.
    fn answer<T>(
        &mut self,
        asked: Result<T, ClientError>,
        what: impl FnOnce() -> String,
    ) -> Outcome<Option<T>> {
        match asked {
            Ok(value) => {
                self.answered = Instant::now();
                Ok(Some(value))
            }
            Err(error) if error.is_temporary() && self.answered.elapsed() < UNREACHABLE_MAX => {
                Ok(None)
            }
            Err(error) => Err(error).trying(what),
        }
    }

    fn pause(&self, unfinished: &str) -> Outcome<()> {
        if self
            .watch
            .timeout
            .is_some_and(|limit| self.started.elapsed() >= Duration::from_secs(limit))
        {
            return Err(Failure::new(unfinished)
                .because(Failure::new("the time given by `--timeout` is over")));
        }
        std::thread::sleep(POLL_INTERVAL);
        Ok(())
    }

    /// Tells what changed since the last answer.
    fn tell(&mut self, detail: &RunDetail) -> Outcome<()> {
        let row = &detail.row;
        for (number, step) in detail.steps.iter().enumerate() {
            let told = self.told.insert(step.path.to_string(), step.state.clone());
            if told.as_deref() == Some(&step.state) || step.state == "waiting" {
                continue;
            }
            if self.output.is_json() {
                self.output.json_line(step)?;
            } else {
                let line =
                    render_step_line(number + 1, detail.steps.len(), step, &self.output.look());
                self.bar.suspend(|| crate::output::print(&line))?;
            }
        }
        let is_stalled = row.state == DeviceState::Stalled;
        if is_stalled && !self.stalled {
            self.bar.suspend(|| {
                self.output
                    .say("nothing heard from the machine for a while: it counts as stalled")
            });
        }
        self.stalled = is_stalled;
        let percent = row
            .step_percent
            .map(|percent| format!(" {percent} %"))
            .unwrap_or_default();
        self.bar.message(&format!("{}{percent}", row.step_title));
        self.bar.set(
            u64::from(row.step_number.saturating_sub(1)),
            u64::from(row.step_count),
        );
        Ok(())
    }
}

/// The last words about a run that ended.
fn end(detail: &RunDetail, output: &Output) -> Outcome<()> {
    let row = &detail.row;
    let name = clean(row.name.as_deref().unwrap_or(&row.serial));
    if output.is_json() {
        output.json_line(row)?;
    } else {
        crate::output::print(&render_summary(detail, &output.look()))?;
    }
    if row.state == DeviceState::Completed {
        return Ok(());
    }
    let step = row
        .failed_step
        .as_ref()
        .map(|step| format!(" at step {step}"))
        .unwrap_or_default();
    let what = match row.state {
        DeviceState::Stopped => "was stopped".to_owned(),
        state => state.to_string(),
    };
    let mut failure = Failure::new(format!("the run of {name} {what}{step}"));
    if let Some(cause) = causes(&row.errors) {
        failure = failure.because(cause);
    }
    Err(match &row.hint {
        Some(hint) => failure.hint(hint.clone()),
        None => failure,
    })
}

/// The error chain of a device as one of ours.
fn causes(errors: &[String]) -> Option<Failure> {
    let (first, rest) = errors.split_first()?;
    let failure = Failure::new(first.clone());
    Some(match causes(rest) {
        Some(cause) => failure.because(cause),
        None => failure,
    })
}

/// One line of `run watch`.
fn render_step_line(number: usize, total: usize, step: &StepRow, look: &Look) -> String {
    let digits = total.to_string().len();
    let state = look.paint.state(&step.state, &pad(&step.state, 8, false));
    let mut line = format!(
        "{number:>digits$}/{total}  {state} {}  {}",
        step.path,
        clean(&step.title)
    );
    if let Some(duration) = step.duration_ms.filter(|_| step.state != "running") {
        line.push_str(&format!("  {}", milliseconds(duration)));
    }
    let from = render_content(&step.content);
    if !from.is_empty() {
        line.push_str(&format!("  ({from})"));
    }
    if let Some(message) = &step.message {
        line.push_str(&format!("  {}", clean(message)));
    }
    line.push('\n');
    line
}

/// `unchanged 1.20 GiB, local 3.00 MiB, network 0 bytes`; empty if there was no content.
fn render_content(content: &ContentBytes) -> String {
    let parts = [
        ("in place", content.unchanged),
        ("local", content.local),
        ("network", content.network),
    ];
    let parts: Vec<_> = parts
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| format!("{name} {}", bytes(*count)))
        .collect();
    parts.join(", ")
}

fn milliseconds(count: u64) -> String {
    if count < 10_000 {
        format!("{}.{} s", count / 1000, count / 100 % 10)
    } else {
        seconds(count / 1000)
    }
}

fn render_detail(detail: &RunDetail, look: &Look) -> String {
    let row = &detail.row;
    let name = row.name.as_deref().unwrap_or("(no name yet)");
    let mut text = format!(
        "{} {}  {}  run {}\n",
        look.paint.bold(&clean(name)),
        clean(&row.serial),
        look.paint
            .state(&row.state.to_string(), &row.state.to_string()),
        row.run
    );
    text.push_str(&format!(
        "{} by deployment {}, started {}, last heard of {}\n",
        row.sequence,
        row.deployment,
        moment(row.started_at_ms),
        moment(row.last_seen_at_ms)
    ));
    if !detail.identity.is_empty() {
        text.push_str(&format!(
            "recognised by {}\n",
            clean(&detail.identity.join(", "))
        ));
    }
    text.push('\n');
    let mut table = Table::new(&[">#", "step", "type", "state", ">took", "content", "what"]);
    for (number, step) in detail.steps.iter().enumerate() {
        let what = match (&step.message, step.plan.is_empty()) {
            (Some(message), _) => message.clone(),
            (None, false) => step.plan.clone(),
            (None, true) => step.title.clone(),
        };
        table.row([
            (number + 1).to_string(),
            step.path.to_string(),
            step.kind.clone(),
            step.state.clone(),
            step.duration_ms.map(milliseconds).unwrap_or_default(),
            render_content(&step.content),
            what.replace('\n', " "),
        ]);
    }
    text.push_str(&table.render(look, "  "));
    text.push('\n');
    text.push_str(&render_summary(detail, look));
    for release in &detail.secrets {
        let answers = count(
            usize::try_from(release.answers).unwrap_or(usize::MAX),
            "answer",
        );
        let at = moment(release.released_at_ms);
        text.push_str(&format!(
            "given the secret {} at {at}, {answers}\n",
            release.secret
        ));
    }
    if !row.errors.is_empty() {
        let step = row
            .failed_step
            .as_ref()
            .map(|step| format!(" at step {step}"))
            .unwrap_or_default();
        text.push_str(&format!("{}{step}\n", look.paint.bad("failed")));
        text.extend(
            row.errors
                .iter()
                .map(|error| format!("  cause: {}\n", clean(error))),
        );
        if !detail.last_lines.is_empty() {
            text.push_str("  the last it said:\n");
        }
        text.extend(
            detail
                .last_lines
                .iter()
                .map(|line| format!("    {}\n", clean(line))),
        );
        text.extend(
            row.hint
                .iter()
                .map(|hint| format!("  hint: {}\n", clean(hint))),
        );
    }
    text
}

fn render_summary(detail: &RunDetail, look: &Look) -> String {
    let row = &detail.row;
    let state = row.state.to_string();
    let expected = match row.expected_seconds {
        0 => String::new(),
        expected => format!(" (expected {})", seconds(expected)),
    };
    let content = row.content;
    format!(
        "{} in {}{expected}: {} in place, {} from local content, {} from the network\n\
         network: {} transferred for content, {} in all at the server, {} at the machine's own interfaces\n",
        look.paint.state(&state, &state),
        seconds(row.elapsed_seconds),
        bytes(content.unchanged),
        bytes(content.local),
        bytes(content.network),
        bytes(content.network_packed),
        bytes(row.server_bytes),
        bytes(row.interface_bytes),
    )
}

fn render_list(rows: &[RunRow], look: &Look) -> String {
    let titles = [
        "serial",
        "name",
        "state",
        ">step",
        ">took",
        ">network",
        "started",
        "deployment",
        "what",
    ];
    let mut table = Table::new(&titles);
    for row in rows {
        table.row([
            row.serial.clone(),
            row.name.clone().unwrap_or_else(|| "-".into()),
            row.state.to_string(),
            format!("{}/{}", row.step_number, row.step_count),
            seconds(row.elapsed_seconds),
            bytes(row.server_bytes),
            moment(row.started_at_ms),
            row.deployment.to_string(),
            row.errors.first().unwrap_or(&row.step_title).clone(),
        ]);
    }
    if table.is_empty() {
        "no runs\n".into()
    } else {
        table.render(look, "")
    }
}

#[cfg(test)]
mod tests {
    use super::{end, render_detail, render_step_line};
    use crate::output::{Look, Output, Paint};
    use wire::admin_api::{DeviceState, RunDetail, RunRow, StepRow};
    use wire::event::ContentBytes;
    use wire::names::{DeviceId, RunId};

    const LOOK: Look = Look {
        paint: Paint::NONE,
        width: 110,
    };

    fn step(path: &str, state: &str, message: Option<&str>) -> StepRow {
        StepRow {
            path: path.parse().unwrap(),
            title: "Install Java".into(),
            kind: "install-packages".into(),
            state: state.into(),
            offset_ms: Some(4000),
            duration_ms: Some(12_300),
            attempts: 1,
            plan: "install openjdk-17-jre 17.0.21".into(),
            message: message.map(Into::into),
            outcome: None,
            content: ContentBytes {
                local: 3 << 20,
                ..ContentBytes::default()
            },
            median_ms: None,
            median_runs: 0,
        }
    }

    fn failed() -> RunDetail {
        let row = RunRow {
            run: RunId(uuid_of(7)),
            device: DeviceId(uuid_of(8)),
            serial: "PF3ABC12".into(),
            name: Some("BJO-0042".into()),
            deployment: "autumn".parse().unwrap(),
            sequence: "pupil-laptop".parse().unwrap(),
            state: DeviceState::Failed,
            step_number: 2,
            step_count: 2,
            step_title: "Install Java".into(),
            step_percent: None,
            started_at_ms: 0,
            ended_at_ms: Some(42_000),
            elapsed_seconds: 42,
            expected_seconds: 960,
            expected_from: wire::admin_api::ExpectedFrom::Deployment,
            content: ContentBytes {
                unchanged: 1 << 30,
                local: 3 << 20,
                network: 2048,
                network_packed: 1024,
            },
            server_bytes: 5000,
            interface_bytes: 6000,
            errors: vec![
                "cannot install openjdk-17-jre".into(),
                "dpkg ended with code 1".into(),
            ],
            failed_step: Some("apps/java".parse().unwrap()),
            hint: Some("see the log".into()),
            last_seen_at_ms: 42_000,
        };
        RunDetail {
            row,
            steps: vec![
                step("disk", "done", None),
                step("apps/java", "failed", Some("cannot install openjdk-17-jre")),
            ],
            log: vec![],
            identity: vec!["serial".into(), "UUID".into()],
            said: vec![],
            last_lines: vec![
                "Unpacking openjdk-17-jre ...".into(),
                "dpkg: error: No space left on device".into(),
            ],
            median_model: None,
            variables: Vec::new(),
            confirm_rerun: None,
            secrets: vec![],
        }
    }

    fn uuid_of(number: u128) -> uuid::Uuid {
        uuid::Uuid::from_u128(number)
    }

    #[test]
    fn a_failed_run_is_shown_with_step_cause_and_hint() {
        let text = render_detail(&failed(), &LOOK);
        // The moment depends on the time zone of this machine.
        let text = text
            .replace(&crate::output::moment(0), "(started)")
            .replace(&crate::output::moment(42_000), "(last)");
        insta::assert_snapshot!(text);
    }

    #[test]
    fn watching_a_failed_run_ends_as_a_failure() {
        let failure = end(&failed(), &Output::new(true)).unwrap_err();
        assert_eq!(
            failure.render(),
            "error: the run of BJO-0042 failed at step apps/java\n  cause: cannot install openjdk-17-jre\n  \
             cause: dpkg ended with code 1\n  hint: see the log\n"
        );
    }

    #[test]
    fn a_run_is_found_by_serial_number_or_by_the_code_on_the_screen() {
        let old = failed().row;
        let new = RunRow {
            run: RunId(uuid_of(0xabcd_ef01_2345)),
            started_at_ms: 9,
            ..old.clone()
        };
        let rows = [new.clone(), old.clone()];
        for (text, expected) in [
            ("PF3ABC12", Some(new.run)),
            ("abcd ef01 2345", Some(new.run)),
            ("000000000007", Some(old.run)),
            ("0007", None),
            ("PF3", None),
        ] {
            assert_eq!(
                super::pick(&rows, text).map(|row| row.run),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn a_step_is_one_line() {
        assert_eq!(
            render_step_line(3, 11, &step("apps/java", "done", None), &LOOK),
            " 3/11  done     apps/java  Install Java  12 s  (local 3.00 MiB)\n"
        );
    }
}
