//! The readers of bytes from outside, as the fuzz targets call them: each takes anything and panics at nothing.

use crate::fleet::import::columns::{Mapping, columns};
use crate::{fleet, pupils, table, webhooks};

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
