//! The kernel command line: which mode, and what tests ask for.

use wire::boot_config::BootMode;

/// What the kernel command line says to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CommandLine {
    /// `forestage.mode=stage` or `deploy`.
    pub(crate) mode: Option<BootMode>,
    /// `forestage.quick`: no pause before the power goes off, for tests.
    pub(crate) is_quick: bool,
}

/// Parses `/proc/cmdline`.
pub(crate) fn parse(text: &str) -> CommandLine {
    CommandLine {
        mode: BootMode::from_command_line(text),
        is_quick: text
            .split_ascii_whitespace()
            .any(|word| word == "forestage.quick"),
    }
}

/// Reads `/proc/cmdline`.
pub(crate) fn load() -> CommandLine {
    parse(&std::fs::read_to_string("/proc/cmdline").unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_matched_whole() {
        let line = parse("console=ttyS0 forestage.mode=stage quiet forestage.quick\n");
        assert_eq!(
            line,
            CommandLine {
                mode: Some(BootMode::Stage),
                is_quick: true
            }
        );
        let line = parse("forestage.mode=deployx forestage.quickly xforestage.mode=stage");
        assert_eq!(
            line,
            CommandLine {
                mode: None,
                is_quick: false
            }
        );
        assert_eq!(parse("").mode, None);
    }
}
