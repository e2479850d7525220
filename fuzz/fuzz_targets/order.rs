//! Orders: whatever one says, it is run on a fake machine or refused, and never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sequence::engine::{RunEnd, World, run};
use testkit::fake_machine::{
    FakeClock, FakeContent, FakeJournal, FakeMachine, FakeObserver, laptop_facts,
};
use wire::event::Environment;
use wire::order::Order;

/// Enough for every restart a small sequence can have; a person starts a failed run again as often.
const POWER_ONS_MAX: usize = 4;
/// The fake content tells every byte.
const CONTENT_BYTES_MAX: u64 = 9;

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut order) = serde_json::from_slice::<Order>(bytes) else {
        return;
    };
    for package in &mut order.packages {
        package.content_bytes = package.content_bytes.min(CONTENT_BYTES_MAX);
    }
    let facts = laptop_facts("Acme", "book14", "PF0ABC12");
    let mut journal = FakeJournal::default();
    let mut state = FakeMachine::new(facts.clone()).state();
    let mut environment = Environment::BootImage;
    for _ in 0..POWER_ONS_MAX {
        let machine = FakeMachine::resumed(facts.clone(), environment, state);
        let world = World {
            machine: &machine,
            content: &FakeContent::new(&machine, order.packages.clone()),
            observer: &FakeObserver::default(),
            clock: &FakeClock::default(),
        };
        let end = run(&order, &mut journal, &world).expect("the journal is never full");
        state = machine.state();
        match end {
            RunEnd::Suspended(into) => environment = into,
            RunEnd::Failed => {}
            RunEnd::Done(_) | RunEnd::Aborted => return,
        }
    }
});
