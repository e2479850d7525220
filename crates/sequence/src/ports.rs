//! The ports: how steps reach the world. The agent implements them for a real machine, `testkit` with fakes.

use std::fmt;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use wire::event::{ContentBytes, Environment, LogLevel, ProgressUnit};
use wire::facts::Facts;
use wire::layout::VolumeRole;
use wire::names::{PackageName, RunId, SecretName};
use wire::package::Package;

use crate::layout::Layout;
use crate::secret::Secret;

/// What a step could not do. `Display` says what was tried; the cause is in `source`.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct StepError {
    /// What was tried, with which thing: lowercase, no final period.
    pub what: String,
    /// What a person can do about it.
    pub hint: Option<String>,
    /// Whether another attempt is pointless (a refusal for safety, a mistake in the document).
    pub is_final: bool,
    /// The cause.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl StepError {
    /// An error without a cause.
    pub fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            hint: None,
            is_final: false,
            source: None,
        }
    }

    /// A refusal: trying again would not help.
    pub fn refused(what: impl Into<String>) -> Self {
        Self {
            is_final: true,
            ..Self::new(what)
        }
    }

    /// Adds what a person can do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The error chain as texts, outermost first.
    #[must_use]
    pub fn chain(&self) -> Vec<String> {
        let mut texts = vec![self.what.clone()];
        let mut next: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(self);
        while let Some(error) = next {
            texts.push(error.to_string());
            next = error.source();
        }
        texts
    }
}

/// Where a running step says how far it is, and learns that it must stop.
pub trait Progress {
    /// `current` of `total` (0 if unknown) is done; `message` says what is being worked on. May be called often.
    fn report(&self, current: u64, total: u64, unit: ProgressUnit, message: &str);

    /// A line for the run's log.
    fn log(&self, level: LogLevel, text: &str);

    /// Whether the run is to stop, or the step's time is up. Loops ask this at least every second.
    fn is_cancelled(&self) -> bool;

    /// So long the step could do nothing but wait for a server that isn't reached: that is not counted against its time.
    fn waited(&self, time: Duration) {
        let _ = time;
    }
}

/// A program to run in the target OS: as it is (in the OS), or in a chroot with `/dev`, `/proc` and `/sys` (in the boot
/// image).
#[derive(Debug, Clone, Default)]
pub struct Command {
    /// The program; looked up in the target's `PATH`.
    pub program: String,
    /// Its arguments, as data.
    pub args: Vec<String>,
    /// The folder to run in, as the target OS sees it.
    pub folder: Utf8PathBuf,
    /// Environment variables beside `PATH`, `HOME`, `LANG=C.UTF-8` and `DEBIAN_FRONTEND=noninteractive`.
    pub env: Vec<(String, String)>,
    /// More environment variables, with secrets as values.
    pub secret_env: Vec<(String, Secret)>,
    /// What it reads; nothing, or a secret.
    pub stdin: Secret,
    /// When it is killed.
    pub timeout: Duration,
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandOutput {
    /// The exit code; `None` if a signal ended it.
    pub exit_code: Option<i32>,
    /// What it printed to stdout; the last 64 KiB.
    pub stdout: String,
    /// What it printed to stderr; the last 64 KiB.
    pub stderr: String,
}

/// A file to put into the target OS, durably and all at once.
#[derive(Clone, PartialEq, Eq)]
pub struct TargetFile {
    /// The absolute path, as the target OS sees it. Its folder is made if need be.
    pub path: Utf8PathBuf,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
}

impl fmt::Debug for TargetFile {
    /// Without the bytes: some files hold a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, bytes, mode } = self;
        write!(f, "{path} ({} bytes, mode {mode:o})", bytes.len())
    }
}

/// Where a server takes connections: a host name or address, and a port of TCP.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServerAddress {
    host: String,
    port: u16,
}

impl ServerAddress {
    /// The host.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }
}

impl TryFrom<String> for ServerAddress {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        /// The longest DNS name (RFC 1035, 2.3.4).
        const HOST_BYTES_MAX: usize = 253;
        let wrong = || {
            format!(
                "{text:?} is not a server: write host and port, such as `dc1.skole.example:389`"
            )
        };
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        if port.starts_with('+') {
            return Err(wrong());
        }
        let port: u16 = port.parse().map_err(|_| wrong())?;
        let address = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let is_host = |host: &str| {
            let holds = |byte: u8| byte.is_ascii_alphanumeric() || b"-.".contains(&byte);
            host.bytes().all(holds) && !host.starts_with(['-', '.'])
        };
        let host = match address {
            Some(address) if address.parse::<std::net::Ipv6Addr>().is_ok() => address,
            None if is_host(host) => host,
            _ => return Err(wrong()),
        };
        if host.is_empty() || host.len() > HOST_BYTES_MAX || port == 0 {
            return Err(wrong());
        }
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

impl From<ServerAddress> for String {
    fn from(address: ServerAddress) -> Self {
        address.to_string()
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// What starts when the machine is switched on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootTarget {
    /// Our boot image.
    BootImage,
    /// The installed OS.
    Os,
}

/// The machine a run works on.
pub trait Machine {
    /// Looks at the machine, afresh.
    fn facts(&self) -> Result<Facts, StepError>;

    /// Where we run.
    fn environment(&self) -> Environment;

