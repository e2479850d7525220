//! PID 1 of the boot image: mounts, loads modules, starts the worker, buries the dead, and never ends.
//!
//! The work itself runs in a child process, so that waiting for its programs and burying orphans never get in each
//! other's way, and so that a worker that dies leaves someone who can say so.

use std::ffi::CStr;
use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::mount::{MountFlags, mount};
use rustix::process::{WaitOptions, wait};
use serde_json::json;

use crate::modules::Loader;
use crate::screen::Screen;
use crate::{clock, log, view};

/// Two scans find what is there; then a pause, and again, for USB devices that show up late.
const SCAN_PAUSE: Duration = Duration::from_millis(300);
/// How long late devices are looked for: a hub with a slow stick behind it is there within a minute.
const SCAN_SECONDS: u64 = 120;

/// Runs as PID 1. Never returns.
pub(crate) fn run() -> ! {
    std::panic::set_hook(Box::new(|info| {
        // PID 1 that ends is a kernel panic, a black screen: stay, and say what happened.
        log::note(&format!("panic in PID 1: {info}"));
        loop {
            clock::pause(Duration::from_secs(3600));
        }
    }));
    let mounted = mount_all();
    log::start();
    if let Err(error) = mounted {
        log::warn("PID 1 goes on with what it has", &error);
    }
    quiet_the_keyboard();
    let modules = std::thread::Builder::new()
        .name("modules".into())
        .spawn(load_modules);
    if modules.is_err() {
        log::note("no thread for kernel modules");
    }
    match supervise() {
        Ok(end) => fail(&format!("forestage-agent ended: {end}")),
        Err(error) => fail(&format!("{error:#}")),
    }
}

fn mount_all() -> Result<()> {
    let plain = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let list: [(&str, &str, MountFlags, &CStr); 6] = [
        ("proc", "/proc", plain, c""),
        ("sysfs", "/sys", plain, c""),
        ("devtmpfs", "/dev", MountFlags::NOSUID, c"mode=0755"),
        (
            "tmpfs",
            "/run",
            MountFlags::NOSUID | MountFlags::NODEV,
            c"mode=0755",
        ),
        (
            "tmpfs",
            "/tmp",
            MountFlags::NOSUID | MountFlags::NODEV,
            c"mode=1777",
        ),
        (
            "devpts",
            "/dev/pts",
            MountFlags::NOSUID | MountFlags::NOEXEC,
            c"mode=0620,ptmxmode=0666",
        ),
    ];
    let mut failed = Ok(());
    for (kind, folder, flags, data) in list {
        let done = fs::create_dir_all(folder)
            .map_err(anyhow::Error::from)
            .and_then(|()| {
                match mount(kind, folder, kind, flags, data) {
                    // devtmpfs may be there already (CONFIG_DEVTMPFS_MOUNT).
                    Ok(()) | Err(rustix::io::Errno::BUSY) => Ok(()),
                    Err(error) => Err(error.into()),
                }
            });
        if let Err(error) = done {
            failed = Err(error).with_context(|| format!("cannot mount {folder}"));
        }
    }
    failed
}

/// No key ends or restarts this machine or writes on its screen, and the kernel looks for no module tool.
fn quiet_the_keyboard() {
    // The kernel gives us its terminal, which echoes what is typed as long as somebody has it open.
    let let_go = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")
        .and_then(|nothing| {
            rustix::stdio::dup2_stdin(&nothing)?;
            rustix::stdio::dup2_stdout(&nothing)?;
            Ok(rustix::stdio::dup2_stderr(&nothing)?)
        });
    if let Err(error) = let_go {
        log::note(&format!("what is typed stays visible: {error}"));
    }
    if let Err(error) = rustix::system::reboot(rustix::system::RebootCommand::CadOff) {
        log::note(&format!("ctrl-alt-del stays on: {error}"));
    }
    for (path, text) in [
        ("/proc/sys/kernel/sysrq", "0"),
        ("/proc/sys/kernel/modprobe", "\n"),
    ] {
        if let Err(error) = fs::write(path, text) {
            log::note(&format!("cannot write {path}: {error}"));
        }
    }
}

fn load_modules() {
    let mut loader = match Loader::open() {
        Ok(loader) => loader,
        Err(error) => return log::warn("no kernel modules", &error),
    };
    loader.load_always();
    loader.scan();
    loader.scan();
    for name in ["efivarfs", "ext4", "vfat"] {
        loader.load(name);
    }
    mount_efivarfs();
    // The worker waits for this.
    let said = fs::create_dir_all("/run/forestage")
        .and_then(|()| fs::write("/run/forestage/modules-loaded", b""));
    if let Err(error) = said {
        log::note(&format!(
            "cannot say that modules are loaded; the worker waits in vain: {error}"
        ));
    }
    let rounds = SCAN_SECONDS * 1000 / u64::try_from(SCAN_PAUSE.as_millis()).unwrap_or(1000);
    for _ in 0..rounds {
        clock::pause(SCAN_PAUSE);
        loader.scan();
    }
    // A cable or a dongle may be plugged in much later.
    loop {
        clock::pause(Duration::from_secs(3));
        loader.scan();
    }
}

fn mount_efivarfs() {
    let folder = "/sys/firmware/efi/efivars";
    if !fs::exists(folder).unwrap_or(false) {
        return;
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RDONLY;
    if let Err(error) = mount("efivarfs", folder, "efivarfs", flags, c"") {
        log::note(&format!("cannot mount efivarfs: {error}"));
    }
}

fn supervise() -> Result<String> {
    let worker = Command::new("/proc/self/exe")
        .arg("worker")
        .spawn()
        .context("cannot start the worker")?;
    let worker = i32::try_from(worker.id()).context("a process id beyond all bounds")?;
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid.as_raw_nonzero().get() == worker => {
                return Ok(match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => format!("exit code {code}"),
                    (None, signal) => format!("signal {}", signal.unwrap_or(0)),
                });
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot wait for the worker"),
        }
    }
}

/// Shows what happened, and stays.
fn fail(why: &str) -> ! {
    log::milestone("agent-died", json!({ "why": why }));
    let screen = Screen::start();
    let hint = "switch off and on again; if it happens again, report the text above";
    view::show_failure(
        &screen,
        "the program of this machine ended",
        &[why.to_owned()],
        hint,
    );
    loop {
        // Orphans of the worker still have to be buried; an error here means that there is none.
        if wait(WaitOptions::empty()).is_err() {
            clock::pause(Duration::from_secs(5));
        }
    }
}
