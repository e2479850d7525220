//! Machines that don't exist: their asset file, their pupils, their receipts.

use std::fmt::Write as _;

use uuid::Uuid;
use wire::receipt::{Receipt, ReceiptResult, ReceiptSecureBoot, SecureBootState};

use super::random::Random;

/// What the serial number of every simulated machine begins with, so that nobody takes one for real.
pub(super) const SERIAL_PREFIX: &str = "SIM-";
/// A fleet larger than this is no county's.
pub(super) const DEVICES_MAX: u32 = 100_000;
/// More schools than any county has.
pub(super) const SITES_MAX: u32 = 1000;

/// Vendor, product, and how fast it is: the time that a step takes on it, in percent.
const MODELS: [(&str, &str, u64); 4] = [
    ("Acme", "Book 14", 100),
    ("Acme", "Book 16", 85),
    ("Fjord", "Note 15", 120),
    ("Nordlys", "Flex 13", 150),
];
/// Code and name of the first schools; more are numbered.
const SCHOOLS: [(&str, &str); 16] = [
    ("BJO", "Bjørnøya skole"),
    ("KON", "Kongsfjord videregående skole"),
    ("AAS", "Åsfjell skole"),
    ("LYN", "Lyngstua videregående skole"),
    ("SOR", "Sørvika skole"),
    ("NOR", "Nordlys ungdomsskole"),
    ("TRE", "Treøya skole"),
    ("HAV", "Havblikk videregående skole"),
    ("FJE", "Fjelldal skole"),
    ("ELV", "Elvemo ungdomsskole"),
    ("MYR", "Myrvang skole"),
    ("SKO", "Skogly videregående skole"),
    ("VAR", "Vardøberget skole"),
    ("OST", "Østhavet skole"),
    ("VES", "Vesterbotn ungdomsskole"),
    ("SOL", "Solvang skole"),
];
const CLASSES: [&str; 8] = ["1STA", "1STB", "2STA", "2STB", "3STA", "1EL", "2EL", "1HO"];
const FIRST_NAMES: [&str; 12] = [
    "Åse",
    "Øyvind",
    "Sæbjørn",
    "Máret",
    "Ingrid",
    "Jonas",
    "Nora",
    "Emil",
    "Aina",
    "Lars",
    "Sunniva",
    "Håkon",
];
const LAST_NAMES: [&str; 8] = [
    "Bjørnstad",
    "Åsheim",
    "Sæther",
    "Hætta",
    "Øvergård",
    "Nilsen",
    "Dahl",
    "Lie",
];

/// A machine as the vendor's file has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Machine {
    pub(super) serial: String,
    asset_tag: String,
    uuid: Uuid,
    vendor: &'static str,
    product: &'static str,
    site: (String, String),
    class: &'static str,
}

/// How long a step takes on a model, in percent of what it takes on the usual one.
pub(super) fn slowness(product: &str) -> u64 {
    MODELS
        .iter()
        .find(|(_, known, _)| *known == product)
        .map_or(100, |(_, _, percent)| *percent)
}

/// A fleet, numbered from `first` on: the same for the same numbers.
pub(super) fn machines(first: u32, devices: u32, sites: u32, seed: u64) -> Vec<Machine> {
    let sites = sites.clamp(1, SITES_MAX);
    (first..first.saturating_add(devices))
        .map(|number| {
            let serial = format!("{SERIAL_PREFIX}{number:05}");
            let mut random = Random::new(seed, &serial);
            let (vendor, product, _) = *random.pick(&MODELS).unwrap_or(&MODELS[0]);
            let uuid = Uuid::from_u64_pair(random.next(), random.next());
            Machine {
                asset_tag: format!("S{number:06}"),
                uuid: uuid::Builder::from_bytes(uuid.into_bytes())
                    .with_version(uuid::Version::Random)
                    .with_variant(uuid::Variant::RFC4122)
                    .into_uuid(),
                vendor,
                product,
                site: school(number.saturating_sub(1) % sites),
                class: random.pick(&CLASSES).copied().unwrap_or_default(),
                serial,
            }
        })
        .collect()
}

fn school(index: u32) -> (String, String) {
    let known = usize::try_from(index)
        .ok()
        .and_then(|index| SCHOOLS.get(index));
    match known {
        Some((code, name)) => ((*code).to_owned(), (*name).to_owned()),
        None => (format!("S{:03}", index + 1), format!("Skole {}", index + 1)),
    }
}

