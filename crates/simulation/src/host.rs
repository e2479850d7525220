//! A laptop while it is switched on: what the agent sees as its machine.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent::connection::Connection;
use agent::files::{Files, Written};
use agent::host::{Host, KeySource, State, Tpm};
use agent::secrets::Secrets;
use anyhow::Result;
use camino::{Utf8Path, Utf8PathBuf};
use client::{Client, ClientError};
use http::{Request, Response};
use sequence::engine::Clock;
use sequence::journal_line;
use sequence::layout::Layout;
use sequence::ports::{
    BootTarget, Command, CommandOutput, Content, Machine, Progress, ServerAddress, StepError,
    TargetFile, TreeTarget,
};
use sequence::secret::Secret;
use testkit::fake_machine::{FakeContent, FakeMachine};
use wire::event::{ContentBytes, Environment, Event, EventBody};
use wire::facts::{DiskContent, Facts};
use wire::layout::VolumeRole;
use wire::mark::{MarkState, StagingMark};
use wire::names::{RunId, SecretName};
use wire::order::Order;
use wire::package::Package;

use crate::time::{End, end, lock, now_ms, wait_until};
use crate::world::{self, HOUR, Laptop, SECOND, World};

/// Where the staging partition is mounted.
const STAGING: &str = "/staging";
/// How long the agent waits for an answer that doesn't come.
const SILENCE_MS: i64 = 20 * SECOND;
/// The file in which the script leaves a trace that must not run twice by itself.
pub(crate) const ONCE: &str = "/var/log/once";

/// One start of a laptop.
pub(crate) struct PoweredOn {
    pub(crate) world: Arc<World>,
    pub(crate) machine: usize,
    environment: Environment,
    fake: Arc<Mutex<FakeMachine>>,
}

impl PoweredOn {
    pub(crate) fn new(world: &Arc<World>, machine: usize, environment: Environment) -> Arc<Self> {
        let fake = world.change(|world| {
            let laptop = &world.laptops[machine];
            FakeMachine::resumed(laptop.facts(), environment, laptop.state.clone())
        });
        let host = Self {
            world: Arc::clone(world),
            machine,
            environment,
            fake: Arc::new(Mutex::new(fake)),
        };
        host.keep();
        Arc::new(host)
    }

    fn laptop<T>(&self, change: impl FnOnce(&mut Laptop) -> T) -> T {
        self.world
            .change(|world| change(&mut world.laptops[self.machine]))
    }

    fn tell(&self, what: &str) {
        let name = self.laptop(|laptop| laptop.name());
        self.world.tell(&name, what);
    }

    /// What a run came to.
    fn tell_of(&self, event: &Event) {
        let what = match &event.body {
            EventBody::RunStarted { sequence, .. } => format!("run of {sequence} begins"),
            EventBody::RunFailed { path, errors, .. } => {
                format!("run failed at {path}: {}", errors.join(": "))
            }
            EventBody::RunAborted { reason } => format!("run stopped: {reason}"),
            EventBody::RunDone { .. } => "run done".to_owned(),
            _ => return,
        };
        self.tell(&what);
    }

    /// A place where the power may go.
    fn risk(&self, at: &str) {
        if self.world.strikes(|rates| rates.cut) {
            self.tell(&format!("the power goes: {at}"));
            end(End::Cut);
        }
    }

    /// What the machine is stays so when the power goes.
    fn keep(&self) {
        let state = lock(&self.fake).state();
        self.laptop(|laptop| {
            let is_new = state.layout != laptop.state.layout;
            if is_new {
                laptop.disk.wipe();
            }
            let ran = state.files.get(Utf8Path::new(ONCE));
            laptop.once_ran = ran.map_or(0, |bytes| bytes.len() / "ran\n".len());
            laptop.state = state;
        });
    }

    /// A call of a step: it takes its time, may fail, and the power may go before and after.
    fn call<T>(
        &self,
        what: &str,
        progress: Option<&dyn Progress>,
        call: impl FnOnce(&FakeMachine) -> Result<T, StepError>,
    ) -> Result<T, StepError> {
        self.risk(&format!("before {what}"));
        let takes = if self.world.strikes(|rates| rates.step) {
            self.world.between(60, 600) * SECOND
        } else {
            self.world.between(10, 2500)
        };
        let is_cancelled = || progress.is_some_and(Progress::is_cancelled);
        wait_until(now_ms() + takes, &is_cancelled);
        if is_cancelled() {
            return Err(StepError::new(format!("cannot do: {what}")).because("it was given up"));
        }
        if self.world.strikes(|rates| rates.step) {
            self.tell(&format!("{what} fails"));
            return Err(StepError::new(format!("cannot do: {what}")).because("chance"));
        }
        let done = call(&lock(&self.fake));
        self.tell(&match &done {
            Ok(_) => what.to_owned(),
            Err(error) => format!("{what}: {}", error.chain().join(": ")),
        });
        self.keep();
        self.risk(&format!("after {what}"));
        done
    }

