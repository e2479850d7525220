//! A machine and its content, in memory: for tests of sequences without a disk in sight.
//!
//! A [`FakeMachine`] keeps files, volumes and packages as values that can be compared; commands answer as a
//! Debian would (users, locales, packages), and any call can be made to fail. Everything durable is in
//! [`FakeState`], so that a power cut is a clone of it at some moment.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use sequence::engine::{Clock, Journal, Observer};
use sequence::layout::Layout;
use sequence::ports::{
    BootTarget, Command, CommandOutput, Content, Machine, Progress, ServerAddress, StepError,
    TargetFile, TreeTarget,
};
use sequence::secret::Secret;
use wire::event::{ContentBytes, Environment, Event, EventBody, ProgressUnit};
use wire::facts::{Disk, DiskContent, Facts};
use wire::layout::VolumeRole;
use wire::names::{RunId, SecretName};
use wire::package::Package;

/// What survives a power cut.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FakeState {
    /// What is written on the target disk.
    pub layout: Option<Layout>,
    /// What the wipe guard sees on the target disk.
    pub content: Option<DiskContent>,
    /// What each volume was made equal to, as `name version`.
    pub volumes: BTreeMap<VolumeRole, String>,
    /// The files of the target OS.
    pub files: BTreeMap<Utf8PathBuf, Vec<u8>>,
    /// Users of the target OS, with their groups.
    pub users: BTreeMap<String, BTreeSet<String>>,
    /// Locales the target OS has.
    pub locales: BTreeSet<String>,
    /// Packages the target OS has, as the fake `installer` puts them there: name and version.
    pub installed: BTreeMap<String, String>,
    /// Packages that will be there once the target OS has restarted: name and version.
    pub installed_at_restart: BTreeMap<String, String>,
    /// Units the target OS never starts.
    pub masked: BTreeSet<String>,
    /// Whether root's password is locked.
    pub root_locked: bool,
    /// The domain the target OS has joined, and as whom.
    pub domain: Option<String>,
    /// Logs on the staging partition, by name.
    pub logs: BTreeMap<String, Vec<u8>>,
    /// Packages in the local content library.
    pub staged: BTreeSet<String>,
    /// The boot image on the ESP.
    pub boot_image: Option<String>,
    /// Whether the OS has a boot entry.
    pub os_entry: bool,
    /// Whether the agent is in the OS.
    pub agent: bool,
    /// What starts at power-on.
    pub default_boot: Option<BootTarget>,
    /// Whether the disk is marked as handed out.
    pub deployed: bool,
    /// The run that the mark of a disk that was handed out names.
    pub run: Option<RunId>,
}

/// A machine in memory.
#[derive(Debug)]
pub struct FakeMachine {
    facts: RefCell<Facts>,
    environment: Environment,
    secrets: RefCell<BTreeMap<String, Secret>>,
    state: RefCell<FakeState>,
    calls: RefCell<Vec<String>>,
    failures: RefCell<Vec<(String, usize)>>,
    calls_left: Cell<Option<usize>>,
}

impl FakeMachine {
    /// A laptop with one blank NVMe disk, started from a stick.
    #[must_use]
    pub fn new(facts: Facts) -> Self {
        let state = FakeState {
            content: facts.disks.first().map(|disk| disk.content),
            ..FakeState::default()
        };
        Self::resumed(facts, Environment::BootImage, state)
    }

    /// A machine that starts with what an earlier one left: `/run` is empty, and what waited for a restart is there.
    #[must_use]
    pub fn resumed(facts: Facts, environment: Environment, mut state: FakeState) -> Self {
        state.files.retain(|path, _| !path.starts_with("/run"));
        let waiting = std::mem::take(&mut state.installed_at_restart);
        state.installed.extend(waiting);
        Self {
            facts: RefCell::new(facts),
            environment,
            secrets: RefCell::default(),
            state: RefCell::new(state),
            calls: RefCell::default(),
            failures: RefCell::default(),
            calls_left: Cell::new(None),
        }
    }

    /// What would survive a power cut now.
    #[must_use]
    pub fn state(&self) -> FakeState {
        self.state.borrow().clone()
    }

    /// Every call so far, such as `command useradd …` or `write-file /etc/hostname`.
    #[must_use]
    pub fn calls(&self) -> Vec<String> {
        self.calls.borrow().clone()
    }

    /// Makes the `nth` call (from 1) whose text begins with `prefix` fail.
    pub fn fail(&self, prefix: &str, nth: usize) {
        self.failures.borrow_mut().push((prefix.to_owned(), nth));
    }

