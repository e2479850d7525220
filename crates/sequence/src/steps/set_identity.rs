//! Gives the OS its name, language, keyboard and time zone.

use std::fmt;

use camino::Utf8Path;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wire::event::{Environment, LogLevel};

use super::{OnRestart, Outcome, PlanCx, Step, StepCx};
use crate::ports::{StepError, TargetFile};
use crate::problem::{Code, Problems};
use crate::scope::{Template, is_host_name};

/// Gives the OS its host name and, where given, language, keyboard and time zone.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SetIdentity {
    /// The host name, such as `{{ (site.code ~ '-' ~ serial | last(4)) | hostname }}`.
    pub hostname: Template,
    /// The locale, such as `nb_NO.UTF-8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locale: Option<Template>,
    /// The keyboard layout as X calls it, such as `no`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyboard: Option<Template>,
    /// The time zone, such as `Europe/Oslo`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<Template>,
}

/// The identity, filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Plan {
    /// The host name.
    pub hostname: String,
    /// The locale.
    pub locale: Option<String>,
    /// The keyboard layout.
    pub keyboard: Option<String>,
    /// The time zone.
    pub time_zone: Option<String>,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "name the machine {}", self.hostname)?;
        for (what, value) in [
            ("locale", &self.locale),
            ("keyboard", &self.keyboard),
            ("time zone", &self.time_zone),
        ] {
            if let Some(value) = value {
                write!(f, ", {what} {value}")?;
            }
        }
        Ok(())
    }
}

/// Letters, digits and what locales, layouts and zones are written with: nothing a shell or a config file reads
/// otherwise.
fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 64
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_.@+-/".contains(&byte))
        && !text.starts_with(['/', '-'])
        && !text.contains("..")
}

/// `nb_NO.UTF-8` and `nb_NO.utf8` are the same to glibc.
fn same_locale(left: &str, right: &str) -> bool {
    let normal = |text: &str| text.to_lowercase().replace("utf-8", "utf8");
    normal(left) == normal(right)
}

impl SetIdentity {
    fn write(cx: &StepCx<'_>, path: &str, text: String) -> Result<(), StepError> {
        cx.machine().write_file(&TargetFile {
            path: path.into(),
            bytes: text.into_bytes(),
            mode: 0o644,
        })
    }

    fn read_text(cx: &StepCx<'_>, path: &str) -> Result<String, StepError> {
        let bytes = cx
            .machine()
            .read_file(Utf8Path::new(path))?
            .unwrap_or_default();
        String::from_utf8(bytes)
            .map_err(|error| StepError::new(format!("{path} is not text")).because(error))
    }

    fn set_hostname(name: &str, cx: &StepCx<'_>) -> Result<(), StepError> {
        Self::write(cx, "/etc/hostname", format!("{name}\n"))?;
        Self::write(
            cx,
            "/etc/hosts",
            hosts_with(&Self::read_text(cx, "/etc/hosts")?, name),
        )?;
        if cx.machine().environment() == Environment::Os {
            cx.command_ok("hostname", &[name])?;
        }
        Ok(())
    }

    fn set_locale(locale: &str, cx: &StepCx<'_>) -> Result<(), StepError> {
        let built_in = ["C.UTF-8", "C", "POSIX"];
        if !built_in.iter().any(|name| same_locale(name, locale)) {
            let known = cx.command("locale", &["-a"])?;
            if !known
                .stdout
                .lines()
                .any(|line| same_locale(line.trim(), locale))
            {
                Self::generate_locale(locale, cx)?;
            }
        }
        Self::write(cx, "/etc/default/locale", format!("LANG={locale}\n"))
    }

    fn generate_locale(locale: &str, cx: &StepCx<'_>) -> Result<(), StepError> {
        if cx
            .machine()
            .read_file(Utf8Path::new("/usr/sbin/locale-gen"))?
            .is_none()
        {
            return Err(
                StepError::refused(format!("the OS doesn't have the locale {locale}")).hint(
                    "build the OS image with the package `locales`, or with this locale generated",
                ),
            );
        }
        cx.progress()
            .log(LogLevel::Info, &format!("generating the locale {locale}"));
        let list = Self::read_text(cx, "/etc/locale.gen")?;
        Self::write(cx, "/etc/locale.gen", locale_list_with(&list, locale))?;
        cx.command_ok("locale-gen", &[])?;
        Ok(())
    }