    /// A call that changes the disk: never a second claimant's. One that a person may use is written only by an order for this
    /// machine; in a county with a wipe key, only by one that somebody signed for.
    fn write<T>(
        &self,
        what: &str,
        progress: Option<&dyn Progress>,
        call: impl FnOnce(&FakeMachine) -> Result<T, StepError>,
    ) -> Result<T, StepError> {
        if self.laptop(|laptop| laptop.is_claimant) {
            let text = format!("{what} on the disk of a second claimant");
            self.world.wrong(text);
        }
        let (is_in_use, deployed_by, order, serial, device) = self.laptop(|laptop| {
            let order = laptop.disk.read(Utf8Path::new("/staging/order.json"));
            (
                laptop.state.content == Some(DiskContent::DeployedHere),
                laptop.state.run,
                order.map(<[u8]>::to_vec),
                laptop.serial.clone(),
                laptop.device.clone(),
            )
        });
        if is_in_use {
            let order = order.and_then(|bytes| serde_json::from_slice::<Order>(&bytes).ok());
            let order = order.filter(|order| order.device.to_string() == device);
            if order.is_none() {
                let text = format!("{serial}: {what} on a disk in use without an order for it");
                self.world.wrong(text);
            }
            if let Some(order) = order
                && self.world.wipe_key.is_some()
                && deployed_by != Some(order.run)
                && !self.is_signed_for(&serial, &order, deployed_by)
            {
                let text = format!("{serial}: {what} on a disk in use, and nobody signed for it");
                self.world.wrong(text);
            }
        }
        self.call(what, progress, call)
    }

    fn is_signed_for(&self, serial: &str, order: &Order, deployed_by: Option<RunId>) -> bool {
        order.deployment.clone().is_some_and(|deployment| {
            let signed = (serial.to_owned(), deployment, deployed_by);
            self.world.change(|world| world.signed.contains(&signed))
        })
    }

    /// An OS starts only if it is there.
    fn says_what_starts(&self, target: BootTarget) {
        let (is_whole, serial) = self.laptop(|laptop| {
            let has_os = laptop.state.volumes.contains_key(&VolumeRole::Os);
            (laptop.state.os_entry && has_os, laptop.serial.clone())
        });
        if target == BootTarget::Os && !is_whole {
            let text = format!("{serial}: an OS is to start that isn't whole");
            self.world.wrong(text);
        }
    }

    fn ask(&self, request: Request<Vec<u8>>) -> io::Result<Response<Vec<u8>>> {
        let path = request.uri().path().to_owned();
        let away = |why: &str| {
            Err(io::Error::new(
                io::ErrorKind::ConnectionReset,
                why.to_owned(),
            ))
        };
        let silence = |why: &str| {
            self.tell(&format!("{path}: {why}"));
            wait_until(now_ms() + SILENCE_MS, &|| false);
            Err(io::Error::new(io::ErrorKind::TimedOut, why.to_owned()))
        };
        self.risk(&format!("before {path}"));
        wait_until(now_ms() + self.world.between(1, 300), &|| false);
        if !self.is_online() || !self.world.office.is_up() {
            return away("the server is away");
        }
        if self.world.strikes(|rates| rates.line) {
            return silence("the request is lost");
        }
        let copy = copy_of(&request);
        let doubled = copy_of(&request);
        self.world.change(|world| world.figures.requests += 1);
        let Some(answer) = self.world.answer(self.machine, request) else {
            return away("the server is away");
        };
        if !answer.status().is_success() {
            self.tell(&format!("{path}: {}", answer.status()));
        }
        if self.world.strikes(|rates| rates.server) {
            let is_answered = self.world.between(0, 1) == 0;
            let when = if is_answered { "as soon as" } else { "before" };
            self.world
                .tell("server", &format!("killed {when} it answers {path}"));
            self.world.office.kill().map_err(io::Error::other)?;
            let away_for = self.world.between(1, 600) * SECOND;
            self.world.after(away_for, world::Event::ServerUp);
            return if is_answered {
                Ok(answer)
            } else {
                away("the connection breaks")
            };
        }
        if self.world.strikes(|rates| rates.line) {
            let late = self.world.between(1, 100) * SECOND;
            let (machine, request) = (self.machine, Box::new(copy));
            self.world
                .after(late, world::Event::Late { machine, request });
        }
        if self.world.strikes(|rates| rates.line) {
            self.tell(&format!("{path} arrives twice"));
            if let Some(second) = self.world.answer(self.machine, doubled)
                && self.world.between(0, 1) == 0
            {
                return Ok(second);
            }
        }
        if self.world.strikes(|rates| rates.line) {
            return silence("the answer is lost");
        }
        self.risk(&format!("after {path}"));
        Ok(answer)
    }
}

