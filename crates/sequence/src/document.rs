//! The document people write: YAML, checked and compiled to the JSON that devices run. See `docs/formats/sequence.md`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use wire::admin_api::{Finding, Severity};
use wire::event::Environment;
use wire::names::{SequenceName, StepPath};
use wire::sequence::{CompiledSequence, CompiledStep, FORMAT, OnRestart, STEPS_MAX};

use crate::expression;
use crate::node::{self, Key, Node, Shape};
use crate::problem::{Code, Place, Problems, did_you_mean, finding};
use crate::scope;
use crate::size;
use crate::steps::{AnyStep, CATALOG, StepType, step_type};

/// Keys at the top of a document.
pub(crate) const DOCUMENT_KEYS: [&str; 4] = ["sequence", "description", "variables", "steps"];
/// Keys of every step, beside its kind.
pub(crate) const STEP_KEYS: [&str; 9] = [
    "id",
    "name",
    "when",
    "timeout",
    "attempts",
    "wait",
    "continue-on-error",
    "on-restart",
    "runs-in",
];
/// Keys of a group.
pub(crate) const GROUP_KEYS: [&str; 4] = ["id", "name", "when", "steps"];
/// How long an attempt may take if the document doesn't say: longer than any step takes on a healthy machine.
pub const TIMEOUT_SECONDS_DEFAULT: u64 = 3600;
/// A step that needs a day is stuck.
pub(crate) const TIMEOUT_SECONDS_MAX: u64 = 86_400;
/// More attempts than this only hide a fault.
pub(crate) const ATTEMPTS_MAX: u64 = 100;
/// Groups in groups in groups.
const GROUP_DEPTH_MAX: usize = 8;

/// A document that is fit to run, and what is worth a look in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Compiled {
    /// The sequence, as devices run it.
    pub sequence: CompiledSequence,
    /// Warnings, in order of place.
    pub findings: Vec<Finding>,
}

/// Checks a document and compiles it.
///
/// # Errors
/// All findings, warnings included, if at least one of them is an error.
pub fn compile(text: &str) -> Result<Compiled, Vec<Finding>> {
    let parsed = parse(text);
    let has_errors = parsed
        .findings
        .iter()
        .any(|finding| finding.severity == Severity::Error);
    match parsed.name {
        Some(name) if !has_errors => {
            let steps = parsed.steps.into_iter().map(|step| step.compiled).collect();
            let sequence = CompiledSequence {
                format: FORMAT,
                name,
                variables: parsed.variables,
                steps,
            };
            Ok(Compiled {
                sequence,
                findings: parsed.findings,
            })
        }
        _ => Err(parsed.findings),
    }
}

/// A document as far as it could be read.
#[derive(Default)]
pub(crate) struct Parsed {
    pub(crate) name: Option<SequenceName>,
    pub(crate) variables: BTreeMap<String, Value>,
    pub(crate) variable_places: BTreeMap<String, Place>,
    pub(crate) steps: Vec<ParsedStep>,
    pub(crate) findings: Vec<Finding>,
}

/// A step as far as it could be read.
pub(crate) struct ParsedStep {
    pub(crate) compiled: CompiledStep,
    pub(crate) step_type: &'static StepType,
    /// `None` if the arguments don't fit.
    pub(crate) step: Option<Box<dyn AnyStep>>,
    /// Where the kind stands.
    pub(crate) place: Place,
    /// The conditions with their places, of the groups too.
    pub(crate) when: Vec<(String, Place)>,
    /// The arguments.
    pub(crate) with: Node,
}

impl ParsedStep {
    /// What becomes of it after a power cut.
    pub(crate) fn on_restart(&self) -> OnRestart {
        let by_type = || {
            self.step
                .as_ref()
                .map_or(self.step_type.on_restart, |step| step.on_restart())
        };
        self.compiled.on_restart.unwrap_or_else(by_type)
    }
}

/// What a group hands down to its steps.
#[derive(Clone, Default)]
struct Group {
    path: Vec<String>,
    when: Vec<(String, Place)>,
}

/// Reads and checks all that the document alone can tell.
pub(crate) fn parse(text: &str) -> Parsed {
    let mut reader = Reader::default();
    match node::parse(text) {
        Ok(node) => reader.document(&node),
        Err((place, message)) => reader.error(Code::Yaml, place, message, None),
    }
    let mut parsed = reader.parsed;
    sort(&mut parsed.findings);
    parsed
}

