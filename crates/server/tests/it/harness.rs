//! A real server on a free port in a temporary folder, and a device that is nothing but a key and some facts.

use std::io::Write as _;
use std::sync::mpsc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use camino::{Utf8Path, Utf8PathBuf};
use client::{Client, RunKey};
use content::{Library, Manifest, NoMeter};
use ed25519_dalek::{Signer as _, SigningKey};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};
use server::{DatabaseUrl, Patience, Ready, ServerConfig, serve_until};
use wire::admin_api::{
    CollectionChange, Deployment, DeviceRow, Login, PrestageDefinition, Purpose, Token,
};
use wire::deployments::ResumeRequest;
use wire::device_api::{
    CHECK_IN_CONTEXT, CheckIn, CheckInBody, CheckInReply, EventAck, EventBatch, KeyPlace,
    RefusedOrder, SECRET_CONTEXT, SecretRequest, SecretWanted, Staged, ToldMark,
};
use wire::digest::Digest;
use wire::event::Environment;
use wire::facts::Facts;
use wire::keys::PublicKey;
use wire::names::{DeploymentName, PrestageName, RunId};
use wire::order::Order;
use wire::package::{Install, Model, Package, PackageKind};
use wire::people::{NewUser, Role};
use wire::receipt::Receipt;

pub(crate) const PASSWORD: &str = "seven sheep on a ferry";
const TIMEOUT: Duration = Duration::from_secs(60);

/// A running server. Dropping it stops it gracefully; its folder stays as long as the folder is held.
pub(crate) struct Server {
    pub(crate) ready: Ready,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(
        data: &Utf8Path,
        database: Option<&DatabaseUrl>,
        patience: Patience,
        second_person_above: u32,
    ) -> Self {
        let config = ServerConfig {
            data: data.to_owned(),
            listen: "127.0.0.1:0".parse().unwrap(),
            urls: vec!["https://127.0.0.1:0".into()],
            oidc: None,
            database: database.cloned(),
            trusted_proxies: vec!["127.0.0.1".parse().unwrap()],
            patience,
            second_person_above,
        };
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let (send, receive) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap();
            let ready = move |ready| send.send(ready).unwrap();
            let stop = async move {
                let _stopped = stopped.await;
            };
            runtime.block_on(serve_until(config, ready, stop)).unwrap();
        });
        let ready = receive
            .recv_timeout(TIMEOUT)
            .expect("the server gets ready");
        Self {
            ready,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// A client without a token.
    pub(crate) fn anyone(&self) -> Client {
        let ca = std::fs::read_to_string(&self.ready.ca_path).unwrap();
        Client::new(&self.ready.urls[0], &ca, TIMEOUT).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.stop.take().map(|stop| stop.send(()));
        if let Some(thread) = self.thread.take() {
            let result = thread.join();
            assert!(result.is_ok() || std::thread::panicking());
        }
    }
}

/// The address of an empty database.
pub(crate) fn new_postgres() -> DatabaseUrl {
    let cluster = testkit::postgres::cluster().unwrap();
    cluster.database().unwrap().parse().unwrap()
}

/// Every row of every table of a PostgreSQL database, as [`Site::dump`].
pub(crate) fn dump_postgres(database: &str) -> String {
    let cluster = testkit::postgres::cluster().unwrap();
    let ask = |query: &str| cluster.psql("forestage", database, query).unwrap();
    let tables = ask("SELECT tablename FROM pg_tables WHERE schemaname = 'public'");
    let rows = tables
        .lines()
        .map(|table| ask(&format!("SELECT * FROM {table}")));
    rows.collect::<String>().to_lowercase()
}

/// The name of a PostgreSQL database.
pub(crate) fn name_of(database: &DatabaseUrl) -> String {
    let url = database.to_string();
    url.rsplit_once('/').unwrap().1.to_owned()
}

/// A fresh server with a signed-in admin.
pub(crate) struct Site {
    pub(crate) server: Server,
    pub(crate) admin: Client,
    pub(crate) data: Utf8PathBuf,
    /// The PostgreSQL database; without one, SQLite in the data folder.
    pub(crate) database: Option<DatabaseUrl>,
    patience: Patience,
    second_person_above: u32,
    _folder: tempfile::TempDir,
}

impl Site {
    /// On SQLite, or on what `FORESTAGE_TEST_DATABASE` says: `postgres` runs every test on PostgreSQL.
    pub(crate) fn new() -> Self {
        Self::on(Self::usual_database())
    }

