//! Pupils, hand-out and return. See [`wire::pupils`] and [`wire::assignments`].

use wire::assignments::{
    AssignmentRow, ClassHandOut, ClassPairs, ClassPairsReply, ClassRow, HandOut, HandOutReply,
    Scan, ScanReply, TakeBack,
};
use wire::names::{AssignmentId, DeviceId, PupilId};
use wire::pupils::{
    Erasure, HandOutSettings, ListImportReport, PupilDetail, PupilEntry, PupilExport, PupilRow,
    PupilSearch,
};

use crate::admin::query_value;
use crate::connection::Client;
use crate::error::ClientError;

/// A label sheet of two thousand labels has about 10 MB.
const LABELS_BYTES_MAX: u64 = 128 << 20;

/// Which pupils; an empty text stands for all.
#[derive(Debug, Clone, Default)]
pub struct PupilFilter {
    /// The site's code.
    pub site: String,
    /// The class.
    pub class: String,
    /// Only those without a device.
    pub without: bool,
}

/// How a list is imported.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// Only say what would happen.
    pub dry_run: bool,
    /// The site of rows that name none.
    pub site: String,
    /// Pupils of the list's sites that it doesn't name have left.
    pub complete: bool,
}

/// Which assignments; `None` and an empty text stand for all.
#[derive(Debug, Clone, Default)]
pub struct AssignmentFilter {
    /// Of this device.
    pub device: Option<DeviceId>,
    /// Of this pupil.
    pub pupil: Option<PupilId>,
    /// Of devices of this site.
    pub site: String,
    /// A part of serial number, asset tag, class or whoever handed it out or took it back.
    pub text: String,
    /// The first day of hand-outs, such as `2026-08-17`.
    pub since: String,
    /// The last one.
    pub until: String,
    /// Only devices that are out now.
    pub open: bool,
}

impl Client {
    /// The pupils.
    ///
    /// # Errors
    /// See [`ClientError`]; this goes for all calls below.
    pub fn pupils(&self, filter: &PupilFilter) -> Result<Vec<PupilRow>, ClientError> {
        let (site, class) = (query_value(&filter.site), query_value(&filter.class));
        let without = filter.without;
        self.get(&format!(
            "/api/v1/pupils?site={site}&class={class}&without={without}"
        ))
    }