    /// Releases a secret to this machine.
    pub fn release_secret(&self, name: &str, secret: &str) {
        let secret = Secret::new(secret.to_owned());
        self.secrets.borrow_mut().insert(name.to_owned(), secret);
    }

    /// Cuts the power after `calls` more calls: from then on none has an effect.
    pub fn cut_after(&self, calls: usize) {
        self.calls_left.set(Some(calls));
    }

    /// Whether the power is cut.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.calls_left.get() == Some(0)
    }

    fn call(&self, text: String) -> Result<(), StepError> {
        if self.is_cut() {
            return Err(StepError::new(format!("cannot do: {text}")).because("the power is cut"));
        }
        self.calls_left
            .set(self.calls_left.get().map(|left| left - 1));
        let fails = self.failures.borrow_mut().iter_mut().any(|(prefix, left)| {
            if !text.starts_with(prefix.as_str()) || *left == 0 {
                return false;
            }
            *left -= 1;
            *left == 0
        });
        self.calls.borrow_mut().push(text.clone());
        if fails {
            Err(StepError::new(format!("cannot do: {text}")).because("made to fail"))
        } else {
            Ok(())
        }
    }

    /// What the fake programs do. Unknown programs fail as a shell would.
    fn execute(&self, command: &Command) -> Result<(i32, String), StepError> {
        let mut state = self.state.borrow_mut();
        let args: Vec<&str> = command.args.iter().map(String::as_str).collect();
        let answer = |is_there: bool| if is_there { 0 } else { 2 };
        Ok(match (command.program.as_str(), args.as_slice()) {
            ("getent", ["passwd", name]) => {
                let line = format!("{name}:x:1000:1000::/home/{name}:/bin/bash\n");
                (answer(state.users.contains_key(*name)), line)
            }
            ("getent", ["group", name]) => {
                (answer(["sudo", "audio"].contains(name)), String::new())
            }
            ("useradd", [.., name]) => {
                let is_new = state
                    .users
                    .insert((*name).to_owned(), BTreeSet::new())
                    .is_none();
                (if is_new { 0 } else { 9 }, String::new())
            }
            ("usermod", ["--append", "--groups", groups, name]) => {
                let user = state.users.get_mut(*name);
                let code = if user.is_some() { 0 } else { 6 };
                user.into_iter()
                    .for_each(|user| user.extend(groups.split(',').map(str::to_owned)));
                (code, String::new())
            }
            ("locale", ["-a"]) => (
                0,
                state
                    .locales
                    .iter()
                    .map(|locale| format!("{locale}\n"))
                    .collect(),
            ),
            ("locale-gen", []) => {
                let list = state
                    .files
                    .get(Utf8Path::new("/etc/locale.gen"))
                    .cloned()
                    .unwrap_or_default();
                let list = String::from_utf8_lossy(&list).into_owned();
                let names = list
                    .lines()
                    .filter(|line| !line.starts_with('#'))
                    .filter_map(|line| line.split(' ').next());
                state.locales.extend(names.map(str::to_owned));
                (0, String::new())
            }
            ("ln", [.., from, to]) => {
                state
                    .files
                    .insert((*to).into(), format!("-> {from}").into_bytes());
                (0, String::new())
            }
            // The fake installer: `installer NAME VERSION`, run in the folder that holds the content.
            ("installer", [name, version]) => {
                let is_here = state
                    .files
                    .keys()
                    .any(|path| path.starts_with(&command.folder));
                if is_here {
                    state
                        .installed
                        .insert((*name).to_owned(), (*version).to_owned());
                }
                (answer(is_here), String::new())
            }
            // The same for a package that is there only after a restart, and says so.
            ("restart-installer", [name, version]) => {
                state
                    .installed_at_restart
                    .insert((*name).to_owned(), (*version).to_owned());
                (194, String::new())
            }
            ("installed-version", [name]) => match state.installed.get(*name) {
                Some(version) => (0, format!("{version}\n")),
                None => (1, String::new()),
            },
            ("passwd", ["--lock", "root"]) => {
                state.root_locked = true;
                (0, String::new())
            }
            ("systemctl", ["mask", units @ ..]) => {
                state
                    .masked
                    .extend(units.iter().map(|unit| (*unit).to_owned()));
                (0, String::new())
            }
            ("realm", ["list", "--name-only"]) => {
                let domain = state.domain.iter();
                (0, domain.map(|domain| format!("{domain}\n")).collect())
            }
            // The one right password of the fake domain is `join-me`. It is asked for, as the real program does.
            ("realm", ["join", .., domain]) => {
                let is_right = command.stdin.expose() == "join-me\n";
                if is_right {
                    state.domain = Some((*domain).to_owned());
                }
                (i32::from(!is_right), "Password: \n".to_owned())
            }
            // The journal goes into a file: `sh -c SCRIPT sh FILE OPTIONS…`.
            ("/bin/sh", ["-c", _, "sh", file, options @ ..]) => {
                let text = format!("journal {}\n", options.join(" "));
                state.files.insert((*file).into(), text.into_bytes());
                (0, String::new())
            }
            // A script may say `fail`, or `append FILE`: the one effect that must not happen twice, or `print VARIABLE`.
            ("/bin/sh", [script, ..]) => {
                let text = state
                    .files
                    .get(Utf8Path::new(script))
                    .cloned()
                    .unwrap_or_default();
                let text = String::from_utf8_lossy(&text).into_owned();
                if let Some(file) = text.trim().strip_prefix("append ") {
                    state
                        .files
                        .entry(file.into())
                        .or_default()
                        .extend_from_slice(b"ran\n");
                }
                if let Some(name) = text.trim().strip_prefix("print ") {
                    let values = command.secret_env.iter();
                    let value = values.filter(|(variable, _)| variable == name);
                    return Ok((0, value.map(|(_, secret)| secret.expose()).collect()));
                }
                (if text.trim() == "fail" { 3 } else { 0 }, text)
            }
            ("hostname" | "chmod" | "chown" | "nmcli", _) => (0, String::new()),
            (program, _) => {
                return Err(
                    StepError::new(format!("cannot run {program}")).because("no such program")
                );
            }
        })
    }
}

