//! Finding, mounting and letting go of the volumes of this machine's own disk.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use rustix::mount::{
    MountFlags, UnmountFlags, mount, mount_bind_recursive, mount_remount, unmount,
};
use wire::event::Environment;
use wire::layout::VolumeRole;
use wire::mark::{MarkState, StagingMark};
use wire::names::RunId;
use wire::package::Package;

use super::facts::{Kernel, KernelPartition};
use crate::block::BlockFile;
use crate::{clock, guard, log};

/// Where volumes are mounted and trees are made in memory, in the boot image and in the OS.
const FOLDER: &str = "/run/forestage";
/// Partition nodes appear milliseconds after the table is read again; a slow disk gets half a minute.
const NODE_WAIT: Duration = Duration::from_secs(30);
/// What a program of the target needs beside its own files, in mounting order.
const KERNEL_FOLDERS: [&str; 5] = ["dev", "proc", "sys", EFI_VARIABLES, "run"];
/// Where the firmware's variables are, on machines with UEFI: a program in the OS may have to know what starts.
const EFI_VARIABLES: &str = "sys/firmware/efi/efivars";

/// The volumes of the disk that carries our mark for this machine.
#[derive(Debug)]
pub(crate) struct Volumes {
    pub(crate) kernel: Kernel,
    pub(crate) environment: Environment,
    /// Where the staging partition is mounted.
    staging: Utf8PathBuf,
    /// Where the OS volume is mounted in the boot image.
    target: Utf8PathBuf,
    /// Where trees are made in memory.
    scratch: Utf8PathBuf,
    mounting: Mutex<()>,
    /// The run that was let in without a warrant: no deployed disk is used but one that this run deployed.
    without_warrant: Mutex<Option<RunId>>,
}

/// What the disks' marks say.
#[derive(Debug)]
struct Marked {
    own: Option<(PathBuf, StagingMark)>,
    /// A disk that may be our own, as far as we can tell.
    unreadable: Option<(PathBuf, io::Error)>,
}

impl Volumes {
    /// For this machine, where `environment` says.
    pub(crate) fn new(environment: Environment) -> Self {
        Self::within(Kernel::default(), environment, Utf8Path::new(FOLDER))
    }

    /// The same for what `kernel` shows, with everything mounted below `folder`.
    pub(crate) fn within(kernel: Kernel, environment: Environment, folder: &Utf8Path) -> Self {
        Self {
            kernel,
            environment,
            staging: folder.join("staging"),
            target: folder.join("target"),
            scratch: folder.join("scratch"),
            mounting: Mutex::new(()),
            without_warrant: Mutex::default(),
        }
    }

    /// Where the tree of a package is made in memory.
    pub(crate) fn scratch_of(&self, package: &Package) -> Result<Utf8PathBuf> {
        let folder = self.scratch.join(package.name.as_str());
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {folder}"))?;
        Ok(folder)
    }

    /// The one disk that carries our mark for this machine and has our volumes.
    pub(crate) fn own_disk(&self) -> Result<Option<PathBuf>> {
        let Some((path, mark)) = self.marked()?.own else {
            return Ok(None);
        };
        if mark.state == MarkState::Deployed
            && let Some(run) = *lock(&self.without_warrant)
        {
            ensure!(
                mark.run == Some(run),
                "{} was deployed, and wasn't there when this run was let in without a warrant: switch off and on again",
                path.display()
            );
        }
        Ok(Some(path))
    }

    /// What the mark of that disk says. An error if there is no such disk and another one can't be read.
    pub(crate) fn mark(&self) -> Result<Option<StagingMark>> {
        match self.marked()? {
            Marked {
                own: Some((_, mark)),
                ..
            } => Ok(Some(mark)),
            Marked {
                unreadable: Some((path, error)),
                ..
            } => Err(error).with_context(|| format!("cannot read the mark of {}", path.display())),
            Marked { .. } => Ok(None),
        }
    }

    /// Says which run was let in without a warrant; `None` if the last one had one, or needs none at all.
    pub(crate) fn let_in_without_warrant(&self, run: Option<RunId>) {
        *lock(&self.without_warrant) = run;
    }

