//! The step catalog: what a step is, and the explicit list of all types.
//!
//! Adding a step is one new file in `steps/` and its entry below. Schema, reference page and lint come from that file.
//! There is no registration at link time: an entry the linker drops is a step that is missing on 2500 machines.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use wire::event::{ContentBytes, Environment, FinishAction, StepOutcome};
use wire::facts::Facts;
use wire::names::{PackageName, RunId, SecretName, StepPath};
use wire::package::{Package, PackageKind};
pub use wire::sequence::OnRestart;
use wire::sequence::{CompiledSequence, CompiledStep};

use crate::ports::{Command, CommandOutput, Content, Machine, Progress, StepError};
use crate::problem::Problems;
use crate::scope::{Scope, Template};
use crate::secret::{Hiding, Secret};

pub mod apply_drivers;
pub mod apply_files;
pub mod apply_image;
pub mod check_machine;
pub mod collect_logs;
pub mod create_user;
pub mod finish;
pub mod format_disk;
pub mod install_boot_image;
pub mod install_os_boot;
pub mod install_packages;
pub mod join_domain;
pub mod lock_down;
pub mod restart;
pub mod run_script;
pub mod set_identity;
pub mod set_network;
pub mod set_variables;
pub mod stage_content;
pub mod wait_for_network;

/// Lists the step types, in alphabetical order of their kinds.
macro_rules! step_catalog {
    ($($step:path),* $(,)?) => {
        /// All step types, sorted by kind.
        pub static CATALOG: &[StepType] = &[$(StepType::of::<$step>()),*];
    };
}

step_catalog![
    apply_drivers::ApplyDrivers,
    apply_files::ApplyFiles,
    apply_image::ApplyImage,
    check_machine::CheckMachine,
    collect_logs::CollectLogs,
    create_user::CreateUser,
    finish::Finish,
    format_disk::FormatDisk,
    install_boot_image::InstallBootImage,
    install_os_boot::InstallOsBoot,
    install_packages::InstallPackages,
    join_domain::JoinDomain,
    lock_down::LockDown,
    restart::Restart,
    run_script::RunScript,
    set_identity::SetIdentity,
    set_network::SetNetwork,
    set_variables::SetVariables,
    stage_content::StageContent,
    wait_for_network::WaitForNetwork,
];

/// Where a step keeps files in the target OS while it runs.
pub const CACHE_FOLDER: &str = "/var/cache/forestage";

/// A step type: it checks its arguments, plans without effects, then applies the plan.
pub trait Step: Serialize + DeserializeOwned + JsonSchema + 'static {
    /// What it is called in documents: a verb and a noun.
    const KIND: &'static str;
    /// How it stands in a sequence: one step in YAML, with an id, that the lint finds nothing wrong with.
    const EXAMPLE: &'static str;
    /// What it will do, as data and (by `Display`) in words.
    type Plan: Display + Serialize + DeserializeOwned;
    /// What becomes of it after a power cut. No default: whoever writes a step must think about the power cable.
    const ON_RESTART: OnRestart;
    /// Whether the staging partition (and so the journal's place) exists once this step is done.
    const MAKES_STAGING: bool = false;
    /// Where it can run, if not in both.
    const NEEDS: Option<Environment> = None;
    /// Whether it must be the last.
    const ENDS_RUN: bool = false;
    /// Whether its output becomes variables.
    const SETS_VARIABLES: bool = false;
    /// Whether it leaves something in the OS volume, which applying an OS image after it would undo.
    const WRITES_INTO_OS: bool = false;
    /// Whether it means something at the factory: no network, no installed OS, nobody to ask.
    const FITS_FACTORY: bool = false;
    /// Whether it writes over what a disk or a volume held.
    const WIPES: bool = false;
    /// Whether its plan looks at facts beyond the model, so at the machine itself.
    const OBSERVES: bool = false;

    /// What the document alone can tell.
    fn check(&self, problems: &mut Problems) {
        let _ = problems;
    }

    /// The templates among its arguments.
    fn templates(&self) -> Vec<&Template> {
        Vec::new()
    }

    /// The packages it asks for.
    fn packages(&self) -> Vec<PackageUse> {
        Vec::new()
    }

    /// The secrets it asks for, by name.
    fn secrets(&self) -> Vec<SecretName> {
        Vec::new()
    }

    /// [`ON_RESTART`](Self::ON_RESTART), unless the document says otherwise.
    fn on_restart(&self) -> OnRestart {
        Self::ON_RESTART
    }

    /// What comes after it.
    fn flow(&self) -> Flow {
        Flow::Next
    }

    /// Decides what to do on this machine, now. Pure: no effects, no clock.
    fn plan(&self, cx: &PlanCx<'_>) -> Result<Self::Plan, StepError>;

    /// Carries the plan out.
    fn apply(&self, plan: Self::Plan, cx: &StepCx<'_>) -> Result<Outcome, StepError>;
}

/// A package some step asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PackageUse {
    /// This package, which must be of this kind.
    Named(PackageName, PackageKind),
    /// All drivers for the model.
    Drivers,
}