    fn usual_database() -> Option<DatabaseUrl> {
        match std::env::var("FORESTAGE_TEST_DATABASE").as_deref() {
            Ok("postgres") => Some(new_postgres()),
            Ok("sqlite") | Err(_) => None,
            Ok(other) => panic!("FORESTAGE_TEST_DATABASE is sqlite or postgres, not {other}"),
        }
    }

    /// A server that waits otherwise than usual.
    pub(crate) fn with_patience(change: impl FnOnce(&mut Patience)) -> Self {
        let mut patience = Patience::default();
        change(&mut patience);
        Self::on_with(Self::usual_database(), patience, 0)
    }

    /// A server that wants a second administrator for what writes over the disks of more machines than this.
    pub(crate) fn with_second_person_above(machines: u32) -> Self {
        Self::on_with(Self::usual_database(), Patience::default(), machines)
    }

    /// On a PostgreSQL database of its own.
    pub(crate) fn on_postgres() -> Self {
        Self::on(Some(new_postgres()))
    }

    pub(crate) fn on(database: Option<DatabaseUrl>) -> Self {
        Self::on_with(database, Patience::default(), 0)
    }

    fn on_with(
        database: Option<DatabaseUrl>,
        patience: Patience,
        second_person_above: u32,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = Utf8PathBuf::from_path_buf(folder.path().join("data")).unwrap();
        let server = Server::start(
            &data,
            database.as_ref(),
            patience.clone(),
            second_person_above,
        );
        let one_time = server
            .ready
            .one_time_login
            .clone()
            .expect("the first start says the one-time password");
        let login = Login {
            user: "admin".into(),
            password: one_time,
            token_name: "test".into(),
            new_password: Some(PASSWORD.into()),
        };
        let token: Token = server
            .anyone()
            .send("POST", "/api/v1/login", &login)
            .unwrap();
        let admin = server.anyone().with_token(&token.token);
        Self {
            server,
            admin,
            data,
            database,
            patience,
            second_person_above,
            _folder: folder,
        }
    }

    /// Every row of every table as text in lower case, bytes as hexadecimal digits.
    pub(crate) fn dump(&self) -> String {
        if self.database.is_none() {
            let output = std::process::Command::new("sqlite3")
                .args([
                    "-readonly",
                    self.data.join("forestage.db").as_str(),
                    ".dump",
                ])
                .output()
                .expect("this needs sqlite3: `apt-get install sqlite3`, or `cargo xtask setup`");
            assert!(output.status.success(), "{output:?}");
            return String::from_utf8(output.stdout).unwrap().to_lowercase();
        }
        dump_postgres(&self.postgres_name())
    }

    /// The name of its PostgreSQL database.
    pub(crate) fn postgres_name(&self) -> String {
        name_of(self.database.as_ref().unwrap())
    }

    /// Stops the server and starts it again on the same folder (and another port).
    pub(crate) fn restart(self) -> Self {
        let (data, database) = (self.data.clone(), self.database.clone());
        self.elsewhere(&data, database)
    }

    /// Stops the server and starts one on another folder and database, which know its admin.
    pub(crate) fn elsewhere(self, data: &Utf8Path, database: Option<DatabaseUrl>) -> Self {
        let Self {
            server,
            patience,
            second_person_above,
            _folder,
            ..
        } = self;
        drop(server);
        let server = Server::start(
            data,
            database.as_ref(),
            patience.clone(),
            second_person_above,
        );
        assert_eq!(server.ready.one_time_login, None);
        let login = login(PASSWORD);
        let token: Token = server
            .anyone()
            .send("POST", "/api/v1/login", &login)
            .unwrap();
        let admin = server.anyone().with_token(&token.token);
        Self {
            server,
            admin,
            data: data.to_owned(),
            database,
            patience,
            second_person_above,
            _folder,
        }
    }

