//! The calls of operators. See [`wire::admin_api`] for what each route means.

use std::io::Read;
use std::time::Duration;

use serde::de::{DeserializeOwned, IgnoredAny};
use wire::admin_api::{
    AssetImportReport, CollectionChange, CollectionRow, Deployment, DeviceRow, DigestList, Finding,
    Login, PackageRow, PrestageDefinition, PrestagePlan, PrestageVersion, RunDetail, RunRow,
    SequenceRow, Token,
};
use wire::bundle::BundleSignature;
use wire::device_plan::{PlanReply, PlanRequest};
use wire::digest::Digest;
use wire::drift::{PrestageDiff, PrestageDrift, PrestageId};
use wire::keys::{KeyRow, NewKey};
use wire::names::{
    CollectionName, DeploymentName, DeviceId, KeyName, PrestageName, RunId, SequenceName,
};
use wire::package::Package;
use wire::receipt::{ImportReceipts, Receipt, ReceiptImport};
use wire::variables::{
    DeviceVariables, ScopeVariables, VariableChange, VariableRow, VariableScope,
};
use wire::warrant::{WarrantFile, WarrantRequest, WarrantsTaken};

use crate::connection::Client;
use crate::error::ClientError;

/// Building a bundle reads and writes all of its content before the answer begins: 100 GB at the 50 MB/s of a slow
/// disk take 34 minutes.
const BUILD_PATIENCE: Duration = Duration::from_secs(60 * 60);
/// Plans of a whole fleet take half a minute, and fleets are planned one after the other.
const PLAN_PATIENCE: Duration = Duration::from_secs(10 * 60);

/// A stream of bytes from the server, and its length if that is known.
type Stream = (Box<dyn Read + Send>, Option<u64>);

/// The admin API. Every call but [`Client::login`] and [`Client::trust`] needs a token ([`Client::with_token`]).
impl Client {
    /// Exchanges user and password for an API token.
    ///
    /// # Errors
    /// See [`ClientError`]; this goes for all calls below.
    pub fn login(&self, login: &Login) -> Result<Token, ClientError> {
        self.send("POST", "/api/v1/login", login)
    }

