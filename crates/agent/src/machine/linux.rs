//! The `Machine` port on Linux: in the boot image and in an installed OS.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use sequence::layout::Layout;
use sequence::ports::{
    BootTarget, Command, CommandOutput, Machine, Progress, ServerAddress, StepError, TargetFile,
};
use sequence::secret::Secret;
use wire::device_api::Staged;
use wire::event::{Environment, LogLevel};
use wire::facts::Facts;
use wire::mark::MarkState;
use wire::names::{RunId, SecretName};

use super::disk::{self, Refused};
use super::target::Target;
use super::volumes::Volumes;
use super::{boot, command, reach};
use crate::block::BlockFile;
use crate::connection::write_staged;
use crate::files::SystemFiles;
use crate::secrets::Secrets;
use crate::secure_boot::WouldNotStart;
use crate::{durable, guard};

/// Debian asks this program before a package starts a service; 101 means no. Only ours is ever removed.
const POLICY_PATH: &str = "/usr/sbin/policy-rc.d";
const POLICY: &[u8] =
    b"#!/bin/sh\n# forestage: no services while packages are installed from outside\nexit 101\n";

/// Of the 255 bytes that Linux allows, some are for writing aside.
const LOG_NAME_BYTES_MAX: usize = 240;

/// This machine.
pub(crate) struct LinuxMachine {
    volumes: Arc<Volumes>,
    /// At the factory: what is being staged. On the disk before anything can start from it.
    staged: Option<Staged>,
    /// On site.
    secrets: Option<Secrets>,
}

impl LinuxMachine {
    /// This machine, with its volumes.
    pub(crate) fn new(volumes: Arc<Volumes>) -> Self {
        Self {
            volumes,
            staged: None,
            secrets: None,
        }
    }

    /// The same, with the secrets that its run may ask for.
    pub(crate) fn with_secrets(self, secrets: Secrets) -> Self {
        Self {
            secrets: Some(secrets),
            ..self
        }
    }

    /// The same, being staged with this.
    pub(crate) fn with_staged(self, staged: Staged) -> Self {
        Self {
            staged: Some(staged),
            ..self
        }
    }

    fn do_install_boot_image(&self, source: &Utf8Path) -> Result<()> {
        if let Some(staged) = &self.staged {
            write_staged(&SystemFiles, self.volumes.mount_staging()?, staged)?;
        }
        boot::install_boot_image(&self.volumes, source)
    }

    fn target(&self) -> Result<(Utf8PathBuf, Target)> {
        let root = self.volumes.mount_target()?;
        let target = Target::open(&root)?;
        Ok((root, target))
    }

    /// Takes our `policy-rc.d` away again, also one that a power cut left behind.
    pub(crate) fn remove_policy(target: &Target) -> Result<()> {
        let path = Utf8Path::new(POLICY_PATH);
        if target.read(path)?.is_some_and(|bytes| bytes == POLICY) {
            target.remove_file(path)?;
        }
        Ok(())
    }
}

/// Makes an error of ours one of the engine's: refusals stay refusals.
pub(crate) fn step_error(what: impl Into<String>, error: anyhow::Error) -> StepError {
    let hint = if error.downcast_ref::<Refused>().is_some() {
        Some(
            "check that this is the right disk; only a blank disk or one staged for this machine is written",
        )
    } else if error.downcast_ref::<WouldNotStart>().is_some() {
        Some(WouldNotStart::HINT)
    } else {
        None
    };
    let mut step = StepError::new(what).because(chain_to_boxed(error));
    if let Some(hint) = hint {
        step.is_final = true;
        step = step.hint(hint);
    }
    step
}

fn chain_to_boxed(error: anyhow::Error) -> Box<dyn std::error::Error + Send + Sync> {
    error.into()
}

impl Machine for LinuxMachine {
    fn facts(&self) -> Result<Facts, StepError> {
        Ok(self.volumes.kernel.facts())
    }

    fn environment(&self) -> Environment {
        self.volumes.environment
    }

    fn write_layout(&self, layout: &Layout, progress: &dyn Progress) -> Result<(), StepError> {
        let say = |text: &str| progress.log(LogLevel::Info, text);
        disk::write_layout(&self.volumes, layout, &say)
            .map_err(|error| step_error(format!("cannot lay out {}", layout.disk), error))
    }

    fn install_boot_image(
        &self,
        source: &Utf8Path,
        _progress: &dyn Progress,
    ) -> Result<(), StepError> {
        self.do_install_boot_image(source)
            .map_err(|error| step_error("cannot install the boot image", error))
    }

    fn install_os_boot_entry(&self, _progress: &dyn Progress) -> Result<(), StepError> {
        boot::install_os_entry(&self.volumes)
            .map_err(|error| step_error("cannot install the boot entry of the OS", error))
    }

