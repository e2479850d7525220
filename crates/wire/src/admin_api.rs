//! The admin API, version 1: what the CLI and other programs send and get. See `docs/formats/admin-api.md`.
//!
//! Every route but `POST /api/v1/login` and `GET /api/v1/trust` needs `Authorization: Bearer <token>` or a session
//! cookie. Times are milliseconds since 1970.

use serde::{Deserialize, Serialize};

use crate::assets::{AssetState, OutOfUse};
use crate::deployments::Window;
use crate::digest::Digest;
use crate::drift::PrestageId;
use crate::event::{ContentBytes, StepOutcome};
use crate::keys::SignedBy;
use crate::names::{
    CollectionName, DeploymentName, DeviceId, KeyName, PackageName, PackageVersion, PrestageName,
    RunId, SequenceName, StepPath,
};
use crate::package::{Model, Package, PackageKind};
use crate::reasons::{AsideReason, CarryReason, Evidence, MachineReason};
use crate::secrets::ReleaseRow;

/// `POST /api/v1/login`
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Login {
    /// The user.
    pub user: String,
    /// The password.
    pub password: String,
    /// What the token is for, shown in the list of tokens.
    #[serde(default)]
    pub token_name: String,
    /// The password to use from now on. Needed with a one-time password (else the answer is 403,
    /// `new-password-needed`), welcome at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_password: Option<String>,
}

/// The answer to [`Login`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Token {
    /// The API token; shown once, stored as a digest only.
    pub token: String,
}

/// `POST /api/v1/content/missing`: which of these chunks does the server lack? Also the reply, with those it lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct DigestList {
    /// At most [`DIGESTS_MAX`].
    pub digests: Vec<Digest>,
}

/// Digests in one [`DigestList`].
pub const DIGESTS_MAX: usize = 20_000;

/// `GET /api/v1/packages`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct PackageRow {
    /// The package.
    pub package: Package,
    /// When it was published.
    pub published_at_ms: i64,
    /// Whether it is the version that new orders and prestages use.
    pub current: bool,
}

/// A finding of the lint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Finding {
    /// `error` or `warning`.
    pub severity: Severity,
    /// A stable code, such as `FS012`.
    pub code: String,
    /// The line, from 1; 0 if it has no place.
    pub line: u32,
    /// The column, from 1; 0 if it has no place.
    pub column: u32,
    /// What is wrong.
    pub message: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// How bad a finding is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Worth a look.
    Warning,
    /// The document is refused.
    Error,
}

/// `PUT /api/v1/sequences/{name}` (body: the YAML) and `GET /api/v1/sequences`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct SequenceRow {
    /// The name.
    pub name: SequenceName,
    /// Its version, from 1; every accepted change makes a new one.
    pub version: u32,
    /// How many steps it has.
    pub steps: u32,
    /// When this version was accepted.
    pub updated_at_ms: i64,
    /// Warnings of the lint.
    #[serde(default)]
    pub findings: Vec<Finding>,
}

/// Status 422 of `PUT /api/v1/sequences/{name}`: reads as an [`crate::device_api::ApiError`] too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct SequenceRefused {
    /// `sequence-refused`.
    pub code: String,
    /// How many errors there are.
    pub message: String,
    /// What to do, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// What is wrong, and where.
    pub findings: Vec<Finding>,
}

/// `PUT /api/v1/prestages/{name}`: defines one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct PrestageDefinition {
    /// The sequence it is derived from.
    pub sequence: SequenceName,
    /// The factory sequence, if it isn't to be derived from `sequence`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<SequenceName>,
    /// The model it is for.
    pub model: Model,
    /// Packages to carry although no step asks for them.
    #[serde(default)]
    pub extra: Vec<PackageName>,
    /// Packages to leave out although a step may ask for them.
    #[serde(default)]
    pub omit: Vec<PackageName>,
}

/// `GET /api/v1/packages/{name}/uses`: where a package is used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct PackageUses {
    /// Steps of the latest versions of sequences that name it.
    pub steps: Vec<StepUse>,
    /// The latest version of each prestage that carries it, of those that the caller may see.
    pub prestages: Vec<PrestageId>,
    /// Deployments of those sequences.
    pub deployments: Vec<Deployment>,
}

/// A step that names a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct StepUse {
    /// The sequence.
    pub sequence: SequenceName,
    /// The step.
    pub step: StepPath,
}

/// `GET /api/v1/prestages/{name}/plan`: what would be in the bundle, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct PrestagePlan {
    /// The prestage.
    pub prestage: PrestageName,
    /// The model.
    pub model: Model,
    /// What is in.
    pub kept: Vec<PlanItem>,
    /// What is left out.
    pub omitted: Vec<PlanItem>,
}

