//! What was ordered against what the factory's sticks say. See `docs/formats/reconciliation.md`.
//!
//! | request | answers |
//! | --- | --- |
//! | `GET /api/v1/imports/{id}/reconciliation?state=WORD&oldest=NAME@N&limit=N&offset=N` | [`Reconciliation`] |
//! | `GET /api/v1/imports/{id}/reconciliation.csv?state=WORD&oldest=NAME@N` | a CSV for the vendor |
//! | `POST /api/v1/receipts/reconcile` with [`ReconcileSerials`] | [`Reconciliation`] |
//!
//! A receipt is a claim of whoever had the stick in hand. Nothing here changes what a machine is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::drift::PrestageId;
use crate::names::DeviceId;
use crate::package::Model;
use crate::reasons::ReconciledReason;
use crate::receipt::ReceiptResult;

/// Rows in one answer, if nothing else is asked for.
pub const RECONCILED_ROWS_DEFAULT: usize = 100;
/// Rows in one answer at most.
pub const RECONCILED_ROWS_MAX: usize = 100_000;
/// Serial numbers that can be asked about at once: more than the largest order.
pub const RECONCILED_SERIALS_MAX: usize = 50_000;
/// The word for every row that isn't as ordered.
pub const DIFFERING: &str = "differing";

/// How a machine compares with its order, by what the stick says.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum ReconciledState {
    /// Ordered, and staged as ordered.
    Staged,
    /// Ordered, and no stick knows it.
    Missing,
    /// Ordered, and its last receipt says that staging failed.
    Failed,
    /// Ordered as another model than the stick met.
    WrongModel,
    /// Staged from a bundle that isn't the one for its model.
    WrongBundle,
    /// Staged as ordered, more than once.
    StagedTwice,
    /// On a stick, and nobody ordered it.
    Unexpected,
}

impl ReconciledState {
    /// All of them, in the order in which people ask.
    pub const ALL: [Self; 7] = [
        Self::Staged,
        Self::Missing,
        Self::Failed,
        Self::WrongModel,
        Self::WrongBundle,
        Self::StagedTwice,
        Self::Unexpected,
    ];

    /// The word that stands for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Staged => "staged",
            Self::Missing => "missing",
            Self::Failed => "failed",
            Self::WrongModel => "wrong-model",
            Self::WrongBundle => "wrong-bundle",
            Self::StagedTwice => "staged-twice",
            Self::Unexpected => "unexpected",
        }
    }
}

/// Which rows are asked for: of one state, all that differ from the order, or all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ReconciledFilter {
    /// All.
    #[default]
    All,
    /// All but those that are staged as ordered.
    Differing,
    /// Those of one state.
    State(ReconciledState),
}

impl ReconciledFilter {
    /// Whether a row is asked for.
    #[must_use]
    pub fn wants(self, state: ReconciledState) -> bool {
        match self {
            Self::All => true,
            Self::Differing => state != ReconciledState::Staged,
            Self::State(wanted) => wanted == state,
        }
    }

    /// As it stands in a query.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::All => "",
            Self::Differing => DIFFERING,
            Self::State(state) => state.word(),
        }
    }
}

impl std::str::FromStr for ReconciledFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" => Ok(Self::All),
            DIFFERING => Ok(Self::Differing),
            word => {
                let state = ReconciledState::ALL.into_iter().find(|s| s.word() == word);
                state.map(Self::State).ok_or_else(|| {
                    format!(
                        "{word:?} is none of differing, staged, missing, failed, wrong-model, wrong-bundle, \
                         staged-twice and unexpected"
                    )
                })
            }
        }
    }
}

/// Machines by how they compare with the order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default)]
pub struct ReconciledCounts {
    /// Staged as ordered.
    pub staged: u32,
    /// No stick knows them.
    pub missing: u32,
    /// Their last receipt says that staging failed.
    pub failed: u32,
    /// Another model than ordered.
    pub wrong_model: u32,
    /// Another bundle than the one for their model.
    pub wrong_bundle: u32,
    /// Staged more than once.
    pub staged_twice: u32,
    /// Nobody ordered them.
    pub unexpected: u32,
}

