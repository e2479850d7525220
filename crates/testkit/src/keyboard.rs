//! Somebody at the keyboard of a virtual machine, who presses everything. For the proof that no key does anything; nothing
//! else presses one.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use crate::chance::Chance;
use crate::monitor::Monitor;

/// As fast as an emulated machine takes keys up; those that come faster are lost on the way.
const KEYS_APART: Duration = Duration::from_millis(20);

/// Keys that are pressed alone or with others, as QEMU calls them.
const PLAIN: &[&str] = &[
    "a",
    "b",
    "c",
    "d",
    "e",
    "f",
    "g",
    "h",
    "i",
    "j",
    "k",
    "l",
    "m",
    "n",
    "o",
    "p",
    "q",
    "r",
    "s",
    "t",
    "u",
    "v",
    "w",
    "x",
    "y",
    "z",
    "0",
    "1",
    "2",
    "3",
    "4",
    "5",
    "6",
    "7",
    "8",
    "9",
    "ret",
    "spc",
    "esc",
    "tab",
    "backspace",
    "delete",
    "insert",
    "home",
    "end",
    "pgup",
    "pgdn",
    "up",
    "down",
    "left",
    "right",
    "pause",
    "print",
    "menu",
    "meta_l",
    "caps_lock",
    "scroll_lock",
];
const FUNCTION: &[&str] = &[
    "f1", "f2", "f3", "f4", "f5", "f6", "f7", "f8", "f9", "f10", "f11", "f12",
];
/// What ways in have been: a restart, another console, an interrupt, a shell of Windows, the kernel's own keys.
const COMBINATIONS: &[&[&str]] = &[
    &["ctrl", "alt", "delete"],
    &["ctrl", "alt", "backspace"],
    &["ctrl", "c"],
    &["ctrl", "d"],
    &["ctrl", "z"],
    &["ctrl", "s"],
    &["ctrl", "backslash"],
    &["ctrl", "alt", "t"],
    &["shift", "f10"],
    &["shift", "pgup"],
    &["alt", "up"],
    &["meta_l", "r"],
];
/// What the kernel does with SysRq and one of these: restart, kill all, panic, switch off, a log, other terminals.
const KERNEL_KEYS: &[&str] = &[
    "b", "c", "e", "f", "h", "i", "k", "o", "r", "s", "t", "u", "1", "9",
];

/// See the module.
pub struct Keyboard(Monitor);

impl Keyboard {
    pub(crate) fn new(monitor: Monitor) -> Self {
        Self(monitor)
    }

    /// Presses `times` keys or combinations, one after the other, and lets each go.
    ///
    /// # Errors
    /// The machine went off meanwhile.
    pub fn press_anything(&mut self, times: u64, chance: &mut Chance) -> Result<()> {
        for _ in 0..times {
            let keys = anything(chance);
            self.press(&keys)?;
        }
        Ok(())
    }

    /// Presses these together, and lets them go.
    ///
    /// # Errors
    /// As [`Keyboard::press_anything`].
    pub fn press(&mut self, keys: &[&str]) -> Result<()> {
        let event = |key: &&str, is_down: bool| -> Value {
            let key = json!({ "type": "qcode", "data": key });
            json!({ "type": "key", "data": { "down": is_down, "key": key } })
        };
        for events in [
            keys.iter().map(|key| event(key, true)).collect::<Vec<_>>(),
            keys.iter().rev().map(|key| event(key, false)).collect(),
        ] {
            self.0.ask(
                &json!({ "execute": "input-send-event", "arguments": { "events": events } }),
            )?;
            std::thread::sleep(KEYS_APART);
        }
        Ok(())
    }
}

fn anything(chance: &mut Chance) -> Vec<&'static str> {
    let kind = chance.below(8);
    let mut one = |of: &'static [&'static str]| -> &'static str { chance.pick::<&str>(of) };
    match kind {
        0 => chance.pick(COMBINATIONS).to_vec(),
        1 => vec!["alt", "sysrq", one(KERNEL_KEYS)],
        2 => vec!["alt", one(FUNCTION)],
        3 => vec!["ctrl", "alt", one(FUNCTION)],
        4 => vec![one(FUNCTION)],
        5 => vec!["ctrl", one(PLAIN)],
        _ => vec![one(PLAIN)],
    }
}