    fn marked(&self) -> Result<Marked> {
        let (serial, uuid) = self.kernel.identity();
        let mut own = Vec::new();
        let mut unreadable = None;
        for name in self.kernel.disk_names() {
            let path = self.kernel.dev.join(&name);
            match BlockFile::read_only(&path).and_then(|disk| guard::read_mark(&disk)) {
                Ok(Some(mark)) if mark.is_for(&serial, uuid) => own.push((path, mark)),
                Ok(_) => {}
                Err(error) => unreadable = Some((path, error)),
            }
        }
        ensure!(
            own.len() <= 1,
            "several disks carry the staging mark of this machine: {:?}",
            own.iter().map(|(path, _)| path).collect::<Vec<_>>()
        );
        Ok(Marked {
            own: own.pop(),
            unreadable,
        })
    }

    /// The partition for `role` on this machine's own disk, if it is there.
    pub(crate) fn find(&self, role: VolumeRole) -> Result<Option<KernelPartition>> {
        let Some(disk) = self.own_disk()? else {
            return Ok(None);
        };
        let name = disk
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default()
            .to_owned();
        let mut partitions = self.kernel.partitions();
        partitions.retain(|part| part.disk == name && part.name == role.partition_name());
        Ok(partitions.into_iter().find(|part| part.node.exists()))
    }

    /// The partition for `role`; waits for its node.
    pub(crate) fn volume(&self, role: VolumeRole) -> Result<KernelPartition> {
        let mut found = None;
        clock::wait_until(NODE_WAIT, || {
            found = self.find(role).ok().flatten();
            found.is_some()
        });
        match found {
            Some(partition) => Ok(partition),
            None => self
                .find(role)?
                .with_context(|| format!("this machine has no {role} volume")),
        }
    }

    /// Where the staging partition is mounted, if it is.
    pub(crate) fn staging(&self) -> Option<&Utf8Path> {
        self.is_mounted(&self.staging).then_some(&*self.staging)
    }

    /// Checks and mounts the staging partition.
    pub(crate) fn mount_staging(&self) -> Result<&Utf8Path> {
        let _guard = self.lock();
        if !self.is_mounted(&self.staging) {
            let node = self.volume(VolumeRole::Staging)?.node;
            check_ext4(&node);
            let flags =
                MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::NOATIME;
            mount_ext4(&node, &self.staging, flags)?;
        }
        Ok(&self.staging)
    }

    /// The folder that is `/` for the target OS, mounted with all its programs need.
    pub(crate) fn mount_target(&self) -> Result<Utf8PathBuf> {
        if self.environment == Environment::Os {
            return Ok("/".into());
        }
        let _guard = self.lock();
        if !self.is_mounted(&self.target) {
            let node = self.volume(VolumeRole::Os)?.node;
            check_ext4(&node);
            mount_ext4(&node, &self.target, MountFlags::empty())?;
            // An image is as small as its files allow; applications need the whole volume. While it is mounted,
            // growing touches little more than the superblock, and it is nothing if it was done before.
            run_tool("resize2fs", &[], &node)
                .context("cannot grow the OS's filesystem to its volume")?;
        }
        for folder in KERNEL_FOLDERS {
            let path = self.target.join(folder);
            if self.is_mounted(&path) || folder == EFI_VARIABLES && !path.exists() {
                continue;
            }
            fs::create_dir_all(&path).with_context(|| format!("cannot make {path}"))?;
            let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
            let mounted = match folder {
                "dev" => mount_bind_recursive("/dev", path.as_str()),
                "proc" => mount("proc", path.as_str(), "proc", flags, c""),
                "sys" => mount(
                    "sysfs",
                    path.as_str(),
                    "sysfs",
                    flags | MountFlags::RDONLY,
                    c"",
                ),
                EFI_VARIABLES => mount(
                    "efivarfs",
                    path.as_str(),
                    "efivarfs",
                    flags | MountFlags::RDONLY,
                    c"",
                ),
                _ => mount(
                    "tmpfs",
                    path.as_str(),
                    "tmpfs",
                    MountFlags::NOSUID | MountFlags::NODEV,
                    c"mode=0755",
                ),
            };
            match mounted {
                // Some firmware has none that can be read; the boot image does without them, too.
                Err(error) if folder == EFI_VARIABLES => {
                    log::note(&format!("cannot mount {path}: {error}"));
                }
                mounted => mounted.with_context(|| format!("cannot mount {path}"))?,
            }
        }
        Ok(self.target.clone())
    }

