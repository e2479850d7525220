//! Tells the OS which networks to join.

use std::fmt;
use std::fmt::Write as _;

use camino::Utf8Path;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wire::event::Environment;
use wire::names::SecretName;

use super::{OnRestart, Outcome, PlanCx, Step, StepCx};
use crate::ports::{StepError, TargetFile};
use crate::problem::{Code, Problems};
use crate::scope::Template;
use crate::secret::{Secret, wipe};

/// The longest network name (IEEE 802.11, 9.4.2.2).
const SSID_BYTES_MAX: usize = 32;
/// A school has a handful.
const NETWORKS_MAX: usize = 32;
/// NetworkManager's own bounds of `autoconnect-priority`.
const PRIORITY_MAX: i16 = 999;
/// Where NetworkManager looks for profiles that only root can read.
const FOLDER: &str = "/etc/NetworkManager/system-connections";
/// Only an OS with NetworkManager has this.
const SERVICE: &str = "/usr/lib/systemd/system/NetworkManager.service";

/// Tells NetworkManager which networks to join: Wi-Fi by name, wired ones by DHCP.
///
/// Passphrases are named, never written down here; on the machine they stand in files that only root can read. Networks
/// with a sign-in of their own for each machine or person (802.1X) need files of NetworkManager: see `apply-files`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SetNetwork {
    /// Wi-Fi networks to join.
    #[serde(default)]
    pub wifi: Vec<Wifi>,
    /// Whether every wired network is joined, with an address by DHCP.
    #[serde(default = "yes")]
    pub wired: bool,
}

const fn yes() -> bool {
    true
}

/// A Wi-Fi network.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Wifi {
    /// Its name.
    pub ssid: Template,
    /// How it is secured.
    #[serde(default)]
    pub security: Security,
    /// The name of the secret that is its passphrase; needed unless it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretName>,
    /// Whether it doesn't show its name.
    #[serde(default)]
    pub hidden: bool,
    /// Which one is taken if several are there: the highest, from -999 to 999.
    #[serde(default)]
    pub priority: i16,
}

/// How a Wi-Fi network is secured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Security {
    /// By a passphrase: WPA2, or WPA3 beside WPA2.
    #[default]
    Wpa,
    /// By a passphrase: WPA3 alone (SAE).
    Wpa3,
    /// Not at all.
    Open,
}

/// The networks, filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Plan {
    /// Wi-Fi networks.
    pub wifi: Vec<PlannedWifi>,
    /// Whether every wired network is joined.
    pub wired: bool,
}

/// A Wi-Fi network, filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PlannedWifi {
    /// Its name.
    pub ssid: String,
    /// How it is secured.
    pub security: Security,
    /// The name of the secret that is its passphrase.
    pub secret: Option<SecretName>,
    /// Whether it doesn't show its name.
    pub hidden: bool,
    /// Its priority.
    pub priority: i16,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("join")?;
        for (index, wifi) in self.wifi.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma} the Wi-Fi {:?}", wifi.ssid)?;
            match &wifi.secret {
                Some(name) => write!(f, " with the secret {name}")?,
                None => f.write_str(" without a passphrase")?,
            }
        }
        match (self.wifi.is_empty(), self.wired) {
            (true, _) => f.write_str(" wired networks"),
            (false, true) => f.write_str(", and wired networks"),
            (false, false) => Ok(()),
        }
    }
}

impl SetNetwork {
    fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        if self.wifi.is_empty() && !self.wired {
            mistakes.push("no network is named".to_owned());
        }
        if self.wifi.len() > NETWORKS_MAX {
            mistakes.push(format!("more than {NETWORKS_MAX} networks are named"));
        }
        for wifi in &self.wifi {
            let name = &wifi.ssid.0;
            match (wifi.security, &wifi.secret) {
                (Security::Open, Some(_)) => {
                    mistakes.push(format!("the network {name:?} is open and names a secret"))
                }
                (Security::Wpa | Security::Wpa3, None) => {
                    mistakes.push(format!(
                        "the network {name:?} names no secret for its passphrase"
                    ));
                }
                _ => {}
            }
            if !(-PRIORITY_MAX..=PRIORITY_MAX).contains(&wifi.priority) {
                mistakes.push(format!(
                    "the priority of {name:?} is not from -{PRIORITY_MAX} to {PRIORITY_MAX}"
                ));
            }
            if !name.contains("{{") && !is_ssid(name) {
                mistakes.push(format!("{name:?} is not the name of a Wi-Fi network"));
            }
        }
        mistakes
    }
}

