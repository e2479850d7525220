//! A server with a machine at each of two sites, all that hangs on one, and an account of every kind.

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use axum::{Router, response::Response};
use serde_json::{Value, json};
use tower::ServiceExt as _;
use wire::boot_config::Trust;
use wire::facts::Facts;
use wire::names::{DeviceId, RunId};
use wire::people::Role;

use crate::db::commit;
use crate::secret;
use crate::state::{AppState, now_ms};

const FAR: i64 = 1 << 50;
/// Those whose account names one site, and their roles.
pub(super) const OF_ONE_SITE: [(&str, Role); 3] = [
    ("school-admin", Role::SchoolAdmin),
    ("clerk-of-a-site", Role::AssetClerk),
    ("viewer-of-a-site", Role::Viewer),
];

pub(super) struct World {
    pub(super) app: Router,
    pub(super) state: AppState,
    pub(super) own: Machine,
    pub(super) foreign: Machine,
    /// Of another school, and at their own now.
    pub(super) visitor: Machine,
    _folder: tempfile::TempDir,
}

/// A machine of a site, a run on it, who has it, and a machine that claims to be it.
pub(super) struct Machine {
    pub(super) site: &'static str,
    pub(super) serial: &'static str,
    pub(super) pupil_name: &'static str,
    pub(super) number: &'static str,
    pub(super) device: String,
    pub(super) run: String,
    pub(super) pupil: String,
    pub(super) assignment: String,
    pub(super) stranger: String,
}

impl Machine {
    fn new(
        site: &'static str,
        serial: &'static str,
        name: &'static str,
        number: &'static str,
    ) -> Self {
        Self {
            site,
            serial,
            pupil_name: name,
            number,
            device: String::new(),
            run: RunId::random().to_string(),
            pupil: String::new(),
            assignment: String::new(),
            stranger: DeviceId::random().to_string(),
        }
    }

    /// What nobody who doesn't see it may be told.
    pub(super) fn secrets(&self) -> [&str; 8] {
        [
            self.serial,
            self.pupil_name,
            self.number,
            &self.device,
            &self.run,
            &self.pupil,
            &self.assignment,
            &self.stranger,
        ]
    }
}

