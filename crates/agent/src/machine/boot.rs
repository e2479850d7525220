//! What starts at power-on: the boot image, the boot entry of the OS, and the agent that goes on there.

use std::cmp::Ordering;
use std::fs::File;
use std::io::Seek as _;

use anyhow::{Context, Result, ensure};
use camino::Utf8Path;
use wire::boot_config::TRUST_PATH;
use wire::layout::VolumeRole;

use super::target::Target;
use super::volumes::Volumes;
use crate::block::BlockFile;
use crate::esp::{Fat, OsEntry};
use crate::{gpt, secure_boot};

/// Where the agent lies in an installed OS.
const AGENT_PATH: &str = "/usr/lib/forestage/forestage-agent";
const UNIT_PATH: &str = "/etc/systemd/system/forestage-agent.service";
const UNIT_LINK: &str = "/etc/systemd/system/multi-user.target.wants/forestage-agent.service";
/// Offline is the default path: the unit waits for no network.
const UNIT: &str = "[Unit]
Description=Forestage: finishes the deployment of this machine
After=network.target local-fs.target
ConditionPathExists=/etc/forestage/trust.json

[Service]
Type=simple
ExecStart=/usr/lib/forestage/forestage-agent resume
Restart=on-failure
RestartSec=10
StandardInput=null

[Install]
WantedBy=multi-user.target
";

/// Where Debian's packages look for what is to be done when a kernel came, went, or got another initrd.
const KERNEL_HOOKS: [&str; 3] = [
    "/etc/kernel/postinst.d/zz-forestage",
    "/etc/kernel/postrm.d/zz-forestage",
    "/etc/initramfs/post-update.d/zz-forestage",
];
const KERNEL_HOOK: &str = "#!/bin/sh
# Forestage: from the next start on, this machine starts with the newest kernel in /boot. If that can't be, it says why, and goes on
# starting with the one it has started with, which apt keeps as long as it runs: no reason to leave a package half installed.
agent=/usr/lib/forestage/forestage-agent
[ ! -x \"$agent\" ] || \"$agent\" update-os-boot >&2 || true
";

/// Opens the ESP, does `work`, closes it durably.
fn with_esp<T>(volumes: &Volumes, work: impl FnOnce(&Fat) -> Result<T>) -> Result<T> {
    let node = volumes.volume(VolumeRole::Esp)?.node;
    ensure!(
        !volumes.is_node_mounted(&node),
        "{} is mounted: unmount it first",
        node.display()
    );
    let device =
        BlockFile::read_write(&node).with_context(|| format!("cannot open {}", node.display()))?;
    // The OS may get a kernel while the agent finishes a run in it.
    device
        .wait_for_lock()
        .with_context(|| format!("cannot lock {}", node.display()))?;
    let fat = Fat::open(&device)?;
    let done = work(&fat)?;
    fat.close()?;
    Ok(done)
}

/// Puts the boot image in `source` onto the ESP, unless the firmware would not start it: then the one that is there stays.
pub(crate) fn install_boot_image(volumes: &Volumes, source: &Utf8Path) -> Result<()> {
    let open = |name: &str| {
        let path = source.join(name);
        File::open(&path)
            .with_context(|| format!("cannot open {path}: the boot-image package is incomplete"))
    };
    let (mut image, mut loader) = (open("deploy.efi")?, open("loader.efi")?);
    secure_boot::ensure_starts(&volumes.kernel, |firmware| firmware.objections(source))?;
    // Nothing may be bootable before all that it relies on is on the disk.
    rustix::fs::sync();
    with_esp(volumes, |fat| {
        fat.install_boot_image(&mut image, &mut loader)
    })
}

/// Copies the newest kernel of the target OS to the ESP and writes its boot entry, unless the firmware would not start it.
pub(crate) fn install_os_entry(volumes: &Volumes) -> Result<()> {
    let target = Target::open(&volumes.mount_target()?)?;
    let names = target.names(Utf8Path::new("/boot"))?;
    let version = newest_kernel(&names)
        .context("the installed OS has no kernel in /boot")?
        .to_owned();
    let mut kernel =
        target.open_file(&Utf8Path::new("/boot").join(format!("vmlinuz-{version}")))?;
    secure_boot::ensure_starts(&volumes.kernel, |firmware| {
        let image = secure_boot::read_image(&mut kernel).context("cannot read the OS's kernel")?;
        kernel.rewind().context("cannot read the OS's kernel")?;
        let objection = firmware.objection(&image);
        Ok(objection
            .map(|why| format!("the OS's kernel vmlinuz-{version}: {why}"))
            .into_iter()
            .collect())
    })?;
    let initrd_name = format!("initrd.img-{version}");
    let initrd = if names.contains(&initrd_name) {
        Some(target.open_file(&Utf8Path::new("/boot").join(initrd_name))?)
    } else {
        None
    };
    let release = target
        .read(Utf8Path::new("/etc/os-release"))?
        .unwrap_or_default();
    let entry = OsEntry {
        title: pretty_name(&String::from_utf8_lossy(&release)),
        options: format!("root=PARTUUID={} rw quiet", os_partition_guid(volumes)?),
        kernel,
        initrd,
    };
    with_esp(volumes, |fat| fat.install_os_entry(entry))
}

/// Switches between boot image and OS, durably and atomically.
pub(crate) fn set_default(volumes: &Volumes, is_os: bool) -> Result<()> {
    // What will start must be on the disk before it is what starts.
    rustix::fs::sync();
    with_esp(volumes, |fat| fat.set_default(is_os))
}

fn os_partition_guid(volumes: &Volumes) -> Result<uuid::Uuid> {
    let disk = volumes
        .own_disk()?
        .context("no disk carries the mark of this machine")?;
    let table = gpt::read_table(&BlockFile::read_only(&disk)?)?;
    let os = gpt::find(&table, VolumeRole::Os).context("the disk has no OS volume")?;
    Ok(os.guid)
}

/// Puts this program, whom it trusts, its service, and what keeps the boot entry at the newest kernel into the target OS.
pub(crate) fn install_agent(volumes: &Volumes) -> Result<()> {
    let target = Target::open(&volumes.mount_target()?)?;
    let mut program = File::open("/proc/self/exe").context("cannot open this program")?;
    target
        .write_from(Utf8Path::new(AGENT_PATH), &mut program, 0o755)
        .context("cannot copy this program")?;
    let trust = std::fs::read(TRUST_PATH).with_context(|| format!("cannot read {TRUST_PATH}"))?;
    target.write(Utf8Path::new(TRUST_PATH), &trust, 0o644)?;
    for hook in KERNEL_HOOKS {
        target.write(Utf8Path::new(hook), KERNEL_HOOK.as_bytes(), 0o755)?;
    }
    target.write(Utf8Path::new(UNIT_PATH), UNIT.as_bytes(), 0o644)?;
    target.link(Utf8Path::new(UNIT_LINK), UNIT_PATH)
}

/// The service has nothing left to do: it is not started again.
pub(crate) fn disable_agent() -> Result<()> {
    Target::open(Utf8Path::new("/"))?.remove_file(Utf8Path::new(UNIT_LINK))
}

/// The newest of the versions that have a `vmlinuz-<version>`. Where kernels have an initrd, one that has none yet doesn't count.
fn newest_kernel(names: &[String]) -> Option<&str> {
    let newest = |is_counted: &dyn Fn(&str) -> bool| {
        let versions = names
            .iter()
            .filter_map(|name| name.strip_prefix("vmlinuz-"));
        versions
            .filter(|version| !version.starts_with('.') && is_counted(version))
            .max_by(|a, b| compare_versions(a, b))
    };
    let has_initrd = |version: &str| names.contains(&format!("initrd.img-{version}"));
    newest(&has_initrd).or_else(|| newest(&|_| true))
}

/// Compares as people do: `6.1.0-9` is older than `6.1.0-10`.
fn compare_versions(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        if a.is_empty() || b.is_empty() {
            return a.len().cmp(&b.len());
        }
        let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (digits_a, digits_b) = (digits(a), digits(b));
        if digits_a > 0 && digits_b > 0 {
            let number = |text: &[u8]| {
                let text: Vec<u8> = text
                    .iter()
                    .copied()
                    .skip_while(|byte| *byte == b'0')
                    .collect();
                (text.len(), text)
            };
            match number(&a[..digits_a]).cmp(&number(&b[..digits_b])) {
                Ordering::Equal => (a, b) = (&a[digits_a..], &b[digits_b..]),
                unequal => return unequal,
            }
        } else if a[0] == b[0] {
            (a, b) = (&a[1..], &b[1..]);
        } else {
            return a[0].cmp(&b[0]);
        }
    }
}

