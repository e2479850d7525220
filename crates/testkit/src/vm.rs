//! Virtual machines: QEMU with real firmware, real disks and a serial line we read.
//!
//! The harness never presses a key: it has no way to. Everything it can ask of QEMU's monitor
//! is listed in `QmpCommand`. (Whoever proves that no key does anything asks for a [`Keyboard`].) It never waits for a time
//! either, only for lines, exits and silence.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::{Value, json};

use crate::keyboard::Keyboard;
use crate::monitor::Monitor;
use crate::swtpm;

/// Emulation is slow and shares two cores: this much silence on the serial line means that a machine hangs.
pub const SILENCE_MAX: Duration = Duration::from_secs(400);
/// Firmware that can enforce Secure Boot, with its variables out of the kernel's reach.
const OVMF_SECURE_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd";
const OVMF_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
/// Its variables as they come from the factory: no keys, nothing to boot.
pub const OVMF_VARS: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";
/// What the agent's lines on the serial port begin with.
const LINE_PREFIX: &str = "FORESTAGE ";

/// The names a machine's firmware gives it (SMBIOS type 1).
#[derive(Debug, Clone)]
pub struct Identity {
    /// Manufacturer.
    pub vendor: String,
    /// Product name.
    pub product: String,
    /// Serial number.
    pub serial: String,
    /// UUID.
    pub uuid: uuid::Uuid,
    /// Asset tag (SMBIOS type 3).
    pub asset_tag: String,
}

/// The bus a disk hangs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bus {
    /// NVM Express.
    Nvme,
    /// A removable USB mass storage device on an xHCI controller.
    Usb,
    /// A virtio disk with a cache that forgets: [`crate::volatile_disk::VolatileDisk`].
    Volatile,
}

/// A disk of a machine.
#[derive(Debug, Clone)]
pub struct VmDisk {
    /// The raw image; of a volatile disk, its socket.
    pub path: Utf8PathBuf,
    /// Its bus.
    pub bus: Bus,
}

/// How a machine is started.
#[derive(Debug, Clone)]
pub enum Start {
    /// UEFI firmware with empty variables: it finds what to boot by itself.
    Firmware,
    /// The same with Secure Boot and a copy of these variables.
    SecureBoot {
        /// The variables, with keys enrolled.
        variables: Utf8PathBuf,
    },
    /// The kernel is loaded directly, without firmware: quick, for everything that isn't about booting.
    Kernel {
        /// The kernel.
        kernel: Utf8PathBuf,
        /// The initramfs.
        initrd: Utf8PathBuf,
        /// The kernel command line.
        command_line: String,
    },
}

/// What network a machine has.
#[derive(Debug, Clone)]
pub enum Network {
    /// No network card at all.
    None,
    /// A card in QEMU's user network (the host is 10.0.2.2); every frame is captured to this file.
    User {
        /// The capture (pcap).
        capture: Utf8PathBuf,
    },
    /// A card whose cable leads nowhere: link, but nobody answers.
    Silent,
    /// A card with DHCP, behind a wall: nothing else answers, the server neither.
    Walled,
    /// The same, but this computer's programs reach one of the machine's ports (TCP) on one of their own. The machine must take
    /// the address 10.0.2.15.
    Reachable {
        /// On this computer.
        port: u16,
        /// On the machine.
        machine_port: u16,
    },
}

/// A machine to start.
#[derive(Debug, Clone)]
pub struct VmSpec {
    /// What it is called in messages; also the name of its log.
    pub name: String,
    /// Where log, firmware variables and sockets go.
    pub folder: Utf8PathBuf,
    /// Its names.
    pub identity: Identity,
    /// Its disks, in boot order.
    pub disks: Vec<VmDisk>,
    /// Its network.
    pub network: Network,
    /// The folder in which its TPM 2.0 keeps what it knows; without one it has no TPM.
    pub tpm: Option<Utf8PathBuf>,
    /// How it starts.
    pub start: Start,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Processors.
    pub cpus: u32,
}

/// A line of the agent: `FORESTAGE <seconds> <kind> <json>`.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentLine {
    /// Seconds since the kernel started, as the agent counts them.
    pub seconds: f64,
    /// `milestone`, `event`, `log`.
    pub kind: String,
    /// What it says.
    pub value: Value,
}