/// Orders findings by place.
pub(crate) fn sort(findings: &mut [Finding]) {
    findings.sort_by(|left, right| {
        (left.line, left.column, &left.code).cmp(&(right.line, right.column, &right.code))
    });
}

/// Reads one value as a document would: only `true` and `false` are truth values, `no` is text.
///
/// # Errors
/// Why it can't be read.
pub fn parse_value(text: &str) -> Result<Value, String> {
    node::parse(text)
        .map(|node| node.value())
        .map_err(|(_, message)| message)
}

/// Whether a text can be the name of a variable.
#[must_use]
pub fn is_variable_name(text: &str) -> bool {
    let is_first = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    text.bytes().next().is_some_and(is_first)
        && text.len() <= 63
        && text
            .bytes()
            .all(|byte| is_first(byte) || byte.is_ascii_digit())
}

#[derive(Default)]
struct Reader {
    parsed: Parsed,
    paths: BTreeSet<String>,
}

type Entries = [(Key, Node)];

fn get<'n>(entries: &'n Entries, name: &str) -> Option<&'n Node> {
    entries
        .iter()
        .find(|(key, _)| key.text == name)
        .map(|(_, node)| node)
}

impl Reader {
    fn error(
        &mut self,
        code: Code,
        place: Place,
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        self.parsed
            .findings
            .push(finding(Severity::Error, code, place, message.into(), hint));
    }

    fn map<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n Entries> {
        if let Shape::Map(entries) = &node.shape {
            return Some(entries);
        }
        self.error(
            Code::Value,
            node.place,
            format!("{what} must be a map, not {}", node.kind()),
            None,
        );
        None
    }

    fn list<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n [Node]> {
        if let Shape::List(nodes) = &node.shape {
            return Some(nodes);
        }
        self.error(
            Code::Value,
            node.place,
            format!("{what} must be a list, not {}", node.kind()),
            None,
        );
        None
    }

