//! The server of the simulated county, its folder, and the administrator who talks to it over a line that never fails.

use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use client::Client;
use content::{Library, Manifest, NoMeter};
use ed25519_dalek::{Signer as _, SigningKey};
use http::{Request, Response};
use serde_json::json;
use server::{InProcess, Patience, ServerConfig};
use tokio::runtime::Runtime;
use wire::admin_api::{CollectionChange, Deployment, Login, Purpose};
use wire::bundle::SignatureText;
use wire::digest::Digest;
use wire::keys::{KeyPurpose, NewKey, PublicKey};
use wire::names::DeploymentName;
use wire::package::{Package, PackageKind};
use wire::people::{NewToken, TOKEN_DAYS_MAX};
use wire::secrets::SecretChange;
use wire::sites::SiteChange;
use wire::warrant::{WarrantFile, WarrantPart, WarrantWanted, signed_bytes};

use crate::time::lock;

/// What everybody calls the server.
pub(crate) const URL: &str = "https://forestage.example";
const PASSWORD: &str = "seven sheep on a ferry";
/// Where all machines are.
const SITE: &str = "3038";
/// What a step of each first deployment needs, and no file may ever hold.
pub(crate) const SECRET: &str = "nine goats in the fog";
const DATABASE: [&str; 3] = ["forestage.db", "forestage.db-wal", "forestage.db-shm"];

/// From a blank or staged disk to an OS that is in use.
const DEPLOY: &str = r#"sequence: deploy
steps:
  - { id: disk, format-disk: { disk: { bus: nvme, removable: false }, volumes: [{ role: esp, size: 1GiB }, { role: os, size: rest }, { role: staging, size: 8GiB }] } }
  - { id: content, attempts: 2, wait: 5s, stage-content: {} }
  - { id: os, attempts: 2, wait: 5s, timeout: 2m, apply-image: { image: debian } }
  - { id: identity, set-identity: { hostname: "{{ serial | hostname }}" } }
  - { id: java, install-packages: { packages: [java] } }
  - { id: boot, install-boot-image: { image: boot-image } }
  - { id: os-boot, install-os-boot: {} }
  - { id: restart, restart: { into: os } }
  - { id: join, run-script: { script: "true", repeatable: true, secrets: { PASSWORD: domain-join } } }
  - { id: once, run-script: { script: append /var/log/once } }
  - { id: end, finish: { action: restart } }
"#;
/// What is done to a machine that is in use: its volumes stay, and nobody may lay out its disk.
const AGAIN: &str = r#"sequence: again
steps:
  - { id: java, install-packages: { packages: [java] } }
  - { id: os-boot, install-os-boot: {} }
  - { id: restart, restart: { into: os } }
  - { id: once, run-script: { script: append /var/log/once } }
  - { id: end, finish: { action: stay } }
"#;

/// The server, or that it is away.
pub(crate) struct Office {
    runtime: Runtime,
    data: Utf8PathBuf,
    running: Mutex<Option<InProcess>>,
    token: Mutex<String>,
    _folder: tempfile::TempDir,
}

impl Office {
    /// A server that nobody has used.
    pub(crate) fn new() -> Result<Arc<Self>> {
        // The server's own disk keeps what it has synced: waiting for a real one would show nothing.
        let memory = Utf8Path::new("/dev/shm");
        let mut builder = tempfile::Builder::new();
        let builder = builder.prefix("years-");
        let folder = if memory.is_dir() {
            builder.tempdir_in(memory)
        } else {
            builder.tempdir()
        };
        let folder = folder.context("cannot make a folder")?;
        let data = Utf8Path::from_path(folder.path())
            .context("the folder for temporary files has a name that is no text")?
            .join("data");
        let office = Self {
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .context("cannot start the server's runtime")?,
            data,
            running: Mutex::default(),
            token: Mutex::default(),
            _folder: folder,
        };
        Ok(Arc::new(office))
    }