impl Machine for FakeMachine {
    fn facts(&self) -> Result<Facts, StepError> {
        self.call("facts".to_owned())?;
        let mut facts = self.facts.borrow().clone();
        if let (Some(disk), Some(content)) = (facts.disks.first_mut(), self.state.borrow().content)
        {
            disk.content = content;
        }
        Ok(facts)
    }

    fn environment(&self) -> Environment {
        self.environment
    }

    fn write_layout(&self, layout: &Layout, progress: &dyn Progress) -> Result<(), StepError> {
        self.call(format!("write-layout {}", layout.disk))?;
        let mut state = self.state.borrow_mut();
        if !matches!(
            state.content,
            Some(DiskContent::Blank | DiskContent::StagedHere)
        ) {
            return Err(StepError::refused(format!(
                "refused to format {}",
                layout.disk
            )));
        }
        if state.layout.as_ref() != Some(layout) {
            state.volumes.clear();
            state.layout = Some(layout.clone());
        }
        state.content = Some(DiskContent::StagedHere);
        progress.report(1, 1, ProgressUnit::Items, "volumes");
        Ok(())
    }

    fn install_boot_image(
        &self,
        source: &Utf8Path,
        _progress: &dyn Progress,
    ) -> Result<(), StepError> {
        self.call(format!("install-boot-image {source}"))?;
        let mut state = self.state.borrow_mut();
        state.boot_image = Some(source.to_string());
        state.default_boot = Some(BootTarget::BootImage);
        Ok(())
    }

    fn install_os_boot_entry(&self, _progress: &dyn Progress) -> Result<(), StepError> {
        self.call("install-os-boot-entry".to_owned())?;
        self.state.borrow_mut().os_entry = true;
        Ok(())
    }

    fn install_agent(&self) -> Result<(), StepError> {
        self.call("install-agent".to_owned())?;
        self.state.borrow_mut().agent = true;
        Ok(())
    }

    fn set_default_boot(&self, target: BootTarget) -> Result<(), StepError> {
        self.call(format!("set-default-boot {target:?}"))?;
        self.state.borrow_mut().default_boot = Some(target);
        Ok(())
    }

    fn write_file(&self, file: &TargetFile) -> Result<(), StepError> {
        self.call(format!("write-file {}", file.path))?;
        self.state
            .borrow_mut()
            .files
            .insert(file.path.clone(), file.bytes.clone());
        Ok(())
    }

    fn read_file(&self, path: &Utf8Path) -> Result<Option<Vec<u8>>, StepError> {
        Ok(self.state.borrow().files.get(path).cloned())
    }

