//! Secrets for a run, from the server. Each is asked for when the step that needs it runs, sealed to a key that was made for this run,
//! and nothing of it is kept here: neither the secret nor, once the machine is off, the key.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use client::{ClientError, RunKey};
use sequence::ports::{Progress, StepError};
use sequence::secret::{Secret, wipe};
use wire::device_api::{SECRET_CONTEXT, SecretRequest, SecretWanted};
use wire::names::{RunId, SecretName};

use crate::asking::Asking;
use crate::connection::Connection;

/// The server's word for a release that another key has had, or whose time is over: a new session may have one more.
const RELEASED: &str = "released";

/// What the secrets of one run are asked for with.
pub struct Secrets {
    connection: Arc<Connection>,
    run: RunId,
    /// Made at the first need.
    key: Mutex<Option<RunKey>>,
}

impl Secrets {
    /// For this run. Nothing is asked for yet.
    pub(crate) fn new(connection: &Arc<Connection>, run: RunId) -> Self {
        Self {
            connection: Arc::clone(connection),
            run,
            key: Mutex::default(),
        }
    }

    /// The secret of this name. Waits for the server as long as it isn't reached.
    ///
    /// # Errors
    /// The server doesn't release it, or the step is to stop.
    pub fn get(&self, name: &SecretName, progress: &dyn Progress) -> Result<Secret, StepError> {
        let mut key = self.key.lock().unwrap_or_else(PoisonError::into_inner);
        let mut asked = self.ask(&mut key, name, progress);
        if asked
            .as_ref()
            .is_err_and(|error| code(error) == Some(RELEASED))
        {
            *key = None;
            self.connection.forget_session();
            asked = self.ask(&mut key, name, progress);
        }
        asked.map_err(|error| not_released(name, error))
    }

    fn ask(
        &self,
        key: &mut Option<RunKey>,
        name: &SecretName,
        progress: &dyn Progress,
    ) -> Result<Secret> {
        let key = match key {
            Some(key) => key,
            none => none.insert(self.connection.run_key()?),
        };
        let wanted = SecretWanted {
            run: self.run,
            secret: name.clone(),
            run_key: key.public(),
        };
        let body = serde_json::to_string(&wanted).context("cannot write the request")?;
        let signature = self
            .connection
            .sign(&[SECRET_CONTEXT, body.as_bytes()].concat())?;
        let request = SecretRequest { signature, body };
        let what = format!("the secret {name}");
        let answer = Asking::new(&self.connection, progress, &what)
            .ask(|session| session.secret(self.run, &request))?;
        let bytes = key.open(&answer, &request.body)?;
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Secret::new(text)),
            Err(error) => {
                wipe(&mut error.into_bytes());
                anyhow::bail!("the secret is no text")
            }
        }
    }
}

fn refusal(error: &anyhow::Error) -> Option<&ClientError> {
    let error = error.downcast_ref::<ClientError>()?;
    (!error.is_temporary()).then_some(error)
}

fn code(error: &anyhow::Error) -> Option<&str> {
    refusal(error)?.code()
}

/// What the server refuses it refuses at the next attempt, too.
fn not_released(name: &SecretName, error: anyhow::Error) -> StepError {
    let what = format!("the secret {name} was not released to this machine");
    match refusal(&error) {
        Some(ClientError::Refused { error: said, .. }) => {
            let refused = StepError::refused(what).because(said.message.clone());
            match &said.hint {
                Some(hint) => refused.hint(hint.clone()),
                None => refused,
            }
        }
        _ => StepError::new(what).because(error),
    }
}

#[cfg(test)]
mod tests {
    use client::ClientError;
    use wire::device_api::ApiError;

    use super::{code, not_released};

    fn refused(status: u16) -> anyhow::Error {
        let error = ApiError {
            code: "released".into(),
            message: "it was released already".into(),
            hint: Some("check in again".into()),
        };
        let url = "https://forestage.example".into();
        ClientError::Refused { url, status, error }.into()
    }

    #[test]
    fn a_refusal_is_final_and_says_what_the_server_said() {
        let name = "domain-join".parse().unwrap();
        let error = not_released(&name, refused(409));
        assert!(error.is_final);
        let expected = [
            "the secret domain-join was not released to this machine",
            "it was released already",
        ];
        assert_eq!(error.chain(), expected);
        assert_eq!(error.hint.as_deref(), Some("check in again"));
        assert_eq!(code(&refused(409)), Some("released"));
    }

    #[test]
    fn a_server_that_is_broken_may_release_it_later() {
        let name = "domain-join".parse().unwrap();
        for error in [refused(503), anyhow::anyhow!("no network")] {
            assert_eq!(code(&error), None);
            assert!(!not_released(&name, error).is_final);
        }
    }
}
