//! A server, the programs and the content that scenarios work with.

use std::io::Write as _;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;
use wire::admin_api::{DeviceRow, RunDetail, RunRow};
use wire::boot_config::Trust;

use crate::console;

/// The admin's password in scenarios; the one-time login is used up on the way to it.
const PASSWORD: &str = "Nordlys-over-Tromsø-2026";
/// How long the server may take to start.
const READY_MAX: Duration = Duration::from_secs(60);
/// The host, as machines in QEMU's user network see it.
const HOST_FOR_MACHINES: &str = "10.0.2.2";

/// Where things are.
pub(crate) struct Places {
    /// The repository.
    pub(crate) root: Utf8PathBuf,
    /// This scenario's folder; made anew.
    pub(crate) work: Utf8PathBuf,
    /// Downloads and OS images that outlive a run.
    pub(crate) cache: Utf8PathBuf,
}

impl Places {
    /// Makes the folder `target/<name>` anew.
    pub(crate) fn new(name: &str) -> Result<Self> {
        let root = Utf8Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .expect("e2e lies in the root")
            .to_owned();
        let work = root.join("target").join(name);
        if work.exists() {
            std::fs::remove_dir_all(&work).with_context(|| format!("cannot remove {work}"))?;
        }
        std::fs::create_dir_all(&work)?;
        let cache = cache()?;
        Ok(Self { root, work, cache })
    }

    /// The program for people.
    pub(crate) fn forestage(&self) -> Utf8PathBuf {
        self.root.join("target/release/forestage")
    }

    /// The program for devices.
    pub(crate) fn agent(&self) -> Utf8PathBuf {
        self.root
            .join("target/x86_64-unknown-linux-musl/agent/forestage-agent")
    }

    /// A file of the repository's examples.
    pub(crate) fn example(&self, path: &str) -> Utf8PathBuf {
        self.root.join("examples").join(path)
    }
}

/// Downloads and OS images that outlive a run.
pub(crate) fn cache() -> Result<Utf8PathBuf> {
    let home = std::env::var("XDG_CACHE_HOME")
        .map(Utf8PathBuf::from)
        .or_else(|_| std::env::var("HOME").map(|home| Utf8Path::new(&home).join(".cache")));
    let cache = home
        .context("neither XDG_CACHE_HOME nor HOME is set")?
        .join("forestage");
    std::fs::create_dir_all(&cache)?;
    Ok(cache)
}

/// A running server, and an admin who is signed in.
pub(crate) struct World {
    pub(crate) places: Places,
    pub(crate) url: String,
    pub(crate) one_time_login: String,
    server: Child,
    config: Utf8PathBuf,
    /// Every command that was shown and run.
    ran: Mutex<Vec<Vec<String>>>,
}

impl World {
    /// Starts a server on an empty data folder and signs in.
    pub(crate) fn start(places: Places) -> Result<Self> {
        let port = free_port()?;
        Self::start_behind(places, port, port)
    }

    /// As [`Self::start`], on this port; machines come to another one, from which they are passed on.
    pub(crate) fn start_behind(places: Places, port: u16, port_for_machines: u16) -> Result<Self> {
        testkit::vm::require_qemu()?;
        for program in [places.forestage(), places.agent()] {
            if !program.exists() {
                bail!(
                    "{program} is missing: `cargo xtask demo` and `cargo xtask test` build it first"
                );
            }
        }
        let url = format!("https://127.0.0.1:{port}");
        let url_for_machines = format!("https://{HOST_FOR_MACHINES}:{port_for_machines}");
        let ready_file = places.work.join("ready.json");
        let log = std::fs::File::create(places.work.join("server.log"))?;
        console::command(&[
            "serve",
            "--data",
            "data",
            "--listen",
            &format!("127.0.0.1:{port}"),
            "--url",
            &url_for_machines,
            "--url",
            &url,
        ]);
        let mut server = Command::new(places.forestage())
            .args(["serve", "--data", places.work.join("data").as_str()])
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .args(["--url", &url_for_machines, "--url", &url])
            .args(["--ready-file", ready_file.as_str()])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start the server")?;
        let ready = wait_for_ready(&ready_file, &mut server, &places.work)?;
        let text = |key: &str| ready[key].as_str().unwrap_or_default().to_owned();
        let world = Self {
            config: places.work.join("config.json"),
            one_time_login: text("one-time-login"),
            url,
            server,
            places,
            ran: Mutex::new(vec![
                ["serve", "--data", "--listen", "--url", "--ready-file"]
                    .map(str::to_owned)
                    .to_vec(),
            ]),
        };
        world.sign_in(&text("ca"))?;
        Ok(world)
    }

    /// Every command that was run so far, without the program's name.
    pub(crate) fn commands(&self) -> Vec<Vec<String>> {
        self.ran
            .lock()
            .expect("nobody panics while noting a command")
            .clone()
    }

    fn show(&self, words: &[&str]) {
        console::command(words);
        self.note(words);
    }

    fn note(&self, words: &[&str]) {
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        self.ran
            .lock()
            .expect("nobody panics while noting a command")
            .push(words);
    }

    fn sign_in(&self, ca: &str) -> Result<()> {
        let words = ["login", &self.url, "--ca", ca, "--user", "admin"];
        self.show(&words);
        let output = self
            .forestage(&words)
            .env("FORESTAGE_PASSWORD", &self.one_time_login)
            .env("FORESTAGE_NEW_PASSWORD", PASSWORD)
            .output()?;
        finished(&words, &output)
    }