pub(crate) fn copy_of(request: &Request<Vec<u8>>) -> Request<Vec<u8>> {
    let mut copy = Request::new(request.body().clone());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}

/// What the agent holds of a laptop that is switched on.
pub(crate) struct Shared(pub(crate) Arc<PoweredOn>);

impl Clock for Shared {
    fn uptime_ms(&self) -> u64 {
        let started = self.0.laptop(|laptop| laptop.started_ms);
        u64::try_from(now_ms() - started).unwrap_or(0)
    }

    fn wait(&self, milliseconds: u64, until: &dyn Fn() -> bool) {
        let ms = i64::try_from(milliseconds).unwrap_or(1000 * HOUR);
        wait_until(now_ms().saturating_add(ms.min(1000 * HOUR)), until);
    }
}

impl State for Shared {
    fn folder(&self) -> Option<Utf8PathBuf> {
        let is_there = self.0.laptop(|laptop| laptop.state.layout.is_some());
        is_there.then(|| STAGING.into())
    }

    fn files(&self) -> &dyn Files {
        &*self.0
    }
}

impl KeySource for Shared {
    fn random(&self, bytes: &mut [u8]) -> io::Result<()> {
        let random = self.0.world.change(|world| world.chance.bytes(bytes.len()));
        bytes.copy_from_slice(&random);
        Ok(())
    }

    fn tpm(&self) -> io::Result<Option<Box<dyn Tpm>>> {
        Ok(None)
    }
}

impl Host for Shared {
    fn environment(&self) -> Environment {
        self.0.environment
    }

    fn facts(&self) -> Facts {
        self.0.laptop(|laptop| laptop.facts())
    }

    fn mark(&self) -> Result<Option<StagingMark>> {
        Ok(self.0.laptop(|laptop| {
            let state = match laptop.state.content {
                Some(DiskContent::StagedHere) => MarkState::Staged,
                Some(DiskContent::DeployedHere) => MarkState::Deployed,
                _ => return None,
            };
            let facts = laptop.facts();
            Some(StagingMark {
                run: laptop.state.run,
                ..StagingMark::new(&facts.serial, facts.uuid, state)
            })
        }))
    }

    fn let_in_without_warrant(&self, _run: Option<RunId>) {
        // Its disk is there from the start.
    }

    fn mount_staging(&self) -> Result<Option<Utf8PathBuf>> {
        Ok(self.folder())
    }

    fn is_online(&self) -> bool {
        self.0.is_online()
    }

    fn address(&self) -> String {
        "10.0.0.7".to_owned()
    }

    fn network_problem(&self) -> String {
        "no cable".to_owned()
    }

    fn interface_bytes(&self) -> u64 {
        self.uptime_ms()
    }

    fn client(&self, url: &str, _ca_pem: &str, _timeout: Duration) -> Result<Client, ClientError> {
        let host = Arc::clone(&self.0);
        Ok(Client::over(url, move |request| host.ask(request)))
    }

    fn spawn(&self, _name: &str, work: Box<dyn FnOnce() + Send>) -> io::Result<()> {
        self.0.world.threads.spawn(self.0.machine, work);
        Ok(())
    }

    fn machine(&self, secrets: Secrets) -> Box<dyn Machine> {
        Box::new(Working(Arc::clone(&self.0), secrets))
    }

    fn content(&self, packages: Vec<Package>, _connection: &Arc<Connection>) -> Box<dyn Content> {
        Box::new(Carried {
            host: Arc::clone(&self.0),
            packages,
        })
    }

