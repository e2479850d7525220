//! A TPM 2.0 in software: Debian's swtpm. Each has a state of its own, made anew, which goes when it is dropped; so two of them
//! are the TPMs of two machines.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};

const SWTPM: &str = "/usr/bin/swtpm";
/// It listens within milliseconds, on a loaded machine within seconds.
const START_MAX: Duration = Duration::from_secs(30);
/// What firmware does before anybody else may speak to it.
const STARTED: &str = "not-need-init,startup-clear";
/// An answer's tag and length.
const START_BYTES: usize = 6;
/// `TPM2_Clear` by the platform hierarchy, with an empty password.
const CLEAR: [u8; 27] = [
    0x80, 0x02, 0, 0, 0, 27, 0, 0, 0x01, 0x26, 0x40, 0, 0, 0x0c, 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0,
    0, 0, 0,
];

/// Fails, saying what to install, if there is no swtpm.
///
/// # Errors
/// It is missing.
pub fn require_swtpm() -> Result<()> {
    if !std::path::Path::new(SWTPM).exists() {
        bail!("machines with a TPM need swtpm: apt-get install swtpm");
    }
    Ok(())
}

/// Starts one that keeps its state in `folder` and ends with the program that it is for, a virtual machine, which speaks to it
/// through `socket`.
pub(crate) fn for_machine(folder: &Utf8Path, socket: &Utf8Path) -> Result<Child> {
    // One of a machine that was switched off like that.
    let _ = std::fs::remove_file(socket);
    let control = format!("type=unixio,path={socket}");
    let child = spawn(folder, &["--ctrl", &control])?;
    wait_for(child, socket)
}

fn spawn(state: &Utf8Path, arguments: &[&str]) -> Result<Child> {
    require_swtpm()?;
    std::fs::create_dir_all(state).with_context(|| format!("cannot make {state}"))?;
    Command::new(SWTPM)
        .args(["socket", "--tpm2", "--terminate"])
        .args(["--tpmstate", &format!("dir={state}")])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start swtpm")
}

fn wait_for(mut child: Child, socket: &Utf8Path) -> Result<Child> {
    let start = Instant::now();
    while !socket.exists() {
        if let Some(status) = child.try_wait()? {
            bail!("swtpm ended with {status}");
        }
        if start.elapsed() > START_MAX {
            let _ = child.kill();
            bail!("swtpm doesn't listen after {} s", START_MAX.as_secs());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(child)
}

/// A TPM without a machine, to be spoken to directly.
pub struct Swtpm {
    running: Running,
    folder: Folder,
}

/// The folder of a TPM's state.
struct Folder(Utf8PathBuf);

/// The TPM from power-on to power-off.
struct Running {
    child: Child,
    stream: UnixStream,
}

impl Swtpm {
    /// A new TPM, started as firmware does.
    ///
    /// # Errors
    /// swtpm is missing or doesn't start.
    pub fn start() -> Result<Self> {
        Self::with_flags(STARTED)
    }

    /// A new TPM that firmware forgot to start.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn not_started() -> Result<Self> {
        Self::with_flags("not-need-init")
    }

    fn with_flags(flags: &str) -> Result<Self> {
        let name = format!("swtpm-{}", uuid::Uuid::new_v4().simple());
        let folder = Folder(Utf8PathBuf::try_from(std::env::temp_dir())?.join(name));
        let running = Running::start(&folder.0, flags)?;
        Ok(Self { running, folder })
    }

    /// Switches it off and on.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn restart(&mut self) -> Result<()> {
        self.running.end();
        self.running = Running::start(&self.folder.0, STARTED)?;
        Ok(())
    }

    /// Clears it, as the firmware setup can.
    ///
    /// # Errors
    /// It refuses.
    pub fn clear(&mut self) -> Result<()> {
        let answer = self.answer(&CLEAR)?;
        if answer.get(6..10) != Some(&[0; 4]) {
            bail!("swtpm refused to be cleared: {answer:02x?}");
        }
        Ok(())
    }

    /// Sends a command and reads the answer.
    ///
    /// # Errors
    /// It has ended.
    pub fn answer(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        let stream = &mut self.running.stream;
        stream.write_all(command)?;
        let mut answer = vec![0; START_BYTES];
        stream.read_exact(&mut answer)?;
        let length: [u8; 4] = answer[2..].try_into().map_err(io::Error::other)?;
        let length = usize::try_from(u32::from_be_bytes(length)).map_err(io::Error::other)?;
        answer.resize(length.max(START_BYTES), 0);
        stream.read_exact(&mut answer[START_BYTES..])?;
        Ok(answer)
    }
}

impl Running {
    fn start(folder: &Utf8Path, flags: &str) -> Result<Self> {
        let socket = folder.join("socket");
        // One that was killed leaves it.
        let _ = std::fs::remove_file(&socket);
        let server = format!("type=unixio,path={socket}");
        let child = spawn(folder, &["--server", &server, "--flags", flags])?;
        let child = wait_for(child, &socket)?;
        let stream = UnixStream::connect(&socket).context("cannot reach swtpm")?;
        Ok(Self { child, stream })
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
