//! What the screen says. Plain data: whoever runs the machine fills it in, the screen shows it.
//!
//! Every text may come from outside (firmware, the server, a failing program): the screen strips control characters,
//! breaks long lines and cuts off what does not fit. Nothing here has to be cleaned or shortened before.

use std::time::Duration;

/// Everything on the screen at one moment. Fill in what is known; what is empty or `None` takes no room.
///
/// Showing a model that equals the one on the screen costs nothing; showing one that differs in one number repaints
/// that number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ScreenModel {
    /// What the machine is doing; it decides colours, the big word and the symbol.
    pub(crate) phase: Phase,
    /// The big line on top. Empty: the one that belongs to the phase ([`Phase::headline`]).
    pub(crate) headline: String,
    /// A sentence below it: why it waits, why it was refused, what happens next. Empty: the one of the phase.
    pub(crate) message: String,
    /// Which machine this is.
    pub(crate) machine: MachineText,
    /// The step that runs, and how far it is.
    pub(crate) step: Option<StepText>,
    /// Since when this goes on, as of [`Screen::show`](super::Screen::show): while the phase is at work the screen
    /// counts on by itself, once a second. For `StagedDone`, `DeployDone` and `Failed`: how long it took.
    pub(crate) elapsed: Option<Duration>,
    /// How long still, as of `show`; the screen counts down by itself. `None` if nobody can say.
    pub(crate) remaining: Option<Duration>,
    /// Where content comes from right now, such as `from this disk`, `from the boot medium`, `over the network`.
    pub(crate) source: Option<String>,
    /// Whether the machine may be switched off.
    pub(crate) power: Option<PowerSafety>,
    /// What went wrong; for `Failed`, `Refused` and `Quarantined`.
    pub(crate) error: Option<ErrorText>,
    /// Which run this is; shown when it failed.
    pub(crate) run: Option<RunText>,
    /// Small facts at the bottom.
    pub(crate) footer: FooterText,
}

/// What the machine is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    /// The boot image has started and looks at the machine.
    #[default]
    Starting,
    /// At the factory: the disk is being staged.
    Staging,
    /// At the factory: staged. Full screen, green, DONE.
    StagedDone,
    /// No link or no address yet.
    WaitingNetwork,
    /// Has an address, talks to the server (or tries to).
    Contacting,
    /// The server does not recognise it (yet): asks again by itself.
    Quarantined,
    /// The server refused it for good.
    Refused,
    /// A run is going on.
    Deploying,
    /// The run goes on in the installed OS after a restart.
    RestartingIntoOs,
    /// The run is done. Full screen, green, DONE.
    DeployDone,
    /// It went wrong. Full screen, red, with what to do.
    Failed,
    /// Recognised, and nothing is to be done.
    Idle,
}

impl Phase {
    /// Every phase, for tests and pictures.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 12] = [
        Self::Starting,
        Self::Staging,
        Self::StagedDone,
        Self::WaitingNetwork,
        Self::Contacting,
        Self::Quarantined,
        Self::Refused,
        Self::Deploying,
        Self::RestartingIntoOs,
        Self::DeployDone,
        Self::Failed,
        Self::Idle,
    ];

    /// The line on top if the model has none.
    #[must_use]
    pub(crate) const fn headline(self) -> &'static str {
        match self {
            Self::Starting => "Starting",
            Self::Staging => "Staging this machine",
            Self::StagedDone | Self::DeployDone => "DONE",
            Self::WaitingNetwork => "Waiting for the network",
            Self::Contacting => "Contacting the server",
            Self::Quarantined => "Waiting to be let in",
            Self::Refused => "Refused",
            Self::Deploying => "Setting up this machine",
            Self::RestartingIntoOs => "Restarting",
            Self::Failed => "FAILED",
            Self::Idle => "Nothing to do",
        }
    }

    /// The sentence below it if the model has none.
    #[must_use]
    pub(crate) const fn message(self) -> &'static str {
        match self {
            Self::Starting => "Looking at the machine.",
            Self::Staging => "",
            Self::StagedDone => "Switches off by itself. Next machine.",
            Self::WaitingNetwork => "Plug in a network cable. It goes on by itself.",
            Self::Contacting => "No key press is needed.",
            Self::Quarantined => {
                "The server does not know this machine yet. It asks again by itself."
            }
            Self::Refused => "The server does not let this machine in. Ask an administrator.",
            Self::Deploying => "",
            Self::RestartingIntoOs => "It goes on by itself in the installed system.",
            Self::DeployDone => "This machine is ready to use.",
            Self::Failed => "",
            Self::Idle => "This machine is known, and nothing is planned for it.",
        }
    }

    /// Whether time goes on in this phase, so that the screen counts.
    #[must_use]
    pub(crate) const fn is_at_work(self) -> bool {
        !matches!(
            self,
            Self::StagedDone | Self::DeployDone | Self::Failed | Self::Refused
        )
    }
}

