//! The machine this program runs on.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use camino::{Utf8Path, Utf8PathBuf};
use client::{Client, ClientError};
use sequence::engine::Clock;
use sequence::ports::{BootTarget, Content, Machine};
use wire::event::Environment;
use wire::facts::Facts;
use wire::layout::VolumeRole;
use wire::mark::StagingMark;
use wire::names::RunId;
use wire::package::Package;

use crate::clock::{self, MachineClock};
use crate::connection::Connection;
use crate::content_port::RunContent;
use crate::files::{Files, SystemFiles};
use crate::host::{Host, KeySource, State, Tpm};
use crate::machine::boot;
use crate::machine::linux::LinuxMachine;
use crate::machine::volumes::Volumes;
use crate::network::Network;
use crate::secrets::Secrets;
use crate::tpm::ANSWER_BYTES_MAX;
use crate::{log, power};

/// A disk that is there shows within seconds; a blank machine must not wait longer.
const DISK_WAIT: Duration = Duration::from_secs(20);

/// A TPM 2.0 through the kernel's resource manager, which lets others use it at the same time and cleans up behind us.
const TPM_DEVICE: &str = "tpmrm0";

struct KernelTpm(File);

impl Tpm for KernelTpm {
    fn exchange(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        // The kernel takes a command in one piece, and gives its answer likewise.
        self.0.write_all(command)?;
        let mut answer = vec![0; ANSWER_BYTES_MAX];
        let length = self.0.read(&mut answer)?;
        answer.truncate(length);
        Ok(answer)
    }
}

/// A laptop with its volumes and its network.
pub(crate) struct Laptop {
    volumes: Arc<Volumes>,
    network: Arc<Network>,
}

impl Laptop {
    /// In the boot image, where the network is ours to look for; it begins at once.
    pub(crate) fn in_boot_image(volumes: Arc<Volumes>) -> Self {
        let network = Network::start(volumes.kernel.clone());
        Self { volumes, network }
    }

    /// In the installed OS, which has its own network.
    pub(crate) fn in_os() -> Self {
        let volumes = Arc::new(Volumes::new(Environment::Os));
        let network = Network::of_os(volumes.kernel.clone());
        Self { volumes, network }
    }
}

impl Clock for Laptop {
    fn uptime_ms(&self) -> u64 {
        MachineClock.uptime_ms()
    }

    fn wait(&self, milliseconds: u64, until: &dyn Fn() -> bool) {
        MachineClock.wait(milliseconds, until);
    }
}

impl State for Volumes {
    fn folder(&self) -> Option<Utf8PathBuf> {
        self.staging().map(Utf8Path::to_owned)
    }

    fn files(&self) -> &dyn Files {
        &SystemFiles
    }
}

impl State for Laptop {
    fn folder(&self) -> Option<Utf8PathBuf> {
        self.volumes.folder()
    }

    fn files(&self) -> &dyn Files {
        self.volumes.files()
    }
}

impl KeySource for Laptop {
    fn random(&self, bytes: &mut [u8]) -> io::Result<()> {
        let mut filled = 0;
        while filled < bytes.len() {
            let flags = rustix::rand::GetRandomFlags::empty();
            filled += rustix::rand::getrandom(&mut bytes[filled..], flags)?;
        }
        Ok(())
    }

    fn tpm(&self) -> io::Result<Option<Box<dyn Tpm>>> {
        let path = self.volumes.kernel.dev.join(TPM_DEVICE);
        match File::options().read(true).write(true).open(path) {
            Ok(file) => Ok(Some(Box::new(KernelTpm(file)))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Host for Laptop {
    fn environment(&self) -> Environment {
        self.volumes.environment
    }

    fn facts(&self) -> Facts {
        self.volumes.kernel.facts()
    }

    fn mark(&self) -> Result<Option<StagingMark>> {
        self.volumes.mark()
    }

    fn let_in_without_warrant(&self, run: Option<RunId>) {
        self.volumes.let_in_without_warrant(run);
    }

    fn mount_staging(&self) -> Result<Option<Utf8PathBuf>> {
        let is_there = clock::wait_until(DISK_WAIT, || {
            matches!(self.volumes.find(VolumeRole::Staging), Ok(Some(_)))
        });
        if is_there {
            return Ok(Some(self.volumes.mount_staging()?.to_owned()));
        }
        self.volumes.own_disk()?;
        log::note("no staging partition: this machine was not staged, or has another disk");
        Ok(None)
    }

    fn is_online(&self) -> bool {
        self.network.is_up()
    }

    fn address(&self) -> String {
        self.network.address()
    }

    fn network_problem(&self) -> String {
        self.network.problem()
    }

    fn interface_bytes(&self) -> u64 {
        self.network.interface_bytes()
    }

    fn client(&self, url: &str, ca_pem: &str, timeout: Duration) -> Result<Client, ClientError> {
        Client::new(url, ca_pem, timeout)
    }

    fn spawn(&self, name: &str, work: Box<dyn FnOnce() + Send>) -> io::Result<()> {
        let thread = std::thread::Builder::new().name(name.to_owned());
        thread.spawn(work).map(drop)
    }

    fn machine(&self, secrets: Secrets) -> Box<dyn Machine> {
        Box::new(LinuxMachine::new(Arc::clone(&self.volumes)).with_secrets(secrets))
    }

    fn content(&self, packages: Vec<Package>, connection: &Arc<Connection>) -> Box<dyn Content> {
        let content =
            RunContent::on_site(packages, Arc::clone(&self.volumes), Arc::clone(connection));
        Box::new(content)
    }

    fn set_default_boot(&self, target: BootTarget) -> Result<()> {
        boot::set_default(&self.volumes, target == BootTarget::Os)
    }

    fn disable_agent(&self) -> Result<()> {
        boot::disable_agent()
    }

    fn restart(&self) -> ! {
        power::restart(&self.volumes)
    }

    fn off(&self) -> ! {
        power::off(&self.volumes)
    }

    fn stay(&self) -> ! {
        power::stay()
    }
}