    fn set_keyboard(layout: &str, cx: &StepCx<'_>) -> Result<(), StepError> {
        let text = format!(
            "XKBMODEL=\"pc105\"\nXKBLAYOUT=\"{layout}\"\nXKBVARIANT=\"\"\nXKBOPTIONS=\"\"\nBACKSPACE=\"guess\"\n"
        );
        Self::write(cx, "/etc/default/keyboard", text)?;
        Self::write(
            cx,
            "/etc/vconsole.conf",
            format!("KEYMAP={layout}\nXKBLAYOUT={layout}\n"),
        )
    }

    fn set_time_zone(zone: &str, cx: &StepCx<'_>) -> Result<(), StepError> {
        let file = format!("/usr/share/zoneinfo/{zone}");
        if cx.machine().read_file(Utf8Path::new(&file))?.is_none() {
            return Err(
                StepError::refused(format!("the OS doesn't know the time zone {zone}"))
                    .hint("check the name, or build the OS image with the package `tzdata`"),
            );
        }
        Self::write(cx, "/etc/timezone", format!("{zone}\n"))?;
        cx.command_ok(
            "ln",
            &[
                "--symbolic",
                "--force",
                "--no-dereference",
                &file,
                "/etc/localtime",
            ],
        )?;
        Ok(())
    }
}

/// `/etc/hosts` with exactly one line for our own name.
fn hosts_with(hosts: &str, name: &str) -> String {
    let mut lines: Vec<String> = hosts
        .lines()
        .filter(|line| line.split_whitespace().next() != Some("127.0.1.1"))
        .map(str::to_owned)
        .collect();
    if !lines
        .iter()
        .any(|line| line.split_whitespace().next() == Some("127.0.0.1"))
    {
        lines.insert(0, "127.0.0.1\tlocalhost".to_owned());
    }
    let after = lines
        .iter()
        .position(|line| line.split_whitespace().next() == Some("127.0.0.1"))
        .unwrap_or(0);
    lines.insert(after + 1, format!("127.0.1.1\t{name}"));
    lines.join("\n") + "\n"
}

/// `/etc/locale.gen` with the line of this locale switched on.
fn locale_list_with(list: &str, locale: &str) -> String {
    let charset = locale
        .split_once('.')
        .map_or("UTF-8", |(_, charset)| charset);
    let wanted = format!("{locale} {charset}");
    let mut lines: Vec<&str> = list
        .lines()
        .filter(|line| line.trim_start_matches(['#', ' ']).trim() != wanted)
        .collect();
    lines.push(&wanted);
    lines.join("\n") + "\n"
}

impl Step for SetIdentity {
    const KIND: &'static str = "set-identity";
    const EXAMPLE: &'static str = r#"- id: identity
  set-identity:
    hostname: "{{ (site.code ~ '-' ~ serial | last(4)) | hostname }}"
    locale: nb_NO.UTF-8
    keyboard: "no"
    time-zone: Europe/Oslo
"#;
    type Plan = Plan;
    const ON_RESTART: OnRestart = OnRestart::Redo;
    const WRITES_INTO_OS: bool = true;

