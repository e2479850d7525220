//! What all scenarios share: a boot image, a tiny OS, a stick.

use std::os::unix::fs::symlink;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use media::uki;
use testkit::vm::{Bus, Network, Start, Vm, VmDisk, VmSpec};
use wire::boot_config::BootMode;

use crate::fleet::Laptop;
use crate::world::World;

/// Large enough for the layout of `tiny.yaml`.
pub(super) const DISK_BYTES: u64 = 1 << 30;
/// Room for the tiny OS and, if it can be started, its initrd.
const IMAGE_BYTES: u64 = 96 << 20;
/// `vga=791` gives a frame buffer (1024x768, 16 bits) without firmware that offers one.
const COMMAND_LINE: &str =
    "vga=791 quiet loglevel=3 mitigations=off no_timer_check forestage.quick";

/// See the module.
pub(crate) struct Shared {
    pub(crate) world: World,
    pub(crate) stick: Utf8PathBuf,
    pub(crate) bundle: Utf8PathBuf,
    kernel: Utf8PathBuf,
    initrd: Utf8PathBuf,
}

impl Shared {
    /// Builds everything once. Each of `sequences` gets a collection and a deployment of its name, the first of them a prestage
    /// as well, which is on the stick.
    pub(crate) fn prepare(world: World, sequences: &[&str]) -> Result<Self> {
        let boot_image = world.boot_image(None)?;
        Self::with_boot_image(world, &boot_image, false, sequences)
    }

    /// The same with this boot image; with `starts`, the tiny OS can be started, says so with its facts, and switches off.
    pub(crate) fn with_boot_image(
        world: World,
        boot_image: &Utf8Path,
        starts: bool,
        sequences: &[&str],
    ) -> Result<Self> {
        let work = world.places.work.clone();
        let (kernel, initrd) = take_apart(&boot_image.join("deploy.efi"), &work)?;
        let root = tiny_root(&work, &kernel)?;
        if starts {
            let initrd = os_initrd(&initrd, &world.places.agent())?;
            std::fs::write(root.join("boot/initrd.img-6.1.0-tiny"), initrd)?;
        }
        let image = tiny_image(&work, &root)?;
        world.import_package(
            "tiny-os.yaml",
            &format!("name: tiny-os\nversion: '1'\nkind: os-image\nsource:\n  image: {image}\n"),
        )?;
        for sequence in sequences {
            let file = world
                .places
                .root
                .join(format!("e2e/sequences/{sequence}.yaml"));
            world.run(&["sequence", "put", file.as_str()])?;
            world.run(&["collection", "create", sequence])?;
            world.run(&[
                "deployment",
                "create",
                sequence,
                "--collection",
                sequence,
                "--sequence",
                sequence,
                "--expected",
                "1m",
                "--cap",
                "100",
                "--confirm",
                &format!("{sequence} 100"),
            ])?;
        }
        let prestage = sequences.first().context("a stick needs a sequence")?;
        world.run(&[
            "prestage",
            "define",
            prestage,
            "--sequence",
            prestage,
            "--vendor",
            "Acme",
            "--product",
            "Book 14",
        ])?;
        world.run(&["prestage", "build", prestage])?;
        let stick = work.join("stick.img");
        world.run(&[
            "medium",
            "build",
            "--prestage",
            &format!("{prestage}@1"),
            "--output",
            stick.as_str(),
        ])?;
        let bundle = work.join(format!("data/bundles/{prestage}@1.bundle"));
        Ok(Self {
            world,
            stick,
            bundle,
            kernel,
            initrd,
        })
    }

    /// A laptop with a blank disk.
    pub(crate) fn laptop(&self, serial: &str) -> Result<Laptop> {
        Laptop::new(&self.world.places.work.join("laptops"), serial, DISK_BYTES)
    }