    /// A server as `template` was when it was closed.
    pub(crate) fn like(template: &Self) -> Result<Arc<Self>> {
        let office = Self::new()?;
        copy(&template.data, &office.data)?;
        lock(&office.token).clone_from(&lock(&template.token));
        office.start()?;
        Ok(office)
    }

    fn config(&self) -> Result<ServerConfig> {
        Ok(ServerConfig {
            data: self.data.clone(),
            listen: "127.0.0.1:0".parse().context("no address")?,
            urls: vec![URL.to_owned()],
            database: None,
            trusted_proxies: Vec::new(),
            patience: Patience::default(),
            second_person_above: 0,
            oidc: None,
        })
    }

    /// Starts the server; says the one-time password at the very first start.
    pub(crate) fn start(&self) -> Result<Option<String>> {
        let (server, one_time) = self
            .runtime
            .block_on(InProcess::open(&self.config()?))
            .context("the server does not start")?;
        *lock(&self.running) = Some(server);
        Ok(one_time)
    }

    pub(crate) fn is_up(&self) -> bool {
        lock(&self.running).is_some()
    }

    /// The server is killed: all that is left is what its files hold at this moment, whatever it would have done yet.
    pub(crate) fn kill(&self) -> Result<()> {
        let left = self.data.join("killed");
        copy_database(&self.data, &left)?;
        self.stop();
        copy_database(&left, &self.data)
    }

    /// The server is closed, with everything on its disk.
    pub(crate) fn stop(&self) {
        if let Some(server) = lock(&self.running).take() {
            self.runtime.block_on(server.close());
        }
    }

