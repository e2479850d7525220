//! Pupil lists and lists of who gets what, as school systems write them. Parsing only; see `import.rs`.

use std::collections::{BTreeMap, BTreeSet};

use wire::pupils::PUPIL_TEXT_CHARS_MAX;
use wire::reasons::ListReason;

use crate::pupils::store::pupil_key;
use crate::table::{self, Sheet, TableError};
use crate::text::clean;

/// What a column can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Field {
    Number,
    Name,
    FirstName,
    LastName,
    Site,
    Class,
    Device,
    Note,
}

impl Field {
    /// What reports call it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Number => "pupil",
            Self::Name => "name",
            Self::FirstName => "first-name",
            Self::LastName => "last-name",
            Self::Site => "site",
            Self::Class => "class",
            Self::Device => "device",
            Self::Note => "note",
        }
    }

    /// Guesses from a column's title.
    fn of_title(title: &str) -> Option<Self> {
        let letters: String = title
            .to_lowercase()
            .chars()
            .filter(|c| c.is_alphanumeric())
            .collect();
        Some(match letters.as_str() {
            "pupil" | "pupilid" | "pupilnumber" | "number" | "id" | "studentid"
            | "studentnumber" | "username" | "user" | "elevnummer" | "elevnr" | "elevid"
            | "brukernavn" | "feide" | "feidenavn" | "feideid" => Self::Number,
            "name" | "fullname" | "pupilname" | "studentname" | "navn" | "fulltnavn"
            | "elevnavn" | "elev" => Self::Name,
            "firstname" | "givenname" | "fornavn" => Self::FirstName,
            "lastname" | "surname" | "familyname" | "etternavn" => Self::LastName,
            "site" | "sitecode" | "school" | "schoolcode" | "skole" | "skolekode" => Self::Site,
            "class" | "group" | "klasse" | "gruppe" | "basisgruppe" => Self::Class,
            "device" | "machine" | "serial" | "serialnumber" | "serialno" | "assettag"
            | "asset" | "tag" | "hostname" | "maskin" | "maskinnavn" | "serienummer"
            | "serienr" | "inventarnummer" | "inventarnr" | "merke" => Self::Device,
            "note" | "notes" | "comment" | "merknad" | "kommentar" => Self::Note,
            _ => return None,
        })
    }
}

/// What a list is for: the columns it can't do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Pupils,
    HandOut,
}

/// A file as far as it could be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ListFile {
    /// Column title and what it was taken for, in file order.
    pub(super) columns: Vec<(String, Option<Field>)>,
    /// The rows.
    pub(super) rows: Vec<ListLine>,
}

/// One row.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ListLine {
    /// The line in the file, from 1.
    pub(super) line: u64,
    values: BTreeMap<Field, String>,
    /// What is wrong.
    pub(super) problems: Vec<ListReason>,
}

impl ListLine {
    /// What stands in a column; empty if there is none.
    pub(super) fn text(&self, field: Field) -> &str {
        self.values.get(&field).map_or("", String::as_str)
    }

    /// Whether the file has this column.
    pub(super) fn has(&self, field: Field) -> bool {
        self.values.contains_key(&field)
    }
}

/// Why a file is no list.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ListFileError {
    #[error(transparent)]
    Table(TableError),
    #[error("no column is called {wanted}; the titles are: {titles}")]
    NoColumn {
        wanted: &'static str,
        titles: String,
    },
    #[error("two columns are taken for {field}: {first:?} and {second:?}")]
    TwoColumns {
        field: &'static str,
        first: String,
        second: String,
    },
}

/// Reads a whole file, CSV or Excel (its first sheet that isn't hidden); every row is looked at, whatever is wrong with
/// the others.
pub(super) fn parse(bytes: &[u8], purpose: Purpose) -> Result<ListFile, ListFileError> {
    let book = table::read(bytes).map_err(ListFileError::Table)?;
    let is_shown = |sheet: &&Sheet| !sheet.hidden && !sheet.lines.is_empty();
    let sheet = book.sheets.iter().find(is_shown);
    let (titles, lines) = sheet
        .and_then(|sheet| sheet.lines.split_first())
        .ok_or(ListFileError::Table(TableError::Empty))?;
    let columns = header(&titles.cells, purpose)?;
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    let rows = lines
        .iter()
        .map(|line| list_line(line.number, &line.cells, &columns, purpose, &mut seen))
        .collect();
    Ok(ListFile { columns, rows })
}