    /// Puts a laptop into the asset file and a collection.
    pub(crate) fn import(&self, laptop: &Laptop, collection: &str) -> Result<()> {
        let identity = &laptop.identity;
        let file = laptop.folder().join("asset.csv");
        std::fs::write(
            &file,
            format!(
                "serial;vendor;model;site code;site;class\n{};{};{};BJO;Bjørnsletta;1STA\n",
                identity.serial, identity.vendor, identity.product
            ),
        )?;
        self.world
            .run(&["asset", "import", file.as_str(), "--collection", collection])
    }

    /// Switches a laptop on at the factory.
    pub(super) fn at_factory(&self, laptop: &Laptop, name: &str, stick: &Utf8Path) -> Result<Vm> {
        let stick = VmDisk {
            path: stick.to_owned(),
            bus: Bus::Usb,
        };
        self.start(
            laptop.spec(name, vec![stick, laptop.own_disk()], Network::None),
            BootMode::Stage,
        )
    }

    /// Switches a laptop on at school.
    pub(crate) fn at_school(&self, laptop: &Laptop, name: &str, network: Network) -> Result<Vm> {
        self.start(
            laptop.spec(name, vec![laptop.own_disk()], network),
            BootMode::Deploy,
        )
    }

    /// The network of a school where everything works.
    pub(crate) fn network(&self, laptop: &Laptop, name: &str) -> Network {
        Network::User {
            capture: laptop.capture(name),
        }
    }

    /// Stages a laptop, from power-on to power-off.
    pub(crate) fn stage(&self, laptop: &Laptop) -> Result<()> {
        let stick = laptop.stick(&self.stick)?;
        let mut vm = self.at_factory(laptop, "factory", &stick)?;
        vm.wait_for_milestone("stage-done")?;
        vm.wait_for_power_off()
    }

    fn start(&self, spec: VmSpec, mode: BootMode) -> Result<Vm> {
        let start = Start::Kernel {
            kernel: self.kernel.clone(),
            initrd: self.initrd.clone(),
            command_line: format!("forestage.mode={} {COMMAND_LINE}", mode.as_str()),
        };
        Vm::start(&VmSpec {
            start,
            memory_mib: 768,
            cpus: 1,
            ..spec
        })
    }
}

/// Takes kernel and initrd out of a boot image.
pub(crate) fn take_apart(
    image: &Utf8Path,
    folder: &Utf8Path,
) -> Result<(Utf8PathBuf, Utf8PathBuf)> {
    let bytes = std::fs::read(image)?;
    let (kernel, initrd) = (folder.join("linux"), folder.join("initrd"));
    let sections = uki::parse_uki(&bytes)?;
    for (name, path) in [(".linux", &kernel), (".initrd", &initrd)] {
        let section = sections.iter().find(|section| section.name == name);
        std::fs::write(
            path,
            section
                .with_context(|| format!("{image} has no section {name}"))?
                .bytes,
        )?;
    }
    Ok((kernel, initrd))
}

/// The files of an OS of one program, to run scripts in.
fn tiny_root(work: &Utf8Path, kernel: &Utf8Path) -> Result<Utf8PathBuf> {
    let root = work.join("tiny-os");
    for folder in [
        "bin",
        "etc",
        "dev",
        "proc",
        "sys",
        "run",
        "tmp",
        "var/cache",
        "usr/sbin",
        "usr/share/tekst-æøå",
    ] {
        std::fs::create_dir_all(root.join(folder))?;
    }
    std::fs::copy("/bin/busybox", root.join("bin/busybox"))
        .context("apt-get install busybox-static")?;
    for name in ["sh", "sync", "cat", "echo", "rm"] {
        symlink("busybox", root.join("bin").join(name))?;
    }
    // Mostly never started, but an OS without a kernel is refused.
    std::fs::create_dir(root.join("boot"))?;
    std::fs::copy(kernel, root.join("boot/vmlinuz-6.1.0-tiny"))?;
    // Something to move: chunks that compress, and chunks that don't.
    let mut noise = blake3::Hasher::new_derive_key("forestage scenarios: noise").finalize_xof();
    let mut block = vec![0_u8; 1 << 20];
    for number in 0..24 {
        noise.fill(&mut block);
        std::fs::write(
            root.join(format!("usr/share/tekst-æøå/støy-{number}")),
            &block,
        )?;
    }
    Ok(root)
}

