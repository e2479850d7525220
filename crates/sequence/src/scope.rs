//! What expressions and templates can see. The engine that evaluates them is in [`crate::expression`].
//!
//! Names, later ones winning: the sequence's variables, the order's variables, variables set by earlier steps. Facts
//! and `outputs` always win: what was observed cannot be talked over. A name that isn't there is an error, never an empty
//! text: a host name with a hole in it is worse than a stopped run.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use wire::facts::{Disk, Facts};

use crate::expression::{self, Explained, Values};
use crate::ports::StepError;

/// A fact that expressions can use: its name, and how its value is read.
type Fact = (&'static str, fn(&Facts) -> Value);

/// All of them. What can't be observed is `none`.
const FACTS: [Fact; 16] = [
    ("serial", |facts| facts.serial.as_str().into()),
    ("asset_tag", |facts| facts.asset_tag.as_str().into()),
    ("uuid", |facts| {
        facts.uuid.map(|uuid| uuid.to_string()).into()
    }),
    ("vendor", |facts| facts.vendor.as_str().into()),
    ("product", |facts| facts.product.as_str().into()),
    ("sku", |facts| facts.sku.as_str().into()),
    ("baseboard", |facts| facts.baseboard.as_str().into()),
    ("memory_bytes", |facts| facts.memory_bytes.into()),
    ("firmware", |facts| json!(facts.firmware)),
    ("secure_boot", |facts| facts.secure_boot.into()),
    ("tpm", |facts| facts.tpm.into()),
    ("mains_power", |facts| facts.power.mains.into()),
    ("battery_percent", |facts| {
        facts.power.battery_percent.into()
    }),
    ("clock", |facts| facts.clock.into()),
    ("disks", |facts| {
        facts.disks.iter().map(disk_value).collect()
    }),
    ("network", |facts| {
        facts
            .network
            .iter()
            .map(|interface| json!(interface))
            .collect()
    }),
];
/// The names of facts that expressions can use.
pub const FACT_NAMES: [&str; FACTS.len()] = {
    let mut names = [""; FACTS.len()];
    let mut index = 0;
    while index < names.len() {
        names[index] = FACTS[index].0;
        index += 1;
    }
    names
};
/// The names of facts that the model alone decides.
pub const MODEL_NAMES: [&str; 4] = ["vendor", "product", "sku", "baseboard"];
/// Names the server puts into every order.
pub const ORDER_NAMES: [&str; 5] = ["asset", "assigned_name", "class", "class_software", "site"];
/// The name under which the outputs of earlier steps are found, by step path.
pub const OUTPUTS_NAME: &str = "outputs";
/// The longest label of a DNS name (RFC 1035, 2.3.4).
pub const HOST_NAME_BYTES_MAX: usize = 63;
/// What a person can do about an expression that fails.
const HINT: &str =
    "correct it in the sequence, or give the name a value under `variables` or in the deployment";

/// A text with expressions in double braces, such as `{{ site.code }}-{{ serial | last(4) }}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Template(pub String);

/// The values expressions and templates see.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scope {
    values: Values,
}

impl Scope {
    /// The scope before a step.
    #[must_use]
    pub fn new(
        facts: &Facts,
        variables: &[&BTreeMap<String, Value>],
        outputs: &BTreeMap<String, Value>,
    ) -> Self {
        let mut scope = Self::default();
        for layer in variables {
            layer
                .iter()
                .for_each(|(name, value)| scope.set(name, value));
        }
        for (name, value) in fact_values(facts) {
            scope.set(&name, &value);
        }
        let outputs = outputs
            .iter()
            .map(|(path, value)| (path.clone(), value.clone()))
            .collect();
        scope.set(OUTPUTS_NAME, &Value::Object(outputs));
        scope
    }

    /// A scope with exactly these values.
    #[must_use]
    pub fn of(values: &BTreeMap<String, Value>) -> Self {
        let mut scope = Self::default();
        values
            .iter()
            .for_each(|(name, value)| scope.set(name, value));
        scope
    }

