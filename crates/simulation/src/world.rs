//! What a simulated county is made of, and how chance strikes it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use anyhow::Result;
use camino::{Utf8Path, Utf8PathBuf};
use ed25519_dalek::SigningKey;
use http::Request;
use sequence::journal_line;
use sequence::layout::Layout;
use sequence::ports::BootTarget;
use testkit::chance::Chance;
use testkit::fake_machine::{FakeMachine, FakeState, laptop_facts};
use wire::device_api::Staged;
use wire::digest::Digest;
use wire::event::{Environment, EventBody};
use wire::facts::{DiskContent, Facts, NetworkInterface};
use wire::layout::VolumeRole;
use wire::names::{CollectionName, DeploymentName, DeviceId, RunId};

use crate::Figures;
use crate::disk::Disk;
use crate::office::Office;
use crate::time::{Threads, lock, now_ms};

pub(crate) const SECOND: i64 = 1000;
pub(crate) const MINUTE: i64 = 60 * SECOND;
pub(crate) const HOUR: i64 = 60 * MINUTE;
pub(crate) const DAY: i64 = 24 * HOUR;
/// What people tell a second claimant by: its dock, which nobody of ours has.
pub(crate) const CLAIMANTS_MAC: &str = "02:00:00:00:00:99";

/// Something that happens by itself, or that somebody does.
#[derive(Debug)]
pub(crate) enum Event {
    /// Somebody switches a machine on, and has it start its boot image if so.
    SwitchOn { machine: usize, by_hand: bool },
    /// A machine that restarts comes up.
    ComesUp { machine: usize, start: u64 },
    /// Somebody pulls the plug of a machine, if it is still the same start.
    Unplug { machine: usize, start: u64 },
    /// The installed OS starts the agent's service once more.
    Service { machine: usize, start: u64 },
    /// A machine's cable is put in or out.
    Cable { machine: usize, is_in: bool },
    /// The server comes up.
    ServerUp,
    /// The database is copied.
    BackUp,
    /// The server is one from the last backup.
    Restore,
    /// A request of a machine arrives a second time, late.
    Late {
        machine: usize,
        request: Box<Request<Vec<u8>>>,
    },
    /// Somebody switches a second claimant on, once the server knows the machine that it claims to be.
    Claimant { machine: usize },
    /// A device comes into a collection.
    PutIn {
        device: DeviceId,
        collection: CollectionName,
    },
    /// An administrator does something.
    Admin,
    /// A new version of a package is published.
    NewJava,
}

/// How often chance strikes, in this world.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rates {
    /// One cut in so many places where the power may go.
    pub(crate) cut: u64,
    /// One fault in so many requests.
    pub(crate) line: u64,
    /// One failure in so many calls of steps.
    pub(crate) step: u64,
    /// One server in so many requests.
    pub(crate) server: u64,
}

/// A laptop, whether it is on or off.
pub(crate) struct Laptop {
    pub(crate) serial: String,
    /// What the server calls it; nothing, if it is a second claimant.
    pub(crate) device: String,
    /// It has another machine's serial number.
    pub(crate) is_claimant: bool,
    /// The server has ever known it.
    pub(crate) was_let_in: bool,
    /// The server, as it is now, has refused it or put it into quarantine.
    pub(crate) is_put_aside: bool,
    pub(crate) disk: Disk,
    pub(crate) state: FakeState,
    pub(crate) is_on: bool,
    /// What was started last.
    pub(crate) environment: Environment,
    /// Which start this is.
    pub(crate) start: u64,
    pub(crate) started_ms: i64,
    pub(crate) has_network: bool,
    /// How wrong its time of day is, in milliseconds.
    pub(crate) clock_off_ms: i64,
    /// The script that must not run twice by itself has run so often.
    pub(crate) once_ran: usize,
    /// The journals of runs that were over when the server was restored, or that another had followed: those aren't told again.
    pub(crate) past: BTreeSet<Utf8PathBuf>,
}