/// One line of a [`PrestagePlan`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct PlanItem {
    /// The package.
    pub name: PackageName,
    /// Its version.
    pub version: PackageVersion,
    /// Its kind.
    pub kind: PackageKind,
    /// Its content in bytes, before compression.
    pub content_bytes: u64,
    /// Why it is in or out, in words, such as "step `apps/java` may run: `class` is not known yet".
    pub reason: String,
    /// The same with its code and what it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said: Option<CarryReason>,
}

/// `POST /api/v1/prestages/{name}/build` answers this when the bundle is there; `GET /api/v1/prestages` lists them.
/// The bundle itself: `GET /api/v1/prestages/{name}/versions/{version}/bundle`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct PrestageVersion {
    /// The prestage.
    pub prestage: PrestageName,
    /// The version, from 1.
    pub version: u32,
    /// The model it is for.
    pub model: Model,
    /// The digest of the signed root.
    pub bundle: Digest,
    /// The length of the bundle in bytes.
    pub bundle_bytes: u64,
    /// The content in bytes, before compression.
    pub content_bytes: u64,
    /// When it was built.
    pub built_at_ms: i64,
    /// The plan it was built from.
    pub plan: PrestagePlan,
    /// Who has signed it, or is to.
    #[serde(default)]
    pub signed: SignedBy,
}

/// `POST /api/v1/assets/import?collection=NAME&dry-run=BOOL` (body: the CSV) answers this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct AssetImportReport {
    /// Whether anything was stored.
    pub dry_run: bool,
    /// What the columns were taken for: column title to field, in file order.
    pub columns: Vec<(String, String)>,
    /// Every row of the file.
    pub rows: Vec<AssetImportRow>,
    /// Rows that were (or would be) new.
    pub new: u32,
    /// Rows that changed a known asset.
    pub changed: u32,
    /// Rows that said nothing new.
    pub unchanged: u32,
    /// Rows that were refused. If there is one, nothing is stored.
    pub invalid: u32,
}

/// One row of an [`AssetImportReport`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct AssetImportRow {
    /// The line in the file, from 1.
    pub line: u64,
    /// The serial number, as far as it could be read.
    pub serial: String,
    /// `new`, `changed`, `unchanged` or `invalid`.
    pub result: String,
    /// What is wrong, for `invalid`.
    #[serde(default)]
    pub problems: Vec<String>,
}

/// `PUT /api/v1/collections/{name}`: makes a collection, or changes what is said of it; the rest stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct CollectionChange {
    /// The name, as in the path.
    pub name: CollectionName,
    /// One line for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
}

/// `GET /api/v1/collections`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct CollectionRow {
    /// The name.
    pub name: CollectionName,
    /// One line for people.
    #[serde(default)]
    pub title: String,
    /// How many devices are in it.
    #[serde(default)]
    pub members: u32,
}

/// `POST /api/v1/collections/{name}/members`; `GET` of the same lists [`DeviceRow`]s.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", default)]
pub struct MemberChange {
    /// Devices to put in.
    pub add: Vec<DeviceId>,
    /// Devices to take out.
    pub remove: Vec<DeviceId>,
}

/// `GET /api/v1/audit`: who did what, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct AuditRow {
    /// Its place in the chain, from 1.
    #[serde(default)]
    pub number: u64,
    /// When.
    pub at_ms: i64,
    /// The user, or `device` or `server`.
    pub who: String,
    /// What was done, a stable word such as `package-published`.
    pub action: String,
    /// To what.
    pub subject: String,
    /// More, in words.
    #[serde(default)]
    pub detail: String,
    /// From where it was asked for: an IP address; empty if nobody asked, or if an older release wrote the row.
    #[serde(default)]
    pub address: String,
    /// The digest of the row before and of this one; see [`crate::audit`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
}

/// `GET /api/v1/receipts`: newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ReceiptRow {
    /// The receipt.
    pub receipt: crate::receipt::Receipt,
    /// When the server got it.
    pub received_at_ms: i64,
    /// The device it belongs to, if its serial number is known.
    #[serde(default)]
    pub device: Option<DeviceId>,
}

