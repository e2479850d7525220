//! The whole sign-in against a small provider on this very machine that lies when it is told to.
//! The real provider is met by `e2e`'s scenario `oidc`.

use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::extract::{Form, State};
use axum::http::{Request, StatusCode, header};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tower::ServiceExt as _;
use wire::boot_config::Trust;

use super::config::OidcConfig;
use super::token::tests::Signer;
use crate::routes::page::encode;
use crate::state::AppState;

/// What the provider says at the next sign-in.
struct Lie {
    signer: Signer,
    stranger: Signer,
    /// Changes the claims of the next token.
    change: fn(&mut Value),
    /// Whether the next token is signed by someone else.
    is_forged: bool,
    /// Whether it answers that it can't answer.
    is_down: bool,
    nonce: String,
    challenge: String,
    issuer: String,
}

type Shared = Arc<Mutex<Lie>>;

async fn provider() -> (String, Shared) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let issuer = format!("http://{}", listener.local_addr().unwrap());
    let lie = Arc::new(Mutex::new(Lie {
        signer: Signer::new(),
        stranger: Signer::new(),
        change: |_| {},
        is_forged: false,
        is_down: false,
        nonce: String::new(),
        challenge: String::new(),
        issuer: issuer.clone(),
    }));
    let app = Router::new()
        .route("/.well-known/openid-configuration", get(configuration))
        .route("/keys", get(keys))
        .route("/token", post(token))
        .with_state(Arc::clone(&lie));
    tokio::spawn(async move { axum::serve(listener, app).await });
    (issuer, lie)
}

async fn configuration(State(lie): State<Shared>) -> Json<Value> {
    let issuer = lie.lock().unwrap().issuer.clone();
    Json(json!({
        "issuer": issuer, "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"), "jwks_uri": format!("{issuer}/keys"),
    }))
}

async fn keys(State(lie): State<Shared>) -> Json<Value> {
    Json(json!({ "keys": [lie.lock().unwrap().signer.jwk(), { "kty": "oct", "k": "x" }] }))
}

async fn token(
    State(lie): State<Shared>,
    headers: axum::http::HeaderMap,
    Form(form): Form<std::collections::HashMap<String, String>>,
) -> Result<Json<Value>, StatusCode> {
    use base64::Engine as _;
    let lie = lie.lock().unwrap();
    if lie.is_down {
        return Err(StatusCode::SERVICE_UNAVAILABLE);
    }
    // As RFC 7636 wants it; strict providers refuse others.
    let verifier = &form["code_verifier"];
    let is_fine = |char: char| char.is_ascii_alphanumeric() || "-._~".contains(char);
    assert!((43..=128).contains(&verifier.len()) && verifier.chars().all(is_fine));
    let challenge = ring::digest::digest(&ring::digest::SHA256, verifier.as_bytes());
    let challenge = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(challenge);
    // `forestage:s3cret`
    let is_us = headers[header::AUTHORIZATION] == "Basic Zm9yZXN0YWdlOnMzY3JldA==";
    if challenge != lie.challenge || form["code"] != "good" || !is_us {
        return Err(StatusCode::BAD_REQUEST);
    }
    let now = jiff::Timestamp::now().as_second();
    let mut claims = json!({
        "iss": lie.issuer, "aud": "forestage", "sub": "s1", "nonce": lie.nonce, "iat": now, "exp": now + 60,
        "preferred_username": "kari", "name": "Kari Nordmann", "groups": ["all", "bjo"], "email": "admin@county.example",
    });
    (lie.change)(&mut claims);
    let signer = match lie.is_forged {
        true => &lie.stranger,
        false => &lie.signer,
    };
    let token = signer.sign(&json!({ "alg": "ES256", "kid": "k" }), &claims);
    Ok(Json(
        json!({ "access_token": "a", "token_type": "Bearer", "id_token": token }),
    ))
}