/// `PRETTY_NAME` of os-release, for the boot entry.
fn pretty_name(os_release: &str) -> String {
    let line = os_release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="));
    let name: String = line
        .unwrap_or("Linux")
        .trim_matches(['"', '\''])
        .chars()
        .take(64)
        .collect();
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_kernel_is_found() {
        let names = |list: &[&str]| {
            list.iter()
                .map(|name| (*name).to_owned())
                .collect::<Vec<_>>()
        };
        let boot = names(&[
            "vmlinuz-6.1.0-9-amd64",
            "vmlinuz-6.1.0-10-amd64",
            "vmlinuz-5.99.0-1-amd64",
            "config-7",
        ]);
        assert_eq!(newest_kernel(&boot), Some("6.1.0-10-amd64"));
        assert_eq!(newest_kernel(&names(&["initrd.img-6"])), None);
        let unfinished = names(&["vmlinuz-6.1", "initrd.img-6.1", "vmlinuz-6.2"]);
        assert_eq!(newest_kernel(&unfinished), Some("6.1"));
        assert_eq!(compare_versions("6.1", "6.1.1"), Ordering::Less);
        assert_eq!(compare_versions("6.01", "6.1"), Ordering::Equal);
    }

    #[test]
    fn the_name_of_an_os_is_read() {
        assert_eq!(
            pretty_name("ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n"),
            "Debian GNU/Linux 12 (bookworm)"
        );
        assert_eq!(pretty_name(""), "Linux");
    }
}
