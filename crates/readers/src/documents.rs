//! What people write, and what packages bring: sequences, orders, package definitions, programs and modules.

use sequence::engine::{RunEnd, World, run};
use sequence::expression::{Condition, expressions, template_names};
use testkit::fake_machine::{
    FakeClock, FakeContent, FakeJournal, FakeMachine, FakeObserver, laptop_facts,
};
use wire::event::Environment;
use wire::order::Order;
use wire::sequence::CompiledSequence;

/// Enough for every restart a small sequence can have; a person starts a failed run again as often.
const POWER_ONS_MAX: usize = 4;
/// The fake content tells every byte.
const CONTENT_BYTES_MAX: u64 = 9;

/// A condition, and the expressions in a template.
pub fn condition(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = Condition::parse(text, &["model", "vendor"]);
        let _ = template_names(text);
        assert!(expressions(text).all(|expression| text.contains(expression)));
    }
}

/// A task sequence.
pub fn sequence(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let _ = sequence::lint::lint(text, &sequence::lint::Surroundings::default());
    if let Ok(compiled) = sequence::document::compile(text) {
        let json = serde_json::to_vec(&compiled.sequence).expect("a sequence is JSON");
        let read: CompiledSequence = serde_json::from_slice(&json).expect("it was just written");
        assert_eq!(read, compiled.sequence);
    }
}

/// An order, and the run that follows.
pub fn order(bytes: &[u8]) {
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
}

/// The definition of a package.
pub fn package(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = media::package_definition::parse_definition(text, "package.yaml".into());
    }
}

/// What a program needs.
pub fn elf(bytes: &[u8]) {
    let _ = media::elf::parse_needs(bytes);
}

/// A kernel module, and its `.modinfo` alone.
pub fn module(bytes: &[u8]) {
    let _ = media::modinfo::parse_module(bytes);
    let _ = media::modinfo::parse_modinfo(bytes);
}

/// A unified kernel image.
pub fn uki(bytes: &[u8]) {
    if let Ok(sections) = media::uki::parse_uki(bytes) {
        assert!(
            sections
                .iter()
                .all(|section| section.bytes.len() <= bytes.len())
        );
    }
    let _ = media::boot_image::trust_in(bytes);
}