impl AgentLine {
    /// Reads a line of the serial port; `None` if it isn't the agent's.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let rest = &line[line.find(LINE_PREFIX)? + LINE_PREFIX.len()..];
        let mut parts = rest.splitn(3, ' ');
        let seconds = parts.next()?.parse().ok()?;
        let kind = parts.next()?.to_owned();
        let value = serde_json::from_str(parts.next()?.trim()).ok()?;
        Some(Self {
            seconds,
            kind,
            value,
        })
    }

    /// Whether this is the milestone `at`.
    #[must_use]
    pub fn is_milestone(&self, at: &str) -> bool {
        self.kind == "milestone" && self.value["at"] == at
    }

    /// Whether this is an event of this kind, of this step (if one is named).
    #[must_use]
    pub fn is_event(&self, kind: &str, path: Option<&str>) -> bool {
        self.kind == "event"
            && self.value["body"]["kind"] == kind
            && path.is_none_or(|path| self.value["body"]["path"] == path)
    }
}

/// A running machine. Dropping it pulls its plug.
pub struct Vm {
    name: String,
    child: Child,
    tpm: Option<Child>,
    lines: Receiver<String>,
    /// Every line so far, with the seconds since power-on.
    seen: Vec<(f64, String)>,
    qmp: Utf8PathBuf,
    folder: Utf8PathBuf,
    started: Instant,
}

impl Vm {
    /// Switches the machine on.
    ///
    /// # Errors
    /// QEMU or its firmware is not installed, or doesn't start; says what to install.
    pub fn start(spec: &VmSpec) -> Result<Self> {
        require_qemu()?;
        std::fs::create_dir_all(&spec.folder)?;
        let qmp = spec.folder.join(format!("{}.qmp", spec.name));
        let _ = std::fs::remove_file(&qmp);
        let mut command = qemu_command(spec, &qmp)?;
        let tpm = spec
            .tpm
            .as_ref()
            .map(|state| fit_tpm(&mut command, spec, state))
            .transpose()?;
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start QEMU for {}", spec.name))?;
        let stdout = child.stdout.take().expect("stdout is piped");
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(spec.folder.join(format!("{}.log", spec.name)))?;
        let lines = read_lines(stdout, log);
        Ok(Self {
            name: spec.name.clone(),
            child,
            tpm,
            lines,
            seen: Vec::new(),
            qmp,
            folder: spec.folder.clone(),
            started: Instant::now(),
        })
    }

    /// Seconds since power-on.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// Waits for a line of the agent that `wanted` accepts.
    ///
    /// # Errors
    /// The machine ended, or was silent for [`SILENCE_MAX`]; the message has its last lines and where its screen is
    /// kept.
    pub fn wait_for(
        &mut self,
        what: &str,
        wanted: impl Fn(&AgentLine) -> bool,
    ) -> Result<AgentLine> {
        self.wait_for_line(what, |line| AgentLine::parse(line).filter(&wanted))
    }

