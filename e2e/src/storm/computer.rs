//! A computer that the server runs on, and whose power is cut: a virtual machine with Debian's kernel, whose data lie on ext4, on
//! a disk that may lose whatever wasn't flushed.
//!
//! The initrd is the whole OS: `e2fsck` and a mount, as Debian starts, and then the server. Nothing else writes.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use media::boot_image::{BootImageRecipe, DEPLOY_FILE, build_boot_image};
use media::progress::Silent;
use serde_json::{Value, json};
use testkit::chance::Chance;
use testkit::vm::{Bus, Identity, Network, SILENCE_MAX, Start, Vm, VmDisk, VmSpec};
use testkit::volatile_disk::{Flushes, Lost, VolatileDisk};
use wire::boot_config::Trust;

use super::{Found, Harm, LOOK_EVERY, SEQUENCE, completed};
use crate::guides::{self, World};
use crate::load::fleet::{Fleet, free_port};
use crate::load::{self, percentiles};
use crate::scenarios::shared::take_apart;
use crate::world;

const DISK_BYTES: u64 = 512 << 20;
const PORT: u16 = 8443;
/// Where the server's data lie on the volume.
const DATA: &str = "/forestage";
const COMMAND_LINE: &str = "console=ttyS0 quiet loglevel=3 mitigations=off no_timer_check";
const BUSYBOX: &str = "/bin/busybox";
/// Before one cut in so many somebody publishes a package. Not before each: what is synced for it takes along what else was
/// written, so that nothing else could be lost.
const PUBLISHES_ONE_IN: usize = 4;
/// A server at work has written something this soon.
const WRITES_WITHIN: Duration = Duration::from_secs(10);
/// What a package weighs that is published before a cut.
const PACKAGE_BYTES: usize = 300_000;
/// Where programs are that are for administrators.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
/// From here on, `e2fsck` couldn't make the volume whole.
const NOT_WHOLE: i32 = 4;

/// Words between `@` are filled in.
const INIT: &str = r#"#!/bin/busybox sh
export PATH=/bin:/sbin
for name in mount insmod find ifconfig awk tr sleep poweroff; do busybox ln -s busybox /bin/$name; done
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
fail() {
  echo "the computer can't go on: $1"
  poweroff -f
}
for pass in 1 2 3 4 5 6; do find /lib/modules -name '*.ko' -exec insmod {} ';'; done 2> /dev/null
for turn in 1 2 3 4 5 6 7 8 9; do [ -b /dev/vda ] || sleep 1; done
e2fsck -p /dev/vda
[ $? -lt 4 ] || fail "its volume isn't whole"
busybox mkdir -p /data /run
mount -t ext4 /dev/vda /data || fail "its volume can't be mounted"
ifconfig lo 127.0.0.1 up
ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up || fail "it has no network"
FORESTAGE_LOG=warn forestage serve --data /data@DATA@ --listen 0.0.0.0:@PORT@ --url @URL@ --ready-file /run/ready.json &
while [ ! -e /run/ready.json ]; do
  kill -0 $! || fail "the server has ended"
  sleep 0.1