struct World {
    app: Router,
    state: AppState,
    lie: Shared,
    _folder: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let (issuer, lie) = provider().await;
        let folder = tempfile::tempdir().unwrap();
        let data = camino::Utf8Path::from_path(folder.path()).unwrap();
        let text = format!(
            "issuer: {issuer}\nclient-id: forestage\nclient-secret-file: s\nroles:\n  - {{ group: it, role: admin }}\n  \
             - {{ group: bjo, role: school-admin, site: BJO }}\n"
        );
        let mut config = OidcConfig::parse(&text).unwrap();
        config.secret = "s3cret".into();
        let trust = Trust {
            format: 1,
            server_urls: vec!["https://forestage.example".into()],
            ca_pem: String::new(),
            bundle_keys: Vec::new(),
            wipe_keys: Vec::new(),
        };
        let (_stop, stopping) = tokio::sync::watch::channel(false);
        let state = AppState::open(
            data,
            None,
            trust,
            Some(config),
            stopping,
            crate::serve::Patience::default(),
            0,
        )
        .await
        .unwrap();
        state.first_user().await.unwrap();
        Self {
            app: crate::routes::app(state.clone()).into_router(),
            state,
            lie,
            _folder: folder,
        }
    }

    async fn get(&self, path: &str, cookie: &str) -> Response {
        let request = Request::builder().uri(path).header(header::COOKIE, cookie);
        let request = request.body(Body::empty()).unwrap();
        self.app.clone().oneshot(request).await.unwrap()
    }

    /// Begins a sign-in: the state, and the cookie that binds it to the browser.
    async fn begin(&self) -> (String, String) {
        let answer = self.get("/login/oidc?next=/devices", "").await;
        assert_eq!(answer.status(), StatusCode::SEE_OTHER);
        let to = answer.headers()[header::LOCATION]
            .to_str()
            .unwrap()
            .to_owned();
        let part = |name: &str| {
            let (_, rest) = to.split_once(&format!("{name}=")).unwrap();
            rest.split('&').next().unwrap().to_owned()
        };
        assert_eq!(part("code_challenge_method"), "S256");
        assert_eq!(
            part("redirect_uri"),
            encode("https://forestage.example/login/oidc/back")
        );
        assert!(!to.contains("s3cret"));
        let mut lie = self.lie.lock().unwrap();
        lie.nonce = part("nonce");
        lie.challenge = part("code_challenge");
        let cookie = answer.headers()[header::SET_COOKIE].to_str().unwrap();
        let cookie = cookie.split(';').next().unwrap().to_owned();
        (part("state"), cookie)
    }

    /// A whole sign-in: the session's cookie, or the code of the refusal.
    async fn sign_in(&self) -> Result<String, String> {
        let (state, cookie) = self.begin().await;
        answer_of(
            self.get(
                &format!("/login/oidc/back?code=good&state={state}"),
                &cookie,
            )
            .await,
        )
        .await
    }

    async fn sign_in_with(&self, change: fn(&mut Value)) -> Result<String, String> {
        self.lie.lock().unwrap().change = change;
        self.sign_in().await
    }

    async fn me(&self, cookie: &str) -> Value {
        let answer = self.get("/api/v1/me", cookie).await;
        let bytes = axum::body::to_bytes(answer.into_body(), 1 << 20)
            .await
            .unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }
}