/// Which machine this is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct MachineText {
    /// Its host name, once known.
    pub(crate) name: Option<String>,
    /// The serial number; empty if it has none.
    pub(crate) serial: String,
    /// Manufacturer and product.
    pub(crate) model: String,
}

/// Which run this is, for a person who looks it up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RunText {
    /// The end of its id, to be read out and typed.
    pub(crate) code: String,
    /// What the QR code says: the run's page at the server.
    pub(crate) link: String,
    /// How it is tried again, a sentence each; two are shown.
    pub(crate) again: Vec<String>,
}

/// The step that runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct StepText {
    /// Its number, from 1.
    pub(crate) number: u32,
    /// How many there are.
    pub(crate) count: u32,
    /// What it is called.
    pub(crate) title: String,
    /// How far it is, 0 to 100, if that is known.
    pub(crate) percent: Option<u8>,
    /// What is being worked on, such as `3.1 of 7.9 GiB` or a file name.
    pub(crate) detail: String,
}

/// What becomes of the work if the machine is switched off. There is no "leave it on": a power cut at any moment ends
/// in a machine that can go on, and the screen says how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum PowerSafety {
    /// Yes: it goes on where it was.
    Safe,
    /// Yes, but it begins from the start: nothing is remembered yet.
    StartsOver,
    /// Yes, nothing is going on.
    Finished,
}

impl PowerSafety {
    /// In words.
    #[must_use]
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Safe => "Can be switched off: it goes on where it was",
            Self::StartsOver => "Can be switched off: it begins again from the start",
            Self::Finished => "Can be switched off",
        }
    }
}

/// What went wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ErrorText {
    /// The id of the step that failed, such as `apps/java`.
    pub(crate) step: Option<String>,
    /// What could not be done.
    pub(crate) what: String,
    /// Why, outermost cause first (the chain without its first line).
    pub(crate) why: Vec<String>,
    /// What a person can do.
    pub(crate) hint: Option<String>,
    /// The last lines it said, oldest first.
    pub(crate) last_lines: Vec<String>,
}

impl ErrorText {
    /// From an error chain as events carry it: the first text is the what, the others are the why.
    #[must_use]
    pub(crate) fn from_chain(step: Option<String>, chain: &[String], hint: Option<String>) -> Self {
        let (what, why) = match chain.split_first() {
            Some((what, why)) => (what.clone(), why.to_vec()),
            None => (String::new(), Vec::new()),
        };
        Self {
            step,
            what,
            why,
            hint,
            last_lines: Vec::new(),
        }
    }
}

/// Small facts at the bottom.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FooterText {
    /// The version of the agent.
    pub(crate) version: String,
    /// The machine's network address; empty if it has none.
    pub(crate) address: String,
    /// What was staged or is being staged, such as `book14@3 1f2e3d4c`; empty if nothing.
    pub(crate) bundle: String,
}