done
ready=$(tr -d '\n' < /run/ready.json)
authority=$(awk '{ printf "%s\\n", $0 }' "$(awk -F '"' '$2 == "ca" { print $4 }' /run/ready.json)")
echo "FORESTAGE 0 milestone {\"at\":\"ready\",\"ready\":$ready,\"authority\":\"$authority\"}"
wait $!
fail "the server has ended"
"#;

/// A computer, and what became of its disk each time its power was cut.
pub(super) struct Computer {
    spec: VmSpec,
    disk: VolatileDisk,
    /// Its disk's image.
    image: Utf8PathBuf,
    vm: Option<Vm>,
    is_ready: bool,
    chance: Chance,
    /// Whether packages are published; a server that forgets may not be able to.
    publishes: bool,
    lost: Vec<Lost>,
    /// Names of packages of which the server said that they are published.
    published: Vec<String>,
}

impl Computer {
    /// A new computer with an empty volume, and a fleet on the server on it.
    pub(super) fn with_fleet(machines: u32, seed: u64, flushes: Flushes) -> Result<(Self, Fleet)> {
        let forestage = guides::program()?;
        let mut world = World::without_server(guides::root(), &forestage, "storm-power")?;
        let folder = world.folder().join("computer");
        let mut computer = Self::build(&folder, &forestage, seed, flushes)?;
        let said = computer.switch_on_the_first_time()?;
        let authority = folder.join("ca.pem");
        std::fs::write(&authority, said["authority"].as_str().unwrap_or_default())?;
        let mut ready = said["ready"].clone();
        ready["ca"] = authority.as_str().into();
        world.sign_in(&ready)?;
        let fleet = Fleet::on(world, &guides::root().join(SEQUENCE), machines, load::SITES)?;
        // A disk that forgets flushes forgets what comes from here on.
        computer.disk.settle()?;
        Ok((computer, fleet))
    }

    fn build(folder: &Utf8Path, forestage: &Utf8Path, seed: u64, flushes: Flushes) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let port = free_port()?;
        let (kernel, initrd) = debian(folder, forestage, port)?;
        let image = folder.join("disk.img");
        std::fs::File::create(&image)?.set_len(DISK_BYTES)?;
        run("mke2fs", &["-q", "-t", "ext4", "-F", image.as_str()])?;
        let disk = VolatileDisk::serve(&image, &folder.join("disk.socket"), flushes)?;
        let spec = VmSpec {
            name: "server".into(),
            folder: folder.to_owned(),
            identity: Identity {
                vendor: "Acme".into(),
                product: "Rack 2".into(),
                serial: "SERVER-0001".into(),
                uuid: uuid::Uuid::from_u64_pair(seed, 1),
                asset_tag: String::new(),
            },
            disks: vec![VmDisk {
                path: disk.socket().to_owned(),
                bus: Bus::Volatile,
            }],
            network: Network::Reachable {
                port,
                machine_port: PORT,
            },
            tpm: None,
            start: Start::Kernel {
                kernel,
                initrd,
                command_line: COMMAND_LINE.into(),
            },
            memory_mib: 1024,
            cpus: 2,
        };
        Ok(Self {
            spec,
            disk,
            image,
            vm: None,
            is_ready: false,
            chance: Chance::new(seed),
            publishes: flushes == Flushes::Kept,
            lost: Vec::new(),
            published: Vec::new(),
        })
    }

    /// What its server says when it is ready.
    fn switch_on_the_first_time(&mut self) -> Result<Value> {
        let mut vm = Vm::start(&self.spec)?;
        let line = vm.wait_for_milestone("ready")?;
        (self.vm, self.is_ready) = (Some(vm), true);
        Ok(line.value)
    }

    /// Somebody publishes a package. When this returns, the server has said that it is.
    fn publish(&mut self, fleet: &Fleet) -> Result<()> {
        if !self.publishes {
            return Ok(());
        }
        let name = format!("before-cut-{}", self.lost.len() + 1);
        let tree = fleet.work().join(&name);
        std::fs::create_dir_all(&tree)?;
        std::fs::write(tree.join("file"), self.chance.bytes(PACKAGE_BYTES))?;
        let file = format!("{name}.yaml");
        let definition =
            format!("name: {name}\nversion: '1'\nkind: files\nsource:\n  tree: {name}\n");
        std::fs::write(fleet.work().join(&file), definition)?;
        succeed(fleet, &["package", "import", &file])?;
        self.published.push(name);
        Ok(())
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let began = Instant::now();
        while !self.look()? {
            ensure!(
                began.elapsed() < SILENCE_MAX,
                "the server doesn't get ready"
            );
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    fn look(&mut self) -> Result<bool> {
        let vm = self.vm.as_mut().context("the computer is off")?;
        self.is_ready = self.is_ready || vm.heard(|line| line.is_milestone("ready"))?.is_some();
        Ok(self.is_ready)
    }

    /// First the disk, then the rest: no answer of a machine that is without power already counts.
    fn cut(&mut self) -> Result<()> {
        self.lost.push(
            self.disk
                .cut_while_it_writes(WRITES_WITHIN, &mut self.chance)?,
        );
        if let Some(vm) = self.vm.take() {
            vm.cut_power();
        }
        self.is_ready = false;
        Ok(())
    }

    /// Brings the server's data to where they were if it ran here.
    fn take_data_out(&self, folder: &Utf8Path) -> Result<()> {
        let checked = Command::new("e2fsck")
            .args(["-f", "-p", self.image.as_str()])
            .env("PATH", PATH)
            .output()
            .context("cannot start e2fsck")?;
        let said = String::from_utf8_lossy(&checked.stdout);
        let is_whole = checked.status.code().is_some_and(|code| code < NOT_WHOLE);
        ensure!(is_whole, "the volume isn't whole: {said}");
        let request = format!("rdump {DATA} {folder}");
        run("debugfs", &["-R", &request, self.image.as_str()])?;
        let data = folder.join("data");
        let dumped = folder.join(DATA.trim_start_matches('/'));
        std::fs::rename(&dumped, &data).with_context(|| format!("no data came to {dumped}"))?;
        // Shared memory of processes that are no more.
        let _ = std::fs::remove_file(data.join("forestage.db-shm"));
        Ok(())
    }

    fn figures(&self) -> Value {
        let writes = self.lost.iter().map(|lost| lost.writes as f64);
        let sum = |of: fn(&Lost) -> usize| self.lost.iter().map(of).sum::<usize>();
        json!({
            "cuts": self.lost.len(),
            "cuts-that-lost": self.lost.iter().filter(|lost| lost.lost_sectors > 0).count(),
            "unflushed-writes": percentiles(writes.collect()),
            "unflushed-sectors": sum(|lost| lost.sectors),
            "lost-sectors": sum(|lost| lost.lost_sectors),
            "published": self.published.len(),
        })
    }
}

impl Harm for Computer {
    fn just_before(&mut self, fleet: &Fleet) -> Result<()> {
        if self.is_ready && (self.lost.len() + 1).is_multiple_of(PUBLISHES_ONE_IN) {
            self.publish(fleet)?;
        }
        Ok(())
    }

    fn strike(&mut self, _fleet: &mut Fleet) -> Result<()> {
        self.cut()
    }

    fn start_again(&mut self, _fleet: &mut Fleet) -> Result<()> {
        self.vm = Some(Vm::start(&self.spec)?);
        Ok(())
    }

    fn is_ready(&mut self, _fleet: &mut Fleet) -> Result<bool> {
        self.look()
    }

    fn ready_max(&self) -> Duration {
        SILENCE_MAX
    }

    /// Once more, with the last word of the last machine just said. What the server finds then is what counts.
    fn look_around(&mut self, fleet: &mut Fleet) -> Result<Found> {
        self.publish(fleet)?;
        self.cut()?;
        self.start_again(fleet)?;
        self.wait_until_ready()?;
        let completed = completed(fleet)?;
        let mut wrong = Vec::new();
        for words in [["audit", "verify"], ["content", "verify"]] {
            wrong.extend(
                succeed(fleet, &words)
                    .err()
                    .map(|error| format!("{error:#}")),
            );
        }
        self.cut()?;
        self.take_data_out(fleet.world().folder())?;
        let held = fleet.ask_database("SELECT name FROM packages")?;
        let is_lost = |name: &&String| !held.lines().any(|held| held == name.as_str());
        let lost = self.published.iter().filter(is_lost);
        wrong.extend(lost.map(|name| format!("the package {name} was published and isn't there")));
        Ok(Found {
            completed,
            wrong,
            figures: self.figures(),
        })
    }
}

/// Debian's kernel, and an initrd with its modules, `e2fsck` and the server.
fn debian(
    folder: &Utf8Path,
    forestage: &Utf8Path,
    port: u16,
) -> Result<(Utf8PathBuf, Utf8PathBuf)> {
    let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
    let recipe = BootImageRecipe {
        modules: texts(&["virtio_pci", "virtio_blk", "virtio_net"]),
        modules_always: texts(&["crc32c_generic", "ext4"]),
        programs: texts(&["/sbin/e2fsck"]),
        ..BootImageRecipe::default()
    };
    let nobody = Trust {
        format: 1,
        server_urls: Vec::new(),
        ca_pem: String::new(),
        bundle_keys: Vec::new(),
        wipe_keys: Vec::new(),
    };
    let cache = world::cache()?;
    let out = folder.join("boot-image");
    build_boot_image(
        &recipe,
        &nobody,
        BUSYBOX.into(),
        None,
        &cache,
        &out,
        &Silent,
    )?;
    let (kernel, initrd) = take_apart(&out.join(DEPLOY_FILE), folder)?;
    let mut bytes = std::fs::read(&initrd)?;
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend(server(forestage, port)?);
    std::fs::write(&initrd, bytes)?;
    Ok((kernel, initrd))
}

/// What comes last in an initrd replaces what came before: `/init`.
fn server(forestage: &Utf8Path, port: u16) -> Result<Vec<u8>> {
    let url = format!("https://127.0.0.1:{port}");
    let init = INIT
        .replace("@URL@", &url)
        .replace("@PORT@", &PORT.to_string())
        .replace("@DATA@", DATA);
    let busybox = std::fs::read(BUSYBOX).context("apt-get install busybox-static")?;
    let mut files = vec![
        ("/init".to_owned(), init.into_bytes()),
        (BUSYBOX.to_owned(), busybox),
        ("/bin/forestage".to_owned(), std::fs::read(forestage)?),
    ];
    let output = Command::new("ldd")
        .arg(forestage)
        .output()
        .context("cannot start ldd")?;
    let said = String::from_utf8(output.stdout)?;
    for library in said.split_whitespace().filter(|word| word.starts_with('/')) {
        let bytes = std::fs::read(library).with_context(|| format!("cannot read {library}"))?;
        files.push((library.to_owned(), bytes));
    }
    let mut archive = media::cpio::Archive::default();
    for (path, bytes) in files {
        let added = archive.file(&path, 0o755, bytes);
        added.map_err(|error| anyhow::anyhow!("{}: {}", error.path, error.reason))?;
    }
    Ok(archive.bytes())
}

/// Runs a program that must succeed.
fn run(program: &str, words: &[&str]) -> Result<()> {
    let output = Command::new(program)
        .args(words)
        .env("PATH", PATH)
        .output()
        .with_context(|| format!("cannot start {program}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {words:?}: {said}");
    Ok(())
}

/// Runs a command of `forestage` that must succeed.
fn succeed(fleet: &Fleet, words: &[&str]) -> Result<()> {
    let output = fleet
        .forestage()
        .args(words)
        .output()
        .context("cannot start forestage")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{words:?} failed: {said}");
    Ok(())
}
