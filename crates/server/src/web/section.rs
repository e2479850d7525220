//! The entries of the navigation. An entry is shown as soon as a page with its address is in the table of pages, to
//! those who may see that page.

use super::words::en;

/// Which entry of the navigation is the current one. A page without an entry of its own names that of its list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Section {
    /// The overview.
    #[default]
    Overview,
    /// The runs.
    Runs,
    /// The figures.
    Insights,
    /// The devices.
    Devices,
    /// The imports of assets.
    Imports,
    /// The factory's receipts.
    Receipts,
    /// Machines that can't prove who they are.
    Quarantine,
    /// The schools.
    Sites,
    /// The groups of pupils.
    Classes,
    /// The hardware.
    Models,
    /// The collections.
    Collections,
    /// The deployments.
    Deployments,
    /// The variables.
    Variables,
    /// Scanning machines and pupils.
    Assign,
    /// The pupils.
    Pupils,
    /// The secrets.
    Secrets,
    /// The labels.
    Labels,
    /// The prestages.
    Prestages,
    /// The task sequences.
    Sequences,
    /// The packages.
    Packages,
    /// The content library.
    Content,
    /// The users.
    Users,
    /// The API tokens.
    Tokens,
    /// The keys that sign bundles.
    Trust,
    /// The audit.
    Audit,
    /// The webhooks.
    Webhooks,
    /// The reference of the API.
    Api,
}

/// One entry: its section, its address, its name.
pub(super) type Entry = (Section, &'static str, &'static str);

/// The whole navigation, in the order in which it is shown: groups and their entries.
#[rustfmt::skip]
pub(super) const NAVIGATION: &[(&str, &[Entry])] = &[
    (en("Watch"), &[
        (Section::Overview, "/", en("Overview")),
        (Section::Runs, "/runs", en("Runs")),
        (Section::Insights, "/insights", en("Insights")),
    ]),
    (en("Fleet"), &[
        (Section::Devices, "/devices", en("Devices")),
        (Section::Imports, "/imports", en("Imports")),
        (Section::Receipts, "/receipts", en("Receipts")),
        (Section::Quarantine, "/quarantine", en("Quarantine")),
        (Section::Sites, "/sites", en("Sites")),
        (Section::Classes, "/classes", en("Classes")),
        (Section::Models, "/models", en("Models")),
    ]),
    (en("Deploy"), &[
        (Section::Collections, "/collections", en("Collections")),
        (Section::Deployments, "/deployments", en("Deployments")),
        (Section::Variables, "/variables", en("Variables")),
        (Section::Secrets, "/secrets", en("Secrets")),
    ]),
    (en("Hand-out"), &[
        (Section::Assign, "/assign", en("Assign")),
        (Section::Pupils, "/pupils", en("Pupils")),
        (Section::Labels, "/labels", en("Labels")),
    ]),
    (en("Catalog"), &[
        (Section::Prestages, "/prestages", en("Prestages")),
        (Section::Sequences, "/sequences", en("Task sequences")),
        (Section::Packages, "/packages", en("Packages")),
        (Section::Content, "/content", en("Content")),
    ]),
    (en("Settings"), &[
        (Section::Users, "/users", en("Users")),
        (Section::Tokens, "/tokens", en("Tokens")),
        (Section::Trust, "/trust", en("Trust")),
        (Section::Audit, "/audit", en("Audit")),
        (Section::Webhooks, "/webhooks", en("Webhooks")),
        (Section::Api, "/api", en("API")),
    ]),
];
