//! Laptops: what their firmware says, and the disk inside.

use std::time::Duration;

use anyhow::{Context, Result};
use camino::{Utf8Path, Utf8PathBuf};
use testkit::vm::{Bus, Identity, Network, Start, Vm, VmDisk, VmSpec};

/// An emulated machine draws its whole screen in about a second.
const DRAWING_TIME: Duration = Duration::from_millis(1500);

/// A laptop as the vendor unboxes it.
#[derive(Clone)]
pub(crate) struct Laptop {
    /// What its firmware says.
    pub(crate) identity: Identity,
    /// Its NVMe disk.
    pub(crate) disk: Utf8PathBuf,
    /// Where its TPM keeps what it knows, if it has one.
    tpm: Option<Utf8PathBuf>,
    folder: Utf8PathBuf,
}

impl Laptop {
    /// A laptop with a blank disk of this size.
    pub(crate) fn new(folder: &Utf8Path, serial: &str, disk_bytes: u64) -> Result<Self> {
        let folder = folder.join(serial);
        std::fs::create_dir_all(&folder)?;
        let disk = folder.join("disk.img");
        let file = std::fs::File::create(&disk).with_context(|| format!("cannot make {disk}"))?;
        file.set_len(disk_bytes)?;
        let digest = wire::digest::Digest::of(serial.as_bytes());
        let seed: [u8; 16] = digest.as_bytes()[..16].try_into().expect("16 of 32 bytes");
        let identity = Identity {
            vendor: "Acme".to_owned(),
            product: "Book 14".to_owned(),
            serial: serial.to_owned(),
            uuid: uuid::Builder::from_random_bytes(seed).into_uuid(),
            asset_tag: String::new(),
        };
        Ok(Self {
            identity,
            disk,
            tpm: None,
            folder,
        })
    }

    /// The same with a TPM of its own.
    pub(crate) fn with_tpm(self) -> Self {
        Self {
            tpm: Some(self.folder.join("tpm")),
            ..self
        }
    }

    /// Where its logs, pictures and captures are.
    pub(crate) fn folder(&self) -> &Utf8Path {
        &self.folder
    }

    /// Takes its disk and its sticks away: nobody looks at those of a scenario that went well.
    pub(crate) fn discard(&self) -> Result<()> {
        for entry in self.folder.read_dir_utf8()? {
            let path = entry?.into_path();
            if path.extension() == Some("img") {
                std::fs::remove_file(&path).with_context(|| format!("cannot remove {path}"))?;
            }
        }
        Ok(())
    }

    /// Its own copy of the vendor's stick.
    pub(crate) fn stick(&self, master: &Utf8Path) -> Result<Utf8PathBuf> {
        let copy = self.folder.join("stick.img");
        copy_sparse(master, &copy)?;
        Ok(copy)
    }

    /// At the factory: the stick is in, and there is no network card.
    pub(crate) fn at_factory(&self, stick: &Utf8Path) -> VmSpec {
        let stick = VmDisk {
            path: stick.to_owned(),
            bus: Bus::Usb,
        };
        self.spec("factory", vec![stick, self.own_disk()], Network::None)
    }

    /// At school: nothing but its own disk and a network.
    pub(crate) fn at_school(&self, name: &str) -> VmSpec {
        let capture = self.capture(name);
        self.spec(name, vec![self.own_disk()], Network::User { capture })
    }

    /// What went through its network card.
    pub(crate) fn capture(&self, name: &str) -> Utf8PathBuf {
        self.folder.join(format!("{name}.pcap"))
    }

    /// Any other circumstances.
    pub(crate) fn spec(&self, name: &str, disks: Vec<VmDisk>, network: Network) -> VmSpec {
        VmSpec {
            name: name.to_owned(),
            folder: self.folder.clone(),
            identity: self.identity.clone(),
            disks,
            network,
            tpm: self.tpm.clone(),
            start: Start::Firmware,
            memory_mib: 1536,
            cpus: 2,
        }
    }

    /// The disk inside.
    pub(crate) fn own_disk(&self) -> VmDisk {
        VmDisk {
            path: self.disk.clone(),
            bus: Bus::Nvme,
        }
    }

    /// A picture of its screen, kept as `<name>.png`. It is for looking at, so the screen gets the time to be drawn.
    pub(crate) fn picture(&self, vm: &Vm, name: &str) -> Result<()> {
        std::thread::sleep(DRAWING_TIME);
        vm.screendump(&self.folder.join(format!("{name}.png")))
    }
}

/// Copies a file, holes left out.
pub(crate) fn copy_sparse(from: &Utf8Path, to: &Utf8Path) -> Result<()> {
    let status = std::process::Command::new("cp")
        .args(["--sparse=always", from.as_str(), to.as_str()])
        .status()?;
    anyhow::ensure!(status.success(), "cannot copy {from} to {to}");
    Ok(())
}
