//! `forestage sequence`: the programs that run on devices.

use camino::{Utf8Path, Utf8PathBuf};
use clap::{Args, Subcommand};
use wire::admin_api::{Finding, SequenceRow, Severity};
use wire::names::SequenceName;

use crate::api::{self, SEQUENCE_BYTES_MAX};
use crate::commands::sequence_plan;
use crate::failure::{Failure, Outcome, Trying};
use crate::output::{Look, Output, Table, clean, count, moment, print};
use crate::settings::{connect, read_text};

/// The programs that run on devices.
#[derive(Debug, Subcommand)]
pub(crate) enum Sequence {
    /// Check a sequence file: every mistake with its place and what to do
    ///
    /// Without `--offline` it is also checked against the packages published on the server and the models of the
    /// machines it knows. Exit code 1 if there is an error; warnings alone are no failure. Every code is explained in
    /// docs/formats/sequence.md.
    #[command(after_help = "Example:\n  forestage sequence lint pupil-laptop.yaml --offline")]
    Lint(Lint),
    /// Check a sequence file and store it on the server
    ///
    /// A sequence that changed becomes a new version; the others stay for the runs that use them.
    #[command(after_help = "Example:\n  forestage sequence put pupil-laptop.yaml")]
    Put {
        /// The file
        file: Utf8PathBuf,
    },
    /// List all sequences
    #[command(after_help = "Example:\n  forestage sequence list")]
    List,
    /// Show a sequence as it was put
    #[command(after_help = "Example:\n  forestage sequence show pupil-laptop > pupil-laptop.yaml")]
    Show {
        /// The sequence
        name: SequenceName,
    },
    /// Show how a run would go on known assets, before a machine is touched
    ///
    /// Every step is decided and planned with what is known of the asset, by the code that runs on the machine; what
    /// isn't known yet is said, and until when. Nothing is changed. With --asset all steps, variables and packages are
    /// shown; with --collection or --all one line per asset. Exit code 1 if a run would fail, or if two of the assets
    /// would get the same host name.
    #[command(
        after_help = "Example:\n  forestage sequence plan --asset PF3ABC12\n  forestage sequence plan pupil-laptop --collection pupils-2026"
    )]
    Plan(sequence_plan::Plan),
    /// Print the JSON Schema of sequence files, for editors
    #[command(after_help = "Example:\n  forestage sequence schema > sequence.schema.json")]
    Schema,
}

/// `sequence lint`
#[derive(Debug, Args)]
pub(crate) struct Lint {
    /// The file
    file: Utf8PathBuf,
    /// Ask no server: check only what the file alone can tell
    #[arg(long)]
    offline: bool,
}

/// Does what was asked.
pub(crate) fn run(command: &Sequence, output: &Output) -> Outcome<()> {
    match command {
        Sequence::Lint(lint) => run_lint(lint, output),
        Sequence::Put { file } => run_put(file, output),
        Sequence::List => {
            let rows = connect()?
                .sequences()
                .trying(|| "cannot list sequences".into())?;
            output.answer(&rows, |look| render_list(&rows, look))
        }
        Sequence::Show { name } => {
            let bytes = api::sequence_source(&connect()?, name)
                .trying(|| format!("cannot get the sequence {name}"))?;
            let yaml = String::from_utf8(bytes)
                .trying(|| format!("the sequence {name} is not UTF-8 text"))?;
            output.answer(&yaml, |_| yaml.clone())
        }
        Sequence::Plan(plan) => sequence_plan::run(plan, output),
        Sequence::Schema => {
            let schema = serde_json::to_string_pretty(&sequence::schema::schema())
                .trying(|| "cannot write the schema as JSON".into())?;
            print(&format!("{schema}\n"))
        }
    }
}

fn run_lint(lint: &Lint, output: &Output) -> Outcome<()> {
    let text = read_text(&lint.file, SEQUENCE_BYTES_MAX)?;
    let findings = if lint.offline {
        match sequence::document::compile(&text) {
            Ok(compiled) => compiled.findings,
            Err(findings) => findings,
        }
    } else {
        connect()?
            .lint_sequence(&text)
            .trying(|| format!("cannot have {} checked", lint.file))?
    };
    output.answer(&findings, |look| {
        render_findings(&lint.file, &findings, look)
    })?;
    refuse_errors(&lint.file, &findings)
}

