//! `forestage variable`: values for templates and conditions, for some devices.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use serde_json::Value;
use wire::variables::{
    DeviceVariables, ScopeVariables, VariableChange, VariableOrigin, VariableRow, VariableScope,
};

use crate::commands::device;
use crate::failure::{Failure, Outcome, Trying};
use crate::output::{Look, Output, Table, clean, count};
use crate::settings::connect;

/// Values that sequences see, for some devices.
#[derive(Debug, Subcommand)]
pub(crate) enum Variable {
    /// Set variables for a collection, a model, a site, a class or one device
    ///
    /// A value is read as in a sequence: only `true` and `false` are truth values, `no` is text; lists and maps are
    /// written in brackets. Of two values for one device the later of these wins: sequence, collection, model, site,
    /// class, device. Facts and what the asset file says win over all of them. An order that was handed out keeps its
    /// values.
    #[command(
        after_help = "Example:\n  forestage variable set --site BJO wifi=bjo-pupils keyboard=no room=112"
    )]
    Set(Set),
    /// Remove variables
    #[command(after_help = "Example:\n  forestage variable unset --site BJO room")]
    Unset(Unset),
    /// List variables, or those that a run on one device would see
    ///
    /// With `--device` the list shows for each variable the value that wins and where it comes from, counting in the
    /// sequence and the collection of the deployment that is due.
    #[command(after_help = "Example:\n  forestage variable list --device PF3ABC12")]
    List(List),
}

/// Whom variables are for.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct Whom {
    /// The devices that run a deployment for this collection
    #[arg(long, value_name = "NAME")]
    collection: Option<String>,
    /// The devices of this model, as the firmware says it; letter case is ignored
    #[arg(long, value_name = "VENDOR/PRODUCT")]
    model: Option<String>,
    /// The devices at this site
    #[arg(long, value_name = "CODE")]
    site: Option<String>,
    /// The devices of this class
    #[arg(long, value_name = "CLASS")]
    class: Option<String>,
    /// The device with this serial number
    #[arg(long, value_name = "SERIAL")]
    device: Option<String>,
}

impl Whom {
    fn scope(&self) -> Option<(VariableScope, &str)> {
        let given = [
            (VariableScope::Collection, &self.collection),
            (VariableScope::Model, &self.model),
            (VariableScope::Site, &self.site),
            (VariableScope::Class, &self.class),
            (VariableScope::Device, &self.device),
        ];
        given
            .into_iter()
            .find_map(|(scope, name)| Some((scope, name.as_deref()?)))
    }

    fn required(&self) -> Outcome<(VariableScope, &str)> {
        self.scope().ok_or_else(|| {
            Failure::usage("it isn't said whom the variables are for")
                .hint("give one of --collection, --model, --site, --class, --device")
        })
    }
}

/// `variable set`
#[derive(Debug, Args)]
pub(crate) struct Set {
    #[command(flatten)]
    whom: Whom,
    /// Names and values
    #[arg(value_name = "KEY=VALUE", required = true, value_parser = parse_assignment)]
    assignments: Vec<(String, Value)>,
}

/// `variable unset`
#[derive(Debug, Args)]
pub(crate) struct Unset {
    #[command(flatten)]
    whom: Whom,
    /// Names
    #[arg(value_name = "KEY", required = true)]
    keys: Vec<String>,
}

/// `variable list`
#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    whom: Whom,
}

/// Does what was asked.
pub(crate) fn run(command: &Variable, output: &Output) -> Outcome<()> {
    match command {
        Variable::Set(set) => {
            let assignments: BTreeMap<String, Value> = set.assignments.iter().cloned().collect();
            if assignments.len() < set.assignments.len() {
                return Err(Failure::usage("a variable is set twice"));
            }
            change(&set.whom, assignments, Vec::new(), output)
        }
        Variable::Unset(unset) => change(&unset.whom, BTreeMap::new(), unset.keys.clone(), output),
        Variable::List(list) => match list.whom.scope() {
            Some((VariableScope::Device, serial)) => {
                let client = connect()?;
                let device = device::find(&client, serial)?;
                let variables = client
                    .device_variables(device.device)
                    .trying(|| format!("cannot list the variables of {serial}"))?;
                output.answer(&variables, |look| render_effective(&variables, look))
            }
            only => {
                let rows = connect()?
                    .variables(only)
                    .trying(|| "cannot list variables".into())?;
                output.answer(&rows, |look| render_list(&rows, look))
            }
        },
    }
}

fn change(
    whom: &Whom,
    set: BTreeMap<String, Value>,
    unset: Vec<String>,
    output: &Output,
) -> Outcome<()> {
    let (scope, name) = whom.required()?;
    let change = VariableChange {
        scope,
        name: name.to_owned(),
        set,
        unset,
    };
    let changed = connect()?
        .change_variables(&change)
        .trying(|| format!("cannot change the variables of {scope} {name}"))?;
    output.answer(&changed, |look| render_changed(&changed, look))
}

/// `KEY=VALUE`; the value as in a sequence document.
fn parse_assignment(text: &str) -> Result<(String, Value), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or("write it as KEY=VALUE, such as wifi=school")?;
    if !sequence::document::is_variable_name(key) {
        return Err(format!(
            "{key:?} can't be the name of a variable: small letters, digits and _, a letter first"
        ));
    }
    Ok((key.to_owned(), parse_value(value)?))
}