fn is_ssid(text: &str) -> bool {
    (1..=SSID_BYTES_MAX).contains(&text.len()) && !text.contains(char::is_control)
}

/// Whether a passphrase is one: 8 to 63 printable letters of ASCII, or 64 hexadecimal digits (IEEE 802.11, J.4). WPA3
/// takes more, but every network that people type a passphrase for keeps to this.
fn is_passphrase(text: &str) -> bool {
    let is_printable = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    let is_key = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_printable && (8..=63).contains(&text.len())) || is_key
}

/// A text as GLib's key files hold it: nothing of it is read as anything else.
fn key_file_text(text: &str) -> String {
    let mut escaped = String::with_capacity(2 * text.len());
    for letter in text.chars() {
        match letter {
            '\\' => escaped.push_str("\\\\"),
            // At either end, a plain space would be cut off.
            ' ' => escaped.push_str("\\s"),
            letter => escaped.push(letter),
        }
    }
    escaped
}

/// A network's name as a list of bytes: the one form that every name fits in.
fn ssid_bytes(ssid: &str) -> String {
    let mut list = String::new();
    for byte in ssid.bytes() {
        // Writing to a text never fails.
        let _ = write!(list, "{byte};");
    }
    list
}

/// The profile of a Wi-Fi network (nm-settings-keyfile(5)).
fn wifi_profile(wifi: &PlannedWifi, passphrase: Option<&Secret>) -> String {
    let mut text = format!(
        "[connection]\nid={}\ntype=wifi\nautoconnect-priority={}\n\n[wifi]\nmode=infrastructure\nssid={}\nhidden={}\n",
        key_file_text(&wifi.ssid),
        wifi.priority,
        ssid_bytes(&wifi.ssid),
        wifi.hidden,
    );
    if let Some(passphrase) = passphrase {
        let method = match wifi.security {
            Security::Wpa3 => "sae",
            Security::Wpa | Security::Open => "wpa-psk",
        };
        text += "\n[wifi-security]\nkey-mgmt=";
        text += method;
        text += "\npsk=";
        text += &key_file_text(passphrase.expose());
        text += "\n";
    }
    text + ADDRESSES
}

const ADDRESSES: &str = "\n[ipv4]\nmethod=auto\n\n[ipv6]\nmethod=auto\n";
/// One profile for all ports (`multi-connect` 3 is `multiple`), after any that names a port.
const WIRED_PROFILE: &str = "[connection]\nid=wired\ntype=ethernet\nautoconnect-priority=-100\nmulti-connect=3\n\n[ethernet]\n";

fn write_profile(name: &str, text: String, cx: &StepCx<'_>) -> Result<(), StepError> {
    let mut file = TargetFile {
        path: format!("{FOLDER}/forestage-{name}.nmconnection").into(),
        bytes: text.into_bytes(),
        mode: 0o600,
    };
    let written = cx.machine().write_file(&file);
    wipe(&mut file.bytes);
    written
}

impl Step for SetNetwork {
    const KIND: &'static str = "set-network";
    const EXAMPLE: &'static str = r"- id: network
  set-network:
    wifi:
      - { ssid: skole, secret: wifi-school, priority: 10 }
      - { ssid: gjest, security: open }
";
    type Plan = Plan;
    const ON_RESTART: OnRestart = OnRestart::Redo;
    const WRITES_INTO_OS: bool = true;

    fn check(&self, problems: &mut Problems) {
        for mistake in self.mistakes() {
            problems.error(Code::Step, mistake, "");
        }
    }

    fn templates(&self) -> Vec<&Template> {
        self.wifi.iter().map(|wifi| &wifi.ssid).collect()
    }

    fn secrets(&self) -> Vec<SecretName> {
        self.wifi
            .iter()
            .filter_map(|wifi| wifi.secret.clone())
            .collect()
    }

