//! The service itself: listens, speaks TLS, hands requests to the routes, stops gracefully.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use camino::Utf8PathBuf;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;
use wire::boot_config::Trust;

use crate::connection::{CLIENT, Connection, Counted};
use crate::db::DatabaseUrl;
use crate::error::{Failure, chain};
use crate::limits::{
    CONNECTIONS_MAX, HANDSHAKE_TIME_MAX, HEAD_TIME_MAX, SECRETS_OPEN_FOR, STALLED_AFTER,
    STOP_TIME_MAX,
};
use crate::people::oidc::OidcConfig;
use crate::proxies::{TrustedProxy, client_address};
use crate::routes;
use crate::runs::events::charge;
use crate::state::{AppState, stopped};
use crate::{secret, tls};

/// What the server needs to know to start.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// The folder with everything the server keeps; made if it isn't there.
    pub data: Utf8PathBuf,
    /// Where to listen; port 0 takes any free one.
    pub listen: SocketAddr,
    /// What devices and people call it, such as `https://forestage.example:8443`. The port 0 is replaced by the real
    /// one. Empty: `https://localhost` with the real port.
    pub urls: Vec<String>,
    /// Which PostgreSQL database to use; without one, an SQLite file in the data folder.
    pub database: Option<DatabaseUrl>,
    /// Proxies that are believed whom they speak for.
    pub trusted_proxies: Vec<TrustedProxy>,
    /// How long the server waits for others.
    pub patience: Patience,
    /// What would write over the disks of more machines than this awaits a second administrator; 0 for never.
    pub second_person_above: u32,
    /// The identity provider where people may sign in beside the accounts of the server itself.
    pub oidc: Option<OidcConfig>,
}

/// The longest import takes hours, and may be interrupted by a night.
const CONTENT_SETTLES_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// How long the server waits for others. The default is for machines and networks as they are; tests wait less.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patience {
    /// A run that is silent for so long has stalled, and who wants to know is told.
    pub stalled_after: Duration,
    /// The waits between attempts to deliver a message of a webhook; after the last one it is given up.
    pub webhook_waits: Vec<Duration>,
    /// Content that came within this time may be about to be published, and isn't collected.
    pub content_settles_after: Duration,
    /// How long a secret that was released is given out again to the key it was released to, if that has another session.
    pub secrets_open_for: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            stalled_after: STALLED_AFTER,
            webhook_waits: crate::webhooks::sender::WAITS.to_vec(),
            content_settles_after: CONTENT_SETTLES_AFTER,
            secrets_open_for: SECRETS_OPEN_FOR,
        }
    }
}

/// The server listens.
#[derive(Debug, Clone)]
pub struct Ready {
    /// Where.
    pub address: SocketAddr,
    /// What it is called.
    pub urls: Vec<String>,
    /// The certificate of its authority, for programs that are to trust it.
    pub ca_path: Utf8PathBuf,
    /// The one-time password of the user `admin`; at the very first start only.
    pub one_time_login: Option<String>,
}

/// Why the server could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The data folder can't be used.
    #[error("cannot open the data folder {path}")]
    Data {
        /// The folder.
        path: Utf8PathBuf,
        /// Why.
        source: Box<Failure>,
    },
    /// The address can't be used.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// Signals can't be heard.
    #[error("cannot listen for the stop signal")]
    Signal {
        /// Why.
        source: std::io::Error,
    },
}

/// Serves until SIGTERM or ctrl-c.
///
/// # Errors
/// If it can't start.
pub async fn serve(config: ServerConfig, ready: impl FnOnce(Ready)) -> Result<(), ServerError> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .map_err(|source| ServerError::Signal { source })?;
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            result = tokio::signal::ctrl_c() => {
                if let Err(error) = result {
                    tracing::error!(error = %chain(&error), "cannot hear ctrl-c any more; stopping");
                }
            }
        }
    };
    serve_until(config, ready, stop).await
}