    /// The admin's password.
    pub(crate) fn password(&self) -> &'static str {
        PASSWORD
    }

    /// Runs a command of `forestage`, shows it and what it prints.
    pub(crate) fn run(&self, words: &[&str]) -> Result<()> {
        self.show(words);
        let output = self.forestage(words).output()?;
        console::say(&String::from_utf8_lossy(&output.stdout));
        finished(words, &output)
    }

    /// Runs a command that reads this, in silence.
    pub(crate) fn feed(&self, words: &[&str], input: &str) -> Result<()> {
        self.note(words);
        let mut command = self.forestage(words);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut stdin = child.stdin.take().context("no standard input")?;
        stdin.write_all(input.as_bytes())?;
        drop(stdin);
        finished(words, &child.wait_with_output()?)
    }

    /// Runs a command with `--json` and reads its answer, in silence.
    pub(crate) fn json<T: serde::de::DeserializeOwned>(&self, words: &[&str]) -> Result<T> {
        self.note(words);
        let output = self.forestage(words).arg("--json").output()?;
        finished(words, &output)?;
        serde_json::from_slice(&output.stdout).with_context(|| {
            let text = String::from_utf8_lossy(&output.stdout)
                .chars()
                .take(500)
                .collect::<String>();
            format!(
                "cannot read the answer of `forestage {}`: {text}",
                words.join(" ")
            )
        })
    }

    /// The device with this serial number.
    pub(crate) fn device(&self, serial: &str) -> Result<DeviceRow> {
        let rows: Vec<DeviceRow> = self.json(&["device", "list"])?;
        rows.into_iter()
            .find(|row| row.serial == serial)
            .with_context(|| format!("no device has the serial {serial}"))
    }

    /// The latest run of the device with this serial number.
    pub(crate) fn run_of(&self, serial: &str) -> Result<RunRow> {
        self.device(serial)?
            .run
            .with_context(|| format!("{serial} has no run"))
    }

    /// Everything about a run.
    pub(crate) fn run_detail(&self, run: &RunRow) -> Result<RunDetail> {
        self.json(&["run", "show", &run.run.to_string()])
    }

    /// Whom devices trust.
    pub(crate) fn trust(&self) -> Result<Trust> {
        self.json(&["trust", "show"])
    }

    /// Builds the boot image for this server and imports it, signed with the keys in a folder if there is one. Returns its
    /// folder.
    pub(crate) fn boot_image(&self, keys: Option<&Utf8Path>) -> Result<Utf8PathBuf> {
        let folder = self.places.work.join("boot-image");
        let agent = self.places.agent();
        let mut words = vec![
            "boot-image",
            "build",
            "--agent",
            agent.as_str(),
            "--output",
            folder.as_str(),
        ];
        let signer = keys.map(|keys| [keys.join("db.key"), keys.join("db.pem")]);
        if let Some([key, certificate]) = &signer {
            words.extend(["--sign-key", key.as_str()]);
            words.extend(["--sign-certificate", certificate.as_str()]);
        }
        self.run(&words)?;
        self.run(&[
            "package",
            "import",
            &format!("{folder}.yaml"),
            "--cache",
            self.places.cache.as_str(),
        ])?;
        Ok(folder)
    }

    /// Writes a package definition into the work folder and imports it.
    pub(crate) fn import_package(&self, file: &str, definition: &str) -> Result<()> {
        let path = self.places.work.join(file);
        std::fs::write(&path, definition)?;
        self.run(&[
            "package",
            "import",
            path.as_str(),
            "--cache",
            self.places.cache.as_str(),
        ])
    }

    /// Shows a run live, from when the device checks in.
    pub(crate) fn watch(&self, serial: &str) -> Result<Watch> {
        let words = ["run", "watch", serial, "--wait"];
        self.show(&words);
        Ok(Watch(
            self.forestage(&words)
                .spawn()
                .context("cannot watch the run")?,
        ))
    }

    /// Stops and starts nothing; waits until someone ends us.
    pub(crate) fn stay(&mut self) -> Result<()> {
        self.server.wait()?;
        Ok(())
    }

    fn forestage(&self, words: &[&str]) -> Command {
        let mut command = Command::new(self.places.forestage());
        command
            .args(words)
            .env("FORESTAGE_CONFIG", &self.config)
            .stdin(Stdio::null());
        command
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// A run being shown live.
pub(crate) struct Watch(Child);

impl Watch {
    /// Waits until the run has ended; it must have ended well.
    pub(crate) fn finish(mut self) -> Result<()> {
        let status = self.0.wait()?;
        ensure!(
            status.success(),
            "`forestage run watch` ended with {status}"
        );
        Ok(())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn finished(words: &[&str], output: &std::process::Output) -> Result<()> {
    if output.status.success() {
        return Ok(());
    }
    bail!(
        "`forestage {}` ended with {}\n{}",
        words.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    )
}

/// The usual port if it is free, any other if not.
/// A port that nobody listens on, the usual one if it can be.
pub(crate) fn free_port() -> Result<u16> {
    let listener =
        TcpListener::bind("127.0.0.1:8443").or_else(|_| TcpListener::bind("127.0.0.1:0"))?;
    Ok(listener.local_addr()?.port())
}

fn wait_for_ready(file: &Utf8Path, server: &mut Child, work: &Utf8Path) -> Result<Value> {
    let start = Instant::now();
    loop {
        if let Some(ready) = std::fs::read(file)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        {
            return Ok(ready);
        }
        if let Some(status) = server.try_wait()? {
            let log = std::fs::read_to_string(work.join("server.log")).unwrap_or_default();
            bail!("the server ended with {status}\n{log}");
        }
        if start.elapsed() > READY_MAX {
            bail!(
                "the server was not ready after {} s; see {work}/server.log",
                READY_MAX.as_secs()
            );
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