    /// Whether the name has a value.
    #[must_use]
    pub fn knows(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// Gives a name a value.
    pub fn set(&mut self, name: &str, value: &Value) {
        self.values
            .insert(name.to_owned(), expression::value(value));
    }

    /// Makes `number(WIDTH)` in templates give this number, with zeros in front.
    pub fn set_number(&mut self, number: u64) {
        self.values
            .insert("number".to_owned(), expression::number_function(number));
    }

    /// The values, as the engine holds them.
    pub(crate) const fn values(&self) -> &Values {
        &self.values
    }

    /// Takes a name's value away.
    pub fn forget(&mut self, name: &str) {
        self.values.remove(name);
    }

    /// Renders a template.
    ///
    /// # Errors
    /// It cannot be parsed, or needs a name that isn't there.
    pub fn render(&self, template: &Template) -> Result<String, StepError> {
        expression::render(&template.0, &self.values).map_err(|error| {
            cannot(
                format!("cannot fill in the template `{}`", template.0),
                error,
            )
        })
    }

    /// Evaluates a condition.
    ///
    /// # Errors
    /// It cannot be parsed, or needs a name that isn't there.
    pub fn is_true(&self, condition: &str) -> Result<bool, StepError> {
        expression::is_true(condition, &self.values)
            .map_err(|error| cannot(format!("cannot decide the condition `{condition}`"), error))
    }
}

fn cannot(what: String, error: Explained) -> StepError {
    StepError::refused(what).hint(HINT).because(error)
}

/// Makes a host name out of any text: Latin letters become ASCII, what a host name can't hold becomes a hyphen or is
/// dropped, at most 63 characters, no hyphen at either end.
#[must_use]
pub fn host_name(text: &str) -> String {
    let mut name = String::new();
    for letter in text.chars() {
        match letter {
            'a'..='z' | 'A'..='Z' | '0'..='9' => name.push(letter.to_ascii_lowercase()),
            '-' | '_' | ' ' | '.' | '/' if !name.ends_with('-') => name.push('-'),
            _ => name.push_str(transliterate(letter)),
        }
    }
    let name: String = name
        .trim_start_matches('-')
        .chars()
        .take(HOST_NAME_BYTES_MAX)
        .collect();
    name.trim_end_matches('-').to_owned()
}

/// Writes European letters in ASCII: æ→ae, ø→o, å→a and so on. What is neither is dropped.
#[must_use]
pub fn ascii(text: &str) -> String {
    let mut plain = String::new();
    for letter in text.chars() {
        if letter.is_ascii() {
            plain.push(letter);
        } else if letter.is_uppercase() {
            plain.extend(first_upper(transliterate(letter)));
        } else {
            plain.push_str(transliterate(letter));
        }
    }
    plain
}

fn first_upper(text: &str) -> impl Iterator<Item = char> {
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters)
}

/// Whether a text can be a host name as it is.
#[must_use]
pub fn is_host_name(text: &str) -> bool {
    let holds = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    !text.is_empty()
        && text.len() <= HOST_NAME_BYTES_MAX
        && text.bytes().all(holds)
        && !text.starts_with('-')
        && !text.ends_with('-')
        && !text.bytes().all(|byte| byte.is_ascii_digit())
}

/// All facts with their names.
pub fn fact_values(facts: &Facts) -> impl Iterator<Item = (String, Value)> {
    FACTS
        .iter()
        .map(move |(name, value)| ((*name).to_owned(), value(facts)))
}

/// A disk as expressions see it, named like the keys of a disk rule. What the wipe guard sees on it is not theirs to
/// decide with.
fn disk_value(disk: &Disk) -> Value {
    json!({
        "path": disk.path,
        "bus": disk.bus,
        "model": disk.model,
        "size_bytes": disk.size_bytes,
        "removable": disk.removable,
    })
}

