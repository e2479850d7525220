//! Installs what the project needs, saying so first. What is there already is left alone.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// The agent is static, so that it runs in a boot image and in any OS.
pub(crate) const AGENT_TARGET: &str = "x86_64-unknown-linux-musl";

/// Debian packages and what each is for.
const DEBIAN_PACKAGES: &[(&str, &str)] = &[
    ("gcc", "C parts of crates (zstd, ring, SQLite)"),
    ("libc6-dev", "C parts of crates"),
    ("musl-tools", "the static forestage-agent"),
    ("qemu-system-x86", "virtual machines"),
    ("ovmf", "UEFI firmware for them"),
    ("swtpm", "TPMs for them"),
    ("mmdebstrap", "OS images"),
    ("e2fsprogs", "ext4 filesystem images"),
    ("ntfs-3g", "NTFS volumes"),
    ("wimtools", "what Windows images are applied with"),
    ("qemu-utils", "disks of virtual machines"),
    ("fdisk", "partition tables of disks in tests"),
    ("xfsprogs", "XFS filesystems in tests"),
    ("btrfs-progs", "Btrfs filesystems in tests"),
    ("rsync", "comparing trees in tests"),
    (
        "systemd-boot-efi",
        "the boot manager and the stub of boot images",
    ),
    ("fonts-dejavu-core", "the font on the device's screen"),
    ("openssl", "keys and certificates for Secure Boot"),
    ("sbsigntool", "signing boot images for Secure Boot"),
    ("faketime", "signing them the same way every time"),
    ("busybox-static", "the tiny OS of scenarios"),
    ("postgresql", "the server's tests on PostgreSQL"),
    (
        "sqlite3",
        "reading the asset system's table as another program does",
    ),
    ("chromium", "the console's pages in a real browser"),
    ("npm", "fetching axe-core, which checks them"),
    (
        "python3-venv",
        "fetching the identity provider that the tests sign in at",
    ),
    ("jq", "reading answers in guides"),
    ("dosfstools", "checking FAT volumes in tests"),
];

/// What the content engine is measured against, and with. Not in Debian: rustic and desync.
const BENCH_PACKAGES: &[(&str, &str)] = &[
    ("mmdebstrap", "the trees that are measured with"),
    ("e2fsprogs", "ext4 filesystem images"),
    ("time", "processor time and memory of each run"),
    ("squashfs-tools", "a peer"),
    ("wimtools", "a peer, and NTFS volumes as Windows has them"),
    ("ntfs-3g", "NTFS volumes"),
    ("partclone", "a peer"),
    ("borgbackup", "a peer"),
    ("restic", "a peer"),
    ("casync", "a peer"),
    ("xdelta3", "a peer"),
    ("zstd", "a peer"),
];

/// Debian packages and the Rust target.
pub(crate) fn everything() -> Result<()> {
    debian_packages(DEBIAN_PACKAGES)?;
    rust_target()
}

/// What `cargo xtask nightly` fuzzes with.
pub(crate) fn fuzzing() -> Result<()> {
    debian_packages(&[("g++", "libFuzzer, which comes as C++")])
}

/// What `cargo xtask bench` runs against.
pub(crate) fn bench_peers() -> Result<()> {
    debian_packages(BENCH_PACKAGES)
}

/// Installing one package may remove another, of a release that it doesn't go with: that one is installed again after it.
const ROUNDS_MAX: u32 = 3;

fn debian_packages(packages: &'static [(&str, &str)]) -> Result<()> {
    for round in 0..ROUNDS_MAX {
        let missing = missing(packages);
        if missing.is_empty() {
            return Ok(());
        }
        eprintln!("==> installing Debian packages:");
        missing
            .iter()
            .for_each(|(name, purpose)| eprintln!("      {name:<20} {purpose}"));
        let names: Vec<&str> = missing.iter().map(|(name, _)| *name).collect();
        if round == 0 {
            apt_get(&["update", "-q"])?;
        }
        apt_get(
            &[
                &["install", "-q", "-y", "--no-install-recommends"],
                names.as_slice(),
            ]
            .concat(),
        )?;
    }
    let missing = missing(packages);
    let names: Vec<&str> = missing.iter().map(|(name, _)| *name).collect();
    ensure!(
        names.is_empty(),
        "apt-get has installed {}, and removed it again: install it by hand",
        names.join(", ")
    );
    Ok(())
}

fn missing(packages: &'static [(&str, &str)]) -> Vec<&'static (&'static str, &'static str)> {
    packages
        .iter()
        .filter(|(name, _)| !is_installed(name) && !is_there_otherwise(name))
        .collect()
}

fn is_installed(package: &str) -> bool {
    Command::new("dpkg-query")
        .args(["-W", "-f", "${db:Status-Status}", package])
        .stderr(Stdio::null())
        .output()
        .is_ok_and(|output| output.stdout == b"installed")
}

/// Node's own packages bring npm too, and Debian's npm can't be installed beside them.
fn is_there_otherwise(package: &str) -> bool {
    package == "npm"
        && Command::new(package)
            .arg("--version")
            .output()
            .is_ok_and(|output| output.status.success())
}

/// As root directly, otherwise through sudo, which may ask for a password.
fn apt_get(arguments: &[&str]) -> Result<()> {
    let is_root = Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|output| output.stdout.starts_with(b"0\n"));
    let mut command = if is_root {
        Command::new("apt-get")
    } else {
        Command::new("sudo")
    };
    if !is_root {
        command.arg("apt-get");
    }
    let status = command
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdout(Stdio::null())
        .status()
        .context("cannot run apt-get: this needs Debian 12 and root or sudo")?;
    if !status.success() {
        bail!("apt-get {} ended with {status}", arguments.join(" "));
    }
    Ok(())
}

fn rust_target() -> Result<()> {
    let installed = Command::new("rustup")
        .args(["target", "list", "--installed"])
        .output();
    let installed = installed.context("cannot run rustup: install Rust with rustup first")?;
    if String::from_utf8_lossy(&installed.stdout)
        .lines()
        .any(|line| line == AGENT_TARGET)
    {
        return Ok(());
    }
    eprintln!("==> installing the Rust target {AGENT_TARGET}");
    let status = Command::new("rustup")
        .args(["target", "add", AGENT_TARGET])
        .status()?;
    if !status.success() {
        bail!("rustup target add {AGENT_TARGET} ended with {status}");
    }
    Ok(())
}

/// How much of the disk is free where things are built and machines' disks lie, for people: `41 GB`.
pub(crate) fn free_space() -> Result<String> {
    let output = Command::new("df")
        .args(["--block-size=GB", "--output=avail", "."])
        .current_dir(crate::root())
        .output()
        .context("cannot run df")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let free = text.lines().last().context("df says nothing")?.trim();
    Ok(free.replace("GB", " GB"))
}