    fn command(
        &self,
        command: &Command,
        progress: &dyn Progress,
    ) -> Result<CommandOutput, StepError> {
        self.call(format!(
            "command {} {}",
            command.program,
            command.args.join(" ")
        ))?;
        let (exit_code, stdout) = self.execute(command)?;
        for line in stdout.lines() {
            progress.log(wire::event::LogLevel::Info, line);
        }
        Ok(CommandOutput {
            exit_code: Some(exit_code),
            stdout,
            stderr: String::new(),
        })
    }

    fn secret(&self, name: &SecretName, _progress: &dyn Progress) -> Result<Secret, StepError> {
        self.call(format!("secret {name}"))?;
        let secret = self.secrets.borrow().get(name.as_str()).cloned();
        secret.ok_or_else(|| {
            StepError::refused(format!("the secret {name} is not released to this machine"))
        })
    }

    /// The network is there; names that end in `.invalid` lead nowhere (RFC 2606).
    fn wait_for_network(
        &self,
        server: Option<&ServerAddress>,
        _timeout: std::time::Duration,
        _progress: &dyn Progress,
    ) -> Result<(), StepError> {
        let server = server.map(ToString::to_string).unwrap_or_default();
        self.call(format!("wait-for-network {server}"))?;
        if server.contains(".invalid:") {
            return Err(StepError::new(format!("cannot reach {server}")).because("no such host"));
        }
        Ok(())
    }

    fn keep_log(&self, name: &str, bytes: &[u8]) -> Result<Utf8PathBuf, StepError> {
        self.call(format!("keep-log {name}"))?;
        let mut state = self.state.borrow_mut();
        state.logs.insert(name.to_owned(), bytes.to_vec());
        Ok(format!("/staging/logs/{name}").into())
    }

    fn remove_folder(&self, path: &Utf8Path) -> Result<(), StepError> {
        self.call(format!("remove-folder {path}"))?;
        self.state
            .borrow_mut()
            .files
            .retain(|file, _| !file.starts_with(path));
        Ok(())
    }

    fn mark_finished(&self, run: RunId, deployed: bool) -> Result<(), StepError> {
        if deployed {
            self.call("mark-deployed".to_owned())?;
        }
        let mut state = self.state.borrow_mut();
        if deployed {
            state.deployed = true;
            state.content = Some(DiskContent::DeployedHere);
        }
        if state.deployed {
            state.run = Some(run);
        }
        Ok(())
    }
}

/// Content for a [`FakeMachine`]: every package is one file, or one word on a volume.
#[derive(Debug)]
pub struct FakeContent<'a> {
    machine: &'a FakeMachine,
    packages: Vec<Package>,
    server_away: Duration,
}

impl<'a> FakeContent<'a> {
    /// Content with these packages, for this machine.
    #[must_use]
    pub const fn new(machine: &'a FakeMachine, packages: Vec<Package>) -> Self {
        Self {
            machine,
            packages,
            server_away: Duration::ZERO,
        }
    }

    /// The same, but each tree is waited for so long, because the server isn't reached.
    #[must_use]
    pub const fn waiting(mut self, server_away: Duration) -> Self {
        self.server_away = server_away;
        self
    }

    fn bytes(package: &Package) -> ContentBytes {
        ContentBytes {
            local: package.content_bytes,
            ..ContentBytes::default()
        }
    }
}

impl Content for FakeContent<'_> {
    fn packages(&self) -> &[Package] {
        &self.packages
    }

    fn apply_image(
        &self,
        package: &Package,
        volume: VolumeRole,
        progress: &dyn Progress,
    ) -> Result<ContentBytes, StepError> {
        self.machine
            .call(format!("apply-image {} {volume}", package.name))?;
        for done in 0..=package.content_bytes {
            progress.report(
                done,
                package.content_bytes,
                ProgressUnit::Bytes,
                package.name.as_str(),
            );
        }
        let mut state = self.machine.state.borrow_mut();
        state
            .volumes
            .insert(volume, format!("{} {}", package.name, package.version));
        // The image brings what every Debian has.
        state
            .files
            .entry("/usr/sbin/locale-gen".into())
            .or_default();
        state
            .files
            .entry("/usr/share/zoneinfo/Europe/Oslo".into())
            .or_default();
        Ok(Self::bytes(package))
    }

    fn apply_tree(
        &self,
        package: &Package,
        target: &TreeTarget,
        progress: &dyn Progress,
    ) -> Result<(Utf8PathBuf, ContentBytes), StepError> {
        progress.waited(self.server_away);
        self.machine
            .call(format!("apply-tree {} {target:?}", package.name))?;
        let folder = match target {
            TreeTarget::Os(folder) => folder.clone(),
            TreeTarget::Scratch => {
                return Ok((
                    format!("/scratch/{}", package.name).into(),
                    Self::bytes(package),
                ));
            }
        };
        let file = folder.join(format!("{}.content", package.name));
        self.machine
            .state
            .borrow_mut()
            .files
            .insert(file, package.version.as_str().as_bytes().to_vec());
        Ok((folder, Self::bytes(package)))
    }

    fn stage(
        &self,
        packages: &[&Package],
        _progress: &dyn Progress,
    ) -> Result<ContentBytes, StepError> {
        self.machine.call("stage".to_owned())?;
        let mut sum = ContentBytes::default();
        for package in packages {
            self.machine
                .state
                .borrow_mut()
                .staged
                .insert(package.name.to_string());
            sum += Self::bytes(package);
        }
        Ok(sum)
    }
}