fn header(
    titles: &[String],
    purpose: Purpose,
) -> Result<Vec<(String, Option<Field>)>, ListFileError> {
    let columns: Vec<(String, Option<Field>)> = titles
        .iter()
        .map(|title| (clean(title, PUPIL_TEXT_CHARS_MAX), Field::of_title(title)))
        .collect();
    for (at, (second, field)) in columns.iter().enumerate() {
        let Some(field) = field else { continue };
        if let Some((first, _)) = columns[..at]
            .iter()
            .find(|(_, other)| *other == Some(*field))
        {
            return Err(ListFileError::TwoColumns {
                field: field.name(),
                first: first.clone(),
                second: second.clone(),
            });
        }
    }
    let fields: BTreeSet<Field> = columns.iter().filter_map(|(_, field)| *field).collect();
    let wanted = match purpose {
        _ if !fields.contains(&Field::Number) => "`pupil` (or `elevnummer`, `brukernavn`)",
        Purpose::Pupils if !fields.contains(&Field::Name) && !fields.contains(&Field::LastName) => {
            "`name` (or `navn`, or `fornavn` and `etternavn`)"
        }
        Purpose::HandOut if !fields.contains(&Field::Device) => {
            "`device` (or `serienummer`, `inventarnummer`, `maskinnavn`)"
        }
        _ => return Ok(columns),
    };
    let titles = columns
        .iter()
        .map(|(title, _)| title.as_str())
        .collect::<Vec<_>>()
        .join(", ");
    Err(ListFileError::NoColumn { wanted, titles })
}

fn list_line(
    line: u64,
    cells: &[String],
    columns: &[(String, Option<Field>)],
    purpose: Purpose,
    seen: &mut BTreeMap<String, u64>,
) -> ListLine {
    let mut problems = Vec::new();
    let mut values = BTreeMap::new();
    if cells.len() > columns.len() {
        problems.push(ListReason::MoreValues {
            values: cells.len() as u64,
            columns: columns.len() as u64,
        });
    }
    let cells = cells.iter().map(String::as_str);
    for ((_, field), value) in columns.iter().zip(cells.chain(std::iter::repeat(""))) {
        let Some(field) = field else { continue };
        if value.trim().chars().count() > PUPIL_TEXT_CHARS_MAX {
            problems.push(ListReason::LongValue {
                field: field.name().to_owned(),
                characters: PUPIL_TEXT_CHARS_MAX as u64,
            });
        }
        values.insert(*field, clean(value, PUPIL_TEXT_CHARS_MAX));
    }
    join_names(&mut values);
    let other = match purpose {
        Purpose::Pupils => (Field::Name, ListReason::NoName),
        Purpose::HandOut => (Field::Device, ListReason::NoDevice),
    };
    for (field, lacking) in [(Field::Number, ListReason::NoNumber), other] {
        if values.get(&field).is_none_or(String::is_empty) {
            problems.push(lacking);
        }
    }
    let number = values.get(&Field::Number).map_or("", String::as_str);
    if purpose == Purpose::Pupils && !number.is_empty() {
        if let Some(first) = seen.get(&pupil_key(number)) {
            problems.push(ListReason::NumberRepeated {
                number: number.to_owned(),
                line: *first,
            });
        } else {
            seen.insert(pupil_key(number), line);
        }
    }
    ListLine {
        line,
        values,
        problems,
    }
}

fn join_names(values: &mut BTreeMap<Field, String>) {
    if values.contains_key(&Field::Name) {
        return;
    }
    let part = |field| values.get(&field).map_or("", String::as_str);
    let name = format!("{} {}", part(Field::FirstName), part(Field::LastName));
    values.insert(Field::Name, clean(&name, PUPIL_TEXT_CHARS_MAX));
}

#[cfg(test)]
mod tests {
    use super::{Field, ListFileError, Purpose, TableError, parse};
    use proptest::prelude::*;
    use wire::reasons::texts;

