//! Vendors' tables, CSV and XLSX: nothing in them makes the reader panic, hang or take more than its limits.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| server::readers::asset_table(bytes));