    fn plan(&self, cx: &PlanCx<'_>) -> Result<Plan, StepError> {
        if let Some(mistake) = self.mistakes().into_iter().next() {
            return Err(StepError::refused(mistake));
        }
        let mut planned = Vec::with_capacity(self.wifi.len());
        for wifi in &self.wifi {
            let ssid = cx.render(&wifi.ssid)?;
            if !is_ssid(&ssid) {
                return Err(StepError::refused(format!(
                    "{ssid:?} is not the name of a Wi-Fi network"
                ))
                .hint(format!(
                    "it comes from the template `{}`; a name has 1 to {SSID_BYTES_MAX} bytes",
                    wifi.ssid.0
                )));
            }
            planned.push(PlannedWifi {
                ssid,
                security: wifi.security,
                secret: wifi.secret.clone(),
                hidden: wifi.hidden,
                priority: wifi.priority,
            });
        }
        Ok(Plan {
            wifi: planned,
            wired: self.wired,
        })
    }

    fn apply(&self, plan: Plan, cx: &StepCx<'_>) -> Result<Outcome, StepError> {
        if cx.machine().read_file(Utf8Path::new(SERVICE))?.is_none() {
            return Err(StepError::refused("the OS has no NetworkManager")
                .hint("build the OS image with the package `network-manager`"));
        }
        // All secrets before the first file: a machine with half of its networks is harder to understand.
        let mut profiles = Vec::with_capacity(plan.wifi.len());
        for wifi in &plan.wifi {
            let passphrase = match &wifi.secret {
                Some(name) => Some(passphrase(name, cx)?),
                None => None,
            };
            profiles.push((wifi, passphrase));
        }
        for (number, (wifi, passphrase)) in (1..).zip(profiles) {
            let text = wifi_profile(wifi, passphrase.as_ref());
            write_profile(&format!("wifi-{number}"), text, cx)?;
        }
        if plan.wired {
            write_profile("wired", format!("{WIRED_PROFILE}{ADDRESSES}"), cx)?;
        }
        if cx.machine().environment() == Environment::Os {
            cx.command_ok("nmcli", &["connection", "reload"])?;
        }
        Ok(Outcome::done())
    }
}

fn passphrase(name: &SecretName, cx: &StepCx<'_>) -> Result<Secret, StepError> {
    let passphrase = cx.secret(name)?;
    if is_passphrase(passphrase.expose()) {
        return Ok(passphrase);
    }
    Err(
        StepError::refused(format!("the secret {name} can't be the passphrase of a Wi-Fi network"))
            .hint("a passphrase has 8 to 63 letters, digits and signs of ASCII; look for a line break at its end"),
    )
}

#[cfg(test)]
mod tests {
    use super::{PlannedWifi, Secret, Security, is_passphrase, is_ssid, wifi_profile};

    fn profile(ssid: &str, security: Security, passphrase: Option<&str>) -> String {
        let wifi = PlannedWifi {
            ssid: ssid.to_owned(),
            security,
            secret: None,
            hidden: security == Security::Wpa3,
            priority: 7,
        };
        let passphrase = passphrase.map(|text| Secret::new(text.to_owned()));
        wifi_profile(&wifi, passphrase.as_ref())
    }

    #[test]
    fn profiles() {
        insta::assert_snapshot!(profile("Skole Ålesund", Security::Wpa, Some(r" a;b#c\d= ")));
        insta::assert_snapshot!(profile("123;", Security::Wpa3, Some("blabaer-7")));
        insta::assert_snapshot!(profile("gjest", Security::Open, None));
    }

    #[test]
    fn names_and_passphrases() {
        assert!(is_ssid("æ") && is_ssid(&"a".repeat(32)));
        assert!(!is_ssid("") && !is_ssid(&"æ".repeat(17)) && !is_ssid("a\nb"));
        assert!(is_passphrase("12345678") && is_passphrase(&"ab".repeat(32)));
        for wrong in ["1234567", "12345678\n", "blåbærsyltetøy", &"x".repeat(64)] {
            assert!(!is_passphrase(wrong), "{wrong}");
        }
    }
}
