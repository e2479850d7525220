//! What the pages need from the server, as a port: the pages know no database, and their tests need none.

use std::future::Future;

use axum::http::{Extensions, HeaderMap, HeaderValue};
use wire::admin_api::{
    CollectionRow, Deployment, DeviceRow, PackageRow, PrestageVersion, RunDetail, SequenceRow,
};
use wire::device_plan::DevicePlan;
use wire::names::{DeviceId, RunId};

/// The server could not answer; the page says so, the log says why.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what}")]
pub struct SourceError {
    /// What was tried.
    pub what: &'static str,
    /// Why it did not work.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Why someone is not signed in.
#[derive(Debug)]
pub enum Refusal {
    /// The password is a one-time password: a new one must come with it.
    NewPasswordNeeded,
    /// Told to the person as it stands.
    Told(String),
    /// Too many tries; told as it stands.
    Throttled(String),
    /// The server could not check.
    Failed(SourceError),
}

/// What has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Touched {
    /// This device.
    Device(DeviceId),
    /// This run.
    Run(RunId),
    /// Changes were missed: anything.
    Anything,
}

/// Changes as they happen.
pub trait Changes: Send + 'static {
    /// Waits for the next change; `None` when the server stops. Nothing is lost if the wait is given up.
    fn next(&mut self) -> impl Future<Output = Option<Touched>> + Send;
}

type Answer<T> = Result<T, SourceError>;

/// What the pages show and do.
pub trait Source: Clone + Send + Sync + 'static {
    /// How changes arrive.
    type Changes: Changes;

    /// Who is calling, as the server's guard has found out.
    fn user(&self, extensions: &Extensions) -> Option<String>;
    /// Begins to listen for changes.
    fn changes(&self) -> Self::Changes;
    /// All devices.
    fn device_rows(&self) -> impl Future<Output = Answer<Vec<DeviceRow>>> + Send;
    /// One device.
    fn device_row(
        &self,
        device: DeviceId,
    ) -> impl Future<Output = Answer<Option<DeviceRow>>> + Send;
    /// One run.
    fn run_detail(&self, run: RunId) -> impl Future<Output = Answer<Option<RunDetail>>> + Send;
    /// How the run that is due would go on the device with this serial number.
    fn device_plan(&self, serial: &str) -> impl Future<Output = Answer<Option<DevicePlan>>> + Send;
    /// All collections.
    fn collections(&self) -> impl Future<Output = Answer<Vec<CollectionRow>>> + Send;
    /// All deployments.
    fn deployments(&self) -> impl Future<Output = Answer<Vec<Deployment>>> + Send;
    /// All task sequences.
    fn sequences(&self) -> impl Future<Output = Answer<Vec<SequenceRow>>> + Send;
    /// All packages.
    fn packages(&self) -> impl Future<Output = Answer<Vec<PackageRow>>> + Send;
    /// All prestages that were built.
    fn prestages(&self) -> impl Future<Output = Answer<Vec<PrestageVersion>>> + Send;
    /// Signs in; answers with the `Set-Cookie` header.
    fn login(
        &self,
        user: &str,
        password: &str,
        new_password: Option<&str>,
    ) -> impl Future<Output = Result<HeaderValue, Refusal>> + Send;
    /// Signs out; answers with the `Set-Cookie` header.
    fn logout(&self, headers: &HeaderMap) -> impl Future<Output = Answer<HeaderValue>> + Send;
}
