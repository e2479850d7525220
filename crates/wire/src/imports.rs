//! Files that vendors send, from draft to undo. See `docs/formats/asset-file.md`.
//!
//! | request | answers |
//! | --- | --- |
//! | `POST /api/v1/imports?file=NAME&collection=NAME&sheet=N&profile=NAME` (body: the file) | [`ImportDraft`] |
//! | `GET /api/v1/imports` | [`ImportRow`]s, newest first |
//! | `GET /api/v1/imports/{id}?result=WORD&limit=N&offset=N` | [`ImportDraft`] |
//! | `POST /api/v1/imports/{id}/settings` with [`ImportSettings`] | [`ImportDraft`] |
//! | `POST /api/v1/imports/{id}/accept` with [`AcceptImport`] | [`ImportRow`] |
//! | `POST /api/v1/imports/{id}/discard` | [`ImportRow`] |
//! | `POST /api/v1/imports/{id}/undo` with [`UndoImport`] | [`UndoReport`] |
//! | `GET /api/v1/import-profiles` | [`ImportProfile`]s |
//! | `PUT /api/v1/import-profiles/{name}` with [`ImportProfile`] | [`ImportProfile`] |
//! | `POST /api/v1/import-profiles/{name}/remove` | [`ImportProfile`] |

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::reasons::{FileReason, KeptReason, RowReason};

/// Rows of a draft in one answer, if nothing else is asked for.
pub const IMPORT_ROWS_DEFAULT: usize = 100;
/// Rows of a draft in one answer at most.
pub const IMPORT_ROWS_MAX: usize = 20_000;

/// Where an import stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ImportState {
    /// Uploaded; nothing is changed yet.
    Draft,
    /// Its rows are in the fleet.
    Accepted,
    /// Thrown away as a draft.
    Discarded,
    /// Accepted, then taken back.
    Undone,
}

impl ImportState {
    /// The word that stands for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Accepted => "accepted",
            Self::Discarded => "discarded",
            Self::Undone => "undone",
        }
    }
}

/// What a row of a file does to the fleet.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum RowResult {
    /// A machine not known before.
    New,
    /// A known machine with other values.
    Changed,
    /// A known machine with the same values.
    Unchanged,
    /// Its serial number, UUID or asset tag belongs to another row or machine.
    Duplicate,
    /// It can't be imported.
    Invalid,
    /// A line of totals, passed over.
    Skipped,
}

impl RowResult {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::New,
        Self::Changed,
        Self::Unchanged,
        Self::Duplicate,
        Self::Invalid,
        Self::Skipped,
    ];

    /// The word that stands for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Changed => "changed",
            Self::Unchanged => "unchanged",
            Self::Duplicate => "duplicate",
            Self::Invalid => "invalid",
            Self::Skipped => "skipped",
        }
    }

    /// Whether the row can be imported.
    #[must_use]
    pub const fn is_valid(self) -> bool {
        matches!(self, Self::New | Self::Changed | Self::Unchanged)
    }
}

/// Rows by what they do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default)]
pub struct ImportCounts {
    /// Machines not known before.
    pub new: u32,
    /// Known machines with other values.
    pub changed: u32,
    /// Known machines with the same values.
    pub unchanged: u32,
    /// Rows that repeat another row or claim what another machine has.
    pub duplicate: u32,
    /// Rows that can't be imported.
    pub invalid: u32,
    /// Lines of totals.
    pub skipped: u32,
}

impl ImportCounts {
    /// The count of one kind.
    #[must_use]
    pub const fn of(&self, result: RowResult) -> u32 {
        match result {
            RowResult::New => self.new,
            RowResult::Changed => self.changed,
            RowResult::Unchanged => self.unchanged,
            RowResult::Duplicate => self.duplicate,
            RowResult::Invalid => self.invalid,
            RowResult::Skipped => self.skipped,
        }
    }

    /// Counts one more.
    pub const fn add(&mut self, result: RowResult) {
        match result {
            RowResult::New => self.new += 1,
            RowResult::Changed => self.changed += 1,
            RowResult::Unchanged => self.unchanged += 1,
            RowResult::Duplicate => self.duplicate += 1,
            RowResult::Invalid => self.invalid += 1,
            RowResult::Skipped => self.skipped += 1,
        }
    }

    /// Rows that stand in the way of accepting all.
    #[must_use]
    pub const fn refused(&self) -> u32 {
        self.duplicate + self.invalid
    }
}

/// How a draft is to be read and what it is to do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default)]
pub struct ImportSettings {
    /// Which sheet of a workbook, from 1; 0 is the first that has a column of serial numbers.
    pub sheet: u32,
    /// Column title to field: `serial`, `asset-tag`, `uuid`, `vendor`, `product`, `sku`, `baseboard`, `site`,
    /// `site-name`, `class`, `field:NAME` or `ignored`. Columns that aren't named are guessed.
    pub mapping: BTreeMap<String, String>,
    /// The profile to read it with; empty: the one that knows these titles, if any. `none` uses none.
    pub profile: String,
    /// The collection that the machines are put into; empty for none.
    pub collection: String,
}

