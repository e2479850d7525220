//! What a file does to the fleet: each row against what is known, before anything is written.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use wire::digest::Digest;
use wire::imports::{FieldChange, ImportCounts, ImportLine, RowResult};
use wire::reasons::{RowReason, texts};

use super::columns::Field;
use super::rows::Row;
use crate::fleet::aliases::Aliases;
use crate::fleet::identity::name_key;
use crate::people::roles::Reach;

/// What an import can set of an asset.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Values {
    pub(crate) serial: String,
    pub(crate) asset_tag: String,
    pub(crate) uuid: String,
    pub(crate) vendor: String,
    pub(crate) product: String,
    pub(crate) sku: String,
    pub(crate) baseboard: String,
    pub(crate) site: String,
    pub(crate) class: String,
    /// Free fields that hold something.
    pub(crate) fields: BTreeMap<String, String>,
}

impl Values {
    /// All of them, by the names of [`Field`].
    pub(crate) fn list(&self) -> impl Iterator<Item = (String, &String)> {
        let named = [
            (Field::Serial, &self.serial),
            (Field::AssetTag, &self.asset_tag),
            (Field::Uuid, &self.uuid),
            (Field::Vendor, &self.vendor),
            (Field::Product, &self.product),
            (Field::Sku, &self.sku),
            (Field::Baseboard, &self.baseboard),
            (Field::SiteCode, &self.site),
            (Field::Class, &self.class),
        ];
        let free = self.fields.iter();
        named
            .into_iter()
            .chain(free.map(|(name, value)| (Field::Free(name.clone()), value)))
            .map(|(field, value)| (field.to_string(), value))
    }

    /// What differs, in the order of the fields.
    pub(crate) fn changes_to(&self, after: &Self) -> Vec<FieldChange> {
        let old: BTreeMap<String, &String> = self.list().collect();
        let new: BTreeMap<String, &String> = after.list().collect();
        let mut names: Vec<String> = after.list().map(|(name, _)| name).collect();
        names.extend(old.keys().filter(|name| !new.contains_key(*name)).cloned());
        let empty = String::new();
        names
            .into_iter()
            .filter_map(|field| {
                let (old, new) = (
                    *old.get(&field).unwrap_or(&&empty),
                    *new.get(&field).unwrap_or(&&empty),
                );
                (old != new).then(|| FieldChange {
                    field,
                    old: old.clone(),
                    new: new.clone(),
                })
            })
            .collect()
    }

    /// With the names that the machines of the model say, where a vendor calls it otherwise.
    fn of_its_model(self, aliases: &Aliases) -> Self {
        match aliases.meant(&self.product) {
            Some((vendor, product)) => Self {
                vendor: vendor.clone(),
                product: product.clone(),
                ..self
            },
            None => self,
        }
    }

    /// What a row says, over what was known. A column that the file doesn't have and an empty cell say nothing; a cell
    /// with nothing but [`CLEAR`] empties its field.
    fn merged(&self, row: &Row) -> Self {
        let value = |field: Field, old: &String| match row.values.get(&field).map(String::as_str) {
            None | Some("") => old.clone(),
            Some(CLEAR) => String::new(),
            Some(said) => said.to_owned(),
        };
        let mut fields = self.fields.clone();
        for (field, said) in &row.values {
            let Field::Free(name) = field else { continue };
            match said.as_str() {
                "" => {}
                CLEAR => drop(fields.remove(name)),
                said => drop(fields.insert(name.clone(), said.to_owned())),
            }
        }
        Self {
            // A known asset keeps the spelling of its serial number.
            serial: if name_key(&self.serial).as_deref() == Some(&row.serial_key) {
                value(Field::Serial, &self.serial)
            } else {
                row.text(&Field::Serial).to_owned()
            },
            asset_tag: value(Field::AssetTag, &self.asset_tag),
            uuid: value(Field::Uuid, &self.uuid),
            vendor: value(Field::Vendor, &self.vendor),
            product: value(Field::Product, &self.product),
            sku: value(Field::Sku, &self.sku),
            baseboard: value(Field::Baseboard, &self.baseboard),
            site: site_code(row).unwrap_or(&self.site).to_owned(),
            class: value(Field::Class, &self.class),
            fields,
        }
    }
}

/// What a cell says to empty its field, as a blank one leaves it as it is.
pub(crate) const CLEAR: &str = "(clear)";

/// A site is known by its code; without one its name stands in.
pub(crate) fn site_code(row: &Row) -> Option<&str> {
    let filled = |field: Field| {
        let said = row.values.get(&field);
        said.filter(|text| !text.is_empty() && *text != CLEAR)
    };
    filled(Field::SiteCode)
        .or_else(|| filled(Field::SiteName))
        .map(String::as_str)
}

/// An asset that is in the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) device: String,
    pub(crate) values: Values,
}

/// The fleet as an import sees it.
#[derive(Debug, Default)]
pub(crate) struct Fleet {
    by_serial: HashMap<String, Known>,
    serial_by_uuid: HashMap<String, String>,
    serial_by_tag: HashMap<String, String>,
    /// What vendors call models.
    aliases: Aliases,
}

impl Fleet {
    /// A fleet without a machine.
    pub(crate) fn empty(aliases: Aliases) -> Self {
        Self {
            aliases,
            ..Self::default()
        }
    }

    pub(crate) fn insert(&mut self, serial_key: String, known: Known) {
        let values = &known.values;
        if !values.uuid.is_empty() {
            self.serial_by_uuid
                .insert(values.uuid.clone(), serial_key.clone());
        }
        if let Some(tag) = name_key(&values.asset_tag) {
            self.serial_by_tag.insert(tag, serial_key.clone());
        }
        self.by_serial.insert(serial_key, known);
    }

