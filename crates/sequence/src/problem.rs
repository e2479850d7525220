//! Mistakes in a document: where they are and what they are called.
//!
//! Codes are stable: people search for them and silence them. They are listed in `docs/formats/sequence.md`.

use wire::admin_api::{Finding, Severity};

/// What kind of mistake a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// Not YAML, or too large.
    Yaml,
    /// A key that isn't known.
    UnknownKey,
    /// A key that must be there.
    MissingKey,
    /// A value of the wrong type or form.
    Value,
    /// No step type, several, or an unknown one.
    Kind,
    /// A name or id that breaks its rule.
    Name,
    /// An id that stands twice.
    Duplicate,
    /// Too many steps, or groups nested too deep.
    Size,
    /// An expression or template that can't be parsed.
    Expression,
    /// A variable with the name of a fact.
    Shadow,
    /// A variable nobody sets.
    Undefined,
    /// A package that isn't published.
    Package,
    /// A package of the wrong kind for the step.
    PackageKind,
    /// A step before the staging partition exists that isn't safe to repeat.
    Order,
    /// No `finish` at the end, or steps after it.
    Finish,
    /// A step that can't work where the run is by then.
    Restart,
    /// A name that a host name can't hold.
    HostName,
    /// Something the step type itself finds wrong.
    Step,
    /// A step that can never run.
    Unreachable,
    /// A condition or template that asks for an output that is never there.
    Output,
    /// Machines that run this would not start, or lose what was done.
    Boot,
    /// A step that is tried again although it isn't safe to repeat, or may fail although nothing works without it.
    Attempts,
    /// A secret in clear text.
    Secret,
    /// Two drivers for one model, or none.
    Driver,
    /// An OS image or a layout larger than the disk.
    DiskSize,
    /// A secret that nobody has set.
    UnknownSecret,
}

impl Code {
    /// All codes.
    pub const ALL: [Self; 26] = [
        Self::Yaml,
        Self::UnknownKey,
        Self::MissingKey,
        Self::Value,
        Self::Kind,
        Self::Name,
        Self::Duplicate,
        Self::Size,
        Self::Expression,
        Self::Shadow,
        Self::Undefined,
        Self::Package,
        Self::PackageKind,
        Self::Order,
        Self::Finish,
        Self::Restart,
        Self::HostName,
        Self::Step,
        Self::Unreachable,
        Self::Output,
        Self::Boot,
        Self::Attempts,
        Self::Secret,
        Self::Driver,
        Self::DiskSize,
        Self::UnknownSecret,
    ];

    /// The stable text, such as `FS001`.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Yaml => "FS001",
            Self::UnknownKey => "FS002",
            Self::MissingKey => "FS003",
            Self::Value => "FS004",
            Self::Kind => "FS005",
            Self::Name => "FS006",
            Self::Duplicate => "FS007",
            Self::Size => "FS008",
            Self::Expression => "FS009",
            Self::Shadow => "FS010",
            Self::Undefined => "FS011",
            Self::Package => "FS012",
            Self::PackageKind => "FS013",
            Self::Order => "FS014",
            Self::Finish => "FS015",
            Self::Restart => "FS016",
            Self::HostName => "FS017",
            Self::Step => "FS018",
            Self::Unreachable => "FS019",
            Self::Output => "FS020",
            Self::Boot => "FS021",
            Self::Attempts => "FS022",
            Self::Secret => "FS023",
            Self::Driver => "FS024",
            Self::DiskSize => "FS025",
            Self::UnknownSecret => "FS027",
        }
    }
}

/// A place in a document; zeros if unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place {
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1.
    pub column: u32,
}

/// What a step type finds wrong with itself, without knowing where it stands.
#[derive(Debug, Default)]
pub struct Problems {
    pub(crate) found: Vec<(Code, Severity, String, Option<String>)>,
}

impl Problems {
    /// The document must not run like this.
    pub fn error(&mut self, code: Code, message: impl Into<String>, hint: &str) {
        self.push(code, Severity::Error, message.into(), hint);
    }

    /// Worth a look.
    pub fn warning(&mut self, code: Code, message: impl Into<String>, hint: &str) {
        self.push(code, Severity::Warning, message.into(), hint);
    }

    fn push(&mut self, code: Code, severity: Severity, message: String, hint: &str) {
        self.found.push((
            code,
            severity,
            message,
            Some(hint.to_owned()).filter(|hint| !hint.is_empty()),
        ));
    }
}

pub(crate) fn finding(
    severity: Severity,
    code: Code,
    place: Place,
    message: String,
    hint: Option<String>,
) -> Finding {
    Finding {
        severity,
        code: code.text().to_owned(),
        line: place.line,
        column: place.column,
        message,
        hint,
    }
}

/// The candidate most like `word`, if any is like enough: a hint for typing errors.
pub(crate) fn did_you_mean<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    /// Farther words are other words.
    const SIMILARITY_MIN: f64 = 0.6;
    candidates
        .into_iter()
        .map(|candidate| {
            (
                strsim::normalized_damerau_levenshtein(word, candidate),
                candidate,
            )
        })
        .filter(|(likeness, _)| *likeness >= SIMILARITY_MIN)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, candidate)| format!("did you mean `{candidate}`?"))
}
