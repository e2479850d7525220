//! One module per noun: its arguments with their help, what it asks the server, and a pure function from the answer to
//! the text for people.

pub(crate) mod asset;
pub(crate) mod asset_export;
pub(crate) mod assignment;
pub(crate) mod audit;
pub(crate) mod boot_image;
pub(crate) mod class;
pub(crate) mod collection;
pub(crate) mod completion;
pub(crate) mod content;
pub(crate) mod content_library;
pub(crate) mod deployment;
pub(crate) mod device;
pub(crate) mod import;
pub(crate) mod login;
pub(crate) mod medium;
pub(crate) mod model;
pub(crate) mod os_image;
pub(crate) mod package;
pub(crate) mod prestage;
pub(crate) mod pupil;
pub(crate) mod quarantine;
pub(crate) mod receipt;
pub(crate) mod receipt_reconcile;
pub(crate) mod report;
pub(crate) mod run;
pub(crate) mod sequence;
pub(crate) mod sequence_plan;
pub(crate) mod serve;
pub(crate) mod simulate;
pub(crate) mod site;
pub(crate) mod token;
pub(crate) mod trust;
pub(crate) mod user;
pub(crate) mod variable;
pub(crate) mod webhook;
