//! For tests alone: whole years of a county in virtual time. The agent's own code decides on every machine, the server answers
//! in process from its real database, and chance cuts power and lines, kills and restores the server, and has people change
//! their minds. One seed is one history, which can be told again.
//!
//! Deliberately absent: what the steps do to a real disk (the fake machine stands for it), TLS and HTTP below requests and
//! answers, staging.

mod answers;
mod check;
mod disk;
mod host;
mod life;
mod office;
mod time;
mod world;

use std::sync::Arc;

use anyhow::Result;
use ed25519_dalek::SigningKey;
use testkit::chance::Chance;

use crate::office::Office;
use crate::world::{DAY, Laptop, Rates, World};

/// Machines in the county's list.
const MACHINES_MAX: usize = 3;
/// The first of June 2026.
const BEGIN_MS: i64 = 1_780_272_000_000;
/// Every so many counties have somebody sign what writes over deployed machines.
const WITH_WIPE_KEY: u64 = 3;
/// In one of so many counties another machine has one's serial number.
const WITH_CLAIMANT: u64 = 3;
/// From the factory to the first day of school.
const SUMMER: i64 = 75 * DAY;

/// A county as it is before anything happens; each history begins with a copy of it.
pub struct Beginning {
    template: Arc<Office>,
    serials: Vec<String>,
}

/// How much of everything there was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Requests that the server answered.
    pub requests: u64,
    /// Times that the power went.
    pub cuts: u64,
    /// Times that a machine was told to wait for a place.
    pub waits: u64,
    /// Times that a machine was told that a deployment's cap holds it back.
    pub held_by_cap: u64,
    /// Times that a second claimant was refused or put into quarantine.
    pub claimants_refused: u64,
}

/// What a seed came to.
#[derive(Debug)]
pub struct History {
    /// What must not be, and was.
    pub wrongs: Vec<String>,
    /// How much of everything there was.
    pub figures: Figures,
    /// Whether the server was restored from a backup.
    pub was_restored: bool,
}

impl Beginning {
    /// Makes the county's server.
    ///
    /// # Errors
    /// It can't be made.
    pub fn new() -> Result<Self> {
        server::state::tell_time_by(time::now_ms);
        time::begin_at(BEGIN_MS);
        let serials: Vec<String> = (1..=MACHINES_MAX)
            .map(|number| format!("PF0ABC{number}"))
            .collect();
        Ok(Self {
            template: Office::template(&serials)?,
            serials,
        })
    }

    /// What this seed brings. `teller` hears it as it happens, a line for each thing: when, who, what.
    ///
    /// # Errors
    /// The simulation itself can't go on.
    pub fn history(&self, seed: u64, teller: fn(&str)) -> Result<History> {
        time::begin_at(BEGIN_MS);
        let office = Office::like(&self.template)?;
        let mut chance = Chance::new(seed);
        let machines = 1 + chance.place(MACHINES_MAX);
        let rates = Rates {
            cut: *chance.pick(&[0, 40, 100, 300, 1000]),
            line: *chance.pick(&[0, 10, 30, 100]),
            step: *chance.pick(&[0, 20, 100]),
            server: *chance.pick(&[0, 20, 100]),
        };
        let known = office.admin().devices()?;
        let mut laptops = Vec::new();
        for serial in self.serials.iter().take(machines) {
            let row = known.iter().find(|row| row.serial == *serial);
            let device = row.map(|row| row.device.to_string()).unwrap_or_default();
            let is_staged = chance.below(4) > 0;
            laptops.push(Laptop::new(serial.clone(), device, is_staged)?);
        }
        if chance.below(WITH_CLAIMANT) == 0 {
            let serial = chance.pick(&self.serials[..machines]).clone();
            laptops.push(Laptop::claimant(serial, chance.below(2) == 0)?);
        }
        let staged: Vec<bool> = laptops
            .iter()
            .map(|laptop| laptop.state.layout.is_some())
            .collect();
        let wipe_key =
            (seed.is_multiple_of(WITH_WIPE_KEY)).then(|| SigningKey::from_bytes(&[7; 32]));
        if let Some(key) = &wipe_key {
            office.trust_for_warrants(key)?;
        }
        let places = *chance.pick(&[0, 0, 1, 2]);
        office.open_places(places)?;
        let all = laptops.len();
        let world = World::new(office, wipe_key, places, chance, rates, laptops, teller);
        let strangers = all - machines;
        world.tell(
            "county",
            &format!("{machines} machines, {strangers} second claimants, {places} places (0: all), {rates:?}"),
        );
        world.change(|world| world.are_faults_over = true);
        for (machine, is_staged) in staged.into_iter().enumerate() {
            if is_staged {
                life::leave_word(&world, machine)?;
            }
        }
        live(&world)?;
        let history = world.change(|world| History {
            wrongs: std::mem::take(&mut world.wrongs),
            figures: world.figures,
            was_restored: world.was_restored,
        });
        for machine in 0..all {
            world.threads.kill(machine);
        }
        world.office.stop();
        Ok(history)
    }
}

/// A year and a half: the machines are handed out in autumn, and looked after in the next spring.
fn live(world: &Arc<World>) -> Result<()> {
    life::go_on(world, BEGIN_MS + SUMMER)?;
    for (name, sequence, later) in [("autumn", "deploy", 0), ("spring", "again", 250 * DAY)] {
        life::go_on(world, time::now_ms() + later)?;
        life::deployment(world, name, sequence)?;
        if world.change(|world| world.wrongs.is_empty()) {
            check::check(world)?;
        }
        if world.change(|world| !world.wrongs.is_empty()) {
            break;
        }
    }
    Ok(())
}