    /// Number, name, site and class of each row, or the problems.
    fn check(text: &str) -> Vec<Result<[String; 4], Vec<String>>> {
        let fields = [Field::Number, Field::Name, Field::Site, Field::Class];
        let file = parse(text.as_bytes(), Purpose::Pupils).unwrap();
        file.rows
            .into_iter()
            .map(|row| {
                if row.problems.is_empty() {
                    Ok(fields.map(|field| row.text(field).to_owned()))
                } else {
                    Err(texts(&row.problems))
                }
            })
            .collect()
    }

    #[test]
    fn reads_what_school_systems_write() {
        let expected = vec![Ok([
            "karnor01".to_owned(),
            "Kari Nordmann".into(),
            "BJO".into(),
            "8B".into(),
        ])];
        let cases = [
            "pupil,name,site,class\nkarnor01,Kari Nordmann,BJO,8B\n",
            "Brukernavn;Fornavn;Etternavn;Skole;Basisgruppe\r\n\r\nkarnor01;Kari;Nordmann;BJO;8B\r\n;;;;\r\n",
            "Klasse\tSkolekode\tElevnummer\tNavn\tFødt\n8B\tBJO\tkarnor01\tKari Nordmann\t2013\n",
        ];
        for text in cases {
            assert_eq!(check(text), expected, "{text:?}");
        }
    }

    #[test]
    fn reads_excel_too_and_passes_over_hidden_sheets() {
        let mut book = rust_xlsxwriter::Workbook::new();
        let hidden = book.add_worksheet();
        hidden.write_string(0, 0, "koder").unwrap();
        hidden.set_hidden(true);
        let sheet = book.add_worksheet();
        sheet.set_active(true);
        for (column, (title, value)) in [("Brukernavn", "åsnor01"), ("Navn", "Åse Nordmann")]
            .into_iter()
            .enumerate()
        {
            let column = u16::try_from(column).unwrap();
            sheet.write_string(0, column, title).unwrap();
            sheet.write_string(2, column, value).unwrap();
        }
        let file = parse(&book.save_to_buffer().unwrap(), Purpose::Pupils).unwrap();
        assert_eq!(file.rows.len(), 1);
        assert_eq!(file.rows[0].line, 3);
        assert_eq!(file.rows[0].text(Field::Name), "Åse Nordmann");
        assert!(file.rows[0].problems.is_empty());
    }

    #[test]
    fn every_row_says_what_is_wrong_with_it() {
        let rows = check("pupil;name\nk1;Kari\nK1;Kari again\n;Ola\nk2;\n");
        let texts: Vec<String> = rows
            .into_iter()
            .map(|row| row.err().unwrap_or_default().join("; "))
            .collect();
        assert_eq!(
            texts,
            [
                "",
                "pupil K1 stands in line 2 already",
                "there is no pupil",
                "there is no name"
            ]
        );
    }

    #[test]
    fn says_why_a_file_is_no_list() {
        let error = |text: &str, purpose| parse(text.as_bytes(), purpose).unwrap_err();
        assert_eq!(
            error(" \n", Purpose::Pupils),
            ListFileError::Table(TableError::Empty)
        );
        let cases = [
            ("name;class\nx;y", Purpose::Pupils),
            ("pupil;class\nx;y", Purpose::Pupils),
            ("pupil;class\nx;y", Purpose::HandOut),
        ];
        for (text, purpose) in cases {
            let error = error(text, purpose);
            assert!(matches!(error, ListFileError::NoColumn { .. }), "{error:?}");
        }
    }

    proptest! {
        #[test]
        fn garbage_is_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _read = parse(&bytes, Purpose::Pupils);
        }

        #[test]
        fn good_rows_have_what_they_need(rest in "(.|\n|;|\"){0,200}") {
            if let Ok(file) = parse(format!("pupil;name;class\n{rest}").as_bytes(), Purpose::Pupils) {
                for row in file.rows.iter().filter(|row| row.problems.is_empty()) {
                    prop_assert!(!row.text(Field::Number).is_empty() && !row.text(Field::Name).is_empty());
                }
            }
        }
    }
}