    fn text<'n>(&mut self, entries: &'n Entries, name: &str) -> Option<(&'n str, Place)> {
        let node = get(entries, name)?;
        if let Some(text) = node.text() {
            return Some((text, node.place));
        }
        let hint = "put it in quotes".to_owned();
        self.error(
            Code::Value,
            node.place,
            format!("`{name}` must be text, not {}", node.kind()),
            Some(hint),
        );
        None
    }

    /// Filters and tests that don't exist: the engine would only find them on the device.
    fn words(&mut self, expression: &str, place: Place) {
        for unknown in expression::unknown_words(expression) {
            let known = unknown.known.iter().copied();
            let hint = did_you_mean(&unknown.word, known)
                .unwrap_or_else(|| format!("there are: {}", unknown.known.join(", ")));
            let message = format!("there is no {} `{}`", unknown.role, unknown.word);
            self.error(Code::Expression, place, message, Some(hint));
        }
    }

    fn unknown_key(&mut self, key: &Key, what: &str, known: &[&str]) {
        let message = format!("{what} has no key `{}`", key.text);
        let hint = did_you_mean(&key.text, known.iter().copied())
            .or_else(|| Some(format!("it has: {}", known.join(", "))));
        self.error(Code::UnknownKey, key.place, message, hint);
    }

    fn document(&mut self, node: &Node) {
        let Some(entries) = self.map(node, "a sequence document") else {
            return;
        };
        for (key, _) in entries
            .iter()
            .filter(|(key, _)| !DOCUMENT_KEYS.contains(&key.text.as_str()))
        {
            self.unknown_key(key, "a sequence document", &DOCUMENT_KEYS);
        }
        match self.text(entries, "sequence") {
            Some((text, place)) => match SequenceName::new(text) {
                Ok(name) => self.parsed.name = Some(name),
                Err(error) => self.error(Code::Name, place, error.to_string(), None),
            },
            None if get(entries, "sequence").is_none() => {
                let hint = "add `sequence: <name>` at the top".to_owned();
                self.error(
                    Code::MissingKey,
                    node.place,
                    "the document has no name",
                    Some(hint),
                );
            }
            None => {}
        }
        let _ = self.text(entries, "description");
        if let Some(variables) = get(entries, "variables") {
            self.variables(variables);
        }
        let Some(steps) = get(entries, "steps") else {
            let hint = "add `steps:` with a list".to_owned();
            return self.error(
                Code::MissingKey,
                node.place,
                "the document has no steps",
                Some(hint),
            );
        };
        self.steps(steps, &Group::default());
        if self.parsed.steps.len() > STEPS_MAX {
            self.error(
                Code::Size,
                steps.place,
                format!("a sequence has at most {STEPS_MAX} steps"),
                None,
            );
        } else if self.paths.is_empty() {
            self.error(
                Code::Size,
                steps.place,
                "a sequence has at least one step",
                None,
            );
        }
    }

    fn variables(&mut self, node: &Node) {
        let Some(entries) = self.map(node, "`variables`") else {
            return;
        };
        for (key, value) in entries {
            if !is_variable_name(&key.text) {
                let hint = "use small letters, digits and `_`, a letter first".to_owned();
                self.error(
                    Code::Name,
                    key.place,
                    format!("`{}` can't be the name of a variable", key.text),
                    Some(hint),
                );
            }
            if scope::FACT_NAMES.contains(&key.text.as_str()) || key.text == scope::OUTPUTS_NAME {
                let message = format!("`{}` is a fact, a variable can't have its name", key.text);
                self.error(
                    Code::Shadow,
                    key.place,
                    message,
                    Some("choose another name".to_owned()),
                );
            }
            let name = key.text.clone();
            self.parsed.variable_places.insert(name.clone(), key.place);
            self.parsed.variables.insert(name, value.value());
        }
    }

    fn steps(&mut self, node: &Node, group: &Group) {
        if group.path.len() > GROUP_DEPTH_MAX {
            let message = format!("groups are nested more than {GROUP_DEPTH_MAX} deep");
            return self.error(Code::Size, node.place, message, None);
        }
        for node in self.list(node, "`steps`").unwrap_or_default() {
            let Some(entries) = self.map(node, "a step") else {
                continue;
            };
            let Some(inner) = self.enter(node, entries, group) else {
                continue;
            };
            match get(entries, "steps") {
                Some(steps) => {
                    for (key, _) in entries
                        .iter()
                        .filter(|(key, _)| !GROUP_KEYS.contains(&key.text.as_str()))
                    {
                        self.unknown_key(key, "a group", &GROUP_KEYS);
                    }
                    let _ = self.text(entries, "name");
                    self.steps(steps, &inner);
                }
                None => self.step(node, entries, &inner),
            }
        }
    }

    /// Reads `id` and `when`, which steps and groups share.
    fn enter(&mut self, node: &Node, entries: &Entries, group: &Group) -> Option<Group> {
        let mut inner = group.clone();
        if let Some((condition, place)) = self.text(entries, "when") {
            if let Err(message) = expression::condition_names(condition) {
                self.error(
                    Code::Expression,
                    place,
                    format!("`when` can't be understood: {message}"),
                    None,
                );
            }
            self.words(condition, place);
            inner.when.push((condition.to_owned(), place));
        }
        let Some((id, place)) = self.text(entries, "id") else {
            if get(entries, "id").is_none() {
                let hint =
                    "add `id: <name>`; it is shown everywhere and must stay the same".to_owned();
                self.error(Code::MissingKey, node.place, "a step has no id", Some(hint));
            }
            return None;
        };
        if id.contains('/') || StepPath::new(id).is_err() {
            let hint = "use small letters, digits and - _ . +".to_owned();
            self.error(
                Code::Name,
                place,
                format!("{id:?} can't be an id"),
                Some(hint),
            );
            return None;
        }
        inner.path.push(id.to_owned());
        let path = inner.path.join("/");
        if !self.paths.insert(path.clone()) {
            self.error(
                Code::Duplicate,
                place,
                format!("the id `{path}` stands twice"),
                None,
            );
        }
        Some(inner)
    }

    fn step(&mut self, node: &Node, entries: &Entries, group: &Group) {
        let Some((key, with, step_type)) = self.kind(node, entries) else {
            return;
        };
        let path = group.path.join("/");
        let Ok(path) = StepPath::new(path) else {
            return self.error(
                Code::Size,
                node.place,
                "the ids of the groups are too long together",
                None,
            );
        };
        let title = self
            .text(entries, "name")
            .map_or_else(|| path.to_string(), |(name, _)| name.to_owned());
        let timeout_seconds = self.seconds(entries, "timeout", TIMEOUT_SECONDS_DEFAULT, 1);
        let attempts = self.number(entries, "attempts");
        let wait_seconds = self.seconds(entries, "wait", 0, 0);
        let continue_on_error = self.flag(entries, "continue-on-error");
        let on_restart = self.choice(
            entries,
            "on-restart",
            &[
                ("redo", OnRestart::Redo),
                ("verify", OnRestart::Verify),
                ("refuse", OnRestart::Refuse),
            ],
        );
        let runs_in = self.choice(
            entries,
            "runs-in",
            &[
                ("boot-image", Environment::BootImage),
                ("os", Environment::Os),
            ],
        );
        let step = self.arguments(&key.text, key.place, with, step_type);
        let arguments = step
            .as_ref()
            .and_then(|step| step.arguments().ok())
            .unwrap_or_else(|| argument_value(with));
        let compiled = CompiledStep {
            path,
            title,
            kind: key.text.clone(),
            when: group
                .when
                .iter()
                .map(|(condition, _)| condition.clone())
                .collect(),
            timeout_seconds,
            attempts,
            wait_seconds,
            continue_on_error,
            on_restart,
            runs_in,
            with: arguments,
        };
        let (place, when, with) = (key.place, group.when.clone(), with.clone());
        self.parsed.steps.push(ParsedStep {
            compiled,
            step_type,
            step,
            place,
            when,
            with,
        });
    }

    /// The one key that is a step type.
    fn kind<'n>(
        &mut self,
        node: &Node,
        entries: &'n Entries,
    ) -> Option<(&'n Key, &'n Node, &'static StepType)> {
        let kinds: Vec<&str> = CATALOG.iter().map(|step_type| step_type.kind).collect();
        let mut found = None;
        let mut is_known = true;
        for (key, with) in entries
            .iter()
            .filter(|(key, _)| !STEP_KEYS.contains(&key.text.as_str()))
        {
            let Some(step_type) = step_type(&key.text) else {
                let hint = did_you_mean(&key.text, STEP_KEYS.iter().chain(&kinds).copied());
                let message = format!("`{}` is neither a step type nor a key of a step", key.text);
                self.error(Code::Kind, key.place, message, hint);
                is_known = false;
                continue;
            };
            if found.is_some() {
                self.error(
                    Code::Kind,
                    key.place,
                    "a step has only one type",
                    Some("make it two steps".to_owned()),
                );
                return None;
            }
            found = Some((key, with, step_type));
        }
        if found.is_none() && is_known {
            let hint = format!("add one of: {}", kinds.join(", "));
            self.error(
                Code::Kind,
                node.place,
                "the step says nothing to do",
                Some(hint),
            );
        }
        found
    }

    fn arguments(
        &mut self,
        kind: &str,
        kind_place: Place,
        with: &Node,
        step_type: &StepType,
    ) -> Option<Box<dyn AnyStep>> {
        let step = match step_type.parse(&argument_value(with)) {
            Ok(step) => step,
            Err(error) => {
                let (code, place, message, hint) = explain(kind, with, &error.path, &error.message);
                let place = if place == Place::default() {
                    kind_place
                } else {
                    place
                };
                self.error(code, place, message, hint);
                return None;
            }
        };
        let mut problems = Problems::default();
        step.check(&mut problems);
        for (code, severity, message, hint) in problems.found {
            self.parsed
                .findings
                .push(finding(severity, code, kind_place, message, hint));
        }
        for template in step.templates() {
            if let Err(message) = expression::template_names(&template.0) {
                let place = with.place_of_text(&template.0).unwrap_or(kind_place);
                self.error(
                    Code::Expression,
                    place,
                    format!("the template can't be understood: {message}"),
                    None,
                );
            }
            for expression in expression::expressions(&template.0) {
                let place = with.place_of_text(&template.0).unwrap_or(kind_place);
                self.words(expression, place);
            }
        }
        if let (true, Shape::Map(entries)) = (step_type.sets_variables, &with.shape) {
            for (key, _) in entries
                .iter()
                .filter(|(key, _)| !is_variable_name(&key.text))
            {
                self.error(
                    Code::Name,
                    key.place,
                    format!("`{}` can't be the name of a variable", key.text),
                    None,
                );
            }
            for (key, _) in entries
                .iter()
                .filter(|(key, _)| scope::FACT_NAMES.contains(&key.text.as_str()))
            {
                self.error(
                    Code::Shadow,
                    key.place,
                    format!("`{}` is a fact and can't be set", key.text),
                    None,
                );
            }
        }
        Some(step)
    }

    fn seconds(&mut self, entries: &Entries, name: &str, default: u64, min: u64) -> u64 {
        let Some((text, place)) = self.text(entries, name) else {
            return default;
        };
        match size::parse_seconds(text) {
            Ok(seconds) if (min..=TIMEOUT_SECONDS_MAX).contains(&seconds) => seconds,
            Ok(_) => {
                self.error(
                    Code::Value,
                    place,
                    format!("`{name}` must be between {min}s and 24h"),
                    None,
                );
                default
            }
            Err(message) => {
                self.error(Code::Value, place, message, None);
                default
            }
        }
    }

    fn number(&mut self, entries: &Entries, name: &str) -> u32 {
        let Some(node) = get(entries, name) else {
            return 1;
        };
        let number = match &node.shape {
            Shape::Number(number) => number
                .as_u64()
                .filter(|number| (1..=ATTEMPTS_MAX).contains(number)),
            _ => None,
        };
        if let Some(number) = number.and_then(|number| u32::try_from(number).ok()) {
            return number;
        }
        self.error(
            Code::Value,
            node.place,
            format!("`{name}` must be a number between 1 and {ATTEMPTS_MAX}"),
            None,
        );
        1
    }

    /// One of a few words.
    fn choice<T: Copy>(
        &mut self,
        entries: &Entries,
        name: &str,
        choices: &[(&'static str, T)],
    ) -> Option<T> {
        let (text, place) = self.text(entries, name)?;
        let found = choices.iter().find(|(word, _)| *word == text);
        if found.is_none() {
            let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
            let hint = did_you_mean(text, words.iter().copied());
            let message = format!("`{name}` must be one of: {}", words.join(", "));
            self.error(Code::Value, place, message, hint);
        }
        found.map(|(_, value)| *value)
    }

    fn flag(&mut self, entries: &Entries, name: &str) -> bool {
        match get(entries, name).map(|node| (&node.shape, node.place)) {
            None => false,
            Some((Shape::Bool(value), _)) => *value,
            Some((_, place)) => {
                self.error(
                    Code::Value,
                    place,
                    format!("`{name}` must be true or false"),
                    None,
                );
                false
            }
        }
    }
}

/// `stage-content:` without anything after it means no arguments.
fn argument_value(with: &Node) -> Value {
    match with.value() {
        Value::Null => Value::Object(serde_json::Map::new()),
        value => value,
    }
}

/// Turns what the typed reader says into a finding at the right place.
fn explain(
    kind: &str,
    with: &Node,
    path: &str,
    message: &str,
) -> (Code, Place, String, Option<String>) {
    let quoted = |text: &str| -> Vec<String> {
        text.split('`')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect()
    };
    if message.starts_with("unknown field") {
        let words = quoted(message);
        let (name, known) = words
            .split_first()
            .map_or(("", &[][..]), |(name, known)| (name.as_str(), known));
        let hint = did_you_mean(name, known.iter().map(String::as_str))
            .or_else(|| (!known.is_empty()).then(|| format!("it has: {}", known.join(", "))));
        let place = with
            .place_of_key(name)
            .unwrap_or_else(|| with.place_of(path));
        return (
            Code::UnknownKey,
            place,
            format!("`{kind}` has no key `{name}` here"),
            hint,
        );
    }
    let place = with.place_of(path);
    if message.starts_with("missing field") {
        let name = quoted(message).into_iter().next().unwrap_or_default();
        return (
            Code::MissingKey,
            place,
            format!("`{kind}` needs `{name}`"),
            None,
        );
    }
    if message.starts_with("unknown variant") {
        let words = quoted(message);
        let (name, known) = words
            .split_first()
            .map_or(("", &[][..]), |(name, known)| (name.as_str(), known));
        let hint = did_you_mean(name, known.iter().map(String::as_str))
            .or_else(|| Some(format!("choose one of: {}", known.join(", "))));
        return (
            Code::Value,
            place,
            format!("`{name}` is not known here"),
            hint,
        );
    }
    let at = if path == "." {
        String::new()
    } else {
        format!(" in `{path}`")
    };
    (
        Code::Value,
        place,
        format!("`{kind}` can't be read{at}: {message}"),
        None,
    )
}