/// `PUT /api/v1/deployments/{name}` creates, with `?change=true` changes; `GET /api/v1/deployments` lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Deployment {
    /// The name.
    pub name: DeploymentName,
    /// Which devices.
    pub collection: CollectionName,
    /// What they run.
    pub sequence: SequenceName,
    /// `required` or `available`.
    pub purpose: Purpose,
    /// How long a run is expected to take, in seconds; 0 or left out: as the sites say, or as earlier runs took.
    #[serde(default)]
    pub expected_seconds: u64,
    /// Whether a device leaves the collection when its run is done.
    #[serde(default = "yes")]
    pub leave_collection_on_success: bool,
    /// How many devices it may ever touch; beyond that it stops and asks.
    pub cap: u32,
    /// Whether it is stopped. A change leaves it as it is: `…/stop` and `…/resume` stop and resume.
    #[serde(default)]
    pub stopped: bool,
    /// How many machines run it at a time, over all sites; 0 for no limit. Sites have a limit of their own.
    #[serde(default)]
    pub slots: u32,
    /// When machines may begin it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
}

const fn yes() -> bool {
    true
}

/// Whether devices run a deployment by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// They do, without a key press.
    Required,
    /// Each does once someone has started it for that device: on the page, the command line, or by the API.
    Available,
}

/// The state of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceState {
    /// In the asset file.
    Imported,
    /// A receipt says that the factory staged it.
    Staged,
    /// Seen by the server.
    CheckedIn,
    /// In a run.
    Running,
    /// Its last run is done.
    Completed,
    /// Its last run failed.
    Failed,
    /// Its last run was stopped by an administrator, and nobody has had it gone on with.
    Stopped,
    /// In a run, and silent for too long.
    Stalled,
    /// Can't prove who it is.
    Quarantined,
}

impl std::fmt::Display for DeviceState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Imported => "imported",
            Self::Staged => "staged",
            Self::CheckedIn => "checked in",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
            Self::Stalled => "stalled",
            Self::Quarantined => "quarantined",
        })
    }
}

/// What keeps a device's key from being copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum KeyProtection {
    /// The machine's TPM, which never gives it out.
    Tpm,
    /// Nothing: it is a file, and whoever copies the disk has it.
    Software,
}

impl KeyProtection {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Tpm, Self::Software];

    /// The word for it in rules, addresses and tables.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Tpm => "tpm",
            Self::Software => "software",
        }
    }

    /// What this word stands for.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.word() == word)
    }
}

/// `GET /api/v1/devices`: one row of the overview.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct DeviceRow {
    /// The device.
    pub device: DeviceId,
    /// Its host name: as its latest run told, else the one that it was assigned.
    pub name: Option<String>,
    /// The name that its next run gives it, if one was assigned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assigned_name: Option<String>,
    /// The serial number.
    pub serial: String,
    /// The asset tag.
    pub asset_tag: String,
    /// The model, as imported or as seen.
    pub model: Model,
    /// The site's code, such as `BJO`, and name.
    pub site: String,
    /// The site's name.
    pub site_name: String,
    /// The class.
    pub class: String,
    /// The state.
    pub state: DeviceState,
    /// Why it is quarantined or failed, or what it waits for.
    pub message: Option<String>,
    /// What it waits for or what should be known of it, with its code and what it is about. What a failed run says has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said: Option<MachineReason>,
    /// Why it is quarantined, with its code and what it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aside: Option<AsideReason>,
    /// Its latest run.
    pub run: Option<RunRow>,
    /// The collections it is in.
    pub collections: Vec<CollectionName>,
    /// When it was last heard of.
    pub last_seen_at_ms: Option<i64>,
    /// What lies staged on its disk, such as `probook@3`: as it said itself, or else as the factory's receipt claims.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<String>,
    /// The retired key that had signed the bundle it was staged with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retired_key: Option<KeyName>,
    /// The release of its boot image, as it said when it last checked in from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_image: Option<String>,
    /// Where the key that it is bound to lies, as it says itself; nothing before the first check-in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_protection: Option<KeyProtection>,
    /// The site that it last checked in from, if one has that address: the code. Another one than `site` is a machine
    /// that isn't where the import puts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen_site: Option<String>,
    /// That site's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen_site_name: Option<String>,
    /// The pupil who has it; only told to those who may see pupils.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pupil: Option<String>,
    /// Why it is out of use: retired or stolen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out_of_use: Option<OutOfUse>,
}

impl DeviceRow {
    /// Whether it was reported stolen and has been heard of since.
    #[must_use]
    pub fn is_stolen_and_seen(&self) -> bool {
        self.out_of_use.as_ref().is_some_and(|out| {
            out.state == AssetState::Stolen && self.last_seen_at_ms.is_some_and(|at| at > out.at_ms)
        })
    }
}

