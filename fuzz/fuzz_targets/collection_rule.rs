//! Rules of collections.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| server::readers::collection_rule(text));