    fn set_default_boot(&self, target: BootTarget) -> Result<()> {
        if target == BootTarget::Os && !self.0.laptop(|laptop| laptop.state.os_entry) {
            anyhow::bail!("the ESP has no boot entry for the OS");
        }
        self.0
            .call("the next start is said", None, |fake| {
                fake.set_default_boot(target)
            })
            .map_err(anyhow::Error::new)?;
        self.0.says_what_starts(target);
        Ok(())
    }

    fn disable_agent(&self) -> Result<()> {
        self.0.risk("before the agent is switched off");
        self.0.laptop(|laptop| laptop.state.agent = false);
        Ok(())
    }

    fn restart(&self) -> ! {
        end(End::Restart)
    }

    fn off(&self) -> ! {
        end(End::Off)
    }

    fn stay(&self) -> ! {
        loop {
            wait_until(now_ms() + HOUR, &|| false);
        }
    }
}

impl PoweredOn {
    fn is_online(&self) -> bool {
        self.laptop(|laptop| laptop.has_network)
    }

    fn disk<T>(&self, change: impl FnOnce(&mut crate::disk::Disk) -> T) -> T {
        self.laptop(|laptop| change(&mut laptop.disk))
    }
}

impl Files for PoweredOn {
    fn read(&self, path: &Utf8Path, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
        let bytes = self.disk(|disk| disk.read(path).map(<[u8]>::to_vec));
        match bytes {
            Some(bytes) if bytes.len() as u64 > bytes_max => {
                Err(io::Error::new(io::ErrorKind::FileTooLarge, path.as_str()))
            }
            bytes => Ok(bytes),
        }
    }

    fn is_there(&self, path: &Utf8Path) -> io::Result<bool> {
        Ok(self.disk(|disk| disk.number(path).is_some()))
    }

    fn make_folder(&self, _path: &Utf8Path) -> io::Result<()> {
        Ok(())
    }

    fn create(&self, path: &Utf8Path, _mode: u32) -> io::Result<Box<dyn Written>> {
        self.risk(&format!("before {path} is made"));
        if self.is_there(path)? {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, path.as_str()));
        }
        Ok(self.written(path))
    }

    fn append(&self, path: &Utf8Path) -> io::Result<Box<dyn Written>> {
        self.risk(&format!("before {path} is opened"));
        Ok(self.written(path))
    }

    fn cut_off(&self, path: &Utf8Path, length: u64) -> io::Result<()> {
        self.risk(&format!("before {path} is cut off"));
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        self.disk(|disk| {
            if let Some(number) = disk.number(path) {
                disk.cut_off(number, length);
            }
        });
        self.tell(&format!("a torn end of {path} is cut off"));
        Ok(())
    }

    fn rename(&self, from: &Utf8Path, to: &Utf8Path) -> io::Result<()> {
        self.risk(&format!("before {to} has its name"));
        self.disk(|disk| disk.rename(from, to));
        self.risk(&format!("after {to} has its name"));
        Ok(())
    }

    fn remove(&self, path: &Utf8Path) -> io::Result<()> {
        self.disk(|disk| disk.remove(path));
        Ok(())
    }

    fn sync_folder(&self, path: &Utf8Path) -> io::Result<()> {
        self.risk(&format!("before the names in {path} are synced"));
        self.disk(|disk| disk.sync_folder(path));
        Ok(())
    }
}

impl PoweredOn {
    fn written(&self, path: &Utf8Path) -> Box<dyn Written> {
        let number = self.disk(|disk| disk.number(path).unwrap_or_else(|| disk.create(path)));
        Box::new(OpenFile {
            host: Self {
                world: Arc::clone(&self.world),
                machine: self.machine,
                environment: self.environment,
                fake: Arc::clone(&self.fake),
            },
            path: path.to_owned(),
            number,
        })
    }
}

struct OpenFile {
    host: PoweredOn,
    path: Utf8PathBuf,
    number: usize,
}

impl Written for OpenFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.host.disk(|disk| disk.append(self.number, bytes));
        for event in journal_line::decode(bytes).0 {
            self.host.tell_of(&event);
        }
        self.host.risk(&format!("after {} is written", self.path));
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.host.disk(|disk| disk.sync(self.number));
        self.host.risk(&format!("after {} is synced", self.path));
        Ok(())
    }
}

/// What steps work on.
struct Working(Arc<PoweredOn>, Secrets);

impl Machine for Working {
    fn facts(&self) -> Result<Facts, StepError> {
        Ok(self.0.laptop(|laptop| laptop.facts()))
    }

