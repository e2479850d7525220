//! The readers of bytes from outside, as the fuzz targets call them: each takes anything and panics at nothing.

use sequence::view::RunView;
use wire::device_api::{EventBatch, SecretRequest};
use wire::receipt::Receipt;

use crate::fleet::identity::recognise;
use crate::fleet::import::columns::{Mapping, columns};
use crate::fleet::quarantine::names;
use crate::fleet::receipts::Claim;
use crate::runs::check_in::read_body;
use crate::runs::live::read_event;
use crate::vault::release::read_wanted;
use crate::{backup, fleet, pupils, table, webhooks};

/// What a device says of itself when it checks in.
pub fn check_in(text: &str) {
    if let Ok(body) = read_body(text) {
        let names = names(&body.facts);
        let _ = (names.fingerprint(), recognise(&names, &[]));
    }
}

/// Events of a run.
pub fn events(bytes: &[u8]) {
    if let Ok(batch) = serde_json::from_slice::<EventBatch>(bytes) {
        let raw = batch.events.iter().map(|raw| raw.get().as_bytes());
        let events: Vec<_> = raw.filter_map(read_event).map(|(_, event)| event).collect();
        let _ = RunView::of(&events);
    }
}

/// A device's request for a secret, up to whether it is signed.
pub fn secret_request(bytes: &[u8]) {
    if let Ok(request) = serde_json::from_slice::<SecretRequest>(bytes) {
        let _ = read_wanted(&request.body);
    }
}

/// A receipt from a stick.
pub fn receipt(text: &str) {
    if let Ok(receipt) = serde_json::from_str::<Receipt>(text) {
        let _ = Claim::of(receipt);
    }
}

/// A vendor's table, CSV of any kind or XLSX, and what its columns are taken for.
pub fn asset_table(bytes: &[u8]) {
    if let Ok(book) = table::read(bytes) {
        for sheet in &book.sheets {
            let _ = columns(sheet, &Mapping::new());
        }
    }
}

/// A list of pupils from the school's system.
pub fn pupil_list(bytes: &[u8]) {
    pupils::read_list(bytes);
}

/// The rule of a collection, in one line.
pub fn collection_rule(text: &str) {
    let _ = fleet::targeting::rules::parse(text);
}

/// The address that a webhook goes to.
pub fn webhook_address(text: &str) {
    webhooks::read_address(text);
}

/// A backup, and what is inside one.
pub fn backup(bytes: &[u8]) {
    backup::read_bytes(bytes);
}
