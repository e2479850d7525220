//! A server of its own for a test, and the program logged in to it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

/// The program under test.
pub(crate) const FORESTAGE: &str = env!("CARGO_BIN_EXE_forestage");
const PASSWORD: &str = "a long enough password";

/// A server in a temporary folder. It ends with this value.
pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) ready: Value,
    server: Child,
}

impl World {
    /// Starts a server, waits until it says that it is ready, and logs in.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same, with more words for `serve`.
    pub(crate) fn start_with(more: &[&str]) -> Self {
        let world = Self::serve(tempfile::tempdir().unwrap(), more);
        let one_time = world.ready["one-time-login"].as_str().unwrap().to_owned();
        let mut login = world.login(world.folder.path());
        login
            .env("FORESTAGE_PASSWORD", one_time)
            .env("FORESTAGE_NEW_PASSWORD", PASSWORD);
        succeeded(login);
        world
    }

    /// Starts a server with a database that is there already, whose admin has this password, and logs in.
    pub(crate) fn start_on(database: &Path, password: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("data")).unwrap();
        std::fs::copy(database, folder.path().join("data/forestage.db")).unwrap();
        let world = Self::serve(folder, &[]);
        world.log_in(world.folder.path(), password);
        world
    }

    fn serve(folder: tempfile::TempDir, more: &[&str]) -> Self {
        let (server, ready) = serve(folder.path(), "127.0.0.1:0", more);
        Self {
            folder,
            ready,
            server,
        }
    }

    /// The command that logs in to the server of `folder`.
    fn login(&self, folder: &Path) -> Command {
        let ca = folder.join(self.ready["ca"].as_str().unwrap());
        self.command(&["login", self.url(), "--ca", ca.to_str().unwrap()])
    }

    fn log_in(&self, folder: &Path, password: &str) {
        let mut login = self.login(folder);
        login.env("FORESTAGE_PASSWORD", password);
        succeeded(login);
    }

    pub(crate) fn url(&self) -> &str {
        self.ready["url"].as_str().unwrap()
    }

    /// The server's process.
    pub(crate) fn server_id(&self) -> u32 {
        self.server.id()
    }

    /// Ends the server as a power cut would.
    pub(crate) fn kill(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }

    /// Starts the server again where it was.
    pub(crate) fn start_again(&mut self) {
        let (_, port) = self.url().rsplit_once(':').unwrap();
        let address = format!("127.0.0.1:{port}");
        (self.server, self.ready) = serve(self.folder.path(), &address, &[]);
    }

    /// Starts the server with the data folder in another folder, at another port, and logs in there.
    pub(crate) fn start_elsewhere(&mut self, folder: &str) {
        let path = self.path(folder);
        (self.server, self.ready) = serve(&path, "127.0.0.1:0", &[]);
        self.log_in(&path, PASSWORD);
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The program, with settings and cache in the folder.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        program(self.folder.path(), words)
    }

    /// Runs a command that must succeed; its stdout.
    pub(crate) fn run(&self, words: &[&str]) -> String {
        succeeded(self.command(words))
    }

    /// Runs a command with `--json` that must succeed; its answer.
    pub(crate) fn json(&self, words: &[&str]) -> Value {
        serde_json::from_str(&self.run(&[&["--json"], words].concat())).unwrap()
    }

    /// Runs a command that must fail; its exit code, stdout and stderr.
    pub(crate) fn fail(&self, words: &[&str]) -> (i32, String, String) {
        failed(self.command(words))
    }

    /// Writes a file.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::File::create(path)
            .unwrap()
            .write_all(content.as_ref())
            .unwrap();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Starts a server with its data in `folder`, and waits until it says that it is ready.
fn serve(folder: &Path, address: &str, more: &[&str]) -> (Child, Value) {
    let mut server = Command::new(FORESTAGE)
        .args(["--json", "serve", "--data", "data", "--listen", address])
        .args(["--ready-file", "ready.json"])
        .args(more)
        .current_dir(folder)
        .env("FORESTAGE_LOG", "error")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // The server says on stdout that it is ready: reading one JSON value waits for just that.
    let stdout = server.stdout.take().unwrap();
    let ready = serde_json::Deserializer::from_reader(stdout)
        .into_iter::<Value>()
        .next();
    let ready = ready
        .expect("the server ended before it was ready")
        .unwrap();
    (server, ready)
}

/// The program in `folder`, knowing nothing of the person who runs the tests.
pub(crate) fn program(folder: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(FORESTAGE);
    command
        .args(words)
        .current_dir(folder)
        .env("FORESTAGE_CONFIG", folder.join("config.json"))
        .env("FORESTAGE_CACHE", folder.join("cache"))
        .env("COLUMNS", "110")
        .env_remove("FORESTAGE_PASSWORD")
        .stdin(Stdio::null());
    command
}

/// Runs a command that must succeed; its stdout.
pub(crate) fn succeeded(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// Runs a command that must fail.
pub(crate) fn failed(mut command: Command) -> (i32, String, String) {
    let output: Output = command.output().unwrap();
    assert!(
        !output.status.success(),
        "must fail: {}",
        text(&output.stdout)
    );
    (
        output.status.code().unwrap(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}