    /// What devices are made to trust: the CA, and the keys that sign bundles.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn trust<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        self.get("/api/v1/trust")
    }

    /// All published packages.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn packages(&self) -> Result<Vec<PackageRow>, ClientError> {
        self.get("/api/v1/packages")
    }

    /// Publishes a package; its manifest and all its chunks are there already.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn publish(&self, package: &Package) -> Result<PackageRow, ClientError> {
        self.send("POST", "/api/v1/packages", package)
    }

    /// Which of `digests` (at most `DIGESTS_MAX`) does the server lack?
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn missing_chunks(&self, digests: Vec<Digest>) -> Result<Vec<Digest>, ClientError> {
        let list: DigestList =
            self.send("POST", "/api/v1/content/missing", &DigestList { digests })?;
        Ok(list.digests)
    }

    /// Uploads frames of chunks, one after the other as in a pack.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn upload_chunks(
        &self,
        frames: &mut dyn Read,
        length: Option<u64>,
    ) -> Result<(), ClientError> {
        let path = "/api/v1/content/chunks";
        self.upload("POST", path, "application/octet-stream", frames, length)
            .map(|_: IgnoredAny| ())
    }

    /// Uploads a manifest.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn upload_manifest(&self, digest: &Digest, bytes: &[u8]) -> Result<(), ClientError> {
        let path = format!("/api/v1/content/manifests/{digest}");
        let mut body = bytes;
        self.upload(
            "PUT",
            &path,
            "application/octet-stream",
            &mut body,
            Some(bytes.len() as u64),
        )
        .map(|_: IgnoredAny| ())
    }

    /// All sequences, each in its latest version.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn sequences(&self) -> Result<Vec<SequenceRow>, ClientError> {
        self.get("/api/v1/sequences")
    }

    /// Checks a sequence by what is published and which machines are known.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn lint_sequence(&self, yaml: &str) -> Result<Vec<Finding>, ClientError> {
        let mut body = yaml.as_bytes();
        self.upload(
            "POST",
            "/api/v1/sequences/lint",
            "application/yaml",
            &mut body,
            Some(yaml.len() as u64),
        )
    }

    /// Stores a sequence: a new version if it changed.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn put_sequence(
        &self,
        name: &SequenceName,
        yaml: &str,
    ) -> Result<SequenceRow, ClientError> {
        let mut body = yaml.as_bytes();
        let path = format!("/api/v1/sequences/{name}");
        self.upload(
            "PUT",
            &path,
            "application/yaml",
            &mut body,
            Some(yaml.len() as u64),
        )
    }

    /// All versions of all prestages that were built.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn prestages(&self) -> Result<Vec<PrestageVersion>, ClientError> {
        self.get("/api/v1/prestages")
    }

    /// Defines a prestage.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn put_prestage(
        &self,
        name: &PrestageName,
        definition: &PrestageDefinition,
    ) -> Result<(), ClientError> {
        self.send("PUT", &format!("/api/v1/prestages/{name}"), definition)
            .map(|_: IgnoredAny| ())
    }

    /// What would be in the bundle, and why.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn plan_prestage(&self, name: &PrestageName) -> Result<PrestagePlan, ClientError> {
        self.get(&format!("/api/v1/prestages/{name}/plan"))
    }

    /// What changed from one version of a prestage to another.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn prestage_diff(
        &self,
        from: &PrestageId,
        to: &PrestageId,
    ) -> Result<PrestageDiff, ClientError> {
        let (from, to) = (query_value(&from.to_string()), query_value(&to.to_string()));
        self.get(&format!("/api/v1/prestage-diff?from={from}&to={to}"))
    }

    /// How far devices staged with a prestage are behind: those with one version, or with any.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn prestage_drift(
        &self,
        name: &PrestageName,
        version: Option<u32>,
    ) -> Result<PrestageDrift, ClientError> {
        let query = version
            .map(|version| format!("?version={version}"))
            .unwrap_or_default();
        self.get(&format!("/api/v1/prestages/{name}/drift{query}"))
    }

    /// Builds the bundle of a prestage and waits for it.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn build_prestage(&self, name: &PrestageName) -> Result<PrestageVersion, ClientError> {
        self.with_patience(BUILD_PATIENCE).send(
            "POST",
            &format!("/api/v1/prestages/{name}/build"),
            &(),
        )
    }

    /// The bytes of a bundle, from `from` on.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn download_bundle(
        &self,
        name: &PrestageName,
        version: u32,
        from: u64,
    ) -> Result<Stream, ClientError> {
        self.download(
            &format!("/api/v1/prestages/{name}/versions/{version}/bundle"),
            from,
        )
    }

    /// What is signed of a bundle, byte by byte.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn bundle_root(&self, name: &PrestageName, version: u32) -> Result<Stream, ClientError> {
        self.download(
            &format!("/api/v1/prestages/{name}/versions/{version}/root"),
            0,
        )
    }

    /// Brings the signature of a bundle.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn sign_bundle(
        &self,
        name: &PrestageName,
        version: u32,
        signature: &BundleSignature,
    ) -> Result<PrestageVersion, ClientError> {
        self.with_patience(BUILD_PATIENCE).send(
            "PUT",
            &format!("/api/v1/prestages/{name}/versions/{version}/signature"),
            signature,
        )
    }

    /// The keys that sign bundles, or did.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn keys(&self) -> Result<Vec<KeyRow>, ClientError> {
        self.get("/api/v1/trust/keys")
    }

    /// Adds a key.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn add_key(&self, key: &NewKey) -> Result<KeyRow, ClientError> {
        self.send("POST", "/api/v1/trust/keys", key)
    }

    /// Has a key sign what is built from now on.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn use_key(&self, name: &KeyName) -> Result<KeyRow, ClientError> {
        self.send("POST", &format!("/api/v1/trust/keys/{name}/use"), &())
    }

    /// Retires a key, for good.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn retire_key(&self, name: &KeyName) -> Result<KeyRow, ClientError> {
        self.send("POST", &format!("/api/v1/trust/keys/{name}/retire"), &())
    }

    /// What is to be signed before a deployment may write over the disks of its machines.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn warrant_request(&self, name: &DeploymentName) -> Result<WarrantRequest, ClientError> {
        self.get(&format!("/api/v1/deployments/{name}/warrants"))
    }

    /// Brings what was signed.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn bring_warrants(&self, file: &WarrantFile) -> Result<WarrantsTaken, ClientError> {
        let name = &file.deployment;
        self.send("PUT", &format!("/api/v1/deployments/{name}/warrants"), file)
    }

    /// Imports assets from CSV into a collection, or says what would happen.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn import_assets(
        &self,
        csv: &[u8],
        collection: Option<&CollectionName>,
        dry_run: bool,
    ) -> Result<AssetImportReport, ClientError> {
        let collection = collection
            .map(|name| format!("collection={}&", query_value(name.as_str())))
            .unwrap_or_default();
        let path = format!("/api/v1/assets/import?{collection}dry-run={dry_run}");
        let mut body = csv;
        self.upload("POST", &path, "text/csv", &mut body, Some(csv.len() as u64))
    }

    /// All collections.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn collections(&self) -> Result<Vec<CollectionRow>, ClientError> {
        self.get("/api/v1/collections")
    }

    /// Makes a collection or changes it.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn put_collection(
        &self,
        collection: &CollectionChange,
    ) -> Result<CollectionRow, ClientError> {
        self.send(
            "PUT",
            &format!("/api/v1/collections/{}", collection.name),
            collection,
        )
    }

    /// All deployments.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn deployments(&self) -> Result<Vec<Deployment>, ClientError> {
        self.get("/api/v1/deployments")
    }

    /// The variables of one scope name, or all of them.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn variables(
        &self,
        only: Option<(VariableScope, &str)>,
    ) -> Result<Vec<VariableRow>, ClientError> {
        let query = only
            .map(|(scope, name)| format!("?scope={scope}&name={}", query_value(name)))
            .unwrap_or_default();
        self.get(&format!("/api/v1/variables{query}"))
    }

    /// Sets and removes variables of one scope name, all of them or none.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn change_variables(&self, change: &VariableChange) -> Result<ScopeVariables, ClientError> {
        self.send("POST", "/api/v1/variables", change)
    }

    /// The variables a run on this device would see, and where each comes from.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn device_variables(&self, device: DeviceId) -> Result<DeviceVariables, ClientError> {
        self.get(&format!("/api/v1/devices/{device}/variables"))
    }

    /// How runs would go, before a machine is touched.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn plan_runs(&self, request: &PlanRequest) -> Result<PlanReply, ClientError> {
        self.with_patience(PLAN_PATIENCE)
            .send("POST", "/api/v1/plans", request)
    }

    /// All devices, as on the overview.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn devices(&self) -> Result<Vec<DeviceRow>, ClientError> {
        self.get("/api/v1/devices")
    }

    /// All runs.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn runs(&self) -> Result<Vec<RunRow>, ClientError> {
        self.get("/api/v1/runs")
    }

    /// The runs that fit, newest first: names and values as in the address of the list of runs.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn runs_where(&self, filter: &[(&str, &str)]) -> Result<Vec<RunRow>, ClientError> {
        self.get(&format!("/api/v1/runs?{}", query(filter)))
    }

    /// One run, with its steps and log.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn run(&self, run: RunId) -> Result<RunDetail, ClientError> {
        self.get(&format!("/api/v1/runs/{run}"))
    }

    /// Hands in a receipt from a boot medium.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn put_receipt(&self, receipt: &Receipt) -> Result<(), ClientError> {
        self.send("POST", "/api/v1/receipts", receipt)
            .map(|_: IgnoredAny| ())
    }

    /// Hands in many receipts at once, or asks what would become of them.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn import_receipts(&self, wanted: &ImportReceipts) -> Result<ReceiptImport, ClientError> {
        self.send("POST", "/api/v1/receipts/import", wanted)
    }
}

/// Names and values as a query, without its `?`.
pub(crate) fn query(pairs: &[(&str, &str)]) -> String {
    let pairs = pairs
        .iter()
        .map(|(name, value)| format!("{name}={}", query_value(value)));
    pairs.collect::<Vec<_>>().join("&")
}

/// A value in a query: everything but the unreserved characters (RFC 3986, section 2.3) percent-encoded.
pub(crate) fn query_value(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
