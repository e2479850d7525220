//! Calls of the admin API that only this program makes; the others are methods of [`Client`].

use client::{Client, ClientError};
use serde::de::IgnoredAny;
use wire::admin_api::{ReceiptRow, RerunRequest, RunRow};
use wire::assets::{AssetChange, AssetDetail, AssetReason};
use wire::names::{DeviceId, RunId, SequenceName};

/// A sequence's YAML is at most this long; `sequence` refuses longer ones, too.
pub(crate) const SEQUENCE_BYTES_MAX: u64 = 1 << 20;

/// The YAML of a sequence, as it was put.
pub(crate) fn sequence_source(
    client: &Client,
    name: &SequenceName,
) -> Result<Vec<u8>, ClientError> {
    client.get_bytes(
        &format!("/api/v1/sequences/{}", encode(name.as_str())),
        SEQUENCE_BYTES_MAX,
    )
}

/// All receipts, newest first.
pub(crate) fn receipts(client: &Client) -> Result<Vec<ReceiptRow>, ClientError> {
    client.get("/api/v1/receipts")
}

/// Forgets the key a device is bound to.
pub(crate) fn reset_key(client: &Client, device: DeviceId) -> Result<(), ClientError> {
    post(client, &format!("/api/v1/devices/{device}/reset-key"))
}

/// All that is known of an asset.
pub(crate) fn asset(client: &Client, device: DeviceId) -> Result<AssetDetail, ClientError> {
    client.get(&format!("/api/v1/devices/{device}/asset"))
}

/// Corrects an asset; what isn't named stays.
pub(crate) fn change_asset(
    client: &Client,
    device: DeviceId,
    change: &AssetChange,
) -> Result<AssetDetail, ClientError> {
    client.send("POST", &format!("/api/v1/devices/{device}/asset"), change)
}

/// Says what became of an asset: `retire`, `report-stolen` or `restore`.
pub(crate) fn asset_becomes(
    client: &Client,
    device: DeviceId,
    what: &str,
    reason: &str,
) -> Result<AssetDetail, ClientError> {
    let reason = AssetReason {
        reason: reason.to_owned(),
    };
    client.send("POST", &format!("/api/v1/devices/{device}/{what}"), &reason)
}

/// Stops a run; the device hears of it within seconds.
pub(crate) fn stop_run(client: &Client, run: RunId) -> Result<(), ClientError> {
    post(client, &format!("/api/v1/runs/{run}/stop"))
}

/// Has a run that failed or was stopped gone on with.
pub(crate) fn retry_run(client: &Client, run: RunId) -> Result<RunRow, ClientError> {
    client.send("POST", &format!("/api/v1/runs/{run}/retry"), &())
}

/// Begins a new run of the same deployment on the same device.
pub(crate) fn rerun(
    client: &Client,
    run: RunId,
    request: &RerunRequest,
) -> Result<RunRow, ClientError> {
    client.send("POST", &format!("/api/v1/runs/{run}/rerun"), request)
}

/// A request that says it all by its path; whatever the answer says besides "yes" is passed over.
fn post(client: &Client, path: &str) -> Result<(), ClientError> {
    client.send("POST", path, &()).map(|_: IgnoredAny| ())
}

/// Percent-encodes everything but the unreserved characters (RFC 3986, section 2.3).
fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_survive_urls() {
        assert_eq!(super::encode("a+b c/ø"), "a%2Bb%20c%2F%C3%B8");
    }
}