impl Laptop {
    /// One as it came from the factory: staged, or blank and with a stick.
    pub(crate) fn new(serial: String, device: String, is_staged: bool) -> Result<Self> {
        let mut laptop = Self {
            state: FakeMachine::new(laptop_facts("Acme", "Book 14", &serial)).state(),
            serial,
            device,
            is_claimant: false,
            was_let_in: false,
            is_put_aside: false,
            disk: Disk::default(),
            is_on: false,
            environment: Environment::BootImage,
            start: 0,
            started_ms: 0,
            has_network: true,
            clock_off_ms: 0,
            once_ran: 0,
            past: BTreeSet::new(),
        };
        if is_staged {
            let volumes = [
                (VolumeRole::Esp, Some(1 << 30)),
                (VolumeRole::Os, None),
                (VolumeRole::Staging, Some(8 << 30)),
            ];
            laptop.state.layout = Some(Layout::new("/dev/nvme0n1", 64 << 30, &volumes)?);
            laptop.state.content = Some(DiskContent::StagedHere);
            laptop.state.boot_image = Some("staged".into());
            laptop.state.default_boot = Some(BootTarget::BootImage);
        }
        Ok(laptop)
    }

    /// Another machine with this serial number.
    pub(crate) fn claimant(serial: String, is_staged: bool) -> Result<Self> {
        let laptop = Self::new(serial, String::new(), is_staged)?;
        Ok(Self {
            is_claimant: true,
            ..laptop
        })
    }

    /// What it is called in the story.
    pub(crate) fn name(&self) -> String {
        let second = if self.is_claimant { "'" } else { "" };
        format!("{}{second}", self.serial)
    }

    /// The journals of runs that are done, by what the disk says.
    pub(crate) fn done(&self) -> impl Iterator<Item = &Utf8PathBuf> {
        let journals = self.disk.files("journal");
        let done = journals.filter(|(_, journal)| {
            let events = journal_line::decode(journal).0;
            let last = events.last().map(|event| &event.body);
            matches!(last, Some(EventBody::RunDone { .. }))
        });
        done.map(|(path, _)| path)
    }

    /// The journals of runs that another one has followed, by the order on the disk.
    pub(crate) fn followed(&self) -> impl Iterator<Item = &Utf8PathBuf> {
        let order = self.disk.read(Utf8Path::new("/staging/order.json"));
        let order = String::from_utf8_lossy(order.unwrap_or_default()).into_owned();
        let journals = self.disk.files("journal").map(|(path, _)| path);
        journals.filter(move |path| {
            let run = path.parent().and_then(Utf8Path::file_name);
            run.is_some_and(|run| !order.contains(run))
        })
    }

    pub(crate) fn facts(&self) -> Facts {
        let mut facts = laptop_facts("Acme", "Book 14", &self.serial);
        if let (Some(disk), Some(content)) = (facts.disks.first_mut(), self.state.content) {
            disk.content = content;
        }
        if self.is_claimant {
            facts.network.push(NetworkInterface {
                name: "enp0s2".to_owned(),
                mac: CLAIMANTS_MAC.to_owned(),
            });
        }
        facts.clock = Some((now_ms() + self.clock_off_ms) / SECOND);
        facts
    }
}

/// What the factory says of what it staged.
pub(crate) fn staged() -> Result<Staged> {
    Ok(Staged {
        prestage: "book".parse()?,
        version: 1,
        bundle: Digest::of(b"bundle"),
    })
}

/// What changes while the world goes on.
pub(crate) struct Changing {
    pub(crate) chance: Chance,
    pub(crate) rates: Rates,
    pub(crate) are_faults_over: bool,
    pub(crate) laptops: Vec<Laptop>,
    pub(crate) events: BTreeMap<(i64, u64), Event>,
    numbers: u64,
    /// Hears each line of the story.
    pub(crate) teller: fn(&str),
    pub(crate) wrongs: Vec<String>,
    /// What somebody signed for: that this deployment may write over this machine's disk, which that run had deployed.
    pub(crate) signed: BTreeSet<(String, DeploymentName, Option<RunId>)>,
    /// The server was restored, now or at an earlier deployment.
    pub(crate) was_restored: bool,
    /// It was restored during this deployment.
    pub(crate) is_restored: bool,
    /// How many deployments there were.
    pub(crate) deployments: usize,
    /// The runs that the server has handed out or that somebody made, and how many events it said that it has of each.
    pub(crate) said: BTreeMap<RunId, u64>,
    pub(crate) figures: Figures,
}