/// What planning may look at.
#[derive(Clone, Copy)]
pub struct PlanCx<'a> {
    /// The machine as it is now.
    pub facts: &'a Facts,
    /// What templates see.
    pub scope: &'a Scope,
    /// The packages of the run.
    pub packages: &'a [Package],
    /// Where the step stands.
    pub path: &'a StepPath,
}

impl PlanCx<'_> {
    /// Renders a template.
    pub fn render(&self, template: &Template) -> Result<String, StepError> {
        self.scope.render(template)
    }

    /// The package of this name, if it is part of the run and of this kind.
    pub fn package(&self, name: &PackageName, kind: PackageKind) -> Result<&Package, StepError> {
        let Some(package) = self.packages.iter().find(|package| &package.name == name) else {
            return Err(
                StepError::refused(format!("package {name} is not part of this run"))
                    .hint("publish it, and deploy the sequence again"),
            );
        };
        if package.kind == kind {
            return Ok(package);
        }
        let text = format!(
            "package {name} is of kind {}, this step needs {kind}",
            package.kind
        );
        Err(StepError::refused(text).hint("name a package of the right kind in the sequence"))
    }
}

/// What a step reaches the world through.
#[derive(Clone, Copy)]
pub struct StepCx<'a> {
    machine: &'a dyn Machine,
    content: &'a dyn Content,
    progress: &'a dyn Progress,
    run: RunId,
    path: &'a StepPath,
    time_left: &'a dyn Fn() -> Duration,
}

impl<'a> StepCx<'a> {
    /// Puts a context together.
    pub fn new(
        machine: &'a dyn Machine,
        content: &'a dyn Content,
        progress: &'a dyn Progress,
        run: RunId,
        path: &'a StepPath,
        time_left: &'a dyn Fn() -> Duration,
    ) -> Self {
        Self {
            machine,
            content,
            progress,
            run,
            path,
            time_left,
        }
    }

    /// The machine.
    #[must_use]
    pub fn machine(&self) -> &'a dyn Machine {
        self.machine
    }

    /// The content.
    #[must_use]
    pub fn content(&self) -> &'a dyn Content {
        self.content
    }

    /// Where to say how far we are.
    #[must_use]
    pub fn progress(&self) -> &'a dyn Progress {
        self.progress
    }

    /// The run that the step is part of.
    #[must_use]
    pub fn run_id(&self) -> RunId {
        self.run
    }

    /// Where the step stands.
    #[must_use]
    pub fn path(&self) -> &'a StepPath {
        self.path
    }

    /// The time the step has left.
    #[must_use]
    pub fn time_left(&self) -> Duration {
        (self.time_left)()
    }

    /// Fails if the run is to stop or the step's time is up. Loops call it once per round.
    pub fn go_on(&self) -> Result<(), StepError> {
        if self.progress.is_cancelled() {
            Err(StepError::new("stopped before the work was done"))
        } else {
            Ok(())
        }
    }

    /// Runs a program in the target OS with the time the step has left.
    pub fn command(&self, program: &str, args: &[&str]) -> Result<CommandOutput, StepError> {
        self.run(Command {
            program: program.to_owned(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            folder: "/".into(),
            ..Command::default()
        })
    }

    /// The same, failing unless it exits with 0.
    pub fn command_ok(&self, program: &str, args: &[&str]) -> Result<CommandOutput, StepError> {
        let output = self.command(program, args)?;
        if output.exit_code == Some(0) {
            Ok(output)
        } else {
            Err(command_failed(program, &output))
        }
    }

    /// The secret of this name. Whoever asks for it uses it at once.
    pub fn secret(&self, name: &SecretName) -> Result<Secret, StepError> {
        self.go_on()?;
        self.machine.secret(name, self.progress)
    }

    /// Runs `command` with the time the step has left. Secrets it was given are hidden in what it prints.
    pub fn run(&self, command: Command) -> Result<CommandOutput, StepError> {
        self.go_on()?;
        let timeout = self.time_left();
        let command = Command { timeout, ..command };
        let values = command.secret_env.iter().map(|(_, value)| value);
        let hiding = Hiding::new(self.progress, values.chain([&command.stdin]));
        let output = self.machine.command(&command, &hiding)?;
        Ok(CommandOutput {
            exit_code: output.exit_code,
            stdout: hiding.hide(&output.stdout),
            stderr: hiding.hide(&output.stderr),
        })
    }
}

