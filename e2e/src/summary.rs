//! What was measured, for people and as JSON.

use anyhow::Result;
use camino::Utf8Path;
use serde::Serialize;

use crate::console::{bytes, say};

/// The figures of one demo. The names of the keys are a promise.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    /// Whether every byte that was compared was right, and every laptop is ready.
    pub(crate) verified: bool,
    /// Keys pressed on any of the machines, as QEMU traced them.
    pub(crate) key_presses: usize,
    /// Each laptop.
    pub(crate) laptops: Vec<LaptopFigures>,
    /// Sizes of what was built, in bytes.
    pub(crate) sizes: Sizes,
    /// Seconds of preparing content and prestage, by phase.
    pub(crate) preparation: Vec<Phase>,
}

/// One laptop.
#[derive(Debug, Serialize)]
pub(crate) struct LaptopFigures {
    /// Its serial number.
    pub(crate) serial: String,
    /// Its host name.
    pub(crate) name: String,
    /// From power-on at the factory to power-off.
    pub(crate) stage_seconds: f64,
    /// From power-on at school to the report that all is done.
    pub(crate) deploy_seconds: f64,
    /// Bytes through its network card during the deployment, both ways, as captured outside the machine.
    pub(crate) network_bytes: u64,
    /// The same without the headers of Ethernet, IP and TCP.
    pub(crate) network_payload_bytes: u64,
    /// The same, counted at the server's sockets.
    pub(crate) server_bytes: u64,
    /// The same, counted by the machine's own kernel.
    pub(crate) interface_bytes: u64,
    /// Content taken from its own disk: already in place, or from its content library.
    pub(crate) local_bytes: u64,
    /// Content fetched over the network, before compression.
    pub(crate) fetched_bytes: u64,
    /// The same as it was transferred.
    pub(crate) fetched_packed_bytes: u64,
    /// `completed` if all went well.
    pub(crate) state: String,
    /// The time of each phase as the machine reported it.
    pub(crate) phases: Vec<Phase>,
}

/// Sizes of what was built.
#[derive(Debug, Default, Clone, Serialize)]
pub(crate) struct Sizes {
    /// The static agent.
    pub(crate) agent: u64,
    /// The program for people.
    pub(crate) forestage: u64,
    /// The boot image on a disk.
    pub(crate) boot_image: u64,
    /// The prestage bundle.
    pub(crate) bundle: u64,
    /// Its content before compression.
    pub(crate) content: u64,
}

/// How long something took.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Phase {
    /// What.
    pub(crate) name: String,
    /// Seconds.
    pub(crate) seconds: f64,
}

impl Summary {
    /// Prints the tables.
    pub(crate) fn show(&self) {
        say(&format!(
            "{:<14} {:<16} {:>8} {:>8} {:>12} {:>12} {:>12}  {}",
            "serial", "name", "stage", "deploy", "network", "from disk", "fetched", "state"
        ));
        for laptop in &self.laptops {
            say(&format!(
                "{:<14} {:<16} {:>6.0} s {:>6.0} s {:>12} {:>12} {:>12}  {}",
                laptop.serial,
                laptop.name,
                laptop.stage_seconds,
                laptop.deploy_seconds,
                bytes(laptop.network_bytes),
                bytes(laptop.local_bytes),
                bytes(laptop.fetched_bytes),
                laptop.state
            ));
            say(&format!(
                "{:<14} network bytes at its card {} ({} without headers), in its kernel {}, at the server {}; fetched {} as transferred",
                "",
                laptop.network_bytes,
                laptop.network_payload_bytes,
                laptop.interface_bytes,
                laptop.server_bytes,
                bytes(laptop.fetched_packed_bytes)
            ));
            for phase in &laptop.phases {
                say(&format!(
                    "{:<14} {:<46} {:>7.1} s",
                    "", phase.name, phase.seconds
                ));
            }
        }
        let sizes = &self.sizes;
        say(&format!(
            "forestage-agent {}, forestage {}, boot image {}, bundle {} for {} of content",
            bytes(sizes.agent),
            bytes(sizes.forestage),
            bytes(sizes.boot_image),
            bytes(sizes.bundle),
            bytes(sizes.content)
        ));
        for phase in &self.preparation {
            say(&format!("{:<40} {:>7.1} s", phase.name, phase.seconds));
        }
        say(&format!(
            "keys pressed: {}; everything compared byte for byte: {}",
            self.key_presses,
            if self.verified { "equal" } else { "NOT EQUAL" }
        ));
    }

    /// Writes the JSON.
    pub(crate) fn write(&self, file: &Utf8Path) -> Result<()> {
        std::fs::write(file, serde_json::to_vec_pretty(self)?)?;
        Ok(())
    }
}