/// A county in virtual time.
pub(crate) struct World {
    pub(crate) office: Arc<Office>,
    /// The key without whose signature no deployed disk is written over, in counties that have one.
    pub(crate) wipe_key: Option<SigningKey>,
    /// How many machines may be at work at the site at a time; 0: all.
    pub(crate) places: u32,
    pub(crate) threads: Threads,
    changing: Mutex<Changing>,
}

impl World {
    pub(crate) fn new(
        office: Arc<Office>,
        wipe_key: Option<SigningKey>,
        places: u32,
        chance: Chance,
        rates: Rates,
        laptops: Vec<Laptop>,
        teller: fn(&str),
    ) -> Arc<Self> {
        Arc::new(Self {
            office,
            wipe_key,
            places,
            threads: Threads::new(),
            changing: Mutex::new(Changing {
                chance,
                rates,
                are_faults_over: false,
                laptops,
                events: BTreeMap::new(),
                numbers: 0,
                teller,
                wrongs: Vec::new(),
                signed: BTreeSet::new(),
                was_restored: false,
                is_restored: false,
                deployments: 0,
                said: BTreeMap::new(),
                figures: Figures::default(),
            }),
        })
    }

    /// What changes. Only one thread of the world runs at a time, so nobody waits for it.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Changing) -> T) -> T {
        change(&mut lock(&self.changing))
    }

    /// One line of the story.
    pub(crate) fn tell(&self, who: &str, what: &str) {
        self.change(|world| world.tell(who, what));
    }

    /// Something that must never be.
    pub(crate) fn wrong(&self, what: String) {
        self.change(|world| {
            world.tell("WRONG", &what);
            world.wrongs.push(what);
        });
    }

    /// So long from now.
    pub(crate) fn after(&self, ms: i64, event: Event) {
        self.change(|world| world.after(ms, event));
    }

    /// Whether a fault that strikes once in so many times strikes now.
    pub(crate) fn strikes(&self, rate: impl FnOnce(&Rates) -> u64) -> bool {
        self.change(|world| world.strikes(rate))
    }

    /// A number from `from` to `to`.
    pub(crate) fn between(&self, from: i64, to: i64) -> i64 {
        self.change(|world| world.between(from, to))
    }
}

impl Changing {
    /// The county's own machines; whatever else there is comes behind them.
    pub(crate) fn own(&self) -> &[Laptop] {
        let own = self.laptops.iter().take_while(|laptop| !laptop.is_claimant);
        &self.laptops[..own.count()]
    }

    pub(crate) fn tell(&mut self, who: &str, what: &str) {
        let when = jiff::Timestamp::from_millisecond(now_ms()).unwrap_or_default();
        let when = when.strftime("%Y-%m-%d %H:%M:%S.%3f");
        (self.teller)(&format!("{when} {who:<8} {what}"));
    }

    pub(crate) fn after(&mut self, ms: i64, event: Event) {
        self.numbers += 1;
        self.events.insert((now_ms() + ms, self.numbers), event);
    }

    pub(crate) fn strikes(&mut self, rate: impl FnOnce(&Rates) -> u64) -> bool {
        let rate = rate(&self.rates);
        !self.are_faults_over && rate > 0 && self.chance.below(rate) == 0
    }

    pub(crate) fn between(&mut self, from: i64, to: i64) -> i64 {
        let span = u64::try_from(to - from).unwrap_or(0) + 1;
        from + i64::try_from(self.chance.below(span)).unwrap_or(0)
    }
}