/// Those files as an image.
fn tiny_image(work: &Utf8Path, root: &Utf8Path) -> Result<Utf8PathBuf> {
    let image = work.join("tiny-os.img");
    std::fs::File::create(&image)?.set_len(IMAGE_BYTES)?;
    let status = Command::new("mke2fs")
        .args([
            "-q",
            "-t",
            "ext4",
            "-F",
            "-E",
            "root_owner=0:0",
            "-d",
            root.as_str(),
            image.as_str(),
        ])
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .status()?;
    ensure!(status.success(), "cannot make the tiny OS's filesystem");
    Ok(image)
}

/// An initrd that says which boot entry was started and what the agent sees, and switches off. When it was the first entry, the OS
/// gets a newer kernel before, as a package would bring it, so that the next start has the second. The kernel's modules are those of
/// the boot image: what comes last in an initrd replaces what came before.
fn os_initrd(boot_image: &Utf8Path, agent: &Utf8Path) -> Result<Vec<u8>> {
    const INIT: &str = r#"#!/bin/busybox sh
PATH=/bin
for name in mount umount insmod find grep tr cp cat mkdir chroot sleep sync poweroff; do busybox ln -s busybox /bin/$name; done
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
modules=$(find /lib/modules -name '*.ko' | grep -E '/(efivarfs|nvme|nvme-core|t10-pi|crc[^/]*|libcrc32c|mbcache|jbd2|ext4)\.ko')
for pass in 1 2 3 4 5 6 7 8; do for module in $modules; do insmod $module; done; done 2> /dev/null
mount -t efivarfs none /sys/firmware/efi/efivars
entry=$(tr -cd 'a-z.-' < /sys/firmware/efi/efivars/LoaderEntrySelected-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f)
update=none
if [ "$entry" = forestage-os.conf ]; then
  for second in 1 2 3 4 5 6 7 8 9; do [ -b /dev/nvme0n1p2 ] || sleep 1; done
  mkdir /os
  mount -t ext4 /dev/nvme0n1p2 /os
  cp /os/boot/vmlinuz-6.1.0-tiny /os/boot/vmlinuz-6.2.0-tiny
  cp /os/boot/initrd.img-6.1.0-tiny /os/boot/initrd.img-6.2.0-tiny
  printf '\0\0\0\0' >> /os/boot/initrd.img-6.2.0-tiny
  for name in dev proc sys; do mount -o bind /$name /os/$name; done
  mount -t efivarfs none /os/sys/firmware/efi/efivars
  update=$(chroot /os /etc/kernel/postinst.d/zz-forestage 6.2.0-tiny 2>&1 && echo done)
  sync
fi
facts=$(/bin/forestage-agent facts | tr -d '\n')
echo "FORESTAGE 0 milestone {\"at\":\"os-started\",\"entry\":\"$entry\",\"update\":\"$update\",\"facts\":$facts}" > /dev/ttyS0
poweroff -f
"#;
    let mut initrd = std::fs::read(boot_image)?;
    initrd.resize(initrd.len().next_multiple_of(4), 0);
    let mut added = media::cpio::Archive::default();
    let busybox = std::fs::read("/bin/busybox").context("apt-get install busybox-static")?;
    let files = [
        ("/init", INIT.as_bytes().to_vec()),
        ("/bin/busybox", busybox),
        ("/bin/forestage-agent", std::fs::read(agent)?),
    ];
    for (path, bytes) in files {
        let added = added.file(path, 0o755, bytes);
        added.map_err(|error| anyhow::anyhow!("{}: {}", error.path, error.reason))?;
    }
    initrd.extend(added.bytes());
    Ok(initrd)
}