    /// The pupils whom all that is said fits.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn search_pupils(&self, wanted: &PupilSearch) -> Result<Vec<PupilRow>, ClientError> {
        self.send("POST", "/api/v1/pupils/search", wanted)
    }

    /// One pupil and every device they ever had.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn pupil(&self, pupil: PupilId) -> Result<PupilDetail, ClientError> {
        self.get(&format!("/api/v1/pupils/{pupil}"))
    }

    /// Adds a pupil.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn add_pupil(&self, entry: &PupilEntry) -> Result<PupilDetail, ClientError> {
        self.send("POST", "/api/v1/pupils", entry)
    }

    /// Corrects what is known of a pupil.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn change_pupil(
        &self,
        pupil: PupilId,
        entry: &PupilEntry,
    ) -> Result<PupilDetail, ClientError> {
        self.send("PUT", &format!("/api/v1/pupils/{pupil}"), entry)
    }

    /// Imports a list of pupils.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn import_pupils(
        &self,
        file: &[u8],
        options: &ListOptions,
    ) -> Result<ListImportReport, ClientError> {
        self.import_list("pupils", file, options)
    }

    /// Imports a list of who gets which device.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn import_assignments(
        &self,
        file: &[u8],
        options: &ListOptions,
    ) -> Result<ListImportReport, ClientError> {
        self.import_list("assignments", file, options)
    }

    fn import_list(
        &self,
        what: &str,
        file: &[u8],
        options: &ListOptions,
    ) -> Result<ListImportReport, ClientError> {
        let site = query_value(&options.site);
        let (dry_run, complete) = (options.dry_run, options.complete);
        let path =
            format!("/api/v1/{what}/import?dry-run={dry_run}&complete={complete}&site={site}");
        let mut body = file;
        self.upload(
            "POST",
            &path,
            "text/csv",
            &mut body,
            Some(file.len() as u64),
        )
    }

    /// Everything that is kept of one person.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn export_pupil(&self, pupil: PupilId) -> Result<PupilExport, ClientError> {
        self.get(&format!("/api/v1/pupils/{pupil}/export"))
    }

    /// Erases everything personal of a pupil.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn erase_pupil(&self, pupil: PupilId) -> Result<Erasure, ClientError> {
        self.send("POST", &format!("/api/v1/pupils/{pupil}/erase"), &())
    }

    /// Hand-outs and returns, newest first.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn assignments(
        &self,
        filter: &AssignmentFilter,
    ) -> Result<Vec<AssignmentRow>, ClientError> {
        let text = |id: Option<String>| id.unwrap_or_default();
        let device = text(filter.device.map(|id| id.to_string()));
        let pupil = text(filter.pupil.map(|id| id.to_string()));
        let (site, open) = (query_value(&filter.site), filter.open);
        let [text, since, until] =
            [&filter.text, &filter.since, &filter.until].map(|text| query_value(text));
        self.get(&format!(
            "/api/v1/assignments?device={device}&pupil={pupil}&site={site}&open={open}&text={text}&since={since}&until={until}"
        ))
    }

    /// What a scan means.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn scan(&self, text: &str) -> Result<ScanReply, ClientError> {
        let text = text.to_owned();
        self.send("POST", "/api/v1/assignments/scan", &Scan { text })
    }

    /// Hands a device out.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn hand_out(&self, ask: &HandOut) -> Result<HandOutReply, ClientError> {
        self.send("POST", "/api/v1/assignments", ask)
    }

    /// Hands out the pairs of a preview, all or none.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn hand_out_pairs(&self, pairs: &ClassPairs) -> Result<ClassPairsReply, ClientError> {
        self.send("POST", "/api/v1/assignments/pairs", pairs)
    }

    /// Takes a device back.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn take_back(
        &self,
        assignment: AssignmentId,
        ask: &TakeBack,
    ) -> Result<AssignmentRow, ClientError> {
        let path = format!("/api/v1/assignments/{assignment}/return");
        self.send("POST", &path, ask)
    }

    /// As if it had never been handed out.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn undo_hand_out(&self, assignment: AssignmentId) -> Result<AssignmentRow, ClientError> {
        let path = format!("/api/v1/assignments/{assignment}/undo");
        self.send("POST", &path, &())
    }

    /// As if it had never come back.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn undo_return(&self, assignment: AssignmentId) -> Result<AssignmentRow, ClientError> {
        let path = format!("/api/v1/assignments/{assignment}/reopen");
        self.send("POST", &path, &())
    }

    /// Every class, with how many are still without a device.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn hand_out_classes(&self) -> Result<Vec<ClassRow>, ClientError> {
        self.get("/api/v1/assignments/classes")
    }

    /// One class: who has which device, who is without, which devices are left.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn hand_out_class(&self, site: &str, class: &str) -> Result<ClassHandOut, ClientError> {
        let (site, class) = (query_value(site), query_value(class));
        self.get(&format!(
            "/api/v1/assignments/class?site={site}&class={class}"
        ))
    }

    /// The settings of the hand-out.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn hand_out_settings(&self) -> Result<HandOutSettings, ClientError> {
        self.get("/api/v1/hand-out-settings")
    }

    /// Stores the settings of the hand-out.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn put_hand_out_settings(
        &self,
        settings: &HandOutSettings,
    ) -> Result<HandOutSettings, ClientError> {
        self.send("PUT", "/api/v1/hand-out-settings", settings)
    }

    /// Labels as a file: `format` is `pdf` or `png`, `query` what `docs/formats/label.md` says.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn labels(&self, format: &str, query: &[(&str, &str)]) -> Result<Vec<u8>, ClientError> {
        let query: Vec<String> = query
            .iter()
            .map(|(name, value)| format!("{name}={}", query_value(value)))
            .collect();
        let path = format!("/api/v1/labels.{format}?{}", query.join("&"));
        self.get_bytes(&path, LABELS_BYTES_MAX)
    }
}