    /// Publishes a package whose only file holds `text`.
    pub(crate) fn publish_tree(
        &self,
        name: &str,
        version: &str,
        kind: PackageKind,
        text: &[u8],
    ) -> Package {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("tree")).unwrap();
        for file in ["stage.efi", "deploy.efi", "loader.efi", "blåbær.deb"] {
            std::fs::write(
                folder.path().join("tree").join(file),
                [file.as_bytes(), text].concat(),
            )
            .unwrap();
        }
        let tree = Utf8PathBuf::from_path_buf(folder.path().join("tree")).unwrap();
        self.publish(name, version, kind, |library| {
            let mut pack = library.pack_writer().unwrap();
            let manifest = content::capture_tree(&tree, &mut pack, &NoMeter).unwrap();
            pack.finish().unwrap();
            manifest
        })
    }

    /// Publishes an OS image.
    pub(crate) fn publish_image(&self, name: &str, version: &str) -> Package {
        self.publish(name, version, PackageKind::OsImage, |library| {
            let mut image = tempfile::tempfile().unwrap();
            image.write_all(&[7; 1 << 20]).unwrap();
            image.set_len(4 << 20).unwrap();
            let mut pack = library.pack_writer().unwrap();
            let manifest = content::capture_image(&image, &mut pack, &NoMeter).unwrap();
            pack.finish().unwrap();
            manifest
        })
    }

    fn publish(
        &self,
        name: &str,
        version: &str,
        kind: PackageKind,
        capture: impl FnOnce(&Library) -> Manifest,
    ) -> Package {
        let folder = tempfile::tempdir().unwrap();
        let library = Library::open(Utf8Path::from_path(folder.path()).unwrap()).unwrap();
        let manifest = capture(&library);
        let bytes = manifest.encode();
        let package = Package {
            name: name.parse().unwrap(),
            version: version.parse().unwrap(),
            kind,
            title: String::new(),
            manifest: Digest::of(&bytes),
            manifest_bytes: bytes.len() as u64,
            content_bytes: manifest.content_bytes(),
            models: Vec::new(),
            install: (kind == PackageKind::Application).then(|| Install {
                command: vec!["true".into()],
                success_exit_codes: vec![0],
                restart_exit_codes: vec![],
                detect: None,
            }),
            volume_bytes_min: manifest.image_bytes().unwrap_or(0),
        };
        self.upload(&library, &manifest);
        let _row: Value = self
            .admin
            .send("POST", "/api/v1/packages", &package)
            .unwrap();
        package
    }

    pub(crate) fn upload(&self, library: &Library, manifest: &Manifest) {
        let digests: Vec<Digest> = manifest.chunks().iter().map(|chunk| chunk.digest).collect();
        let missing = self.admin.missing_chunks(digests).unwrap();
        let mut frames = Vec::new();
        for digest in &missing {
            library
                .frame(digest)
                .unwrap()
                .unwrap()
                .write(&mut frames)
                .unwrap();
        }
        let length = frames.len() as u64;
        self.admin
            .upload_chunks(&mut frames.as_slice(), Some(length))
            .unwrap();
        let bytes = manifest.encode();
        self.admin
            .upload_manifest(&Digest::of(&bytes), &bytes)
            .unwrap();
    }

    /// Creates a deployment, with the words that the preview asks for.
    pub(crate) fn create(&self, deployment: &Deployment) {
        let preview = self.admin.preview_deployment(deployment).unwrap();
        let confirm = preview.confirm.unwrap_or_default();
        self.admin.create_deployment(deployment, &confirm).unwrap();
    }

    /// Changes a deployment, with the words that the preview asks for.
    pub(crate) fn change(&self, deployment: &Deployment) {
        let preview = self.admin.preview_deployment(deployment).unwrap();
        let confirm = preview.confirm.unwrap_or_default();
        self.admin.change_deployment(deployment, &confirm).unwrap();
    }

    /// Resumes a deployment, with the words that its status asks for.
    pub(crate) fn resume(&self, name: &DeploymentName) {
        let status = self.admin.deployment_status(name).unwrap();
        let confirm = status.confirm_resume.unwrap_or_default();
        let request = ResumeRequest { confirm };
        self.admin.resume_deployment(name, &request).unwrap();
    }

    /// Content, a sequence, a collection and a required deployment.
    pub(crate) fn prepare(&self, cap: u32) {
        self.publish_image("debian", "12");
        self.publish_tree("boot-image", "1", PackageKind::BootImage, b"boot");
        self.publish_tree("java", "17", PackageKind::Application, b"java 17");
        self.admin
            .put_sequence(&"deploy".parse().unwrap(), SEQUENCE)
            .unwrap();
        let collection = CollectionChange {
            name: "laptops".parse().unwrap(),
            title: Some("Laptops".into()),
        };
        self.admin.put_collection(&collection).unwrap();
        let autumn = Deployment {
            name: "autumn".parse().unwrap(),
            collection: "laptops".parse().unwrap(),
            sequence: "deploy".parse().unwrap(),
            purpose: Purpose::Required,
            expected_seconds: 600,
            leave_collection_on_success: true,
            cap,
            stopped: false,
            slots: 0,
            window: None,
        };
        self.create(&autumn);
    }

    pub(crate) fn import(&self, csv: &str) -> wire::admin_api::AssetImportReport {
        self.admin
            .import_assets(csv.as_bytes(), Some(&"laptops".parse().unwrap()), false)
            .unwrap()
    }

    /// Defines prestage `book` of the sequence for the machines of the tests.
    pub(crate) fn define_prestage(&self) -> PrestageName {
        let name: PrestageName = "book".parse().unwrap();
        let definition = PrestageDefinition {
            stage: None,
            sequence: "deploy".parse().unwrap(),
            model: Model {
                vendor: "Acme".into(),
                product: "Book 14".into(),
                ..Model::default()
            },
            extra: vec![],
            omit: vec![],
        };
        self.admin.put_prestage(&name, &definition).unwrap();
        name
    }

    /// Hands in a receipt.
    pub(crate) fn receipt(&self, serial: &str, version: u32, result: &str) {
        let receipt: Receipt = serde_json::from_value(json!({
            "format": 1, "serial": serial, "uuid": null, "vendor": "Acme", "product": "Book 14", "macs": [],
            "disk": "/dev/nvme0n1", "disk-serial": "D1", "disk-bytes": 1 << 30, "prestage": "book",
            "prestage-version": version, "bundle": null, "seconds": 61, "result": result, "agent": "test",
        }))
        .unwrap();
        self.admin.put_receipt(&receipt).unwrap();
    }

    /// The server's private keys, each in every form it has: as it is in its file, line by line, and as bytes.
    pub(crate) fn private_keys(&self) -> Vec<(String, Vec<u8>)> {
        let mut keys = Vec::new();
        for folder in ["keys", "tls"] {
            for entry in self.data.join(folder).read_dir_utf8().unwrap() {
                let path = entry.unwrap().into_path();
                if path.extension() != Some("key") {
                    continue;
                }
                let text = std::fs::read_to_string(&path).unwrap();
                let lines = text.lines().filter(|line| !line.starts_with("-----"));
                let body: String = lines.clone().collect();
                let of = |what: &str| format!("{what} of {path}");
                let whole = lines.filter(|line| line.len() >= 32);
                keys.extend(whole.map(|line| (of("a line"), line.as_bytes().to_vec())));
                let bytes = if text.starts_with("-----") {
                    STANDARD.decode(&body).unwrap()
                } else {
                    let digit = |at| u8::from_str_radix(&body[at..at + 2], 16).unwrap();
                    (0..body.len()).step_by(2).map(digit).collect()
                };
                keys.push((of("the bytes"), bytes));
            }
        }
        assert!(keys.len() >= 8, "a server has four keys: {}", keys.len());
        keys
    }

    /// Another administrator, whose account nobody made of late, signed in.
    pub(crate) fn colleague(&self, name: &str) -> Client {
        let sql = format!(
            "INSERT INTO users (name, password, one_time, created_at_ms, role) \
             SELECT '{name}', password, 0, 1, role FROM users WHERE name = 'admin'"
        );
        self.run_sql(&sql);
        self.sign_in(name, PASSWORD, None)
    }

    /// Changes the database under the running server.
    pub(crate) fn run_sql(&self, sql: &str) {
        if self.database.is_some() {
            let cluster = testkit::postgres::cluster().unwrap();
            cluster
                .psql("forestage", &self.postgres_name(), sql)
                .unwrap();
            return;
        }
        let output = std::process::Command::new("sqlite3")
            .args(["-cmd", ".timeout 10000"])
            .args([self.data.join("forestage.db").as_str(), sql])
            .output()
            .expect("this needs sqlite3: `apt-get install sqlite3`, or `cargo xtask setup`");
        assert!(output.status.success(), "{output:?}");
    }

    /// Somebody new, with this role at this site, signed in.
    pub(crate) fn newcomer(&self, name: &str, role: Role, site: &str) -> Client {
        let new = NewUser {
            name: name.into(),
            role,
            site: site.into(),
            prestages: vec![],
        };
        let made = self.admin.create_user(&new).unwrap();
        self.sign_in(name, &made.one_time_password, Some(PASSWORD))
    }

    pub(crate) fn sign_in(&self, name: &str, password: &str, new_password: Option<&str>) -> Client {
        let login = Login {
            user: name.into(),
            password: password.into(),
            token_name: "test".into(),
            new_password: new_password.map(Into::into),
        };
        let anyone = self.server.anyone();
        let token: Token = anyone.send("POST", "/api/v1/login", &login).unwrap();
        anyone.with_token(&token.token)
    }

    /// Someone new who looks after one site, signed in.
    pub(crate) fn school_admin(&self, site: &str) -> Client {
        self.newcomer(&format!("kari-{site}"), Role::SchoolAdmin, site)
    }

    pub(crate) fn device(&self, serial: &str) -> DeviceRow {
        let rows = self.admin.devices().unwrap();
        rows.into_iter()
            .find(|row| row.serial == serial)
            .unwrap_or_else(|| panic!("no device {serial}"))
    }
}