    /// Waits for a line of anybody's, firmware's too, in which `wanted` finds something.
    ///
    /// # Errors
    /// As [`Vm::wait_for`].
    pub fn wait_for_line<T>(
        &mut self,
        what: &str,
        wanted: impl Fn(&str) -> Option<T>,
    ) -> Result<T> {
        loop {
            match self.next_line() {
                Ok(line) => {
                    if let Some(found) = wanted(&line) {
                        return Ok(found);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.child.wait()?;
                    bail!(
                        "{}: ended ({status}) while we waited for {what}\n{}",
                        self.name,
                        self.tail()
                    );
                }
                Err(RecvTimeoutError::Timeout) => {
                    let picture = self.folder.join(format!("{}-silent.png", self.name));
                    let _ = self.screendump(&picture);
                    bail!(
                        "{}: silent for {} s while we waited for {what}; its screen is in {picture}\n{}",
                        self.name,
                        SILENCE_MAX.as_secs(),
                        self.tail()
                    );
                }
            }
        }
    }

    /// A line of the agent that `wanted` accepts, among those that came since somebody looked last. Doesn't wait.
    ///
    /// # Errors
    /// The machine ended.
    pub fn heard(&mut self, wanted: impl Fn(&AgentLine) -> bool) -> Result<Option<AgentLine>> {
        loop {
            match self.lines.try_recv() {
                Ok(line) => {
                    let found = AgentLine::parse(&line).filter(&wanted);
                    self.seen.push((self.seconds(), line));
                    if found.is_some() {
                        return Ok(found);
                    }
                }
                Err(TryRecvError::Empty) => return Ok(None),
                Err(TryRecvError::Disconnected) => {
                    let status = self.child.wait()?;
                    bail!("{}: ended ({status})\n{}", self.name, self.tail());
                }
            }
        }
    }

    /// Waits for the milestone `at`. Stops early, with the agent's own words, if it reports a failure instead.
    ///
    /// # Errors
    /// As [`Vm::wait_for`], or the agent failed.
    pub fn wait_for_milestone(&mut self, at: &str) -> Result<AgentLine> {
        let failing = |line: &AgentLine| {
            line.is_milestone("stage-failed")
                || line.is_event("run-failed", None)
                || line.is_milestone("panic")
        };
        let line = self.wait_for(at, |line| line.is_milestone(at) || failing(line))?;
        if line.is_milestone(at) {
            return Ok(line);
        }
        let picture = self.folder.join(format!("{}-failed.png", self.name));
        let _ = self.screendump(&picture);
        bail!(
            "{}: failed while we waited for {at}: {}\n{}",
            self.name,
            line.value,
            self.tail()
        )
    }

    /// Waits until a frame with `text` in it has gone through the machine's network card.
    ///
    /// # Errors
    /// The machine ended, or no such frame came within [`SILENCE_MAX`].
    pub fn wait_for_frame(&mut self, capture: &Utf8Path, text: &str) -> Result<()> {
        let start = Instant::now();
        while start.elapsed() < SILENCE_MAX {
            let frames = std::fs::read(capture).unwrap_or_default();
            if frames
                .windows(text.len())
                .any(|window| window == text.as_bytes())
            {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!(
                    "{}: ended ({status}) while we waited for {text:?} on its network\n{}",
                    self.name,
                    self.tail()
                );
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        bail!(
            "{}: {text:?} was not seen on its network within {} s",
            self.name,
            SILENCE_MAX.as_secs()
        )
    }

    /// Waits until the machine has switched itself off.
    ///
    /// # Errors
    /// It was silent for [`SILENCE_MAX`] without ending, or QEMU failed.
    pub fn wait_for_power_off(&mut self) -> Result<()> {
        loop {
            match self.next_line() {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.child.wait()?;
                    if status.success() {
                        return Ok(());
                    }
                    bail!("{}: QEMU ended with {status}\n{}", self.name, self.tail());
                }
                Err(RecvTimeoutError::Timeout) => {
                    bail!("{}: did not switch itself off\n{}", self.name, self.tail());
                }
            }
        }
    }

    /// Pulls the plug: QEMU is killed, and what the guest had not written is lost with it. What it had written and not flushed survives,
    /// but on a [`Bus::Volatile`] disk.
    pub fn cut_power(self) {
        drop(self);
    }

    /// Every line so far, with the seconds since power-on at which it came.
    #[must_use]
    pub fn lines(&self) -> &[(f64, String)] {
        &self.seen
    }

    /// Writes what the machine's screen shows to a picture: a PNG, or a PPM if it is called so.
    ///
    /// # Errors
    /// The machine is off, or QEMU refuses.
    pub fn screendump(&self, picture: &Utf8Path) -> Result<()> {
        self.qmp(&QmpCommand::Screendump(picture.to_owned()))
    }

    /// Whether it is off by itself.
    ///
    /// # Errors
    /// The kernel of this computer doesn't tell.
    pub fn is_off(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// What its screen shows, as rows of red, green and blue.
    ///
    /// # Errors
    /// The machine is off, or QEMU refuses.
    pub fn screen(&self) -> Result<Vec<u8>> {
        let picture = self.folder.join(format!("{}.ppm", self.name));
        self.qmp(&QmpCommand::Screendump(picture.clone()))?;
        let pixels = std::fs::read(&picture).with_context(|| format!("cannot read {picture}"))?;
        std::fs::remove_file(&picture)?;
        Ok(pixels)
    }

    /// Somebody at its keyboard. Until they are dropped, nobody else can ask anything of its monitor.
    ///
    /// # Errors
    /// The machine is off.
    pub fn keyboard(&self) -> Result<Keyboard> {
        Ok(Keyboard::new(Monitor::open(&self.qmp)?))
    }

    fn next_line(&mut self) -> Result<String, RecvTimeoutError> {
        let line = self.lines.recv_timeout(SILENCE_MAX)?;
        self.seen
            .push((self.started.elapsed().as_secs_f64(), line.clone()));
        Ok(line)
    }

    fn tail(&self) -> String {
        let from = self.seen.len().saturating_sub(25);
        self.seen[from..]
            .iter()
            .map(|(at, line)| format!("    {at:7.1} {line}\n"))
            .collect()
    }

    fn qmp(&self, command: &QmpCommand) -> Result<()> {
        Monitor::open(&self.qmp)?.ask(&command.request())
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        for child in std::iter::once(&mut self.child).chain(&mut self.tpm) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Everything we ever ask of QEMU's monitor. There is no way to send a key in here.
enum QmpCommand {
    Screendump(Utf8PathBuf),
}

impl QmpCommand {
    fn request(&self) -> Value {
        match self {
            Self::Screendump(picture) => {
                let format = picture.extension().unwrap_or("png");
                json!({"execute": "screendump", "arguments": {"filename": picture, "format": format}})
            }
        }
    }
}

/// Fails, saying what to install, if there is no QEMU with UEFI firmware.
///
/// # Errors
/// Something is missing.
pub fn require_qemu() -> Result<()> {
    let missing: Vec<&str> = [
        ("/usr/bin/qemu-system-x86_64", "qemu-system-x86"),
        (OVMF_CODE, "ovmf"),
        (OVMF_SECURE_CODE, "ovmf"),
        (OVMF_VARS, "ovmf"),
    ]
    .iter()
    .filter(|(path, _)| !std::path::Path::new(path).exists())
    .map(|(_, package)| *package)
    .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(anyhow!(
        "virtual machines need QEMU and UEFI firmware: apt-get install qemu-system-x86 ovmf"
    ))
}

/// Starts the machine's TPM and connects it.
fn fit_tpm(command: &mut Command, spec: &VmSpec, state: &Utf8Path) -> Result<Child> {
    let socket = spec.folder.join(format!("{}.tpm", spec.name));
    let child = swtpm::for_machine(state, &socket)?;
    command
        .args(["-chardev", &format!("socket,id=tpm,path={socket}")])
        .args(["-tpmdev", "emulator,id=tpm0,chardev=tpm"])
        .args(["-device", "tpm-crb,tpmdev=tpm0"]);
    Ok(child)
}

/// Firmware, with its own copy of `variables`.
fn firmware(command: &mut Command, spec: &VmSpec, code: &str, variables: &Utf8Path) -> Result<()> {
    let own = spec.folder.join(format!("{}.vars", spec.name));
    std::fs::copy(variables, &own)?;
    command
        .args([
            "-drive",
            &format!("if=pflash,format=raw,unit=0,readonly=on,file={code}"),
        ])
        .args(["-drive", &format!("if=pflash,format=raw,unit=1,file={own}")]);
    Ok(())
}

fn qemu_command(spec: &VmSpec, qmp: &Utf8Path) -> Result<Command> {
    let mut command = Command::new("qemu-system-x86_64");
    let identity = &spec.identity;
    let machine = match spec.start {
        Start::SecureBoot { .. } => "q35,smm=on",
        Start::Firmware | Start::Kernel { .. } => "q35",
    };
    command
        .args([
            "-machine",
            machine,
            "-accel",
            "tcg,thread=multi",
            "-cpu",
            "max,la57=off",
        ])
        .args([
            "-nodefaults",
            "-display",
            "none",
            "-device",
            "VGA",
            "-serial",
            "stdio",
        ])
        .args([
            "-m",
            &spec.memory_mib.to_string(),
            "-smp",
            &spec.cpus.to_string(),
        ])
        .args(["-qmp", &format!("unix:{qmp},server=on,wait=off")])
        .args([
            "-trace",
            "enable=input_event_key*",
            "-D",
            spec.folder.join(format!("{}.keys", spec.name)).as_str(),
        ])
        .args([
            "-smbios",
            &smbios(&[
                "type=1".to_owned(),
                format!("manufacturer={}", comma(&identity.vendor)),
                format!("product={}", comma(&identity.product)),
                format!("serial={}", comma(&identity.serial)),
                format!("uuid={}", identity.uuid),
            ]),
        ])
        .args([
            "-smbios",
            &smbios(&[
                "type=3".to_owned(),
                format!("asset={}", comma(&identity.asset_tag)),
            ]),
        ])
        .args(["-device", "qemu-xhci,id=xhci", "-device", "virtio-rng-pci"]);
    match &spec.start {
        Start::Firmware => firmware(&mut command, spec, OVMF_CODE, Utf8Path::new(OVMF_VARS))?,
        Start::SecureBoot { variables } => {
            // Only system management mode may write the variables.
            command.args(["-global", "driver=cfi.pflash01,property=secure,value=on"]);
            firmware(&mut command, spec, OVMF_SECURE_CODE, variables)?;
        }
        Start::Kernel {
            kernel,
            initrd,
            command_line,
        } => {
            command.args([
                "-kernel",
                kernel.as_str(),
                "-initrd",
                initrd.as_str(),
                "-append",
                command_line,
            ]);
        }
    }
    for (number, disk) in spec.disks.iter().enumerate() {
        let boot = number + 1;
        let source = match disk.bus {
            // What the machine flushes is flushed on the other side, which is what that is about.
            Bus::Volatile => format!("nbd:unix:{},cache=writeback", disk.path),
            Bus::Nvme | Bus::Usb => format!("{},cache=unsafe,discard=unmap", disk.path),
        };
        command.args([
            "-drive",
            &format!("if=none,id=d{number},format=raw,file={source}"),
        ]);
        command.args([
            "-device",
            &match disk.bus {
                Bus::Nvme => format!("nvme,drive=d{number},serial=NVME{number},bootindex={boot}"),
                Bus::Usb => {
                    format!("usb-storage,bus=xhci.0,drive=d{number},removable=on,bootindex={boot}")
                }
                Bus::Volatile => format!("virtio-blk-pci,drive=d{number},bootindex={boot}"),
            },
        ]);
    }
    match &spec.network {
        Network::None => {}
        Network::User { capture } => {
            command
                .args([
                    "-netdev",
                    "user,id=n",
                    "-device",
                    "virtio-net-pci,netdev=n,romfile=",
                ])
                .args([
                    "-object",
                    &format!("filter-dump,id=f,netdev=n,file={capture}"),
                ]);
        }
        Network::Walled => {
            command.args([
                "-netdev",
                "user,id=n,restrict=on",
                "-device",
                "virtio-net-pci,netdev=n,romfile=",
            ]);
        }
        Network::Reachable { port, machine_port } => {
            command.args([
                "-netdev",
                &format!("user,id=n,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:{machine_port}"),
                "-device",
                "virtio-net-pci,netdev=n,romfile=",
            ]);
        }
        Network::Silent => {
            command.args([
                "-netdev",
                "hubport,id=n,hubid=7",
                "-device",
                "virtio-net-pci,netdev=n,romfile=",
            ]);
        }
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command.stderr(std::fs::File::create(
        spec.folder.join(format!("{}.qemu", spec.name)),
    )?);
    Ok(command)
}

fn smbios(parts: &[String]) -> String {
    parts.join(",")
}

/// QEMU's option parser takes a doubled comma for a comma.
fn comma(text: &str) -> String {
    text.replace(',', ",,")
}

fn read_lines(
    from: impl std::io::Read + Send + 'static,
    mut log: std::fs::File,
) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut reader = BufReader::new(from);
        let mut bytes = Vec::new();
        while matches!(reader.read_until(b'\n', &mut bytes), Ok(length) if length > 0) {
            let line = strip_escapes(&String::from_utf8_lossy(&bytes));
            bytes.clear();
            let _ = writeln!(log, "{line}");
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

/// Firmware paints its serial console; only the text is wanted.
fn strip_escapes(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character == '\u{1b}' {
            for next in characters.by_ref() {
                if next.is_ascii_alphabetic() {
                    break;
                }
            }
        } else if !character.is_control() {
            plain.push(character);
        }
    }
    plain
}

/// How many keys were pressed on machines whose folders are in `folder`, as QEMU itself traced them.
///
/// # Errors
/// No machine ran there, or a trace can't be read.
pub fn pressed_keys(folder: &Utf8Path) -> Result<usize> {
    let (mut traces, mut pressed) = (0, 0);
    for machine in folder
        .read_dir_utf8()
        .with_context(|| format!("cannot read {folder}"))?
    {
        for file in machine?.path().read_dir_utf8()? {
            let file = file?;
            if file.path().extension() == Some("keys") {
                traces += 1;
                let trace = std::fs::read_to_string(file.path())?;
                pressed += trace
                    .lines()
                    .filter(|line| line.ends_with("down 1"))
                    .count();
            }
        }
    }
    if traces == 0 {
        bail!("no machine has run in {folder}");
    }
    Ok(pressed)
}

/// What went through a machine's network card, both ways.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Captured {
    /// Whole frames: every byte there was.
    pub bytes: u64,
    /// The same without the Ethernet, IP and TCP headers of TCP segments: what the programs on both ends sent,
    /// TLS and repetitions included. Frames that are not TCP count as a whole.
    pub payload_bytes: u64,
}

/// Adds up the frames of a capture (pcap, as QEMU's `filter-dump` writes it).
///
/// # Errors
/// The file is not a capture.
pub fn captured(capture: &Utf8Path) -> Result<Captured> {
    let bytes = std::fs::read(capture).with_context(|| format!("cannot read {capture}"))?;
    add_up(&bytes).with_context(|| format!("{capture} is not a capture"))
}

fn add_up(capture: &[u8]) -> Option<Captured> {
    let word = |at: usize| -> Option<u32> {
        Some(u32::from_le_bytes(
            capture.get(at..at + 4)?.try_into().ok()?,
        ))
    };
    if word(0) != Some(0xa1b2_c3d4) {
        return None;
    }
    let (mut at, mut total) = (24_usize, Captured::default());
    while let (Some(kept), Some(length)) = (word(at + 8), word(at + 12)) {
        let frame = capture.get(at + 16..at + 16 + kept as usize)?;
        total.bytes += u64::from(length);
        total.payload_bytes += tcp_payload_bytes(frame).unwrap_or(u64::from(length));
        at += 16 + kept as usize;
    }
    Some(total)
}

/// The bytes a TCP segment over IPv4 (RFC 791, RFC 9293) carries; `None` if the Ethernet frame is anything else.
fn tcp_payload_bytes(frame: &[u8]) -> Option<u64> {
    const IPV4: [u8; 2] = [0x08, 0x00];
    const TCP: u8 = 6;
    if frame.get(12..14)? != IPV4 {
        return None;
    }
    let packet = &frame[14..];
    let ip_header = usize::from(packet.first()? & 0x0f) * 4;
    if *packet.get(9)? != TCP {
        return None;
    }
    let tcp_header = usize::from(packet.get(ip_header + 12)? >> 4) * 4;
    let packet_bytes = usize::from(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]));
    u64::try_from(packet_bytes.checked_sub(ip_header + tcp_header)?).ok()
}

#[cfg(test)]
mod tests {
    use super::{AgentLine, Captured, add_up, strip_escapes};

    #[test]
    fn agent_lines_are_found_behind_other_output() {
        let line = AgentLine::parse("[  1.2] x FORESTAGE 12.345 milestone {\"at\":\"stage-done\"}")
            .unwrap();
        assert!(line.is_milestone("stage-done") && line.seconds > 12.3);
        assert_eq!(AgentLine::parse("FORESTAGE twelve milestone {}"), None);
        assert_eq!(AgentLine::parse("BdsDxe: starting Boot0001"), None);
    }

    #[test]
    fn escapes_are_stripped() {
        assert_eq!(strip_escapes("\u{1b}[2J\u{1b}[01;01HBdsDxe\r"), "BdsDxe");
    }

    /// A capture of one frame.
    fn capture_of(frame: &[u8]) -> Vec<u8> {
        let length = u32::try_from(frame.len()).unwrap().to_le_bytes();
        let header = [&0xa1b2_c3d4_u32.to_le_bytes()[..], &[0; 20]].concat();
        [&header[..], &[0; 8], &length, &length, frame].concat()
    }

    #[test]
    fn headers_are_told_from_what_they_carry() {
        let segment = |protocol: u8| {
            let mut frame = vec![0_u8; 14 + 20 + 32 + 7];
            frame[12..14].copy_from_slice(&[0x08, 0x00]);
            frame[14] = 0x45;
            frame[16..18].copy_from_slice(&59_u16.to_be_bytes());
            frame[23] = protocol;
            frame[14 + 20 + 12] = 8 << 4;
            frame
        };
        let check = |frame: &[u8]| add_up(&capture_of(frame)).unwrap();
        let of = |bytes, payload_bytes| Captured {
            bytes,
            payload_bytes,
        };
        assert_eq!(check(&segment(6)), of(73, 7));
        assert_eq!(check(&segment(17)), of(73, 73), "UDP counts as a whole");
        assert_eq!(check(&[0; 60]), of(60, 60), "so does what isn't IP");
        assert_eq!(check(&segment(6)[..20]), of(20, 20), "and what is cut off");
        assert_eq!(add_up(b"something else, but long enough"), None);
        assert_eq!(add_up(&capture_of(&segment(6))[..60]), None);
    }
}
