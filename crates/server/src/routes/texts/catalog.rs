//! Packages and their content, sequences, prestages and their bundles.

use wire::admin_api::{
    DigestList, Finding, PackageRow, PrestageDefinition, PrestagePlan, PrestageVersion, SequenceRow,
};
use wire::drift::{PrestageDiff, PrestageDrift};
use wire::package::Package;

use crate::routes::docs::Texts;

#[rustfmt::skip]
pub(super) fn texts(texts: Texts) -> Texts {
    texts
        .of("GET", "/device/v1/content/manifests/{digest}", "Fetch a manifest, as a device.", "")
        .answers_bytes("application/octet-stream")
        .of("POST", "/device/v1/content/chunks", "Fetch chunks, as a device.", "")
        .answers_bytes("application/octet-stream")
        .of("POST", "/api/v1/content/missing", "Ask which chunks the server lacks.", "At most 20 000 at a time.")
        .takes::<DigestList>(r#"{"digests":["af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"]}"#)
        .answers::<DigestList>("")
        .of("POST", "/api/v1/content/chunks", "Upload chunks, as frames of a pack.", "")
        .takes_bytes("application/octet-stream")
        .of("PUT", "/api/v1/content/manifests/{digest}", "Upload a manifest.", "All its chunks are there already.")
        .takes_bytes("application/octet-stream")
        .of("GET", "/api/v1/content/manifests/{digest}", "Fetch a manifest.", "")
        .answers_bytes("application/octet-stream")
        .of("POST", "/api/v1/content/frames", "Fetch chunks, as frames of a pack.", "")
        .takes::<DigestList>(r#"{"digests":[]}"#)
        .answers_bytes("application/octet-stream")
        .of("GET", "/api/v1/packages", "List the packages, all versions.", "")
        .answers::<Vec<PackageRow>>("")
        .of("POST", "/api/v1/packages", "Publish a package.", "Its manifest and all its chunks are there already.")
        .takes::<Package>(r#"{"name":"java","version":"17","kind":"application","title":"Java","manifest":"af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262","manifest-bytes":120,"content-bytes":190000000,"models":[],"install":{"command":["apt","install","./java.deb"],"success-exit-codes":[0],"restart-exit-codes":[],"detect":null},"volume-bytes-min":0}"#)
        .answers::<PackageRow>("")
        .of("GET", "/api/v1/sequences", "List the task sequences.", "")
        .answers::<Vec<SequenceRow>>("")
        .of("GET", "/api/v1/sequences/{name}", "Fetch a task sequence as it was written.", "")
        .answers_bytes("application/yaml")
        .of("PUT", "/api/v1/sequences/{name}", "Store a task sequence.", "Refused with its findings if it has errors.")
        .takes_bytes("application/yaml")
        .answers::<SequenceRow>("")
        .fails(422, "sequence-refused", "It has errors; `findings` names them by line.")
        .of("GET", "/api/v1/sequences/{name}/versions", "List the versions of a task sequence.", "Newest first.")
        .answers::<Vec<SequenceRow>>("")
        .of("GET", "/api/v1/sequences/{name}/versions/{version}", "Fetch one version of a task sequence as it was written.", "")
        .answers_bytes("application/yaml")
        .of("POST", "/api/v1/sequences/lint", "Check a task sequence without storing it.", "")
        .takes_bytes("application/yaml")
        .answers::<Vec<Finding>>("")
        .of("GET", "/api/v1/prestages", "List the prestages that were built.", "A factory operator sees those assigned to them.")
        .answers::<Vec<PrestageVersion>>("")
        .of("GET", "/api/v1/prestages/{name}", "Show how a prestage is defined.", "")
        .answers::<PrestageDefinition>("")
        .of("PUT", "/api/v1/prestages/{name}", "Define a prestage.", "")
        .takes::<PrestageDefinition>(r#"{"sequence":"deploy","model":{"vendor":"Acme","product":"Book 14","sku":"","baseboard":""},"extra":[],"omit":[]}"#)
        .answers::<PrestageDefinition>("")
        .of("GET", "/api/v1/prestages/{name}/plan", "Tell what would be in the bundle, and why.", "")
        .answers::<PrestagePlan>("")
        .of("GET", "/api/v1/prestages/{name}/drift", "Tell what has changed since a prestage was built.", "")
        .query("version", "Only this version.")
        .answers::<PrestageDrift>("")
        .of("GET", "/api/v1/prestage-diff", "Compare two versions of prestages.", "")
        .query("from", "The older, such as `book-14@2`.")
        .query("to", "The newer, such as `book-14@3`.")
        .answers::<PrestageDiff>("")
        .of("POST", "/api/v1/prestages/{name}/build", "Build and sign the bundle of a prestage.", "The answer begins when it is done.")
        .answers::<PrestageVersion>("")
        .of("GET", "/api/v1/prestages/{name}/versions/{version}/bundle", "Fetch a bundle.", "With `Range`, a part of it.")
        .answers_bytes("application/octet-stream")
}
