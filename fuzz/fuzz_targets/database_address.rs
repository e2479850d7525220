//! Addresses of databases: what is taken is never shown with its password.
#![no_main]

use libfuzzer_sys::fuzz_target;
use server::DatabaseUrl;

fuzz_target!(|text: &str| {
    if let Ok(url) = text.parse::<DatabaseUrl>()
        && let Ok(url) = url.with_password("S3cr3t-of-the-test")
    {
        assert!(!url.to_string().contains("S3cr3t-of-the-test"));
        assert!(!format!("{url:?}").contains("S3cr3t-of-the-test"));
    }
});