    /// Unmounts the target OS, so that its volume can be written or the machine restarted.
    pub(crate) fn release_target(&self) -> Result<()> {
        let _guard = self.lock();
        if self.environment == Environment::Os || !self.is_mounted(&self.target) {
            return Ok(());
        }
        for folder in KERNEL_FOLDERS.iter().rev() {
            let path = self.target.join(folder);
            if self.is_mounted(&path) {
                // The folders of the kernel hold nothing of ours: a program left behind may keep them.
                unmount(path.as_str(), UnmountFlags::DETACH)
                    .with_context(|| format!("cannot unmount {path}"))?;
            }
        }
        unmount(self.target.as_str(), UnmountFlags::empty())
            .context("cannot unmount the target OS: a program still uses it")
    }

    /// Lets go of everything before a restart: what can't be unmounted is at least synced.
    pub(crate) fn release_all(&self) {
        rustix::fs::sync();
        if let Err(error) = self.release_target() {
            log::warn("the target OS stays mounted and is synced", &error);
        }
        self.release_staging();
        rustix::fs::sync();
    }

    /// Unmounts the staging partition; in the OS, the OS does that.
    pub(crate) fn release_staging(&self) {
        if self.environment == Environment::BootImage
            && self.is_mounted(&self.staging)
            && let Err(error) = unmount(self.staging.as_str(), UnmountFlags::empty())
        {
            // A thread may still have a file open; without writing, the filesystem is as clean as unmounted.
            let remounted = mount_remount(self.staging.as_str(), MountFlags::RDONLY, c"");
            log::note(&format!(
                "the staging partition stays mounted ({error}); read-only: {}",
                remounted.is_ok()
            ));
        }
    }

    /// Whether something is mounted at `folder`.
    pub(crate) fn is_mounted(&self, folder: &Utf8Path) -> bool {
        let table = fs::read_to_string(self.kernel.proc.join("self/mounts")).unwrap_or_default();
        mounted_at(&table, folder)
    }

    /// Whether the node itself is mounted anywhere.
    pub(crate) fn is_node_mounted(&self, node: &Path) -> bool {
        let table = fs::read_to_string(self.kernel.proc.join("self/mounts")).unwrap_or_default();
        let node = node.to_string_lossy();
        table
            .lines()
            .any(|line| line.split(' ').next() == Some(&node))
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        lock(&self.mounting)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing, or a value that is replaced as a whole: a thread that panicked with it left nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn mounted_at(table: &str, folder: &Utf8Path) -> bool {
    table
        .lines()
        .any(|line| line.split(' ').nth(1) == Some(folder.as_str()))
}

fn mount_ext4(node: &Path, folder: &Utf8Path, flags: MountFlags) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {folder}"))?;
    mount(node, folder.as_str(), "ext4", flags, c"")
        .with_context(|| format!("cannot mount {} at {folder}", node.display()))
}

/// Repairs what can be repaired without asking; the mount that follows tells whether it helped.
fn check_ext4(node: &Path) {
    match run_tool("e2fsck", &["-p"], node) {
        Ok(_) => {}
        Err(error) => log::warn(
            "the filesystem check did not succeed; the mount decides",
            &error,
        ),
    }
}

/// Runs a filesystem tool of the boot image (or OS) on `node`.
pub(crate) fn run_tool(name: &str, args: &[&str], node: &Path) -> Result<()> {
    let folders = ["/sbin", "/usr/sbin", "/bin", "/usr/bin"];
    let program = folders
        .iter()
        .map(|folder| format!("{folder}/{name}"))
        .find(|path| Path::new(path).exists());
    let program = program.with_context(|| format!("{name} is not in this boot image"))?;
    let output = Command::new(&program)
        .args(args)
        .arg(node)
        .stdin(Stdio::null())
        .output();
    let output = output.with_context(|| format!("cannot run {program}"))?;
    // e2fsck: 1 means repaired, 2 means repaired and a restart needed if it was mounted, which it was not.
    let is_fine = match output.status.code() {
        Some(0) => true,
        Some(1 | 2) => name == "e2fsck",
        _ => false,
    };
    if !is_fine {
        let text = String::from_utf8_lossy(&output.stderr);
        bail!(
            "{program} {} ended with {}: {}",
            node.display(),
            output.status,
            text.trim()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_found_by_their_whole_path() {
        let table = "/dev/nvme0n1p3 /run/forestage/staging ext4 rw 0 0\nproc /proc proc rw 0 0\n";
        assert!(mounted_at(table, "/run/forestage/staging".into()));
        assert!(!mounted_at(table, FOLDER.into()));
        assert!(!mounted_at("", "/proc".into()));
    }
}