/// The error for a program that ended badly, with the last of what it said.
#[must_use]
pub fn command_failed(program: &str, output: &CommandOutput) -> StepError {
    let how = output.exit_code.map_or_else(
        || "was ended by a signal".to_owned(),
        |code| format!("exited with {code}"),
    );
    let said = [&output.stderr, &output.stdout]
        .into_iter()
        .find_map(|text| {
            let line = text.lines().rev().find(|line| !line.trim().is_empty())?;
            Some(line.trim().chars().take(LAST_WORDS_MAX).collect::<String>())
        });
    let error = StepError::new(format!("{program} {how}"))
        .hint("see the log of this step for all it printed");
    match said {
        Some(said) => error.because(said),
        None => error,
    }
}

/// Enough of a program's last line to see what was wrong; the log has all.
const LAST_WORDS_MAX: usize = 300;

/// How a step ended well.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Done, with a warning, or nothing to do.
    pub kind: StepOutcome,
    /// A warning or a reason.
    pub message: Option<String>,
    /// Where its content came from.
    pub content: ContentBytes,
    /// Values for later steps.
    pub output: Value,
}

/// What comes after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// The next step.
    Next,
    /// A restart.
    Suspend(Environment),
    /// The end of the run.
    Finish(FinishAction),
}

impl Outcome {
    /// Its effect is there.
    #[must_use]
    pub const fn done() -> Self {
        Self {
            kind: StepOutcome::Done,
            message: None,
            content: ContentBytes {
                unchanged: 0,
                local: 0,
                network: 0,
                network_packed: 0,
            },
            output: Value::Null,
        }
    }

    /// There was nothing to do.
    pub fn skipped(reason: impl Into<String>) -> Self {
        Self {
            kind: StepOutcome::Skipped,
            message: Some(reason.into()),
            ..Self::done()
        }
    }

    /// Adds where the content came from.
    #[must_use]
    pub fn content(mut self, content: ContentBytes) -> Self {
        self.content = content;
        self
    }

    /// Adds values for later steps.
    #[must_use]
    pub fn output(mut self, output: Value) -> Self {
        self.output = output;
        self
    }
}

/// A plan as the journal keeps it.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// As data.
    pub data: Value,
    /// In words.
    pub text: String,
}

/// A step of any type; what the engine and the lint work with.
pub trait AnyStep {
    /// See [`Step::check`].
    fn check(&self, problems: &mut Problems);
    /// See [`Step::templates`].
    fn templates(&self) -> Vec<&Template>;
    /// See [`Step::packages`].
    fn packages(&self) -> Vec<PackageUse>;
    /// See [`Step::secrets`].
    fn secrets(&self) -> Vec<SecretName>;
    /// See [`Step::on_restart`].
    fn on_restart(&self) -> OnRestart;
    /// See [`Step::flow`].
    fn flow(&self) -> Flow;
    /// A recorded plan in words.
    fn describe(&self, plan: &Value) -> Result<String, StepError>;
    /// See [`Step::plan`].
    fn plan(&self, cx: &PlanCx<'_>) -> Result<Planned, StepError>;
    /// See [`Step::apply`]; `plan` may come from the journal of an older release.
    fn apply(&self, plan: &Value, cx: &StepCx<'_>) -> Result<Outcome, StepError>;
    /// The arguments with all defaults filled in.
    fn arguments(&self) -> Result<Value, StepError>;
}

impl<S: Step> AnyStep for S {
    fn check(&self, problems: &mut Problems) {
        Step::check(self, problems);
    }

    fn templates(&self) -> Vec<&Template> {
        Step::templates(self)
    }

    fn packages(&self) -> Vec<PackageUse> {
        Step::packages(self)
    }

    fn secrets(&self) -> Vec<SecretName> {
        Step::secrets(self)
    }

    fn on_restart(&self) -> OnRestart {
        Step::on_restart(self)
    }

    fn flow(&self) -> Flow {
        Step::flow(self)
    }

    fn describe(&self, plan: &Value) -> Result<String, StepError> {
        read_plan::<S>(plan).map(|plan| plan.to_string())
    }

    fn plan(&self, cx: &PlanCx<'_>) -> Result<Planned, StepError> {
        let plan = Step::plan(self, cx)?;
        let data = serde_json::to_value(&plan)
            .map_err(|error| StepError::refused("cannot write the plan down").because(error))?;
        Ok(Planned {
            data,
            text: plan.to_string(),
        })
    }

    fn apply(&self, plan: &Value, cx: &StepCx<'_>) -> Result<Outcome, StepError> {
        Step::apply(self, read_plan::<S>(plan)?, cx)
    }

    fn arguments(&self) -> Result<Value, StepError> {
        serde_json::to_value(self)
            .map_err(|error| StepError::refused("cannot write the arguments down").because(error))
    }
}

fn read_plan<S: Step>(plan: &Value) -> Result<S::Plan, StepError> {
    S::Plan::deserialize(plan).map_err(|error| {
        StepError::refused("cannot read the recorded plan")
            .because(error)
            .hint("an older agent recorded it; start the run again to plan the step anew")
    })
}

/// Why arguments don't fit a step type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ArgumentError {
    /// What is wrong.
    pub message: String,
    /// Where in the arguments, such as `volumes[1].size`.
    pub path: String,
}

/// An entry of the catalog.
#[derive(Debug)]
pub struct StepType {
    /// What it is called in documents.
    pub kind: &'static str,
    /// See [`Step::EXAMPLE`].
    pub example: &'static str,
    /// See [`Step::ON_RESTART`].
    pub on_restart: OnRestart,
    /// See [`Step::MAKES_STAGING`].
    pub makes_staging: bool,
    /// See [`Step::NEEDS`].
    pub needs: Option<Environment>,
    /// See [`Step::ENDS_RUN`].
    pub ends_run: bool,
    /// See [`Step::SETS_VARIABLES`].
    pub sets_variables: bool,
    /// See [`Step::WRITES_INTO_OS`].
    pub writes_into_os: bool,
    /// See [`Step::FITS_FACTORY`].
    pub fits_factory: bool,
    /// See [`Step::WIPES`].
    pub wipes: bool,
    /// See [`Step::OBSERVES`].
    pub observes: bool,
    parse: fn(&Value) -> Result<Box<dyn AnyStep>, ArgumentError>,
    schema: fn(&mut SchemaGenerator) -> Schema,
}

impl StepType {
    const fn of<S: Step>() -> Self {
        Self {
            kind: S::KIND,
            example: S::EXAMPLE,
            on_restart: S::ON_RESTART,
            makes_staging: S::MAKES_STAGING,
            needs: S::NEEDS,
            ends_run: S::ENDS_RUN,
            sets_variables: S::SETS_VARIABLES,
            writes_into_os: S::WRITES_INTO_OS,
            fits_factory: S::FITS_FACTORY,
            wipes: S::WIPES,
            observes: S::OBSERVES,
            parse: parse_arguments::<S>,
            schema: S::json_schema,
        }
    }

