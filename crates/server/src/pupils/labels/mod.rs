//! Labels for machines: sheets and rolls as PDF, one as a picture. What the QR code says is in `label_code.rs`.
//!
//! Where things stand on a label is decided once, by [`layout`]; PDF and picture draw the same marks. *Absent:* pupils.

pub(crate) mod api;
mod layout;
pub(crate) mod paper;
mod pdf;
mod picture;