    /// Everything in the database and in its log of changes.
    pub(crate) fn bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        for name in DATABASE {
            let path = self.data.join(name);
            if path.exists() {
                let more = std::fs::read(&path).with_context(|| format!("cannot read {path}"))?;
                bytes.extend(more);
            }
        }
        Ok(bytes)
    }

    /// A copy of the database as it is now.
    pub(crate) fn back_up(&self) -> Result<()> {
        let was_up = self.is_up();
        self.stop();
        copy_database(&self.data, &self.data.join("backup"))?;
        if was_up {
            self.start()?;
        }
        Ok(())
    }

    /// The database is what it was at the last backup. Says whether there was one.
    pub(crate) fn restore(&self) -> Result<bool> {
        let backup = self.data.join("backup");
        if !backup.exists() {
            return Ok(false);
        }
        self.stop();
        copy_database(&backup, &self.data)?;
        self.start()?;
        Ok(true)
    }

    /// The server's answer; `None` if it is away.
    pub(crate) fn answer(&self, request: Request<Vec<u8>>) -> Option<Response<Vec<u8>>> {
        let running = lock(&self.running);
        let server = running.as_ref()?;
        Some(self.runtime.block_on(server.answer(request)))
    }

    /// The server looks around, as it does every minute or so.
    pub(crate) fn look_around(&self) -> Result<()> {
        match &*lock(&self.running) {
            Some(server) => self
                .runtime
                .block_on(server.look_for_stalled())
                .context("cannot look for runs that have stalled"),
            None => Ok(()),
        }
    }

    /// The administrator's line.
    pub(crate) fn admin(self: &Arc<Self>) -> Client {
        let office = Arc::clone(self);
        let line = move |request| {
            office
                .answer(request)
                .ok_or_else(|| std::io::Error::other("the server is away"))
        };
        Client::over(URL, line).with_token(&lock(&self.token))
    }

    /// Boot images know this key from now on.
    pub(crate) fn trust_for_warrants(self: &Arc<Self>, key: &SigningKey) -> Result<()> {
        let new = NewKey {
            name: "wipe".parse()?,
            purpose: KeyPurpose::Wipe,
            public_key: Some(public_half(key)),
        };
        self.admin().add_key(&new)?;
        Ok(())
    }

    /// Somebody signs for all machines of a deployment that need it, and says for which.
    pub(crate) fn sign_warrants(
        self: &Arc<Self>,
        name: &DeploymentName,
        key: &SigningKey,
    ) -> Result<Vec<WarrantWanted>, client::ClientError> {
        let request = self.admin().warrant_request(name)?;
        if request.machines.is_empty() {
            return Ok(Vec::new());
        }
        let warrants = request.machines.iter().map(|machine| {
            let text = request.warrant(machine).text();
            let signature = key.sign(&signed_bytes(&text)).to_bytes();
            WarrantPart {
                text,
                signature: SignatureText::from_bytes(&signature),
            }
        });
        let file = WarrantFile {
            format: 1,
            deployment: name.clone(),
            key: public_half(key),
            warrants: warrants.collect(),
        };
        self.admin().bring_warrants(&file)?;
        Ok(request.machines)
    }

    /// What the database says, while the server is closed or open.
    pub(crate) fn rows<R>(&self, query: &'static str) -> Result<Vec<R>>
    where
        R: for<'r> sqlx::FromRow<'r, sqlx::sqlite::SqliteRow> + Send + Unpin,
    {
        self.runtime.block_on(async {
            let url = format!("sqlite:{}", self.data.join("forestage.db"));
            let pool = sqlx::SqlitePool::connect(&url).await?;
            let rows = sqlx::query_as(query).fetch_all(&pool).await?;
            pool.close().await;
            Ok(rows)
        })
    }

    /// A server with all that a county has before its first machine is switched on. It is closed at the end.
    pub(crate) fn template(serials: &[String]) -> Result<Arc<Self>> {
        let office = Self::new()?;
        let one_time = office.start()?.context("no one-time password")?;
        let login = Login {
            user: "admin".into(),
            password: one_time,
            token_name: "simulation".into(),
            new_password: Some(PASSWORD.into()),
        };
        *lock(&office.token) = office.admin().login(&login)?.token;
        let long = NewToken {
            title: "years".into(),
            scopes: Vec::new(),
            days: TOKEN_DAYS_MAX,
        };
        *lock(&office.token) = office.admin().create_token(&long)?.token;
        let admin = office.admin();
        office.publish("debian", "12", PackageKind::OsImage)?;
        office.publish("boot-image", "1", PackageKind::BootImage)?;
        office.publish("java", "17", PackageKind::Application)?;
        let secret = SecretChange {
            value: SECRET.to_owned(),
            site: String::new(),
        };
        admin.set_secret(&"domain-join".parse()?, &secret)?;
        admin.put_sequence(&"deploy".parse()?, DEPLOY)?;
        admin.put_sequence(&"again".parse()?, AGAIN)?;
        for name in ["autumn", "spring"] {
            let title = Some(name.to_owned());
            let name = name.parse()?;
            admin.put_collection(&CollectionChange { name, title })?;
        }
        let rows = serials.iter().map(|serial| format!("{serial};8B;{SITE}\n"));
        let csv: String = std::iter::once("serial;class;site code\n".to_owned())
            .chain(rows)
            .collect();
        let report = admin.import_assets(csv.as_bytes(), None, false)?;
        ensure!(
            report.invalid == 0,
            "the county's list is refused: {report:?}"
        );
        office.stop();
        Ok(office)
    }

    /// From now on so many machines may be at work at a time; 0: all.
    pub(crate) fn open_places(self: &Arc<Self>, places: u32) -> Result<()> {
        let change = SiteChange {
            slots: Some(places),
            ..SiteChange::default()
        };
        self.admin().put_site(SITE, &change)?;
        Ok(())
    }

    /// Puts a deployment of everyone in its collection up.
    pub(crate) fn deploy(
        self: &Arc<Self>,
        name: &str,
        sequence: &str,
        (slots, cap): (u32, u32),
    ) -> Result<()> {
        let admin = self.admin();
        let deployment = Deployment {
            name: name.parse()?,
            collection: name.parse()?,
            sequence: sequence.parse()?,
            purpose: Purpose::Required,
            expected_seconds: 600,
            leave_collection_on_success: true,
            cap,
            stopped: false,
            slots,
            window: None,
        };
        let preview = admin.preview_deployment(&deployment)?;
        admin.create_deployment(&deployment, &preview.confirm.unwrap_or_default())?;
        Ok(())
    }

    /// Publishes a package with next to nothing in it.
    pub(crate) fn publish(
        self: &Arc<Self>,
        name: &str,
        version: &str,
        kind: PackageKind,
    ) -> Result<()> {
        let folder = tempfile::tempdir()?;
        let root = Utf8Path::from_path(folder.path()).context("no text")?;
        let library = Library::open(&root.join("library"))?;
        let mut pack = library.pack_writer()?;
        let manifest = if kind == PackageKind::OsImage {
            let image = tempfile::tempfile()?;
            image.set_len(1 << 20)?;
            content::capture_image(&image, &mut pack, &NoMeter)?
        } else {
            let tree = root.join("tree");
            std::fs::create_dir(&tree)?;
            for file in ["stage.efi", "deploy.efi", "loader.efi"] {
                std::fs::write(tree.join(file), format!("{name} {version} {file}"))?;
            }
            content::capture_tree(&tree, &mut pack, &NoMeter)?
        };
        pack.finish()?;
        self.upload(&library, &manifest)?;
        let bytes = manifest.encode();
        let mut package = json!({
            "name": name, "version": version, "kind": kind, "manifest": Digest::of(&bytes),
            "manifest-bytes": bytes.len(), "content-bytes": manifest.content_bytes(),
        });
        if kind == PackageKind::Application {
            package["install"] = json!({
                "command": ["installer", name, version],
                "detect": { "command": { "command": ["installed-version", name], "stdout": version } },
            });
        }
        let package: Package = serde_json::from_value(package)?;
        self.admin().publish(&package)?;
        Ok(())
    }

    fn upload(self: &Arc<Self>, library: &Library, manifest: &Manifest) -> Result<()> {
        let admin = self.admin();
        let digests = manifest.chunks().iter().map(|chunk| chunk.digest).collect();
        let mut frames = Vec::new();
        for digest in admin.missing_chunks(digests)? {
            let frame = library
                .frame(&digest)?
                .context("a chunk of ours is missing")?;
            frame.write(&mut frames)?;
        }
        let length = frames.len() as u64;
        admin.upload_chunks(&mut frames.as_slice(), Some(length))?;
        let bytes = manifest.encode();
        admin.upload_manifest(&Digest::of(&bytes), &bytes)?;
        Ok(())
    }
}

fn copy(from: &Utf8Path, to: &Utf8Path) -> Result<()> {
    std::fs::create_dir_all(to).with_context(|| format!("cannot make {to}"))?;
    for entry in from
        .read_dir_utf8()
        .with_context(|| format!("cannot read {from}"))?
    {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(entry.path(), &to)?;
        } else {
            copy_if_there(entry.path(), &to)?;
        }
    }
    Ok(())
}

fn copy_database(from: &Utf8Path, to: &Utf8Path) -> Result<()> {
    DATABASE
        .iter()
        .try_for_each(|name| copy_if_there(&from.join(name), &to.join(name)))
}

/// Copies a file, or removes the copy if there is none.
fn copy_if_there(from: &Utf8Path, to: &Utf8Path) -> Result<()> {
    if let Some(folder) = to.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {folder}"))?;
    }
    if from.exists() {
        std::fs::copy(from, to).with_context(|| format!("cannot copy {from}"))?;
    } else if to.exists() {
        std::fs::remove_file(to).with_context(|| format!("cannot remove {to}"))?;
    }
    Ok(())
}

/// As boot images and servers know a key.
pub(crate) fn public_half(key: &SigningKey) -> PublicKey {
    PublicKey::from_bytes(key.verifying_key().as_bytes())
}