impl ReconciledCounts {
    /// The count of one state.
    #[must_use]
    pub const fn of(&self, state: ReconciledState) -> u32 {
        match state {
            ReconciledState::Staged => self.staged,
            ReconciledState::Missing => self.missing,
            ReconciledState::Failed => self.failed,
            ReconciledState::WrongModel => self.wrong_model,
            ReconciledState::WrongBundle => self.wrong_bundle,
            ReconciledState::StagedTwice => self.staged_twice,
            ReconciledState::Unexpected => self.unexpected,
        }
    }

    /// Counts one more.
    pub const fn add(&mut self, state: ReconciledState) {
        let count = match state {
            ReconciledState::Staged => &mut self.staged,
            ReconciledState::Missing => &mut self.missing,
            ReconciledState::Failed => &mut self.failed,
            ReconciledState::WrongModel => &mut self.wrong_model,
            ReconciledState::WrongBundle => &mut self.wrong_bundle,
            ReconciledState::StagedTwice => &mut self.staged_twice,
            ReconciledState::Unexpected => &mut self.unexpected,
        };
        *count += 1;
    }

    /// All that isn't as ordered.
    #[must_use]
    pub const fn differing(&self) -> u32 {
        self.missing
            + self.failed
            + self.wrong_model
            + self.wrong_bundle
            + self.staged_twice
            + self.unexpected
    }
}

/// What the last receipt of a machine says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct StickClaim {
    /// How staging ended.
    pub result: ReceiptResult,
    /// The model that the firmware named.
    pub model: Model,
    /// What it was staged from.
    #[serde(default)]
    pub prestage: Option<PrestageId>,
    /// The serial number of its disk.
    pub disk_serial: String,
    /// The error chain, outermost first, if it failed.
    #[serde(default)]
    pub errors: Vec<String>,
    /// When the server got the receipt.
    pub received_at_ms: i64,
    /// How many receipts of this serial number there are.
    pub receipts: u32,
}

/// One machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ReconciledRow {
    /// The line in the vendor's file, from 1; `None` if it doesn't stand there.
    #[serde(default)]
    pub line: Option<u64>,
    /// The serial number.
    pub serial: String,
    /// The asset tag; empty if there is none.
    pub asset_tag: String,
    /// The model that was ordered; empty texts if the order doesn't say.
    pub ordered: Model,
    /// The site it is for.
    pub site: String,
    /// The gravest finding.
    pub state: ReconciledState,
    /// All that is wrong, in words.
    #[serde(default)]
    pub why: Vec<String>,
    /// The same, each with its code and what it is about.
    #[serde(default)]
    pub said: Vec<ReconciledReason>,
    /// What the stick says, if it says anything.
    #[serde(default)]
    pub claim: Option<StickClaim>,
    /// The machine, if it is known.
    #[serde(default)]
    pub device: Option<DeviceId>,
}

/// An order against the receipts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Reconciliation {
    /// The import that is the order; `None` for a list of serial numbers.
    #[serde(default)]
    pub import: Option<i64>,
    /// The vendor's file.
    #[serde(default)]
    pub file: Option<String>,
    /// Machines of the order.
    pub ordered: u32,
    /// Rows of the file that were left out when it was accepted: they are no part of the order.
    pub left_out: u32,
    /// All machines by state, whatever rows are asked for.
    pub counts: ReconciledCounts,
    /// Rows that match the query, in all.
    pub rows_total: u32,
    /// The rows asked for, in the order of the file; what nobody ordered comes last.
    pub rows: Vec<ReconciledRow>,
}

/// Asks about a list of serial numbers instead of an import.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default)]
pub struct ReconcileSerials {
    /// What was ordered.
    pub serials: Vec<String>,
    /// The oldest versions of prestages that are as good as the newest, such as `book-14@3`.
    pub oldest: Vec<String>,
    /// Which rows: a state, `differing`, or empty for all.
    pub state: String,
}