/// An import in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ImportRow {
    /// Its number.
    pub import: i64,
    /// The file's name, as its sender said.
    pub file: String,
    /// The digest of its bytes.
    pub digest: String,
    /// How long it is.
    pub file_bytes: u64,
    /// Where it stands.
    pub state: ImportState,
    /// Its rows. Of a draft: as they were when it was last looked at.
    pub counts: ImportCounts,
    /// How it is read.
    pub settings: ImportSettings,
    /// Who uploaded it.
    pub uploaded_by: String,
    /// When.
    pub uploaded_at_ms: i64,
    /// Who accepted it.
    #[serde(default)]
    pub accepted_by: Option<String>,
    /// When.
    #[serde(default)]
    pub accepted_at_ms: Option<i64>,
    /// Who took it back.
    #[serde(default)]
    pub undone_by: Option<String>,
    /// When.
    #[serde(default)]
    pub undone_at_ms: Option<i64>,
}

/// A column of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ImportColumn {
    /// Its title.
    pub title: String,
    /// What it is taken for, as in [`ImportSettings::mapping`].
    pub field: String,
    /// Whether a person or a profile said so; otherwise it is a guess.
    pub told: bool,
    /// Some of its values.
    pub samples: Vec<String>,
}

/// A value that an import changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct FieldChange {
    /// The field.
    pub field: String,
    /// What it was.
    pub old: String,
    /// What it becomes.
    pub new: String,
}

/// A row of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ImportLine {
    /// The line in the file, from 1.
    pub line: u64,
    /// The serial number, as far as it could be read.
    pub serial: String,
    /// What it does.
    pub result: RowResult,
    /// What changes, for `changed`; what is set, for `new`.
    #[serde(default)]
    pub changes: Vec<FieldChange>,
    /// What is wrong, for `invalid` and `duplicate`.
    #[serde(default)]
    pub problems: Vec<String>,
    /// The same, each with its code and what it is about.
    #[serde(default)]
    pub said: Vec<RowReason>,
    /// The machine, once there is one.
    #[serde(default)]
    pub device: Option<String>,
}

/// A draft: what a file would do. After it was accepted: what it did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ImportDraft {
    /// The import.
    pub import: ImportRow,
    /// How the file is written, in words.
    pub form: String,
    /// The workbook's sheets; one nameless for CSV.
    pub sheets: Vec<String>,
    /// The sheet that is read, from 1.
    pub sheet: u32,
    /// The line of the titles.
    pub title_line: u64,
    /// The profile it was read with.
    #[serde(default)]
    pub profile: Option<String>,
    /// Its columns.
    pub columns: Vec<ImportColumn>,
    /// Why nothing can be imported, whatever the rows say.
    #[serde(default)]
    pub problems: Vec<String>,
    /// The same, each with its code and what it is about.
    #[serde(default)]
    pub said: Vec<FileReason>,
    /// Imports of the very same file that were accepted and not undone.
    #[serde(default)]
    pub same_as: Vec<i64>,
    /// Stands for what accepting would do; see [`AcceptImport::seen`].
    #[serde(default)]
    pub plan: String,
    /// Names of models in the file that no machine, no prestage and nobody before has used; nothing while no model is known.
    #[serde(default)]
    pub unknown_models: Vec<UnknownModel>,
    /// Rows that match the query, in all.
    pub rows_total: u32,
    /// The rows asked for.
    pub rows: Vec<ImportLine>,
    /// What taking it back did, once it is taken back.
    #[serde(default)]
    pub undone: Option<UndoReport>,
}

/// The name of a model that is known by no other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default)]
pub struct UnknownModel {
    /// As the file says it.
    pub product: String,
    /// How many rows say it.
    pub rows: u32,
}

/// Accepts a draft.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default)]
pub struct AcceptImport {
    /// Leave out rows that are invalid or duplicates. Otherwise one of them refuses all.
    pub valid_rows_only: bool,
    /// The [`ImportDraft::plan`] that was looked at: if the fleet has changed so that the import would do something
    /// else, nothing is done. Empty: do what it does now.
    pub seen: String,
}

/// Takes an accepted import back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default)]
pub struct UndoImport {
    /// Take back rows that were changed since, too. Machines that have checked in stay even so.
    pub force: bool,
    /// Only say what would happen.
    pub dry_run: bool,
}

/// What an undo did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default)]
pub struct UndoReport {
    /// Whether it only says what would happen.
    pub dry_run: bool,
    /// Machines that are gone again.
    pub deleted: u32,
    /// Machines that have their old values again.
    pub restored: u32,
    /// Rows that had changed nothing.
    pub unchanged: u32,
    /// Rows that stay, and why.
    pub kept: Vec<KeptRow>,
}

/// A row that an undo leaves alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct KeptRow {
    /// The line in the file.
    pub line: u64,
    /// The serial number.
    pub serial: String,
    /// Why.
    pub why: String,
    /// The same with its code and what it is about.
    #[serde(default)]
    pub said: Option<KeptReason>,
}

/// How the files of one vendor are read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default)]
pub struct ImportProfile {
    /// Its name: small letters, digits and - _ . +
    pub name: String,
    /// The titles by which such a file is recognised, all of them.
    pub titles: Vec<String>,
    /// Column title to field, as in [`ImportSettings::mapping`].
    pub mapping: BTreeMap<String, String>,
    /// Who saved it.
    pub updated_by: String,
    /// When.
    pub updated_at_ms: i64,
}
