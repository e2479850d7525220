//! Takes away what pupils shouldn't have.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{OnRestart, Outcome, PlanCx, Step, StepCx};
use crate::ports::{StepError, TargetFile};
use crate::problem::{Code, Problems};

/// The longest unit name (systemd.unit(5)).
const UNIT_BYTES_MAX: usize = 255;
/// More is an OS image of its own.
const UNITS_MAX: usize = 100;
/// The unit that goes on with the run.
const OWN_UNIT: &str = "forestage-agent.service";
/// What systemd starts and watches.
const UNIT_TYPES: [&str; 7] = [
    "service",
    "socket",
    "timer",
    "target",
    "path",
    "mount",
    "automount",
];
const MANAGER_FILE: &str = "/etc/systemd/system.conf.d/50-forestage-lock-down.conf";
const LOGIN_FILE: &str = "/etc/systemd/logind.conf.d/50-forestage-lock-down.conf";

/// Takes away what pupils shouldn't have. It holds from the next start of the OS.
///
/// It hardens the running OS, and nothing more: whoever can open the firmware setup or take out the disk isn't stopped by
/// it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LockDown {
    /// Whether root's password is locked. SSH keys of root, if there are any, still work.
    #[serde(default)]
    pub lock_root: bool,
    /// Units of systemd that must never start, such as `ssh.service`.
    #[serde(default)]
    pub mask_units: Vec<String>,
    /// Whether Ctrl+Alt+Del on a text console does nothing; by default it restarts the machine.
    #[serde(default)]
    pub disable_ctrl_alt_delete: bool,
    /// Whether there are no text consoles to sign in on. Only for an OS with a graphical sign-in.
    #[serde(default)]
    pub disable_text_consoles: bool,
}

/// What is taken away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Plan(pub LockDown);

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LockDown {
            lock_root,
            mask_units,
            disable_ctrl_alt_delete,
            disable_text_consoles,
        } = &self.0;
        let parts = [
            lock_root.then(|| "lock root's password".to_owned()),
            (!mask_units.is_empty()).then(|| format!("mask {}", mask_units.join(", "))),
            disable_ctrl_alt_delete.then(|| "disable Ctrl+Alt+Del".to_owned()),
            disable_text_consoles.then(|| "disable text consoles".to_owned()),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        f.write_str(&parts.join("; "))
    }
}

fn is_unit_name(text: &str) -> bool {
    let has_type = text
        .rsplit_once('.')
        .is_some_and(|(name, kind)| !name.is_empty() && UNIT_TYPES.contains(&kind));
    has_type
        && text.len() <= UNIT_BYTES_MAX
        && !text.starts_with('-')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b":_.\\@-".contains(&byte))
}

impl LockDown {
    fn mistake(&self) -> Option<String> {
        if self == &Self::default() {
            return Some("nothing is taken away".to_owned());
        }
        if self.mask_units.len() > UNITS_MAX {
            return Some(format!("`mask-units` names more than {UNITS_MAX} units"));
        }
        if let Some(unit) = self.mask_units.iter().find(|unit| !is_unit_name(unit)) {
            return Some(format!(
                "{unit:?} is not the whole name of a unit, such as `ssh.service`"
            ));
        }
        self.mask_units
            .iter()
            .any(|unit| unit == OWN_UNIT)
            .then(|| format!("{OWN_UNIT} goes on with the run after a restart and can't be masked"))
    }

    /// All units to mask.
    fn units(&self) -> Vec<&str> {
        let mut units: Vec<&str> = self.mask_units.iter().map(String::as_str).collect();
        if self.disable_ctrl_alt_delete {
            units.push("ctrl-alt-del.target");
        }
        if self.disable_text_consoles {
            units.extend(["getty@.service", "autovt@.service"]);
        }
        units
    }
}

fn write(path: &str, text: &str, cx: &StepCx<'_>) -> Result<(), StepError> {
    cx.machine().write_file(&TargetFile {
        path: path.into(),
        bytes: text.as_bytes().to_vec(),
        mode: 0o644,
    })
}

impl Step for LockDown {
    const KIND: &'static str = "lock-down";
    const EXAMPLE: &'static str = r"- id: lock
  lock-down:
    lock-root: true
    mask-units: [ssh.service]
    disable-ctrl-alt-delete: true
";
    type Plan = Plan;
    const ON_RESTART: OnRestart = OnRestart::Redo;
    const WRITES_INTO_OS: bool = true;

    fn check(&self, problems: &mut Problems) {
        if let Some(mistake) = self.mistake() {
            problems.error(Code::Step, mistake, "");
        }
    }

    fn plan(&self, _cx: &PlanCx<'_>) -> Result<Plan, StepError> {
        match self.mistake() {
            Some(mistake) => Err(StepError::refused(mistake)),
            None => Ok(Plan(self.clone())),
        }
    }

    fn apply(&self, plan: Plan, cx: &StepCx<'_>) -> Result<Outcome, StepError> {
        let wanted = plan.0;
        if wanted.lock_root {
            cx.command_ok("passwd", &["--lock", "root"])?;
        }
        if wanted.disable_ctrl_alt_delete {
            // Pressed seven times in two seconds it restarts the machine whatever the target says.
            write(MANAGER_FILE, "[Manager]\nCtrlAltDelBurstAction=none\n", cx)?;
        }
        if wanted.disable_text_consoles {
            write(LOGIN_FILE, "[Login]\nNAutoVTs=0\nReserveVT=0\n", cx)?;
        }
        let units = wanted.units();
        if !units.is_empty() {
            let args: Vec<&str> = std::iter::once("mask").chain(units).collect();
            cx.command_ok("systemctl", &args)?;
        }
        Ok(Outcome::done())
    }
}

#[cfg(test)]
mod tests {
    use super::is_unit_name;

    #[test]
    fn unit_names() {
        for right in [
            "ssh.service",
            "getty@tty2.service",
            "systemd-x\\x2dy.mount",
            "a.b.timer",
        ] {
            assert!(is_unit_name(right), "{right}");
        }
        for wrong in [
            "",
            "ssh",
            ".service",
            "--now",
            "-x.service",
            "a b.service",
            "../x.service",
            "a.conf",
        ] {
            assert!(!is_unit_name(wrong), "{wrong}");
        }
    }
}