pub(crate) fn login(password: &str) -> Login {
    Login {
        user: "admin".into(),
        password: password.into(),
        token_name: String::new(),
        new_password: None,
    }
}

pub(crate) const SEQUENCE: &str = "sequence: deploy
variables:
  update: false
steps:
  - id: disk
    format-disk:
      disk: { removable: false }
      volumes: [{ role: esp, size: 1GiB }, { role: os, size: rest }, { role: staging, size: 2GiB }]
  - id: os
    apply-image: { image: debian }
  - id: java
    when: class == '8B'
    install-packages: { packages: [java] }
  - id: boot
    when: update
    install-boot-image: { image: boot-image }
  - id: finish
    finish: { action: restart }
";

/// What a machine signs with.
pub(crate) enum MachineKey {
    /// A file.
    Ed25519(SigningKey),
    /// What a TPM has.
    EcdsaP256(EcdsaKeyPair),
}

impl MachineKey {
    /// A random one of P-256.
    pub(crate) fn ecdsa_p256() -> Self {
        let (algorithm, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let bytes = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, bytes.as_ref(), &random).unwrap();
        Self::EcdsaP256(pair)
    }

    /// The key as a device tells it, and its signature in the one form that is taken.
    pub(crate) fn sign(&self, message: &[u8]) -> (String, String) {
        match self {
            Self::Ed25519(key) => (
                hex(key.verifying_key().as_bytes()),
                hex(&key.sign(message).to_bytes()),
            ),
            Self::EcdsaP256(pair) => {
                let signature = pair.sign(&SystemRandom::new(), message).unwrap();
                let mut signature: [u8; 64] = signature.as_ref().try_into().unwrap();
                let other = order_less(&signature[32..]);
                if other[..] < signature[32..] {
                    signature[32..].copy_from_slice(&other);
                }
                (hex(&pair.public_key().as_ref()[1..]), hex(&signature))
            }
        }
    }
}