    pub(crate) fn get(&self, serial_key: &str) -> Option<&Known> {
        self.by_serial.get(serial_key)
    }
}

/// One row, decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Planned {
    pub(crate) row: Row,
    pub(crate) result: RowResult,
    pub(crate) problems: Vec<RowReason>,
    /// The asset it is about, if known.
    pub(crate) known: Option<Known>,
    /// What it becomes, for rows that are valid.
    pub(crate) becomes: Values,
}

impl Planned {
    /// For people.
    pub(crate) fn line(&self) -> ImportLine {
        let nothing = Values::default();
        let before = self.known.as_ref().map_or(&nothing, |known| &known.values);
        ImportLine {
            line: self.row.line,
            serial: self.row.text(&Field::Serial).to_owned(),
            result: self.result,
            changes: if self.result.is_valid() {
                before.changes_to(&self.becomes)
            } else {
                Vec::new()
            },
            problems: texts(&self.problems),
            said: self.problems.clone(),
            device: self.known.as_ref().map(|known| known.device.clone()),
        }
    }
}

/// Decides every row.
pub(crate) fn plan(rows: Vec<Row>, fleet: &Fleet, reach: &Reach) -> Vec<Planned> {
    // Who has a UUID or an asset tag once the file is in: the file's rows first, then what they leave as it is.
    let mut claims = Claims::default();
    rows.into_iter()
        .map(|row| {
            let known = fleet.get(&row.serial_key).cloned();
            let nothing = Values::default();
            let before = known.as_ref().map_or(&nothing, |known| &known.values);
            let becomes = before.merged(&row).of_its_model(&fleet.aliases);
            let (result, problems) =
                decide(&row, known.as_ref(), &becomes, fleet, &mut claims, reach);
            Planned {
                row,
                result,
                problems,
                known,
                becomes,
            }
        })
        .collect()
}

/// UUIDs and asset tags of the rows so far, with their lines.
#[derive(Debug, Default)]
struct Claims {
    lines_by_uuid: HashMap<String, u64>,
    lines_by_tag: HashMap<String, u64>,
}

fn decide(
    row: &Row,
    known: Option<&Known>,
    becomes: &Values,
    fleet: &Fleet,
    claims: &mut Claims,
    reach: &Reach,
) -> (RowResult, Vec<RowReason>) {
    if row.is_total {
        return (RowResult::Skipped, vec![RowReason::Totals]);
    }
    let mut problems = row.problems.clone();
    let serial = row.text(&Field::Serial).to_owned();
    if !reach.covers(&becomes.site) || known.is_some_and(|known| !reach.covers(&known.values.site))
    {
        let serial = serial.clone();
        problems.push(RowReason::OtherSite { serial });
    }
    if !problems.is_empty() {
        return (RowResult::Invalid, problems);
    }
    if let Some(line) = row.repeats {
        problems.push(RowReason::SerialRepeated { serial, line });
    }
    let uuid = becomes.uuid.clone();
    if !uuid.is_empty() {
        let owner = fleet.serial_by_uuid.get(&uuid);
        match claim(&uuid, row, &mut claims.lines_by_uuid, owner) {
            Claimed::Free => {}
            Claimed::InLine(line) => problems.push(RowReason::UuidRepeated { uuid, line }),
            Claimed::Owned(owner) => problems.push(RowReason::UuidTaken { uuid, owner }),
        }
    }
    if let Some(tag) = name_key(&becomes.asset_tag) {
        let owner = fleet.serial_by_tag.get(&tag);
        match claim(&tag, row, &mut claims.lines_by_tag, owner) {
            Claimed::Free => {}
            Claimed::InLine(line) => problems.push(RowReason::TagRepeated { tag, line }),
            Claimed::Owned(owner) => problems.push(RowReason::TagTaken { tag, owner }),
        }
    }
    let result = match known {
        _ if !problems.is_empty() => RowResult::Duplicate,
        None => RowResult::New,
        Some(known) if known.values == *becomes => RowResult::Unchanged,
        Some(_) => RowResult::Changed,
    };
    problems.extend(row.notes.iter().cloned());
    (result, problems)
}

/// Who has a name that a row wants.
enum Claimed {
    /// Nobody else; it is the row's from now on.
    Free,
    /// The row in this line.
    InLine(u64),
    /// The machine with this serial number.
    Owned(String),
}

fn claim(
    name: &str,
    row: &Row,
    lines: &mut HashMap<String, u64>,
    owner: Option<&String>,
) -> Claimed {
    if let Some(first) = lines.get(name) {
        return Claimed::InLine(*first);
    }
    if let Some(owner) = owner.filter(|owner| **owner != row.serial_key) {
        return Claimed::Owned(owner.clone());
    }
    lines.insert(name.to_owned(), row.line);
    Claimed::Free
}

/// Rows by what they do.
pub(crate) fn counts(rows: &[Planned]) -> ImportCounts {
    let mut counts = ImportCounts::default();
    for row in rows {
        counts.add(row.result);
    }
    counts
}

/// Stands for everything that the plan would do.
pub(crate) fn digest(rows: &[Planned]) -> String {
    let mut text = String::new();
    for row in rows {
        let values: Vec<(String, &String)> = row.becomes.list().collect();
        let device = row.known.as_ref().map_or("", |known| &known.device);
        text.push_str(&format!(
            "{} {} {device} {values:?}\n",
            row.row.line,
            row.result.word()
        ));
    }
    Digest::of(text.as_bytes()).to_string()
}