    fn install_agent(&self) -> Result<(), StepError> {
        boot::install_agent(&self.volumes)
            .map_err(|error| step_error("cannot put this program into the target OS", error))
    }

    fn set_default_boot(&self, target: BootTarget) -> Result<(), StepError> {
        boot::set_default(&self.volumes, target == BootTarget::Os)
            .map_err(|error| step_error("cannot set what starts at power-on", error))
    }

    fn write_file(&self, file: &TargetFile) -> Result<(), StepError> {
        self.target()
            .and_then(|(_, target)| target.write(&file.path, &file.bytes, file.mode))
            .map_err(|error| step_error(format!("cannot write {}", file.path), error))
    }

    fn read_file(&self, path: &Utf8Path) -> Result<Option<Vec<u8>>, StepError> {
        self.target()
            .and_then(|(_, target)| target.read(path))
            .map_err(|error| step_error(format!("cannot read {path}"), error))
    }

    fn command(
        &self,
        command: &Command,
        progress: &dyn Progress,
    ) -> Result<CommandOutput, StepError> {
        let failed = |error| {
            step_error(
                format!("cannot prepare the target OS for {}", command.program),
                error,
            )
        };
        let (root, target) = self.target().map_err(failed)?;
        if self.volumes.environment == Environment::Os {
            return command::run(&root, command, progress);
        }
        let policy = Utf8Path::new(POLICY_PATH);
        if target.read(policy).map_err(failed)?.is_none() {
            target.write(policy, POLICY, 0o755).map_err(failed)?;
        }
        let output = command::run(&root, command, progress);
        Self::remove_policy(&target).map_err(failed)?;
        output
    }

    fn secret(&self, name: &SecretName, progress: &dyn Progress) -> Result<Secret, StepError> {
        match &self.secrets {
            Some(secrets) => secrets.get(name, progress),
            None => Err(StepError::refused(format!(
                "the secret {name} is needed, and at the factory none is released"
            ))
            .hint("leave this step to the deploy sequence")),
        }
    }

    fn wait_for_network(
        &self,
        server: Option<&ServerAddress>,
        timeout: Duration,
        progress: &dyn Progress,
    ) -> Result<(), StepError> {
        reach::wait(&self.volumes.kernel, server, timeout, progress)
    }

    fn keep_log(&self, name: &str, bytes: &[u8]) -> Result<Utf8PathBuf, StepError> {
        let kept = self.volumes.mount_staging().and_then(|staging| {
            let path = log_path(staging, name)?;
            durable::write(&SystemFiles, &path, bytes, 0o600)
                .with_context(|| format!("cannot write {path}"))?;
            Ok(path)
        });
        kept.map_err(|error| step_error("cannot keep the logs on the staging partition", error))
    }

    fn remove_folder(&self, path: &Utf8Path) -> Result<(), StepError> {
        self.target()
            .and_then(|(_, target)| target.remove_folder(path))
            .map_err(|error| step_error(format!("cannot remove {path}"), error))
    }

    fn mark_finished(&self, run: RunId, deployed: bool) -> Result<(), StepError> {
        mark_finished(&self.volumes, run, deployed)
            .map_err(|error| step_error("cannot mark the disk as finished", error))
    }
}

/// Where a file of logs is kept; `name` must be the name of a file.
fn log_path(staging: &Utf8Path, name: &str) -> Result<Utf8PathBuf> {
    let path = staging.join("logs").join(name);
    ensure!(
        path.file_name() == Some(name)
            && !name.starts_with('.')
            && name.len() <= LOG_NAME_BYTES_MAX,
        "{name:?} is not the name of a file"
    );
    Ok(path)
}

fn mark_finished(volumes: &Volumes, run: RunId, deployed: bool) -> Result<()> {
    let path = volumes
        .own_disk()?
        .context("no disk carries the mark of this machine")?;
    let disk =
        BlockFile::read_write(&path).with_context(|| format!("cannot open {}", path.display()))?;
    let before = guard::read_mark(&disk)?.context("the mark is gone")?;
    let mut mark = before.clone();
    if deployed {
        mark.state = MarkState::Deployed;
    }
    if mark.state == MarkState::Deployed {
        // Spends the warrant that this run may have begun with.
        mark.run = Some(run);
    }
    if mark != before {
        guard::write_mark(&disk, &mark)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_never_leave_their_folder() {
        let path = log_path(Utf8Path::new("/s"), "apps++logs.tar").unwrap();
        assert_eq!(path, "/s/logs/apps++logs.tar");
        for wrong in [
            "",
            ".",
            "..",
            "a/b",
            "/etc/passwd",
            ".x.new",
            &"x".repeat(241),
        ] {
            assert!(log_path(Utf8Path::new("/s"), wrong).is_err(), "{wrong}");
        }
    }
}