/// ASCII for the letters of European names. What is not listed is dropped.
fn transliterate(letter: char) -> &'static str {
    match letter {
        'æ' | 'Æ' | 'ä' | 'Ä' => "ae",
        'œ' | 'Œ' => "oe",
        'ø' | 'Ø' | 'ö' | 'Ö' | 'ó' | 'Ó' | 'ò' | 'Ò' | 'ô' | 'Ô' | 'õ' | 'Õ' | 'ő' | 'Ő' => {
            "o"
        }
        'å' | 'Å' | 'á' | 'Á' | 'à' | 'À' | 'â' | 'Â' | 'ã' | 'Ã' | 'ą' | 'Ą' | 'ă' | 'Ă' => {
            "a"
        }
        'é' | 'É' | 'è' | 'È' | 'ê' | 'Ê' | 'ë' | 'Ë' | 'ę' | 'Ę' | 'ě' | 'Ě' => "e",
        'í' | 'Í' | 'ì' | 'Ì' | 'î' | 'Î' | 'ï' | 'Ï' | 'ı' | 'İ' => "i",
        'ú' | 'Ú' | 'ù' | 'Ù' | 'û' | 'Û' | 'ü' | 'Ü' | 'ů' | 'Ů' | 'ű' | 'Ű' => "u",
        'ý' | 'Ý' | 'ÿ' => "y",
        'ç' | 'Ç' | 'ć' | 'Ć' | 'č' | 'Č' => "c",
        'ð' | 'Ð' | 'đ' | 'Đ' | 'ď' | 'Ď' => "d",
        'ñ' | 'Ñ' | 'ń' | 'Ń' | 'ň' | 'Ň' | 'ŋ' | 'Ŋ' => "n",
        'ł' | 'Ł' => "l",
        'ř' | 'Ř' => "r",
        'ś' | 'Ś' | 'š' | 'Š' | 'ş' | 'Ş' | 'ș' | 'Ș' => "s",
        'ß' | 'ẞ' => "ss",
        'ť' | 'Ť' | 'ŧ' | 'Ŧ' | 'ț' | 'Ț' => "t",
        'þ' | 'Þ' => "th",
        'ź' | 'Ź' | 'ż' | 'Ż' | 'ž' | 'Ž' => "z",
        'ğ' | 'Ğ' | 'ǧ' | 'Ǧ' => "g",
        'ǩ' | 'Ǩ' => "k",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::json;
    use wire::facts::{Bus, Disk, DiskContent, Facts, NetworkInterface, Power};

    use super::{FACT_NAMES, Scope, Template, host_name, is_host_name};
    use crate::expression::{condition_names, template_names};

    fn scope() -> Scope {
        let facts = Facts {
            serial: "PF0ABC12".into(),
            vendor: "Acme".into(),
            ..Facts::default()
        };
        let variables = BTreeMap::from([
            ("site".to_owned(), json!({"code": "BÆR"})),
            ("vendor".to_owned(), json!("forged")),
        ]);
        let outputs = BTreeMap::from([("apps/java".to_owned(), json!({"exit": 0}))]);
        Scope::new(&facts, &[&variables], &outputs)
    }

    #[test]
    fn templates() {
        let check = |text: &str| {
            scope()
                .render(&Template(text.to_owned()))
                .map_err(|error| error.chain().join(": "))
        };
        assert_eq!(
            check("{{ site.code }}-{{ serial | last(4) }}").unwrap(),
            "BÆR-BC12"
        );
        assert_eq!(
            check("{{ (site.code ~ '-' ~ (serial | first(2))) | hostname }}").unwrap(),
            "baer-pf"
        );
        assert_eq!(
            check("{{ vendor }}").unwrap(),
            "Acme",
            "facts can't be overridden"
        );
        assert_eq!(check("{{ outputs['apps/java'].exit }}").unwrap(), "0");
        assert!(check("{{ nothing }}").unwrap_err().contains("isn't there"));
        assert!(check("{{ site.nothing }}").is_err());
        assert!(check("{{ (").is_err());
    }

    #[test]
    fn conditions() {
        let check = |text: &str| {
            scope()
                .is_true(text)
                .map_err(|error| error.chain().join(": "))
        };
        assert_eq!(check("vendor == 'Acme' and not secure_boot"), Ok(true));
        assert_eq!(check("serial in ['A', 'B']"), Ok(false));
        assert_eq!(check("version_compare('17.0.9', '17.0.10') < 0"), Ok(true));
        assert_eq!(check("klass is defined"), Ok(false));
        assert!(check("klass == '1STA'").is_err());
        assert!(check("vendor ==").is_err());
    }

    #[test]
    fn facts_of_every_kind() {
        let disk = |path: &str, size_bytes, removable| Disk {
            path: path.to_owned(),
            bus: Bus::Nvme,
            model: "Fake".to_owned(),
            serial: String::new(),
            size_bytes,
            removable,
            content: DiskContent::Foreign,
        };
        let facts = Facts {
            power: Power {
                mains: Some(true),
                battery_percent: None,
            },
            clock: Some(1_767_225_600),
            disks: vec![
                disk("/dev/sda", 1 << 30, true),
                disk("/dev/nvme0n1", 64 << 30, false),
            ],
            network: vec![NetworkInterface {
                name: "enp0s2".into(),
                mac: "52:54:00:ab:00:01".into(),
            }],
            ..Facts::default()
        };
        let scope = Scope::new(&facts, &[], &BTreeMap::new());
        for condition in [
            "mains_power and battery_percent is none",
            "clock >= 1767225600",
            "disks | length == 2 and disks[1].size_bytes >= 60 * 1024 * 1024 * 1024 and not disks[1].removable",
            "disks[1].path == '/dev/nvme0n1' and disks[1].model == 'Fake'",
            "disks[0].content is not defined",
            "network[0].mac[:8] == '52:54:00' and network | length == 1",
            "uuid is none and firmware == 'uefi'",
        ] {
            assert!(scope.is_true(condition).unwrap(), "{condition}");
        }
        assert!(FACT_NAMES.iter().all(|name| scope.knows(name)));
    }

    #[test]
    fn host_names() {
        for (text, name) in [
            ("Åsgård Øst_1", "asgard-ost-1"),
            ("--BÆR--", "baer"),
            ("日本", ""),
            ("a.b", "a-b"),
            ("ŠÞ", "sth"),
        ] {
            assert_eq!(host_name(text), name);
        }
        assert!(is_host_name("baer-1sta-bc12"));
        for wrong in ["", "-a", "a-", "a_b", "æ", "123", &"a".repeat(64)] {
            assert!(!is_host_name(wrong), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn whatever_it_is_made_from_a_host_name_is_one_or_empty_or_a_number(text in ".{0,100}") {
            let name = host_name(&text);
            let is_number = name.bytes().all(|byte| byte.is_ascii_digit());
            prop_assert!(name.is_empty() || is_host_name(&name) || is_number, "{}", name);
        }

        #[test]
        fn garbage_never_panics(text in ".{0,60}") {
            let _ = (condition_names(&text), template_names(&text), scope().is_true(&text));
        }
    }
}