    fn check(&self, problems: &mut Problems) {
        let text = &self.hostname.0;
        if text.contains("{{") {
            let literal = literal_parts(text);
            let is_safe = literal
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
            if !is_safe {
                problems.error(
                    Code::HostName,
                    format!("the host name always holds {literal:?}, which a host name can't"),
                    "use letters, digits and hyphens, or pass all of it through the filter `hostname`",
                );
            } else if !text.contains("hostname") {
                problems.warning(
                    Code::HostName,
                    "the values in the host name can hold letters a host name can't",
                    "pass all of it through the filter `hostname`: `{{ (a ~ '-' ~ b) | hostname }}`",
                );
            }
        } else if !is_host_name(text) {
            problems.error(
                Code::HostName,
                format!("{text:?} is not a host name"),
                "use at most 63 letters, digits and hyphens, no hyphen at either end, and not digits alone",
            );
        }
        for value in [&self.locale, &self.keyboard, &self.time_zone]
            .into_iter()
            .flatten()
        {
            if !value.0.contains("{{") && !is_plain(&value.0) {
                problems.error(
                    Code::Step,
                    format!("{:?} is not a locale, keyboard or time zone", value.0),
                    "",
                );
            }
        }
    }

    fn templates(&self) -> Vec<&Template> {
        let others = [&self.locale, &self.keyboard, &self.time_zone];
        std::iter::once(&self.hostname)
            .chain(others.into_iter().flatten())
            .collect()
    }

    fn plan(&self, cx: &PlanCx<'_>) -> Result<Plan, StepError> {
        let hostname = cx.render(&self.hostname)?;
        if !is_host_name(&hostname) {
            return Err(
                StepError::refused(format!("{hostname:?} is not a host name")).hint(format!(
                    "it comes from the template `{}`; pass it through the filter `hostname`",
                    self.hostname.0
                )),
            );
        }
        let plain = |template: &Option<Template>| match template {
            None => Ok(None),
            Some(template) => match cx.render(template)? {
                text if is_plain(&text) => Ok(Some(text)),
                text => Err(StepError::refused(format!(
                    "{text:?} is not a locale, keyboard or time zone"
                ))
                .hint(format!("it comes from the template `{}`", template.0))),
            },
        };
        Ok(Plan {
            hostname,
            locale: plain(&self.locale)?,
            keyboard: plain(&self.keyboard)?,
            time_zone: plain(&self.time_zone)?,
        })
    }

    fn apply(&self, plan: Plan, cx: &StepCx<'_>) -> Result<Outcome, StepError> {
        Self::set_hostname(&plan.hostname, cx)?;
        if let Some(locale) = &plan.locale {
            Self::set_locale(locale, cx)?;
        }
        if let Some(layout) = &plan.keyboard {
            Self::set_keyboard(layout, cx)?;
        }
        if let Some(zone) = &plan.time_zone {
            Self::set_time_zone(zone, cx)?;
        }
        Ok(Outcome::done().output(serde_json::json!({ "hostname": plan.hostname })))
    }
}

/// What stands outside the braces of a template.
fn literal_parts(template: &str) -> String {
    let mut literal = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        literal.push_str(before);
        rest = after.split_once("}}").map_or("", |(_, after)| after);
    }
    literal + rest
}

#[cfg(test)]
mod tests {
    use super::{hosts_with, literal_parts, locale_list_with};

    #[test]
    fn our_name_stands_once_in_the_hosts_file() {
        let first = hosts_with("127.0.0.1\tlocalhost\n::1\tlocalhost\n", "a");
        assert_eq!(
            first,
            "127.0.0.1\tlocalhost\n127.0.1.1\ta\n::1\tlocalhost\n"
        );
        assert_eq!(hosts_with(&first, "b"), first.replace("\ta\n", "\tb\n"));
        assert_eq!(hosts_with("", "a"), "127.0.0.1\tlocalhost\n127.0.1.1\ta\n");
    }

    #[test]
    fn a_locale_is_switched_on_once() {
        let list = locale_list_with("# nb_NO.UTF-8 UTF-8\nen_US.UTF-8 UTF-8\n", "nb_NO.UTF-8");
        assert_eq!(list, "en_US.UTF-8 UTF-8\nnb_NO.UTF-8 UTF-8\n");
        assert_eq!(locale_list_with(&list, "nb_NO.UTF-8"), list);
    }

    #[test]
    fn literals() {
        assert_eq!(literal_parts("a-{{ b }}_{{ c }}d"), "a-_d");
        assert_eq!(literal_parts("{{ b"), "");
    }
}