/// The asset file, as `forestage asset import` takes it.
pub(super) fn asset_file(machines: &[Machine]) -> String {
    let mut text = String::from("serial;asset tag;uuid;vendor;product;site code;site name;class\n");
    for machine in machines {
        let (code, name) = &machine.site;
        // Writing to a String can't fail.
        let _ = writeln!(
            text,
            "{};{};{};{};{};{code};{name};{}",
            machine.serial,
            machine.asset_tag,
            machine.uuid,
            machine.vendor,
            machine.product,
            machine.class
        );
    }
    text
}

/// A pupil for each machine, invented like the rest.
pub(super) fn pupil_file(machines: &[Machine], seed: u64) -> String {
    let mut text = String::from("pupil id;name;site;class\n");
    for machine in machines {
        let mut random = Random::new(seed, &format!("pupil {}", machine.serial));
        let first = random.pick(&FIRST_NAMES).copied().unwrap_or_default();
        let last = random.pick(&LAST_NAMES).copied().unwrap_or_default();
        let _ = writeln!(
            text,
            "{};{first} {last};{};{}",
            machine.serial.to_lowercase(),
            machine.site.0,
            machine.class
        );
    }
    text
}

/// What the factory says it did to a machine: one in a hundred failed.
pub(super) fn receipt(machine: &Machine, seed: u64) -> Receipt {
    let mut random = Random::new(seed, &format!("receipt {}", machine.serial));
    let is_good = !random.chance(100);
    let secure_boot = secure_boot(&machine.serial, seed);
    let mac: Vec<String> = random.next().to_be_bytes()[..5]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Receipt {
        format: 1,
        serial: machine.serial.clone(),
        uuid: Some(machine.uuid),
        vendor: machine.vendor.to_owned(),
        product: machine.product.to_owned(),
        macs: vec![format!("02:{}", mac.join(":"))],
        disk: "/dev/nvme0n1".to_owned(),
        disk_serial: format!("SIMDISK{:08X}", random.below(1 << 32)),
        disk_bytes: 256_060_514_304,
        prestage: None,
        prestage_version: None,
        bundle: None,
        seconds: random.between(180, 420),
        result: if is_good {
            ReceiptResult::Staged
        } else {
            ReceiptResult::Failed
        },
        errors: if is_good {
            vec![]
        } else {
            vec!["simulated: cannot write to the disk".into()]
        },
        failed_step: (!is_good).then(|| "disk".into()),
        secure_boot: Some(secure_boot),
        agent: concat!("simulated ", env!("CARGO_PKG_VERSION")).to_owned(),
    }
}

/// One in fifty came with Secure Boot off and without our key.
fn secure_boot(serial: &str, seed: u64) -> ReceiptSecureBoot {
    let mut random = Random::new(seed, &format!("secure boot {serial}"));
    if random.chance(50) {
        let why = "it is signed by Forestage db, boot images, and no certificate in the firmware's db vouches for that";
        return ReceiptSecureBoot {
            state: SecureBootState::Off,
            refuses: ["loader.efi", "deploy.efi"]
                .map(|file| format!("{file}: {why}"))
                .to_vec(),
        };
    }
    ReceiptSecureBoot {
        state: SecureBootState::Enforced,
        refuses: vec![],
    }
}

#[cfg(test)]
mod tests {
    use super::{asset_file, machines, pupil_file, receipt};
    use std::collections::BTreeSet;

    #[test]
    fn a_fleet_is_the_same_for_the_same_numbers_and_has_no_twins() {
        let fleet = machines(1, 2500, 20, 7);
        assert_eq!(fleet, machines(1, 2500, 20, 7));
        assert_ne!(fleet, machines(1, 2500, 20, 8));
        let serials: BTreeSet<_> = fleet.iter().map(|machine| &machine.serial).collect();
        let uuids: BTreeSet<_> = fleet.iter().map(|machine| machine.uuid).collect();
        let sites: BTreeSet<_> = fleet.iter().map(|machine| &machine.site).collect();
        assert_eq!((serials.len(), uuids.len(), sites.len()), (2500, 2500, 20));
    }

    #[test]
    fn files_have_a_row_for_each_machine() {
        let fleet = machines(1, 3, 2, 1);
        let assets = asset_file(&fleet);
        let rows: Vec<&str> = assets.lines().collect();
        assert_eq!(rows.len(), 4);
        assert!(rows[1].starts_with("SIM-00001;S000001;"), "{}", rows[1]);
        assert!(rows.iter().all(|row| row.split(';').count() == 8));
        assert_eq!(pupil_file(&fleet, 1).lines().count(), 4);
        assert_eq!(receipt(&fleet[0], 1).serial, "SIM-00001");
    }
}
