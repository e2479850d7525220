//! A server without a network around it: the program that it is part of asks it directly, and says when it looks around.

use std::net::{IpAddr, Ipv4Addr};

use axum::body::{Body, to_bytes};
use axum::http::{Request, Response, StatusCode};
use tokio::sync::watch;

use crate::connection::{CLIENT, Connection};
use crate::error::Failure;
use crate::routes;
use crate::runs::stalled;
use crate::serve::{ServerConfig, ServerError, answer, open};
use crate::state::AppState;

/// Longer than any answer that is not a stream of content.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// A server that is asked directly. Dropped, it is as gone as one that was killed.
pub struct InProcess {
    state: AppState,
    app: axum::Router,
    _stopper: watch::Sender<bool>,
}

impl InProcess {
    /// Opens the server's folder. Also the one-time password of the user `admin`, at the very first start.
    ///
    /// # Errors
    /// The folder can't be used.
    pub async fn open(config: &ServerConfig) -> Result<(Self, Option<String>), ServerError> {
        let (stopper, stopping) = watch::channel(false);
        let (state, _) = open(config, &config.urls, stopping).await?;
        let first = state.first_user().await;
        let one_time_login = first.map_err(|source| ServerError::Data {
            path: config.data.clone(),
            source: Box::new(source),
        })?;
        let server = Self {
            app: routes::app(state.clone()).into_router(),
            state,
            _stopper: stopper,
        };
        Ok((server, one_time_login))
    }

    /// The answer to a request from this computer.
    pub async fn answer(&self, request: Request<Vec<u8>>) -> Response<Vec<u8>> {
        let request = request.map(Body::from);
        let answered = answer(self.app.clone(), request, Connection::default());
        let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let (parts, body) = CLIENT.scope(here, answered).await.into_parts();
        match to_bytes(body, ANSWER_BYTES_MAX).await {
            Ok(bytes) => Response::from_parts(parts, bytes.to_vec()),
            Err(error) => {
                let mut broken = Response::new(error.to_string().into_bytes());
                *broken.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                broken
            }
        }
    }

    /// Looks once for runs that have stalled.
    ///
    /// # Errors
    /// The database can't be read or written.
    pub async fn look_for_stalled(&self) -> Result<(), Failure> {
        stalled::round(&self.state, self.state.stalled_after()).await
    }

    /// Stops with everything on the disk.
    pub async fn close(self) {
        self.state.db().close().await;
    }
}