async fn answer_of(answer: Response) -> Result<String, String> {
    let status = answer.status();
    let cookies = answer.headers().get_all(header::SET_COOKIE).iter();
    let session = cookies
        .filter_map(|cookie| cookie.to_str().ok()?.split(';').next())
        .find(|cookie| cookie.starts_with("__Host-forestage="))
        .map(str::to_owned);
    let bytes = axum::body::to_bytes(answer.into_body(), 1 << 20)
        .await
        .unwrap();
    if status.is_success() {
        assert!(String::from_utf8_lossy(&bytes).contains("0;url=/devices"));
        return Ok(session.unwrap());
    }
    assert_eq!(session, None, "a refusal came with a session");
    let said: Value = serde_json::from_slice(&bytes).unwrap();
    Err(said["code"].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_the_provider_knows_gets_in_as_what_their_groups_say() {
    let world = World::new().await;
    let me = world.me(&world.sign_in().await.unwrap()).await;
    assert_eq!(me["user"]["name"], "kari");
    assert_eq!(
        (me["user"]["role"].as_str(), me["user"]["site"].as_str()),
        (Some("school-admin"), Some("BJO"))
    );
    // The same person with another name and another group is the same account, and something else now.
    let session = world
        .sign_in_with(|claims| {
            claims["preferred_username"] = "kari.ny".into();
            claims["groups"] = json!(["it"]);
        })
        .await;
    let me = world.me(&session.unwrap()).await;
    assert_eq!(
        (me["user"]["name"].as_str(), me["user"]["role"].as_str()),
        (Some("kari"), Some("admin"))
    );
    let signed_in: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM audit WHERE action = 'signed-in' AND who = 'kari'",
    )
    .fetch_one(world.state.db().read())
    .await
    .unwrap();
    assert_eq!(signed_in, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_takes_over_an_account_by_its_name() {
    let world = World::new().await;
    let session = world
        .sign_in_with(|claims| claims["preferred_username"] = "admin".into())
        .await;
    let me = world.me(&session.unwrap()).await;
    assert_eq!(
        (me["user"]["name"].as_str(), me["user"]["role"].as_str()),
        (Some("admin@127.0.0.1"), Some("school-admin"))
    );
    // Another person with the same name at the same provider finds no name left.
    let other = world
        .sign_in_with(|claims| {
            claims["sub"] = "s2".into();
            claims["preferred_username"] = "admin".into();
        })
        .await;
    assert_eq!(other, Err("name-taken".into()));
    // And an account of the provider has no password here, not even an empty one.
    for password in ["", "x"] {
        let login = world.state.login("admin@127.0.0.1", password, None).await;
        assert!(matches!(login, Err(crate::people::auth::LoginError::Wrong)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_left_all_groups_is_out_at_once() {
    let world = World::new().await;
    let session = world.sign_in().await.unwrap();
    let refused = world
        .sign_in_with(|claims| claims["groups"] = json!(["all"]))
        .await;
    assert_eq!(refused, Err("no-role".into()));
    assert_eq!(
        world.get("/api/v1/me", &session).await.status(),
        StatusCode::UNAUTHORIZED
    );
    let stranger = world
        .sign_in_with(|claims| {
            claims["sub"] = "s9".into();
            claims["groups"] = Value::Null;
        })
        .await;
    assert_eq!(stranger, Err("no-role".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_lies_signs_nobody_in() {
    let world = World::new().await;
    let lies: [fn(&mut Value); 6] = [
        |claims| claims["nonce"] = "other".into(),
        |claims| claims["aud"] = "another".into(),
        |claims| claims["iss"] = "https://evil.example".into(),
        |claims| claims["exp"] = 1_000_000_000.into(),
        |claims| claims["iat"] = 9_000_000_000_u64.into(),
        |claims| claims["sub"] = "".into(),
    ];
    for lie in lies {
        assert_eq!(world.sign_in_with(lie).await, Err("bad-token".into()));
    }
    world.lie.lock().unwrap().is_forged = true;
    assert_eq!(world.sign_in_with(|_| {}).await, Err("bad-token".into()));
    let accounts: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM users")
        .fetch_one(world.state.db().read())
        .await
        .unwrap();
    assert_eq!(accounts, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_is_good_once_and_only_in_the_browser_that_began_it() {
    let world = World::new().await;
    let back = |state: &str| format!("/login/oidc/back?code=good&state={state}");
    let (state, cookie) = world.begin().await;
    // Someone else's browser, led here by a link.
    for foreign in ["", "__Host-forestage-oidc=other"] {
        let answer = answer_of(world.get(&back(&state), foreign).await).await;
        assert_eq!(answer, Err("other-browser".into()));
    }
    let answer = answer_of(
        world
            .get(&back("made-up"), "__Host-forestage-oidc=made-up")
            .await,
    )
    .await;
    assert_eq!(answer, Err("stale-sign-in".into()));
    assert!(
        answer_of(world.get(&back(&state), &cookie).await)
            .await
            .is_ok()
    );
    let again = answer_of(world.get(&back(&state), &cookie).await).await;
    assert_eq!(again, Err("stale-sign-in".into()));
    // A code that the provider doesn't know.
    let (state, cookie) = world.begin().await;
    let path = format!("/login/oidc/back?code=stolen&state={state}");
    assert_eq!(
        answer_of(world.get(&path, &cookie).await).await,
        Err("code-refused".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_of_someone_else_is_no_good_at_a_provider_that_enforces_pkce() {
    let world = World::new().await;
    let (_, _) = world.begin().await;
    let theirs = world.lie.lock().unwrap().challenge.clone();
    let (state, cookie) = world.begin().await;
    // The code that comes back belongs to the sign-in of somebody else.
    world.lie.lock().unwrap().challenge = theirs;
    let path = format!("/login/oidc/back?code=good&state={state}");
    let answer = answer_of(world.get(&path, &cookie).await).await;
    assert_eq!(answer, Err("code-refused".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_says_what_happened_and_what_to_do() {
    let world = World::new().await;
    let said = async |query: &str, cookie: &str| {
        let answer = world
            .get(&format!("/login/oidc/back?{query}"), cookie)
            .await;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        let bytes = axum::body::to_bytes(answer.into_body(), 1 << 20).await;
        let said: Value = serde_json::from_slice(&bytes.unwrap()).unwrap();
        let text = |key: &str| said[key].as_str().unwrap().to_owned();
        (text("code"), text("message"), text("hint"))
    };
    // With the state of the sign-in, and from a provider that forgets it.
    for is_forgetful in [false, true] {
        let cases = [
            ("access_denied", "did not let you in", "ask whoever runs"),
            ("login_required", "wants to ask you", "another tab"),
            ("temporarily_unavailable", "a problem of its own", "minutes"),
            ("invalid_scope", "how this server asks", "registration"),
            ("<b>call 555</b>", "gave no reason", "the server's log"),
        ];
        for (error, what, what_to_do) in cases {
            let (state, cookie) = world.begin().await;
            let mut query = format!("error={}", encode(error));
            if !is_forgetful {
                query.push_str(&format!("&state={state}"));
            }
            let (code, message, hint) = said(&query, &cookie).await;
            assert_eq!(code, "provider-refused");
            assert!(message.contains(what), "{error}: {message}");
            assert!(hint.contains(what_to_do), "{error}: {hint}");
            assert!(!format!("{message}{hint}").contains("555"));
        }
    }
    let (_, cookie) = world.begin().await;
    assert_eq!(said("code=good", &cookie).await.0, "no-state");
    assert_eq!(said("", "").await.0, "no-state");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_down_is_said_to_be() {
    let world = World::new().await;
    let (state, cookie) = world.begin().await;
    world.lie.lock().unwrap().is_down = true;
    let path = format!("/login/oidc/back?code=good&state={state}");
    let answer = answer_of(world.get(&path, &cookie).await).await;
    assert_eq!(answer, Err("provider-unreachable".into()));
}