impl World {
    pub(super) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = camino::Utf8Path::from_path(folder.path()).unwrap();
        let trust = Trust {
            format: 1,
            server_urls: vec!["https://localhost".into()],
            ca_pem: String::new(),
            bundle_keys: Vec::new(),
            wipe_keys: Vec::new(),
        };
        let (_stop, stopping) = tokio::sync::watch::channel(false);
        let state = AppState::open(
            data,
            None,
            trust,
            None,
            stopping,
            crate::serve::Patience::default(),
            0,
        )
        .await
        .unwrap();
        let app = crate::routes::app(state.clone()).into_router();
        let mut db = state.db().write().await.unwrap();
        let everywhere = Role::ALL.map(|role| (role.as_str(), role, ""));
        let of_one_site = OF_ONE_SITE.map(|(name, role)| (name, role, "BJO"));
        let accounts = everywhere
            .iter()
            .filter(|(name, ..)| *name != "school-admin");
        for (name, role, site) in accounts.chain(&of_one_site) {
            sqlx::query(
                "INSERT INTO users (name, password, one_time, created_at_ms, role, site) VALUES ($1, '', 0, 1, $2, $3)",
            )
            .bind(*name)
            .bind(role.as_str())
            .bind(*site)
            .execute(&mut *db)
            .await
            .unwrap();
            for (kind, ends) in [("good", FAR), ("expired", now_ms() - 1)] {
                let secret = secret::digest(&format!("{kind}-{name}"));
                sqlx::query(
                    "INSERT INTO tokens (digest, user_name, title, created_at_ms, expires_at_ms) VALUES ($1, $2, 't', 1, $3)",
                )
                .bind(&secret)
                .bind(*name)
                .bind(ends)
                .execute(&mut *db)
                .await
                .unwrap();
                sqlx::query(
                    "INSERT INTO sessions (digest, user_name, expires_at_ms) VALUES ($1, $2, $3)",
                )
                .bind(&secret)
                .bind(*name)
                .bind(ends)
                .execute(&mut *db)
                .await
                .unwrap();
            }
        }
        commit(db).await.unwrap();
        let mut world = Self {
            app,
            state,
            own: Machine::new("BJO", "PF1", "Kari Nordmann", "karnor01"),
            foreign: Machine::new("TRO", "PF2", "Ola Sørmann", "olasor01"),
            visitor: Machine::new("KON", "PF3", "Nils Vestmann", "nilves01"),
            _folder: folder,
        };
        world.fill().await;
        world
    }

    /// A machine at each of two sites, with all that hangs on one.
    async fn fill(&mut self) {
        let csv = "serial;site code;site name\nPF1;BJO;Bjørnøya skole\nPF2;TRO;Tromsø skole\nPF3;KON;Kongsbakken\n";
        let report = self
            .ask("POST", "/api/v1/assets/import", Some("good-admin"), csv)
            .await;
        assert_eq!(report.status(), StatusCode::OK);
        let rows = json_of(
            self.ask("GET", "/api/v1/devices", Some("good-admin"), "")
                .await,
        )
        .await;
        let mut db = self.state.db().write().await.unwrap();
        sqlx::query("INSERT INTO collections (name, title) VALUES ('c', '')")
            .execute(&mut *db)
            .await
            .unwrap();
        for (name, purpose) in [("d", "required"), ("a", "available")] {
            let deployment = json!({
                "name": name, "collection": "c", "sequence": "s", "purpose": purpose, "expected-seconds": 60, "cap": 9,
            });
            sqlx::query(
                "INSERT INTO deployments (name, collection, document, stopped, created_at_ms) VALUES ($1, 'c', $2, 0, 1)",
            )
            .bind(name)
            .bind(deployment.to_string())
            .execute(&mut *db)
            .await
            .unwrap();
        }
        for machine in [&mut self.own, &mut self.foreign, &mut self.visitor] {
            let row = rows
                .as_array()
                .unwrap()
                .iter()
                .find(|row| row["serial"] == machine.serial);
            machine.device = row.unwrap()["device"].as_str().unwrap().to_owned();
            let facts = Facts {
                serial: machine.serial.into(),
                ..Facts::default()
            };
            sqlx::query(
                "INSERT INTO strangers (id, device_key, facts, message, identity, reason, claims, last_seen_at_ms) \
                 VALUES ($1, $1, $2, 'a second one', '[]', 'second-claimant', $3, 1)",
            )
            .bind(&machine.stranger)
            .bind(serde_json::to_string(&facts).unwrap())
            .bind(&machine.device)
            .execute(&mut *db)
            .await
            .unwrap();
            sqlx::query(
                "INSERT INTO runs (id, device, deployment, sequence, sequence_version, order_document, state, stop, take, \
                 acknowledged, server_bytes, identity, started_at_ms, ended_at_ms, last_seen_at_ms) \
                 VALUES ($1, $2, 'd', 's', 1, '{}', 'running', 0, 1, 0, 0, '[]', 1, 0, 1)",
            )
            .bind(&machine.run)
            .bind(&machine.device)
            .execute(&mut *db)
            .await
            .unwrap();
        }
        commit(db).await.unwrap();
        self.move_visitor("BJO").await;
        for number in 0..3 {
            let machine = [&self.own, &self.foreign, &self.visitor][number];
            let receipt = json!({
                "format": 1, "serial": machine.serial, "uuid": null, "vendor": "Acme", "product": "Book 14", "macs": [],
                "disk": "/dev/nvme0n1", "disk-serial": "D1", "disk-bytes": 1 << 30, "prestage": "book",
                "prestage-version": 1, "bundle": null, "seconds": 61, "result": "staged", "agent": "test",
            });
            self.made("/api/v1/receipts", receipt).await;
            let entry = json!({
                "external-id": machine.number, "name": machine.pupil_name, "site": machine.site, "class": "8B",
            });
            let pupil = self.made("/api/v1/pupils", entry).await["pupil"]["pupil"].clone();
            let ask = json!({ "device": machine.device, "pupil": pupil });
            let assignment =
                self.made("/api/v1/assignments", ask).await["made"]["assignment"].clone();
            let all = [&mut self.own, &mut self.foreign, &mut self.visitor];
            let machine = all.into_iter().nth(number).unwrap();
            machine.pupil = pupil.as_str().unwrap().to_owned();
            machine.assignment = assignment.as_str().unwrap().to_owned();
        }
    }

    /// The visitor checks in from the addresses of this site.
    pub(super) async fn move_visitor(&self, site: &str) {
        let mut db = self.state.db().write().await.unwrap();
        sqlx::query("UPDATE devices SET seen_site = $1 WHERE id = $2")
            .bind(site)
            .bind(&self.visitor.device)
            .execute(&mut *db)
            .await
            .unwrap();
        commit(db).await.unwrap();
        self.state.fleet_view().mark_everything();
    }

    async fn made(&self, path: &str, body: Value) -> Value {
        let answer = self
            .ask("POST", path, Some("good-admin"), &body.to_string())
            .await;
        let status = answer.status();
        let said = json_of(answer).await;
        assert!(status.is_success(), "{path}: {said}");
        said
    }

    pub(super) async fn ask(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: &str,
    ) -> Response {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        self.send(request.body(Body::from(body.to_owned())).unwrap())
            .await
    }

    pub(super) async fn send(&self, request: Request<Body>) -> Response {
        self.app.clone().oneshot(request).await.unwrap()
    }
}

pub(super) async fn text_of(response: Response) -> String {
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 24).await;
    String::from_utf8_lossy(&bytes.unwrap()).into_owned()
}

pub(super) async fn json_of(response: Response) -> Value {
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 24)
        .await
        .unwrap();
    serde_json::from_slice(&bytes).unwrap_or(Value::Null)
}