/// A journal in memory, which can run full.
#[derive(Debug, Clone, Default)]
pub struct FakeJournal {
    /// What was recorded.
    pub events: Vec<Event>,
    /// After so many events the journal refuses more, as if the power failed there.
    pub capacity: Option<usize>,
}

impl Journal for FakeJournal {
    fn events(&self) -> &[Event] {
        &self.events
    }

    fn append(&mut self, event: &Event) -> std::io::Result<()> {
        if self
            .capacity
            .is_some_and(|capacity| self.events.len() >= capacity)
        {
            return Err(std::io::Error::new(
                std::io::ErrorKind::StorageFull,
                "the journal is full",
            ));
        }
        self.events.push(event.clone());
        Ok(())
    }
}

/// Hears everything; can ask for a stop.
#[derive(Debug, Default)]
pub struct FakeObserver {
    /// Every event heard, lossy ones too.
    pub heard: std::sync::Mutex<Vec<Event>>,
    /// The run is to stop once this many steps are done.
    pub stop_after_steps: Option<usize>,
}

impl FakeObserver {
    /// Every event heard so far.
    #[must_use]
    pub fn heard(&self) -> Vec<Event> {
        self.heard
            .lock()
            .map(|heard| heard.clone())
            .unwrap_or_default()
    }
}

impl Observer for FakeObserver {
    fn event(&self, event: &Event) {
        if let Ok(mut heard) = self.heard.lock() {
            heard.push(event.clone());
        }
    }

    fn is_stopped(&self) -> bool {
        let done = |event: &&Event| matches!(event.body, EventBody::StepDone { .. });
        self.stop_after_steps
            .is_some_and(|steps| self.heard().iter().filter(done).count() >= steps)
    }
}

/// A clock that tests move: it goes on by `step_ms` whenever it is looked at.
#[derive(Debug, Default)]
pub struct FakeClock {
    /// The time now.
    pub now_ms: std::sync::atomic::AtomicU64,
    /// How far it goes on at each look.
    pub step_ms: u64,
}

impl Clock for FakeClock {
    fn uptime_ms(&self) -> u64 {
        self.now_ms
            .fetch_add(self.step_ms, std::sync::atomic::Ordering::Relaxed)
    }

    fn wait(&self, milliseconds: u64, until: &dyn Fn() -> bool) {
        if !until() {
            self.now_ms
                .fetch_add(milliseconds, std::sync::atomic::Ordering::Relaxed);
        }
    }
}

/// Facts of a laptop with one blank NVMe disk and the stick it was started from.
#[must_use]
pub fn laptop_facts(vendor: &str, product: &str, serial: &str) -> Facts {
    let disk = |path: &str, bus, size_bytes, removable, content| Disk {
        path: path.to_owned(),
        bus,
        model: "Fake".to_owned(),
        serial: String::new(),
        size_bytes,
        removable,
        content,
    };
    Facts {
        vendor: vendor.to_owned(),
        product: product.to_owned(),
        serial: serial.to_owned(),
        memory_bytes: 8 << 30,
        disks: vec![
            disk(
                "/dev/nvme0n1",
                wire::facts::Bus::Nvme,
                64 << 30,
                false,
                DiskContent::Blank,
            ),
            disk(
                "/dev/sda",
                wire::facts::Bus::Usb,
                16 << 30,
                true,
                DiskContent::BootMedium,
            ),
        ],
        ..Facts::default()
    }
}
