//! Response codes (Part 2, section 6.6) in words, as far as someone can do something about them.

/// A code about a parameter, a handle or a session.
const FORMAT_ONE: u32 = 0x080;
/// What is left of such a code without the number of what it is about.
const FORMAT_ONE_MASK: u32 = 0x0bf;

/// What a code means, for the screen and the administrator.
pub(super) const fn words(code: u32) -> &'static str {
    let plain = if code & FORMAT_ONE == 0 {
        code
    } else {
        code & FORMAT_ONE_MASK
    };
    match plain {
        0x100 => "it wasn't started by the firmware",
        0x101 => "it is in failure mode; switch the machine off and on",
        0x120 => "it is disabled in the firmware setup",
        0x12d => "an update of its firmware isn't finished",
        0x143 => "it doesn't know this command",
        0x902..=0x904 => "it has no place left for a key",
        0x90a => "it is still testing itself",
        0x921 => "it is locked after wrong passwords",
        0x922 => "it is busy",
        0x082 | 0x092 | 0x0a6 | 0x08b => "it doesn't know this kind of key",
        0x085 => "its storage hierarchy is switched off",
        0x08e | 0x0a2 => "its storage hierarchy has a password",
        _ => "it says no more than this code",
    }
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn the_number_of_a_parameter_or_session_makes_no_difference() {
        for code in [0x0a2, 0x9a2, 0x1a2] {
            assert!(words(code).contains("password"), "{code:x}");
        }
        assert!(words(0x2c6).contains("no more"), "of a parameter: value");
        assert!(
            words(0x2e6).contains("kind of key"),
            "of a parameter: curve"
        );
        assert!(words(0x921).contains("locked"));
    }
}