/// Numbers, `true`, `false`, `null`, texts in quotes, lists and maps in brackets; everything else is the text itself,
/// even if YAML would see a map or a comment in it.
fn parse_value(text: &str) -> Result<Value, String> {
    let itself = || Value::String(text.to_owned());
    let is_written_out = text.starts_with(['[', '{', '"', '\'']);
    match sequence::document::parse_value(text) {
        Ok(value) if is_written_out => Ok(value),
        Err(message) if is_written_out => Err(message),
        Ok(value @ (Value::Bool(_) | Value::Number(_))) => Ok(value),
        Ok(Value::Null) if !text.is_empty() => Ok(Value::Null),
        _ => Ok(itself()),
    }
}

fn render_changed(changed: &ScopeVariables, look: &Look) -> String {
    let whom = look
        .paint
        .bold(&clean(&format!("{} {}", changed.scope, changed.name)));
    let devices = match changed.devices {
        0 => look.paint.warn("fits no device yet"),
        devices => format!("fits {}", count(devices as usize, "device")),
    };
    let head = format!(
        "{whom}: {}, {devices}\n",
        count(changed.variables.len(), "variable")
    );
    if changed.variables.is_empty() {
        return head;
    }
    let mut table = Table::new(&["variable", "value"]);
    for row in &changed.variables {
        table.row([row.key.clone(), in_words(&row.value)]);
    }
    format!("{head}{}", table.render(look, "  "))
}

fn render_list(rows: &[VariableRow], look: &Look) -> String {
    let mut table = Table::new(&["for", "name", "variable", "value"]);
    for row in rows {
        table.row([
            row.scope.to_string(),
            row.name.clone(),
            row.key.clone(),
            in_words(&row.value),
        ]);
    }
    if table.is_empty() {
        "no such variables\n".into()
    } else {
        table.render(look, "")
    }
}

fn render_effective(variables: &DeviceVariables, look: &Look) -> String {
    let serial = look.paint.bold(&clean(&variables.serial));
    let mut table = Table::new(&["variable", "from", "value"]);
    for variable in &variables.variables {
        table.row([
            variable.key.clone(),
            origin_in_words(&variable.origin),
            in_words(&variable.value),
        ]);
    }
    let due = match &variables.deployment {
        Some(name) => format!("deployment {name} is due"),
        None => "no deployment is due, so no sequence and no collection counts".into(),
    };
    format!("{serial}: {due}\n\n{}", table.render(look, "  "))
}

/// Where a value comes from, for people.
pub(crate) fn origin_in_words(origin: &VariableOrigin) -> String {
    clean(&origin.to_string())
}

/// A value for people: a text stands for itself unless it could be taken for something else.
pub(crate) fn in_words(value: &Value) -> String {
    match value {
        Value::String(text) if parse_value(text) == Ok(value.clone()) && !text.is_empty() => {
            text.clone()
        }
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{in_words, parse_assignment, render_changed, render_effective};
    use crate::output::{Look, Paint};
    use wire::variables::{
        DeviceVariables, EffectiveVariable, ScopeVariables, VariableOrigin, VariableScope,
    };

    fn check(text: &str) -> Value {
        parse_assignment(&format!("key={text}")).unwrap().1
    }

    #[test]
    fn values_are_read_as_in_sequences() {
        for (text, value) in [
            ("true", json!(true)),
            ("no", json!("no")),
            ("yes", json!("yes")),
            ("12", json!(12)),
            ("1.5", json!(1.5)),
            ("null", Value::Null),
            ("", json!("")),
            ("\"12\"", json!("12")),
            ("[a, no, 3]", json!(["a", "no", 3])),
            ("{ ssid: skole }", json!({"ssid": "skole"})),
            ("https://x.example/?a=b", json!("https://x.example/?a=b")),
            ("Rom: 112", json!("Rom: 112")),
            ("a # b", json!("a # b")),
            ("*star", json!("*star")),
            ("blåbær og fløte", json!("blåbær og fløte")),
        ] {
            assert_eq!(check(text), value, "{text}");
        }
        for text in ["key", "=x", "Key=1", "key=[1", "9=1"] {
            assert!(parse_assignment(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_text_that_looks_like_something_else_is_quoted() {
        assert_eq!(in_words(&json!("school")), "school");
        assert_eq!(in_words(&json!("12")), "\"12\"");
        assert_eq!(in_words(&json!(12)), "12");
        assert_eq!(in_words(&json!("")), "\"\"");
        assert_eq!(in_words(&json!({"a": 1})), "{\"a\":1}");
    }

    const LOOK: Look = Look {
        paint: Paint::NONE,
        width: 80,
    };

    #[test]
    fn a_scope_that_fits_nothing_is_pointed_out() {
        let changed = ScopeVariables {
            scope: VariableScope::Model,
            name: "acme/book 14".into(),
            devices: 0,
            variables: vec![],
        };
        assert_eq!(
            render_changed(&changed, &LOOK),
            "model acme/book 14: 0 variables, fits no device yet\n"
        );
    }

    #[test]
    fn the_variables_of_a_device_say_where_they_come_from() {
        let variable = |key: &str, value: Value, origin| EffectiveVariable {
            key: key.into(),
            value,
            origin,
        };
        let site = VariableOrigin::Scope {
            scope: VariableScope::Site,
            name: "BJØ".into(),
        };
        let sequence = VariableOrigin::Sequence {
            name: "deploy".parse().unwrap(),
        };
        let variables = DeviceVariables {
            device: wire::names::DeviceId(uuid::Uuid::nil()),
            serial: "PF1".into(),
            deployment: Some("autumn".parse().unwrap()),
            variables: vec![
                variable("class", json!("1STA"), VariableOrigin::Asset),
                variable("keyboard", json!("no"), sequence),
                variable("room", json!(112), site),
            ],
        };
        insta::assert_snapshot!(render_effective(&variables, &LOOK));
    }
}