    /// Reads the arguments.
    ///
    /// # Errors
    /// They don't fit.
    pub fn parse(&self, with: &Value) -> Result<Box<dyn AnyStep>, ArgumentError> {
        (self.parse)(with)
    }

    /// The JSON Schema of the arguments.
    pub fn schema(&self, generator: &mut SchemaGenerator) -> Schema {
        (self.schema)(generator)
    }
}

fn parse_arguments<S: Step>(with: &Value) -> Result<Box<dyn AnyStep>, ArgumentError> {
    match serde_path_to_error::deserialize::<_, S>(with) {
        Ok(step) => Ok(Box::new(step)),
        Err(error) => Err(ArgumentError {
            path: error.path().to_string(),
            message: error.into_inner().to_string(),
        }),
    }
}

/// What becomes of `step` after a power cut: what the document says, otherwise what the step type does.
#[must_use]
pub fn on_restart(step: &CompiledStep, parsed: &dyn AnyStep) -> OnRestart {
    step.on_restart.unwrap_or_else(|| parsed.on_restart())
}

/// The secrets that a sequence asks for, each with the steps that do. A step that this release can't read asks for none here, and
/// does nothing on a device either.
#[must_use]
pub fn secrets_of(sequence: &CompiledSequence) -> BTreeMap<SecretName, Vec<StepPath>> {
    let mut uses: BTreeMap<SecretName, Vec<StepPath>> = BTreeMap::new();
    for step in &sequence.steps {
        for name in secrets_of_step(step) {
            uses.entry(name).or_default().push(step.path.clone());
        }
    }
    uses
}

/// The secrets that one step asks for.
pub(crate) fn secrets_of_step(step: &CompiledStep) -> Vec<SecretName> {
    let parsed = step_type(&step.kind).and_then(|kind| kind.parse(&step.with).ok());
    parsed.map(|parsed| parsed.secrets()).unwrap_or_default()
}

/// The step type of this kind.
#[must_use]
pub fn step_type(kind: &str) -> Option<&'static StepType> {
    CATALOG.iter().find(|step_type| step_type.kind == kind)
}

#[cfg(test)]
mod tests {
    use super::CATALOG;

    #[test]
    fn every_file_is_in_the_catalog() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/steps");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter_map(|name| name.strip_suffix(".rs").map(|stem| stem.replace('_', "-")))
            .collect();
        files.sort();
        let kinds: Vec<&str> = CATALOG.iter().map(|step_type| step_type.kind).collect();
        assert_eq!(kinds, files);
    }
}
