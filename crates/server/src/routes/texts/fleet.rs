//! Machines as they were bought, found, grouped and aimed at.

use wire::admin_api::{
    AssetImportReport, CollectionRow, Deployment, DeviceRow, MemberChange, ReceiptRow,
};
use wire::deployments::StopRequest;
use wire::receipt::{ImportReceipts, Receipt, ReceiptImport};
use wire::sites::{SiteChange, SiteDetail, SiteMove, SiteMoved, SiteRow};
use wire::variables::{DeviceVariables, ScopeVariables, VariableChange, VariableRow};

use super::FILTER;
use crate::routes::docs::Texts;

const RECEIPT_FILES: &str = r#"{"dry-run":true,"files":[{"name":"PF1.json","text":"{\"format\":1,\"serial\":\"PF1\",\"uuid\":null,\"vendor\":\"Acme\",\"product\":\"Book 14\",\"macs\":[],\"disk\":\"/dev/nvme0n1\",\"disk-serial\":\"D1\",\"disk-bytes\":256060514304,\"prestage\":\"book-14\",\"prestage-version\":3,\"bundle\":null,\"seconds\":61,\"result\":\"staged\",\"agent\":\"0.2.0\"}"},{"name":"PF2.json","text":"{"}]}"#;

#[rustfmt::skip]
pub(super) fn texts(texts: Texts) -> Texts {
    texts
        .of("POST", "/api/v1/assets/import", "Import an asset file: all of it or nothing.", "")
        .query("collection", "A collection to put the machines into.")
        .query("dry-run", "`true` to only say what would happen.")
        .takes_bytes("text/csv")
        .answers::<AssetImportReport>("")
        .fails(422, "bad-asset-file", "It is no table, or one beyond the limits.")
        .of("GET", "/api/v1/collections", "List the collections.", "Members are counted as far as one sees them.")
        .answers::<Vec<CollectionRow>>(r#"[{"name":"pupils-2026","title":"New pupils","members":2500}]"#)
        .whole()
        .of("PUT", "/api/v1/collections/{name}", "Store a collection.", "")
        .takes::<CollectionRow>(r#"{"name":"pupils-2026","title":"New pupils"}"#)
        .answers::<CollectionRow>("")
        .fails(400, "other-name", "The name in the path is another one.")
        .of("GET", "/api/v1/collections/{name}/members", "List the machines in a collection.", "")
        .answers::<Vec<DeviceRow>>("")
        .paged()
        .of("POST", "/api/v1/collections/{name}/members", "Put machines in or take them out.", "")
        .takes::<MemberChange>(r#"{"add":["7f1f77a0-6f6e-4d4c-9e5a-0b8a4c1c2d3e"],"remove":[]}"#)
        .answers::<CollectionRow>("")
        .of("GET", "/api/v1/deployments", "List the deployments, oldest first.", "")
        .answers::<Vec<Deployment>>("")
        .whole()
        .of("PUT", "/api/v1/deployments/{name}", "Store a deployment.", "")
        .takes::<Deployment>(r#"{"name":"autumn","collection":"pupils-2026","sequence":"deploy","purpose":"required","expected-seconds":1500,"cap":2500}"#)
        .answers::<Deployment>("")
        .fails(400, "no-cap", "A deployment that may touch no machine does nothing.")
        .of("POST", "/api/v1/deployments/{name}/stop", "Stop a deployment.", "No machine begins it any more, and running ones stop within seconds, unless they may finish.")
        .takes::<StopRequest>(r#"{"let-running-finish":true}"#)
        .answers::<Deployment>("")
        .of("GET", "/api/v1/variables", "List variables.", "")
        .query("scope", "`collection`, `model`, `site`, `class` or `device`.")
        .query("name", "Of what; needs the scope.")
        .answers::<Vec<VariableRow>>("")
        .whole()
        .of("POST", "/api/v1/variables", "Set and remove variables of one scope.", "")
        .takes::<VariableChange>(r#"{"scope":"class","name":"8B","set":{"wifi":"school"},"unset":[]}"#)
        .answers::<ScopeVariables>("")
        .fails(400, "bad-variable", "The name can't be that of a variable.")
        .of("GET", "/api/v1/find", "Find machines by serial number, name or asset tag.", "Whole matches first; twelve at most.")
        .query("text", "Part of what stands on the machine; letter case doesn't matter.")
        .answers::<Vec<wire::find::FoundDevice>>("")
        .at_most(12)
        .of("GET", "/api/v1/devices", "List the machines.", "Those in reach; machines in quarantine for those who see all sites.")
        .answers::<Vec<DeviceRow>>("")
        .fails(400, "bad-cursor", "The row of this cursor is gone.")
        .paged()
        .of("GET", "/api/v1/devices.csv", "List the machines as a table for a spreadsheet.", "Those that the filter of the overview shows.")
        .queries(FILTER)
        .answers_bytes("text/csv")
        .of("GET", "/api/v1/devices/{id}", "Show one machine.", "")
        .answers::<DeviceRow>("")
        .of("POST", "/api/v1/devices/{id}/reset-key", "Forget the key a machine is bound to.", "The next machine that is recognised as this one is bound to it.")
        .answers::<DeviceRow>("")
        .of("GET", "/api/v1/devices/{id}/variables", "Tell which variables a machine gets, and from where.", "")
        .answers::<DeviceVariables>("")
        .of("GET", "/api/v1/sites", "List the sites.", "Those in reach.")
        .answers::<Vec<SiteRow>>("")
        .whole()
        .of("GET", "/api/v1/sites/{code}", "Show a site, who waits there, and which machines are elsewhere.", "")
        .answers::<SiteDetail>("")
        .of("PUT", "/api/v1/sites/{code}", "Make a site or change what is given.", "")
        .takes::<SiteChange>(r#"{"name":"Bjørnøya skole","subnets":["10.17.0.0/16"],"slots":40}"#)
        .answers::<SiteDetail>("")
        .fails(409, "subnet-taken", "Another site has this subnet.")
        .of("DELETE", "/api/v1/sites/{code}", "Remove a site without machines.", "")
        .answers::<SiteRow>("")
        .fails(409, "in-use", "Devices or classes belong to it.")
        .of("POST", "/api/v1/devices/move-to-seen-site", "Move machines to the site where they were seen last.", "")
        .takes::<SiteMove>(r#"{"devices":["7f1f77a0-6f6e-4d4c-9e5a-0b8a4c1c2d3e"]}"#)
        .answers::<SiteMoved>("")
        .of("GET", "/api/v1/receipts", "List factory receipts, newest first.", "Those of machines in reach; a factory operator sees the ones they sent.")
        .answers::<Vec<ReceiptRow>>("")
        .paged()
        .of("POST", "/api/v1/receipts", "Send a factory receipt.", "The same receipt again changes nothing.")
        .takes::<Receipt>(r#"{"format":1,"serial":"PF1","uuid":null,"vendor":"Acme","product":"Book 14","macs":[],"disk":"/dev/nvme0n1","disk-serial":"D1","disk-bytes":256060514304,"prestage":"book-14","prestage-version":3,"bundle":null,"seconds":61,"result":"staged","agent":"0.2.0"}"#)
        .answers::<ReceiptRow>("")
        .of("POST", "/api/v1/receipts/import", "Send many receipts at once, as the files that lie on a boot medium.", "A file that holds no receipt is refused and doesn't hold up the others. The same receipts again change nothing.")
        .takes::<ImportReceipts>(RECEIPT_FILES)
        .answers::<ReceiptImport>(r#"{"dry-run":true,"new":0,"known":0,"refused":1,"rows":[{"file":"PF2.json","result":"refused","receipt":null,"device":null,"why":"EOF while parsing an object at line 1 column 1"}]}"#)
        .fails(400, "too-many-receipts", "It is more than 20,000 files.")
}
