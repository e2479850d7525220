//! The rows of a vendor's file, read with its columns. Parsing only: what the fleet says to them is in `plan`.

use std::collections::BTreeMap;

use uuid::Uuid;
use wire::reasons::RowReason;

use super::columns::{Columns, Field};
use super::plan::CLEAR;
use crate::fleet::identity::{name_key, uuid_key};
use crate::limits::ASSET_TEXT_CHARS_MAX;
use crate::table::{Line, Sheet};
use crate::text::clean;

/// One row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Row {
    /// The line in the file, from 1.
    pub(crate) line: u64,
    /// What stands in it. A field without a column isn't there.
    pub(crate) values: BTreeMap<Field, String>,
    /// How the serial number is compared; empty if it is none.
    pub(crate) serial_key: String,
    /// What is wrong.
    pub(crate) problems: Vec<RowReason>,
    /// What was passed over, and doesn't hold the row up.
    pub(crate) notes: Vec<RowReason>,
    /// The line that has the same serial number, if it stands above.
    pub(crate) repeats: Option<u64>,
    /// It is no machine: a line of totals below the others.
    pub(crate) is_total: bool,
}

impl Row {
    pub(crate) fn text(&self, field: &Field) -> &str {
        self.values.get(field).map_or("", String::as_str)
    }
}

/// Reads every row below the titles, whatever is wrong with the others.
pub(crate) fn rows(sheet: &Sheet, columns: &Columns) -> Vec<Row> {
    let mut lines_by_serial: BTreeMap<String, u64> = BTreeMap::new();
    let below = sheet.lines.iter().filter(|line| line.number > columns.line);
    below
        .map(|line| {
            let mut row = row(line, columns);
            if !row.serial_key.is_empty() {
                match lines_by_serial.get(&row.serial_key) {
                    Some(first) => row.repeats = Some(*first),
                    None => {
                        lines_by_serial.insert(row.serial_key.clone(), line.number);
                    }
                }
            }
            row
        })
        .collect()
}

fn row(line: &Line, columns: &Columns) -> Row {
    let mut row = Row {
        line: line.number,
        ..Row::default()
    };
    let beyond = line.cells.iter().skip(columns.columns.len());
    if beyond.filter(|cell| !cell.is_empty()).count() > 0 {
        row.problems.push(RowReason::TooManyValues {
            values: line.cells.len() as u64,
            columns: columns.columns.len() as u64,
        });
    }
    let cells = line
        .cells
        .iter()
        .map(String::as_str)
        .chain(std::iter::repeat(""));
    for (column, cell) in columns.columns.iter().zip(cells) {
        if column.field == Field::Ignored {
            continue;
        }
        if cell.chars().count() > ASSET_TEXT_CHARS_MAX {
            row.problems.push(RowReason::TooLong {
                field: column.field.to_string(),
                characters: ASSET_TEXT_CHARS_MAX as u64,
            });
        }
        let text = clean(cell, ASSET_TEXT_CHARS_MAX);
        if has_lost_digits(&text) && !matches!(column.field, Field::Free(_)) {
            row.problems.push(RowReason::LostDigits {
                field: column.field.to_string(),
                text: text.clone(),
            });
        }
        let text = if column.field.is_date() {
            iso_date(&text)
        } else {
            text
        };
        row.values.insert(column.field.clone(), text);
    }
    row.is_total = is_total(line, &row);
    if !row.is_total {
        check_uuid(&mut row);
        check_serial(&mut row);
    }
    row
}

fn check_uuid(row: &mut Row) {
    let Some(text) = row
        .values
        .get_mut(&Field::Uuid)
        .filter(|text| !text.is_empty() && *text != CLEAR)
    else {
        return;
    };
    match Uuid::parse_str(text) {
        Ok(uuid) if uuid_key(uuid).is_some() => *text = uuid.to_string(),
        // The machine is still the one that its serial number names.
        Ok(_) => {
            let uuid = std::mem::take(text);
            row.notes.push(RowReason::PlaceholderUuid { uuid });
        }
        Err(_) => {
            let text = text.clone();
            row.problems.push(RowReason::NoUuid { text });
        }
    }
}

fn check_serial(row: &mut Row) {
    let serial = row.text(&Field::Serial).to_owned();
    row.serial_key = name_key(&serial).unwrap_or_default();
    if serial.is_empty() {
        row.problems.push(RowReason::NoSerial);
    } else if row.serial_key.is_empty() {
        row.problems.push(RowReason::PlaceholderSerial { serial });
    }
}

/// `1,23E+12`: what a spreadsheet makes of a long number. Serial numbers have no plus sign.
fn has_lost_digits(text: &str) -> bool {
    let upper = text.to_uppercase();
    let Some((mantissa, exponent)) = upper.split_once("E+") else {
        return false;
    };
    let digits = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    let is_number = match mantissa.split_once([',', '.']) {
        Some((whole, rest)) => digits(whole) && digits(rest),
        None => digits(mantissa),
    };
    is_number && digits(exponent)
}

/// `27.06.2026` as `2026-06-27`; what is no such date stays as it is.
fn iso_date(text: &str) -> String {
    let parts: Vec<&str> = text.split(['.', '/']).collect();
    let number = |part: &str| part.trim().parse::<i16>().ok();
    let [day, month, year] = parts.as_slice() else {
        return text.to_owned();
    };
    let (Some(day), Some(month), Some(year)) = (number(day), number(month), number(year)) else {
        return text.to_owned();
    };
    let small = |number: i16| i8::try_from(number).ok();
    match (small(day), small(month)) {
        (Some(day), Some(month)) if year > 1900 => jiff::civil::Date::new(year, month, day)
            .map_or_else(|_| text.to_owned(), |date| date.to_string()),
        _ => text.to_owned(),
    }
}

/// A line without a serial number whose first word says that it sums up the others.
fn is_total(line: &Line, row: &Row) -> bool {
    const WORDS: [&str; 10] = [
        "sum", "total", "totalt", "totals", "totale", "antall", "count", "i alt", "delsum",
        "subtotal",
    ];
    let Some(first) = line.cells.iter().find(|cell| !cell.is_empty()) else {
        return false;
    };
    let word = first
        .to_lowercase()
        .trim_end_matches(|c: char| !c.is_alphabetic())
        .to_owned();
    let begins = |name: &str| {
        word == name
            || word.starts_with(&format!("{name} "))
            || word.starts_with(&format!("{name}:"))
    };
    let serial = row.text(&Field::Serial);
    WORDS.iter().any(|name| begins(name)) && (serial.is_empty() || serial == first)
}