/// Serves until `stop` is done.
///
/// # Errors
/// If it can't start.
pub async fn serve_until(
    config: ServerConfig,
    ready: impl FnOnce(Ready),
    stop: impl Future<Output = ()>,
) -> Result<(), ServerError> {
    let in_data = |source| in_data(&config, source);
    secret::private_folder(&config.data).map_err(in_data)?;
    let listener =
        TcpListener::bind(config.listen)
            .await
            .map_err(|source| ServerError::Listen {
                address: config.listen,
                source,
            })?;
    let address = listener
        .local_addr()
        .map_err(|source| ServerError::Listen {
            address: config.listen,
            source,
        })?;
    let urls = real_urls(&config.urls, address);
    let (stopper, stopping) = watch::channel(false);
    let (state, tls) = open(&config, &urls, stopping.clone()).await?;
    let fleet_view = tokio::spawn(crate::fleet::view::keep(state.clone()));
    let one_time_login = state.first_user().await.map_err(in_data)?;
    let server = Server {
        acceptor: TlsAcceptor::from(tls.config),
        app: routes::app(state.clone()).into_router(),
        trusted_proxies: config.trusted_proxies.into(),
        state: state.clone(),
        stopping,
    };
    tracing::info!(%address, "listening on {address}");
    ready(Ready {
        address,
        urls,
        ca_path: tls.ca_path,
        one_time_login,
    });
    let mut connections = JoinSet::new();
    connections.spawn(crate::pupils::personal::erase_in_time(state.clone()));
    connections.spawn(crate::webhooks::sender::run(state.clone()));
    connections.spawn(crate::runs::stalled::watch(state.clone()));
    connections.spawn(crate::catalog::patches::make(state.clone()));
    tokio::select! {
        () = stop => {}
        () = accept(&listener, &server, &mut connections) => {}
    }
    drop(listener);
    tracing::info!(
        "stopping; open requests may go on for {} s",
        STOP_TIME_MAX.as_secs()
    );
    // Everyone who listens may be gone already.
    let _listeners = stopper.send(true);
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_TIME_MAX, all).await.is_err() {
        connections.shutdown().await;
    }
    if let Err(error) = fleet_view.await {
        tracing::error!(error = %chain(&error), "the rows of the fleet were not kept up to date");
    }
    state.db().close().await;
    Ok(())
}

fn in_data(config: &ServerConfig, source: Failure) -> ServerError {
    ServerError::Data {
        path: config.data.clone(),
        source: Box::new(source),
    }
}

/// Opens all that is behind the network.
pub(crate) async fn open(
    config: &ServerConfig,
    urls: &[String],
    stopping: watch::Receiver<bool>,
) -> Result<(AppState, tls::Tls), ServerError> {
    let in_data = |source| in_data(config, source);
    secret::private_folder(&config.data).map_err(in_data)?;
    let tls = tls::open(&config.data.join("tls"), urls).map_err(in_data)?;
    let trust = Trust {
        format: 1,
        server_urls: urls.to_vec(),
        ca_pem: tls.ca_pem.clone(),
        bundle_keys: Vec::new(),
        wipe_keys: Vec::new(),
    };
    let state = AppState::open(
        &config.data,
        config.database.as_ref(),
        trust,
        config.oidc.clone(),
        stopping,
        config.patience.clone(),
        config.second_person_above,
    )
    .await
    .map_err(in_data)?;
    Ok((state, tls))
}

#[derive(Clone)]
struct Server {
    acceptor: TlsAcceptor,
    app: axum::Router,
    trusted_proxies: Arc<[TrustedProxy]>,
    state: AppState,
    stopping: watch::Receiver<bool>,
}

async fn accept(listener: &TcpListener, server: &Server, connections: &mut JoinSet<()>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, peer)) => {
                    let server = server.clone();
                    connections.spawn(async move {
                        server.connection(socket, peer.ip()).await;
                        drop(place);
                    });
                }
                // Such as too many open files: others must end first.
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "cannot accept a connection");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

impl Server {
    async fn connection(self, socket: TcpStream, peer: IpAddr) {
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(error = %chain(&error), "cannot set TCP_NODELAY");
        }
        let connection = Connection::default();
        let counted = Counted {
            socket,
            connection: connection.clone(),
        };
        let stream =
            match tokio::time::timeout(HANDSHAKE_TIME_MAX, self.acceptor.accept(counted)).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => {
                    return tracing::debug!(error = %chain(&error), "a TLS handshake failed");
                }
                Err(_) => return tracing::debug!("a TLS handshake took too long"),
            };
        let app = self.app.clone();
        let for_requests = connection.clone();
        let proxies = Arc::clone(&self.trusted_proxies);
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let app = app.clone();
            let connection = for_requests.clone();
            let client = client_address(peer, request.headers(), &proxies);
            CLIENT.scope(client, async move {
                Ok::<_, Infallible>(answer(app, request.map(Body::new), connection).await)
            })
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME_MAX);
        let serving = http.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(serving);
        let result = tokio::select! {
            result = serving.as_mut() => result,
            () = stopped(self.stopping.clone()) => {
                serving.as_mut().graceful_shutdown();
                serving.as_mut().await
            }
        };
        if let Err(error) = result {
            tracing::debug!(error = %chain(&error), "a connection ended early");
        }
        if let Err(error) = charge(&self.state, &connection).await {
            tracing::error!(error = %chain(&error), "cannot store the bytes of a connection");
        }
    }
}

pub(crate) async fn answer(
    app: axum::Router,
    mut request: Request<Body>,
    connection: Connection,
) -> axum::response::Response {
    request.extensions_mut().insert(connection);
    match app.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

fn real_urls(urls: &[String], address: SocketAddr) -> Vec<String> {
    if urls.is_empty() {
        return vec![format!("https://localhost:{}", address.port())];
    }
    let port = |url: &String| {
        let url = url.trim_end_matches('/');
        url.strip_suffix(":0").map_or_else(
            || url.to_owned(),
            |start| format!("{start}:{}", address.port()),
        )
    };
    urls.iter().map(port).collect()
}
