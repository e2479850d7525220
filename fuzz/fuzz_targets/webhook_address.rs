//! Addresses that webhooks go to.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| server::readers::webhook_address(text));