fn run_put(file: &Utf8Path, output: &Output) -> Outcome<()> {
    let text = read_text(file, SEQUENCE_BYTES_MAX)?;
    let client = connect()?;
    let findings = client
        .lint_sequence(&text)
        .trying(|| format!("cannot have {file} checked"))?;
    if refuse_errors(file, &findings).is_err() {
        output.answer(&findings, |look| render_findings(file, &findings, look))?;
        return refuse_errors(file, &findings);
    }
    let compiled = sequence::document::compile(&text);
    let compiled = compiled.map_err(|_| Failure::new(format!("{file} has errors")))?;
    let name = compiled.sequence.name;
    let row = client
        .put_sequence(&name, &text)
        .trying(|| format!("cannot put the sequence {name}"))?;
    output.answer(&row, |look| {
        let warnings = if row.findings.is_empty() {
            String::new()
        } else {
            render_findings(file, &row.findings, look)
        };
        let steps = count(row.steps as usize, "step");
        format!(
            "{warnings}sequence {} version {}: {steps}\n",
            row.name, row.version
        )
    })
}

pub(crate) fn refuse_errors(file: &Utf8Path, findings: &[Finding]) -> Outcome<()> {
    match findings
        .iter()
        .filter(|finding| finding.severity == Severity::Error)
        .count()
    {
        0 => Ok(()),
        errors => Err(Failure::new(format!(
            "{file} has {}",
            count(errors, "error")
        ))),
    }
}

/// `file:line:column: error[code]: message`, as editors and terminals know it.
pub(crate) fn render_findings(file: &Utf8Path, findings: &[Finding], look: &Look) -> String {
    let mut text = String::new();
    for finding in findings {
        let place = match (finding.line, finding.column) {
            (0, _) => file.to_string(),
            (line, 0) => format!("{file}:{line}"),
            (line, column) => format!("{file}:{line}:{column}"),
        };
        let severity = match finding.severity {
            Severity::Error => look.paint.bad("error"),
            Severity::Warning => look.paint.warn("warning"),
        };
        text.push_str(&format!(
            "{}: {severity}[{}]: {}\n",
            look.paint.bold(&clean(&place)),
            clean(&finding.code),
            clean(&finding.message)
        ));
        if let Some(hint) = &finding.hint {
            text.push_str(&format!("  hint: {}\n", clean(hint)));
        }
    }
    if findings.is_empty() {
        text = format!("{file}: nothing to complain about\n");
    }
    text
}

fn render_list(rows: &[SequenceRow], look: &Look) -> String {
    let mut table = Table::new(&["name", ">version", ">steps", ">warnings", "changed"]);
    for row in rows {
        table.row([
            row.name.to_string(),
            row.version.to_string(),
            row.steps.to_string(),
            row.findings.len().to_string(),
            moment(row.updated_at_ms),
        ]);
    }
    if table.is_empty() {
        "no sequences yet\n".into()
    } else {
        table.render(look, "")
    }
}

#[cfg(test)]
mod tests {
    use super::render_findings;
    use crate::output::{Look, Paint};
    use wire::admin_api::{Finding, Severity};

    #[test]
    fn findings_have_place_code_and_hint() {
        let finding = |severity, line, column, hint: Option<&str>| Finding {
            severity,
            code: "FS012".into(),
            line,
            column,
            message: "unknown step type `format-dsik`".into(),
            hint: hint.map(Into::into),
        };
        let findings = [
            finding(Severity::Error, 7, 5, Some("did you mean `format-disk`?")),
            finding(Severity::Warning, 0, 0, None),
        ];
        let look = Look {
            paint: Paint::NONE,
            width: 110,
        };
        assert_eq!(
            render_findings("a.yaml".into(), &findings, &look),
            "a.yaml:7:5: error[FS012]: unknown step type `format-dsik`\n  hint: did you mean `format-disk`?\n\
             a.yaml: warning[FS012]: unknown step type `format-dsik`\n"
        );
        assert_eq!(
            render_findings("a.yaml".into(), &[], &look),
            "a.yaml: nothing to complain about\n"
        );
    }
}