/// The order of P-256 less `s`: the other number that fits a signature.
pub(crate) fn order_less(s: &[u8]) -> [u8; 32] {
    const ORDER: [u128; 2] = [
        0xffff_ffff_0000_0000_ffff_ffff_ffff_ffff,
        0xbce6_faad_a717_9e84_f3b9_cac2_fc63_2551,
    ];
    let number = |bytes: &[u8]| u128::from_be_bytes(bytes.try_into().unwrap());
    let (low, borrows) = ORDER[1].overflowing_sub(number(&s[16..]));
    let high = ORDER[0] - number(&s[..16]) - u128::from(borrows);
    let bytes = [high.to_be_bytes(), low.to_be_bytes()].concat();
    bytes.try_into().unwrap()
}

/// A machine as far as the server can tell.
pub(crate) struct Machine {
    pub(crate) key: MachineKey,
    /// Where it says that its key is.
    pub(crate) place: Option<KeyPlace>,
    pub(crate) facts: Facts,
    pub(crate) staged: Option<Staged>,
    /// The release of the agent that runs, and where it does.
    pub(crate) agent: (&'static str, Environment),
    /// The run that it is in the middle of.
    pub(crate) run: Option<RunId>,
    pub(crate) mark: Option<ToldMark>,
    pub(crate) wipe_keys: Vec<PublicKey>,
    /// The order that it doesn't take.
    pub(crate) refused: Option<RefusedOrder>,
}

impl Machine {
    pub(crate) fn new(serial: &str) -> Self {
        let facts = Facts {
            vendor: "Acme".into(),
            product: "Book 14".into(),
            serial: serial.into(),
            ..Facts::default()
        };
        Self {
            key: MachineKey::Ed25519(SigningKey::from_bytes(
                uuid_bytes().as_slice().try_into().unwrap(),
            )),
            place: None,
            facts,
            staged: None,
            agent: ("test", Environment::BootImage),
            run: None,
            mark: None,
            wipe_keys: Vec::new(),
            refused: None,
        }
    }

