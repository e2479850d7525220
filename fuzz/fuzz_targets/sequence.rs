//! Sequence documents: linting never panics, and what compiles reads back the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::sequence::CompiledSequence;

fuzz_target!(|text: &str| {
    let _ = sequence::lint::lint(text, &sequence::lint::Surroundings::default());
    if let Ok(compiled) = sequence::document::compile(text) {
        let json = serde_json::to_vec(&compiled.sequence).expect("a sequence is JSON");
        let read: CompiledSequence = serde_json::from_slice(&json).expect("it was just written");
        assert_eq!(read, compiled.sequence);
    }
});
