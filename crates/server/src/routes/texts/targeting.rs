//! Rules of collections, the life of deployments, classes, models, names.

use wire::admin_api::Deployment;
use wire::classes::{ClassChange, ClassRow, ModelRow, NamePlan, NameRequest};
use wire::collections::{CollectionPreview, CollectionRule, ExclusionChange};
use wire::deployments::{Acted, CapRequest, DeploymentPreview, DeploymentStatus, DeviceList};

use crate::routes::docs::Texts;

#[rustfmt::skip]
pub(super) fn texts(texts: Texts) -> Texts {
    texts
        .of("GET", "/api/v1/collections/{name}/rule", "Tell the rule of a collection.", "")
        .answers::<CollectionRule>(r#"{"rule":"class is startingwith('1')","limit-to":"pupils-2026"}"#)
        .of("PUT", "/api/v1/collections/{name}/rule", "Store the rule of a collection.", "See docs/formats/collection-rule.md for what a rule sees.")
        .takes::<CollectionRule>(r#"{"rule":"site.code == 'BJO'","limit-to":""}"#)
        .answers::<CollectionPreview>("")
        .fails(400, "bad-rule", "The rule can't be read; the message says at which column.")
        .fails(400, "bad-limit", "The limiting collections would go round.")
        .of("GET", "/api/v1/collections/{name}/preview", "Tell who is in a collection and why, and who is kept out and why.", "With `rule` or `limit-to` as it would be.")
        .query("rule", "A rule to try out.")
        .query("limit-to", "A limiting collection to try out.")
        .query("limit", "How many devices are named.")
        .answers::<CollectionPreview>("")
        .of("POST", "/api/v1/collections/{name}/excluded", "Keep devices out of a collection, or let them in again.", "")
        .takes::<ExclusionChange>(r#"{"exclude":["7f1f77a0-6f6e-4d4c-9e5a-0b8a4c1c2d3e"],"reason":"in repair"}"#)
        .answers::<CollectionPreview>("")
        .of("POST", "/api/v1/deployments/preview", "Tell what a deployment would do.", "Nothing is stored. `confirm` holds the words that make it.")
        .takes::<Deployment>(r#"{"name":"autumn","collection":"pupils-2026","sequence":"pupil-laptop","purpose":"required","expected-seconds":960,"cap":40}"#)
        .answers::<DeploymentPreview>("")
        .of("GET", "/api/v1/deployments/{name}/status", "Tell how a deployment stands.", "Failures are those of machines in reach.")
        .answers::<DeploymentStatus>("")
        .of("POST", "/api/v1/deployments/{name}/resume", "Let a stopped deployment go on.", "Runs that were stopped with it go on where they were.")
        .answers::<Deployment>("")
        .of("POST", "/api/v1/deployments/{name}/cap", "Change how many machines a deployment may touch.", "Raising it wants the typed words `NAME CAP`.")
        .takes::<CapRequest>(r#"{"cap":2600,"confirm":"autumn 2600"}"#)
        .answers::<DeploymentStatus>("")
        .fails(409, "not-confirmed", "The words are others than the hint says.")
        .of("POST", "/api/v1/deployments/{name}/start", "Have an available deployment begin on machines.", "They begin at their next check-in.")
        .takes::<DeviceList>(r#"{"devices":["7f1f77a0-6f6e-4d4c-9e5a-0b8a4c1c2d3e"]}"#)
        .answers::<Acted>("")
        .fails(409, "deployment-stopped", "It is stopped.")
        .of("POST", "/api/v1/deployments/{name}/cancel", "Have a deployment leave machines alone.", "One that runs it stops at once.")
        .takes::<DeviceList>(r#"{"devices":["7f1f77a0-6f6e-4d4c-9e5a-0b8a4c1c2d3e"]}"#)
        .answers::<Acted>("")
        .of("POST", "/api/v1/deployments/{name}/retry-failed", "Have every failed run of a deployment go on where it failed.", "")
        .answers::<Acted>("")
        .of("GET", "/api/v1/classes", "List the classes that someone made or an asset names.", "")
        .answers::<Vec<ClassRow>>("")
        .whole()
        .of("PUT", "/api/v1/classes/{site}/{name}", "Make a class or change it.", "Sequences see its software as `class_software`.")
        .takes::<ClassChange>(r#"{"school-year":"2026/27","title":"Naturfag","teacher":"","software":["geogebra"]}"#)
        .answers::<ClassRow>("")
        .of("DELETE", "/api/v1/classes/{site}/{name}", "Forget what is known of a class.", "Devices keep its name.")
        .answers::<ClassRow>("")
        .of("GET", "/api/v1/models", "List the models of the fleet and what is missing for each.", "")
        .answers::<Vec<ModelRow>>("")
        .whole()
        .of("POST", "/api/v1/device-names", "Name devices from a template, or show the names.", "If one can't be named, none is.")
        .takes::<NameRequest>(r#"{"template":"{{ site.code }}-{{ number(3) }}","collection":"pupils-2026","apply":false}"#)
        .answers::<NamePlan>("")
        .fails(400, "bad-template", "The template can't be read, or uses an unknown name.")
}