    /// One with its key in a TPM.
    pub(crate) fn with_tpm(serial: &str) -> Self {
        Self {
            key: MachineKey::ecdsa_p256(),
            place: Some(KeyPlace::Tpm { is_other: false }),
            ..Self::new(serial)
        }
    }

    pub(crate) fn sign(&self, challenge: &str) -> CheckIn {
        let body = CheckInBody {
            key: self.place.clone(),
            facts: self.facts.clone(),
            agent: self.agent.0.into(),
            environment: Some(self.agent.1),
            staged: self.staged.clone(),
            run: self.run,
            mark: self.mark,
            wipe_keys: self.wipe_keys.clone(),
            refused: self.refused.clone(),
        };
        let body = serde_json::to_string(&body).unwrap();
        let signed = [CHECK_IN_CONTEXT, challenge.as_bytes(), body.as_bytes()].concat();
        let (device_key, signature) = self.key.sign(&signed);
        CheckIn {
            challenge: challenge.into(),
            device_key,
            signature,
            body,
        }
    }

    /// A request for a secret, to be sealed to `key`.
    pub(crate) fn ask_for(&self, secret: &str, run: RunId, key: &RunKey) -> SecretRequest {
        let wanted = SecretWanted {
            run,
            secret: secret.parse().unwrap(),
            run_key: key.public(),
        };
        let body = serde_json::to_string(&wanted).unwrap();
        let signed = [SECRET_CONTEXT, body.as_bytes()].concat();
        SecretRequest {
            signature: self.key.sign(&signed).1,
            body,
        }
    }

    pub(crate) fn check_in(&self, site: &Site) -> CheckInReply {
        let client = site.server.anyone();
        let challenge = client.challenge().unwrap();
        client.check_in(&self.sign(&challenge.challenge)).unwrap()
    }

    /// Checks in and gets an order.
    pub(crate) fn order(&self, site: &Site) -> (Client, Order) {
        let client = site.server.anyone();
        let challenge = client.challenge().unwrap();
        match client.check_in(&self.sign(&challenge.challenge)).unwrap() {
            CheckInReply::Run { session, order, .. } => (client.with_token(&session), order),
            other => panic!("no order: {other:?}"),
        }
    }
}

pub(crate) fn event(run: RunId, seq: u64, body: Value) -> Value {
    json!({"run": run, "seq": seq, "boot": 1, "uptime-ms": seq * 1000, "body": body})
}

pub(crate) fn send(client: &Client, run: RunId, events: &[Value]) -> EventAck {
    let events = events
        .iter()
        .map(|event| serde_json::value::to_raw_value(event).unwrap())
        .collect();
    client
        .events(
            run,
            &EventBatch {
                events,
                interface_bytes: 12_345,
            },
        )
        .unwrap()
}

/// The events of a whole run that goes well.
pub(crate) fn good_run(run: RunId) -> Vec<Value> {
    let steps = json!([{"path": "os", "title": "Apply the OS image", "kind": "apply-image"}]);
    vec![
        event(
            run,
            1,
            json!({"kind": "run-started", "sequence": "deploy", "steps": steps}),
        ),
        event(
            run,
            2,
            json!({"kind": "step-started", "path": "os", "attempt": 1}),
        ),
        event(
            run,
            3,
            json!({"kind": "step-planned", "path": "os", "plan": {"hostname": "bjo-8b-pf1"}, "text": "apply"}),
        ),
        event(
            run,
            4,
            json!({"kind": "log", "path": "os", "level": "info", "text": "blåbær"}),
        ),
        event(
            run,
            5,
            json!({"kind": "step-done", "path": "os", "outcome": "done", "content": {"local": 77}}),
        ),
        event(run, 6, json!({"kind": "run-done", "action": "restart"})),
    ]
}

fn uuid_bytes() -> Vec<u8> {
    [
        uuid::Uuid::new_v4().into_bytes(),
        uuid::Uuid::new_v4().into_bytes(),
    ]
    .concat()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
