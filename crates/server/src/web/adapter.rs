//! The server's state as the source of the pages.

use axum::Json;
use axum::extract::State;
use axum::http::{Extensions, HeaderMap, HeaderValue};
use tokio::sync::{broadcast, watch};
use wire::admin_api::{
    CollectionRow, Deployment, DeviceRow, PackageRow, PrestageVersion, RunDetail, SequenceRow,
};
use wire::device_plan::DevicePlan;
use wire::names::{DeviceId, RunId};

use super::source::{Changes, Refusal, Source, SourceError, Touched};
use crate::error::Failure;
use crate::people::auth::{LoginError, SessionToken, User};
use crate::state::{AppState, Change};

/// The changes of the server's state, until it stops.
pub struct StateChanges {
    changes: broadcast::Receiver<Change>,
    stopping: watch::Receiver<bool>,
}

impl Changes for StateChanges {
    async fn next(&mut self) -> Option<Touched> {
        let change = tokio::select! {
            _ = self.stopping.wait_for(|stopping| *stopping) => return None,
            change = self.changes.recv() => change,
        };
        match change {
            Ok(Change::Device(device)) => Some(Touched::Device(device)),
            Ok(Change::Run(run)) => Some(Touched::Run(run)),
            Err(broadcast::error::RecvError::Lagged(_)) => Some(Touched::Anything),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

/// Says what was tried when the state did not answer.
fn cannot(what: &'static str) -> impl FnOnce(Failure) -> SourceError {
    move |failure| SourceError {
        what,
        source: Box::new(failure),
    }
}

impl Source for AppState {
    type Changes = StateChanges;

    fn user(&self, extensions: &Extensions) -> Option<String> {
        extensions.get::<User>().map(|user| user.name.clone())
    }

    fn changes(&self) -> StateChanges {
        StateChanges {
            changes: self.subscribe(),
            stopping: self.stopping(),
        }
    }

    async fn device_rows(&self) -> Result<Vec<DeviceRow>, SourceError> {
        Self::device_rows(self)
            .await
            .map_err(cannot("read the devices"))
    }

    async fn device_row(&self, device: DeviceId) -> Result<Option<DeviceRow>, SourceError> {
        Self::device_row(self, device)
            .await
            .map_err(cannot("read a device"))
    }

    async fn run_detail(&self, run: RunId) -> Result<Option<RunDetail>, SourceError> {
        Self::run_detail(self, run)
            .await
            .map_err(cannot("read a run"))
    }

    async fn device_plan(&self, serial: &str) -> Result<Option<DevicePlan>, SourceError> {
        Self::device_plan(self, serial)
            .await
            .map_err(cannot("plan a run"))
    }

    async fn collections(&self) -> Result<Vec<CollectionRow>, SourceError> {
        Self::collections(self)
            .await
            .map_err(cannot("read the collections"))
    }

    async fn deployments(&self) -> Result<Vec<Deployment>, SourceError> {
        Self::deployments(self)
            .await
            .map_err(cannot("read the deployments"))
    }

    async fn sequences(&self) -> Result<Vec<SequenceRow>, SourceError> {
        crate::catalog::sequences::list(State(self.clone()))
            .await
            .map(|Json(rows)| rows)
            .map_err(cannot("read the task sequences"))
    }

    async fn packages(&self) -> Result<Vec<PackageRow>, SourceError> {
        crate::catalog::packages::list(State(self.clone()))
            .await
            .map(|Json(rows)| rows)
            .map_err(cannot("read the packages"))
    }

    async fn prestages(&self) -> Result<Vec<PrestageVersion>, SourceError> {
        Self::prestages(self)
            .await
            .map_err(cannot("read the prestages"))
    }

    async fn login(
        &self,
        user: &str,
        password: &str,
        new_password: Option<&str>,
    ) -> Result<HeaderValue, Refusal> {
        match Self::login(self, user, password, new_password).await {
            Ok(session) => Ok(session.cookie()),
            Err(LoginError::NewPasswordNeeded) => Err(Refusal::NewPasswordNeeded),
            Err(LoginError::Failed(failure)) => {
                Err(Refusal::Failed(cannot("check a password")(*failure)))
            }
            Err(error @ LoginError::Throttled { .. }) => {
                Err(Refusal::Throttled(sentence(&error.to_string())))
            }
            Err(error) => Err(Refusal::Told(sentence(&error.to_string()))),
        }
    }

    async fn logout(&self, headers: &HeaderMap) -> Result<HeaderValue, SourceError> {
        if let Some(session) = SessionToken::from_headers(headers) {
            Self::logout(self, &session)
                .await
                .map_err(cannot("end a session"))?;
        }
        Ok(SessionToken::removal_cookie())
    }
}

/// An error's text as a sentence for a page.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    chars
        .next()
        .map(|first| first.to_uppercase().chain(chars).chain(['.']).collect())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #[test]
    fn errors_become_sentences() {
        assert_eq!(
            super::sentence("the password is wrong"),
            "The password is wrong."
        );
        assert_eq!(super::sentence(""), "");
    }
}
