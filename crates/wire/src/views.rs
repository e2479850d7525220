//! Saved views: a name for what the overview shows. `GET /api/v1/views`

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A longer name doesn't fit beside the others.
pub const VIEW_NAME_CHARS_MAX: usize = 60;

/// A name for a query of the overview.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct SavedView {
    /// The name.
    pub name: String,
    /// The query as it stands in the overview's address, without the `?`: filters, search, order, hidden columns.
    pub query: String,
    /// Whether everybody has it. Whoever opens it sees what they may see, and no more.
    pub shared: bool,
    /// When it was saved.
    pub saved_at_ms: i64,
}

/// What a view is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ViewChange {
    /// The query; what no overview understands is left out.
    pub query: String,
    /// Whether everybody is to have it; only administrators share.
    #[serde(default)]
    pub shared: bool,
}