/// A run in a list. `GET /api/v1/runs`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct RunRow {
    /// The run.
    pub run: RunId,
    /// The device.
    pub device: DeviceId,
    /// The device's serial number.
    pub serial: String,
    /// The device's host name, once known.
    pub name: Option<String>,
    /// The deployment.
    pub deployment: DeploymentName,
    /// The sequence.
    pub sequence: SequenceName,
    /// `running`, `completed`, `failed`, `stopped` or `stalled`.
    pub state: DeviceState,
    /// The number of the current (or last) step, from 1; 0 before the first.
    pub step_number: u32,
    /// How many steps there are.
    pub step_count: u32,
    /// The title of that step.
    pub step_title: String,
    /// That step's progress, 0 to 100, if it reports one.
    pub step_percent: Option<u8>,
    /// When the server handed out the order.
    pub started_at_ms: i64,
    /// When the run ended.
    pub ended_at_ms: Option<i64>,
    /// From the order to now or to the end, in seconds.
    pub elapsed_seconds: u64,
    /// The expected duration, in seconds; 0 if unknown.
    pub expected_seconds: u64,
    /// Who says so.
    #[serde(default)]
    pub expected_from: ExpectedFrom,
    /// Where content came from.
    pub content: ContentBytes,
    /// Bytes to and from this device, counted at the server's sockets.
    pub server_bytes: u64,
    /// Bytes counted at the device's own network interfaces, over all its starts.
    pub interface_bytes: u64,
    /// The error chain if it failed, outermost first.
    #[serde(default)]
    pub errors: Vec<String>,
    /// The step that failed.
    #[serde(default)]
    pub failed_step: Option<StepPath>,
    /// What to do about it.
    #[serde(default)]
    pub hint: Option<String>,
    /// When the server last heard of the run.
    pub last_seen_at_ms: i64,
}

/// Who says how long a run is expected to take; the first of these that does.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum ExpectedFrom {
    /// Its deployment.
    Deployment,
    /// The site where the machine is.
    Site,
    /// Nobody; it is the median of earlier runs of the sequence.
    EarlierRuns,
    /// Nobody, and there were no earlier runs.
    #[default]
    Nobody,
}

/// `GET /api/v1/runs/{run}`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct RunDetail {
    /// As in the list.
    pub row: RunRow,
    /// Every step, in order.
    pub steps: Vec<StepRow>,
    /// The log, oldest first.
    pub log: Vec<LogLine>,
    /// On what evidence the device was recognised.
    pub identity: Vec<String>,
    /// The same, each with its code and what it is about.
    #[serde(default)]
    pub said: Vec<Evidence>,
    /// The last lines the failing step logged, oldest first; empty if the run has not failed.
    #[serde(default)]
    pub last_lines: Vec<String>,
    /// The model that the medians of the steps are of; nothing if they are of all models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub median_model: Option<String>,
    /// What the order set, by name.
    #[serde(default)]
    pub variables: Vec<RunVariable>,
    /// The words that have it run again from the start, if that writes over the disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_rerun: Option<String>,
    /// The secrets it was given, the earliest first.
    #[serde(default)]
    pub secrets: Vec<ReleaseRow>,
}

/// `POST /api/v1/runs/{run}/rerun`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", default)]
pub struct RerunRequest {
    /// `rerun SERIAL`, typed by a person: wanted if it writes over the disk.
    pub confirm: String,
}

/// A variable of the order of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct RunVariable {
    /// Its name.
    pub name: String,
    /// Its value as text; nothing if its name or its value looks like a secret.
    #[serde(default)]
    pub value: Option<String>,
}

/// One step of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct StepRow {
    /// Where it stands.
    pub path: StepPath,
    /// What it is called.
    pub title: String,
    /// The step type.
    pub kind: String,
    /// `waiting`, `running`, `done`, `warning`, `skipped` or `failed`.
    pub state: String,
    /// From the start of the run to the start of the step, in milliseconds of the device's own clock; restarts are
    /// bridged by the server's time.
    pub offset_ms: Option<u64>,
    /// How long it took, in milliseconds.
    pub duration_ms: Option<u64>,
    /// How often it was tried.
    pub attempts: u32,
    /// The plan in words.
    pub plan: String,
    /// A warning, a reason or an error.
    pub message: Option<String>,
    /// How it ended.
    pub outcome: Option<StepOutcome>,
    /// Where its content came from.
    pub content: ContentBytes,
    /// How long it usually takes, in milliseconds: the median of runs of the same sequence that ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub median_ms: Option<u64>,
    /// Of how many runs that is the median.
    #[serde(default)]
    pub median_runs: u32,
}

/// One line of a run's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct LogLine {
    /// The event's number.
    pub seq: u64,
    /// When the server got it.
    pub received_at_ms: i64,
    /// `info`, `warning` or `error`.
    pub level: String,
    /// The step.
    pub step: Option<StepPath>,
    /// The text.
    pub text: String,
}