    fn environment(&self) -> Environment {
        self.0.environment
    }

    fn write_layout(&self, layout: &Layout, progress: &dyn Progress) -> Result<(), StepError> {
        self.0
            .write("the disk is laid out", Some(progress), |fake| {
                fake.write_layout(layout, progress)
            })
    }

    fn install_boot_image(
        &self,
        source: &Utf8Path,
        progress: &dyn Progress,
    ) -> Result<(), StepError> {
        self.0.write("the boot image is installed", None, |fake| {
            fake.install_boot_image(source, progress)
        })
    }

    fn install_os_boot_entry(&self, progress: &dyn Progress) -> Result<(), StepError> {
        self.0.write("the OS gets its entry", None, |fake| {
            fake.install_os_boot_entry(progress)
        })
    }

    fn install_agent(&self) -> Result<(), StepError> {
        self.0
            .write("the agent is installed", None, FakeMachine::install_agent)
    }

    fn set_default_boot(&self, target: BootTarget) -> Result<(), StepError> {
        let what = format!("{target:?} is to start");
        self.0
            .call(&what, None, |fake| fake.set_default_boot(target))?;
        self.0.says_what_starts(target);
        Ok(())
    }

    fn write_file(&self, file: &TargetFile) -> Result<(), StepError> {
        let what = format!("{} is written", file.path);
        self.0.write(&what, None, |fake| fake.write_file(file))
    }

    fn read_file(&self, path: &Utf8Path) -> Result<Option<Vec<u8>>, StepError> {
        lock(&self.0.fake).read_file(path)
    }

    fn command(
        &self,
        command: &Command,
        progress: &dyn Progress,
    ) -> Result<CommandOutput, StepError> {
        let what = format!("{} {}", command.program, command.args.join(" "));
        self.0.write(&what, Some(progress), |fake| {
            fake.command(command, progress)
        })
    }

    fn secret(&self, name: &SecretName, progress: &dyn Progress) -> Result<Secret, StepError> {
        self.1.get(name, progress)
    }

    fn wait_for_network(
        &self,
        server: Option<&ServerAddress>,
        timeout: Duration,
        progress: &dyn Progress,
    ) -> Result<(), StepError> {
        lock(&self.0.fake).wait_for_network(server, timeout, progress)
    }

    fn keep_log(&self, name: &str, bytes: &[u8]) -> Result<Utf8PathBuf, StepError> {
        self.0
            .call("logs are kept", None, |fake| fake.keep_log(name, bytes))
    }

    fn remove_folder(&self, path: &Utf8Path) -> Result<(), StepError> {
        let what = format!("{path} is removed");
        self.0.write(&what, None, |fake| fake.remove_folder(path))
    }

    fn mark_finished(&self, run: RunId, deployed: bool) -> Result<(), StepError> {
        self.0.write("the disk is marked", None, |fake| {
            fake.mark_finished(run, deployed)
        })
    }
}

/// What steps work with.
struct Carried {
    host: Arc<PoweredOn>,
    packages: Vec<Package>,
}

impl Content for Carried {
    fn packages(&self) -> &[Package] {
        &self.packages
    }

    fn apply_image(
        &self,
        package: &Package,
        volume: VolumeRole,
        progress: &dyn Progress,
    ) -> Result<ContentBytes, StepError> {
        let what = format!("{} goes to the {volume} volume", package.name);
        // So that every image is a handful of reports, and not one for each byte.
        let package = Package {
            content_bytes: 3,
            ..package.clone()
        };
        self.host.write(&what, Some(progress), |fake| {
            FakeContent::new(fake, Vec::new()).apply_image(&package, volume, progress)
        })
    }

    fn apply_tree(
        &self,
        package: &Package,
        target: &TreeTarget,
        progress: &dyn Progress,
    ) -> Result<(Utf8PathBuf, ContentBytes), StepError> {
        let what = format!("{} {} is unpacked", package.name, package.version);
        self.host.write(&what, Some(progress), |fake| {
            FakeContent::new(fake, Vec::new()).apply_tree(package, target, progress)
        })
    }

    fn stage(
        &self,
        packages: &[&Package],
        progress: &dyn Progress,
    ) -> Result<ContentBytes, StepError> {
        self.host
            .write("content is staged", Some(progress), |fake| {
                FakeContent::new(fake, Vec::new()).stage(packages, progress)
            })
    }
}
