//! Lists of pupils, as both kinds.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| server::readers::pupil_list(bytes));
