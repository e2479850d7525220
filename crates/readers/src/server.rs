//! What the server reads: from devices, from vendors and schools, from its own command line.

use ::server::DatabaseUrl;
use ::server::readers;

fn text(bytes: &[u8], read: impl FnOnce(&str)) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        read(text);
    }
}

/// A vendor's table, CSV of any kind or XLSX.
pub fn asset_table(bytes: &[u8]) {
    readers::asset_table(bytes);
}

/// A backup of a server, and what is inside one.
pub fn backup(bytes: &[u8]) {
    readers::backup(bytes);
}

/// What a device says of itself.
pub fn check_in(bytes: &[u8]) {
    text(bytes, readers::check_in);
}

/// The rule of a collection.
pub fn collection_rule(bytes: &[u8]) {
    text(bytes, readers::collection_rule);
}

/// The address of a database; what it prints never has the password.
pub fn database_address(bytes: &[u8]) {
    text(bytes, |text| {
        if let Ok(url) = text.parse::<DatabaseUrl>()
            && let Ok(url) = url.with_password("S3cr3t-of-the-test")
        {
            assert!(!url.to_string().contains("S3cr3t-of-the-test"));
            assert!(!format!("{url:?}").contains("S3cr3t-of-the-test"));
        }
    });
}

/// A batch of events.
pub fn events(bytes: &[u8]) {
    readers::events(bytes);
}

/// A list of pupils.
pub fn pupil_list(bytes: &[u8]) {
    readers::pupil_list(bytes);
}

/// A receipt from a stick.
pub fn receipt(bytes: &[u8]) {
    text(bytes, readers::receipt);
}

/// A device's request for a secret.
pub fn secret_request(bytes: &[u8]) {
    readers::secret_request(bytes);
}

/// The address that a webhook goes to.
pub fn webhook_address(bytes: &[u8]) {
    text(bytes, readers::webhook_address);
}