    /// Makes the disk of `layout` look like it: wipe guard, staging mark, GPT, filesystems of `esp` and `staging`.
    ///
    /// If the disk carries our mark for this device and already has exactly this partition table, volumes with a sound
    /// filesystem are kept, so that a cut run goes on where it was. Refuses any disk whose content is not
    /// `Blank` or `StagedHere` before the first write.
    fn write_layout(&self, layout: &Layout, progress: &dyn Progress) -> Result<(), StepError>;

    /// Puts the boot image in the tree at `source` (the files of a `boot-image` package) onto the ESP and makes it
    /// start at power-on. The very last thing a staging does: before it, the disk does not boot.
    fn install_boot_image(
        &self,
        source: &Utf8Path,
        progress: &dyn Progress,
    ) -> Result<(), StepError>;

    /// Copies kernel and initrd of the installed OS to the ESP and writes its boot entry (not yet the default).
    fn install_os_boot_entry(&self, progress: &dyn Progress) -> Result<(), StepError>;

    /// Puts this agent and its service into the target OS, so that the run resumes there.
    fn install_agent(&self) -> Result<(), StepError>;

    /// Says what starts at the next power-on. Atomic.
    fn set_default_boot(&self, target: BootTarget) -> Result<(), StepError>;

    /// Writes a file into the target OS.
    fn write_file(&self, file: &TargetFile) -> Result<(), StepError>;

    /// Reads a file of the target OS; `None` if there is none. At most 16 MiB.
    fn read_file(&self, path: &Utf8Path) -> Result<Option<Vec<u8>>, StepError>;

    /// Runs a program in the target OS and waits for it; its output also goes to the log line by line.
    fn command(
        &self,
        command: &Command,
        progress: &dyn Progress,
    ) -> Result<CommandOutput, StepError>;

    /// The secret of this name, released to this machine for this run. It is kept in memory only. Waits for the server as long as
    /// that isn't reached.
    fn secret(&self, name: &SecretName, progress: &dyn Progress) -> Result<Secret, StepError>;

    /// Waits until the machine has a network and, if one is named, a server takes a connection; fails after `timeout`.
    fn wait_for_network(
        &self,
        server: Option<&ServerAddress>,
        timeout: Duration,
        progress: &dyn Progress,
    ) -> Result<(), StepError>;

    /// Keeps a file of logs on the staging partition under this name, durably; one of the same name is replaced. Returns
    /// its path as *we* see it.
    fn keep_log(&self, name: &str, bytes: &[u8]) -> Result<Utf8PathBuf, StepError>;

    /// Removes a folder of the target OS that we made. Nothing happens if it isn't there.
    fn remove_folder(&self, path: &Utf8Path) -> Result<(), StepError>;

    /// Notes in the staging mark that `run` has finished. If it `deployed` the machine, the disk may hold a person's work from
    /// now on. The mark of a disk that was deployed names the run that finished on it last.
    fn mark_finished(&self, run: RunId, deployed: bool) -> Result<(), StepError>;
}

/// Where a tree of files is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TreeTarget {
    /// A folder of the target OS, absolute as the target sees it; what else is in there stays.
    Os(Utf8PathBuf),
    /// A scratch folder of the agent's, in memory; returned by [`Content::apply_tree`].
    Scratch,
}

/// The content a run works with.
pub trait Content {
    /// All packages this run may use, at the versions to use.
    fn packages(&self) -> &[Package];

    /// The package of this name.
    fn package(&self, name: &PackageName) -> Result<&Package, StepError> {
        self.packages()
            .iter()
            .find(|package| &package.name == name)
            .ok_or_else(|| {
                StepError::refused(format!("package {name} is not part of this run"))
                    .hint("publish it, and deploy the sequence again")
            })
    }

    /// Makes the volume equal to the package's filesystem image, verified.
    fn apply_image(
        &self,
        package: &Package,
        volume: VolumeRole,
        progress: &dyn Progress,
    ) -> Result<ContentBytes, StepError>;

    /// Makes the files of the package's tree be there, verified. Returns the folder as *we* see it.
    fn apply_tree(
        &self,
        package: &Package,
        target: &TreeTarget,
        progress: &dyn Progress,
    ) -> Result<(Utf8PathBuf, ContentBytes), StepError>;

    /// Makes the local content library hold everything of all `packages`, verified.
    fn stage(
        &self,
        packages: &[&Package],
        progress: &dyn Progress,
    ) -> Result<ContentBytes, StepError>;
}

#[cfg(test)]
mod tests {
    use super::ServerAddress;

    proptest::proptest! {
        #[test]
        fn a_server_is_read_as_it_is_written(text in "\\PC{0,20}|[a-z.]{0,9}:[0-9]{1,5}|\\[[0-9a-f:]{2,9}\\]:[1-9]{1,3}") {
            if let Ok(server) = ServerAddress::try_from(text) {
                proptest::prop_assert_eq!(ServerAddress::try_from(server.to_string()), Ok(server));
            }
        }
    }

    #[test]
    fn servers() {
        let parse = |text: &str| ServerAddress::try_from(text.to_owned());
        for text in ["dc1.skole.example:389", "10.0.0.1:80", "[fe80::1]:65535"] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
        for wrong in [
            "",
            "dc1",
            "dc1:",
            ":80",
            "dc1:0",
            "dc1:65536",
            "dc1:+80",
            "-x:80",
            "fe80::1:80",
            "[x]:80",
            "a b:80",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert!(parse(&format!("{}:80", "a".repeat(254))).is_err());
    }
}
