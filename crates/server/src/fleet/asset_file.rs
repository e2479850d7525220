//! Asset files as people have them: CSV from any spreadsheet, in English or Norwegian. Parsing only; see `assets.rs`.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::fleet::identity::{name_key, uuid_key};
use crate::limits::{ASSET_ROWS_MAX, ASSET_TEXT_CHARS_MAX};
use crate::text::clean;

/// Columns of an asset file; more is no asset file.
const COLUMNS_MAX: usize = 200;

/// What a column can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Field {
    Serial,
    AssetTag,
    Uuid,
    Vendor,
    Product,
    Sku,
    Baseboard,
    SiteCode,
    SiteName,
    Class,
}

impl Field {
    /// What reports call it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Serial => "serial",
            Self::AssetTag => "asset-tag",
            Self::Uuid => "uuid",
            Self::Vendor => "vendor",
            Self::Product => "product",
            Self::Sku => "sku",
            Self::Baseboard => "baseboard",
            Self::SiteCode => "site",
            Self::SiteName => "site-name",
            Self::Class => "class",
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
            "serial" | "serialnumber" | "serialno" | "serienummer" | "serienr" | "sn" => {
                Self::Serial
            }
            "assettag" | "asset" | "tag" | "inventarnummer" | "inventarnr" | "merke"
            | "eiendelsmerke" => Self::AssetTag,
            "uuid" | "smbiosuuid" | "systemuuid" | "guid" => Self::Uuid,
            "vendor" | "manufacturer" | "make" | "produsent" | "leverandør" => Self::Vendor,
            "product" | "model" | "modell" | "produkt" | "productname" | "produktnavn"
            | "maskinmodell" => Self::Product,
            "sku" | "skunumber" | "artikkelnummer" => Self::Sku,
            "baseboard" | "hovedkort" => Self::Baseboard,
            "site" | "skole" | "sitecode" | "skolekode" | "lokasjon" | "sted" => Self::SiteCode,
            "sitename" | "skolenavn" | "schoolname" => Self::SiteName,
            "class" | "klasse" | "group" | "gruppe" => Self::Class,
            _ => return None,
        })
    }
}

/// A file as far as it could be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct AssetFile {
    /// Column title and what it was taken for, in file order.
    pub(crate) columns: Vec<(String, Option<Field>)>,
    /// The rows.
    pub(crate) rows: Vec<AssetLine>,
}

/// One row.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct AssetLine {
    /// The line in the file, from 1.
    pub(crate) line: u64,
    /// What stands in it. A field without a column isn't there.
    pub(crate) values: BTreeMap<Field, String>,
    /// How the serial number is compared; empty if it is none.
    pub(crate) serial_key: String,
    /// What is wrong.
    pub(crate) problems: Vec<String>,
}

/// Why a file is no asset file.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AssetFileError {
    #[error("the file is empty")]
    Empty,
    #[error("no column is called `serial` (or `serienummer`); the titles are: {titles}")]
    NoSerialColumn { titles: String },
    #[error("two columns are taken for {field}: {first:?} and {second:?}")]
    TwoColumns {
        field: &'static str,
        first: String,
        second: String,
    },
    #[error("the file has more than {ASSET_ROWS_MAX} rows or {COLUMNS_MAX} columns")]
    TooLong,
    #[error("line {line} can't be read")]
    Line { line: u64 },
}

/// Turns the bytes of a file into text: UTF-8 or UTF-16 by its mark, else UTF-8, else Windows-1252.
pub(crate) fn decode(bytes: &[u8]) -> String {
    if let Some((encoding, mark_bytes)) = encoding_rs::Encoding::for_bom(bytes) {
        return encoding
            .decode_without_bom_handling(&bytes[mark_bytes..])
            .0
            .into_owned();
    }
    if let Some(encoding) = utf_16_without_mark(bytes) {
        return encoding.decode_without_bom_handling(bytes).0.into_owned();
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => encoding_rs::WINDOWS_1252
            .decode_without_bom_handling(bytes)
            .0
            .into_owned(),
    }
}

/// Titles begin with a plain letter: in UTF-16 its other byte is zero.
fn utf_16_without_mark(bytes: &[u8]) -> Option<&'static encoding_rs::Encoding> {
    match bytes.get(..4)? {
        [a, 0, b, 0] if *a != 0 && *b != 0 => Some(encoding_rs::UTF_16LE),
        [0, a, 0, b] if *a != 0 && *b != 0 => Some(encoding_rs::UTF_16BE),
        _ => None,
    }
}

/// Reads a whole file; every row is looked at, whatever is wrong with the others.
pub(crate) fn parse(text: &str) -> Result<AssetFile, AssetFileError> {
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter(text))
        .has_headers(false)
        .flexible(true)
        .from_reader(text.as_bytes());
    let mut columns: Vec<(String, Option<Field>)> = Vec::new();
    let mut rows = Vec::new();
    let mut lines_by_serial: BTreeMap<String, u64> = BTreeMap::new();
    let mut record = csv::StringRecord::new();
    loop {
        let line = reader.position().line();
        match reader.read_record(&mut record) {
            Ok(true) => {}
            Ok(false) => break,
            Err(_) => return Err(AssetFileError::Line { line }),
        }
        if record.len() > COLUMNS_MAX || rows.len() >= ASSET_ROWS_MAX {
            return Err(AssetFileError::TooLong);
        }
        // Before the titles, a line of other separators is as good as blank.
        let is_text = |c: char| {
            if columns.is_empty() {
                c.is_alphanumeric()
            } else {
                !c.is_whitespace()
            }
        };
        if !record.iter().any(|value| value.chars().any(is_text)) {
            continue;
        }
        let line = record.position().map_or(line, csv::Position::line);
        if columns.is_empty() {
            columns = header(&record)?;
        } else {
            rows.push(asset_line(line, &record, &columns, &mut lines_by_serial));
        }
    }
    if columns.is_empty() {
        Err(AssetFileError::Empty)
    } else {
        Ok(AssetFile { columns, rows })
    }
}

/// The sign that parts the titles most often.
fn delimiter(text: &str) -> u8 {
    let title = text
        .lines()
        .find(|line| line.chars().any(char::is_alphanumeric))
        .unwrap_or_default();
    let count = |sign: u8| title.bytes().filter(|byte| *byte == sign).count();
    [b';', b'\t', b',']
        .into_iter()
        .rev()
        .max_by_key(|sign| count(*sign))
        .unwrap_or(b',')
}

fn header(record: &csv::StringRecord) -> Result<Vec<(String, Option<Field>)>, AssetFileError> {
    let mut columns: Vec<(String, Option<Field>)> = record
        .iter()
        .map(|title| (clean(title, ASSET_TEXT_CHARS_MAX), Field::of_title(title)))
        .collect();
    // With `site` beside `site code`, the former is the name: `skole;skolekode`.
    let is_code = |title: &str| {
        title.to_lowercase().contains("code") || title.to_lowercase().contains("kode")
    };
    if columns
        .iter()
        .any(|(title, field)| *field == Some(Field::SiteCode) && is_code(title))
        && !columns
            .iter()
            .any(|(_, field)| *field == Some(Field::SiteName))
    {
        for (title, field) in &mut columns {
            if *field == Some(Field::SiteCode) && !is_code(title) {
                *field = Some(Field::SiteName);
            }
        }
    }
    for (at, (second, field)) in columns.iter().enumerate() {
        let Some(field) = field else { continue };
        if let Some((first, _)) = columns[..at]
            .iter()
            .find(|(_, other)| *other == Some(*field))
        {
            let (first, second) = (first.clone(), second.clone());
            return Err(AssetFileError::TwoColumns {
                field: field.name(),
                first,
                second,
            });
        }
    }
    if !columns
        .iter()
        .any(|(_, field)| *field == Some(Field::Serial))
    {
        let titles = columns
            .iter()
            .map(|(title, _)| title.as_str())
            .collect::<Vec<_>>()
            .join(", ");
        return Err(AssetFileError::NoSerialColumn { titles });
    }
    Ok(columns)
}

fn asset_line(
    line: u64,
    record: &csv::StringRecord,
    columns: &[(String, Option<Field>)],
    lines_by_serial: &mut BTreeMap<String, u64>,
) -> AssetLine {
    let mut problems = Vec::new();
    let mut values = BTreeMap::new();
    if record.len() > columns.len() {
        problems.push(format!(
            "it has {} values, and there are {} columns",
            record.len(),
            columns.len()
        ));
    }
    for ((_, field), value) in columns
        .iter()
        .zip(record.iter().chain(std::iter::repeat("")))
    {
        let Some(field) = field else { continue };
        if value.trim().chars().count() > ASSET_TEXT_CHARS_MAX {
            problems.push(format!(
                "{} is longer than {ASSET_TEXT_CHARS_MAX} characters",
                field.name()
            ));
        }
        values.insert(*field, clean(value, ASSET_TEXT_CHARS_MAX));
    }
    if let Some(text) = values.get_mut(&Field::Uuid).filter(|text| !text.is_empty()) {
        match Uuid::parse_str(text) {
            Ok(uuid) if uuid_key(uuid).is_some() => *text = uuid.to_string(),
            Ok(_) => problems.push(format!(
                "the UUID {text} is a placeholder that many machines share"
            )),
            Err(_) => problems.push(format!("{text:?} is not a UUID")),
        }
    }
    let serial = values.get(&Field::Serial).cloned().unwrap_or_default();
    let serial_key = name_key(&serial).unwrap_or_default();
    if serial.is_empty() {
        problems.push("there is no serial number".into());
    } else if serial_key.is_empty() {
        problems.push(format!(
            "the serial number {serial:?} is a placeholder, not a serial number"
        ));
    } else if let Some(first) = lines_by_serial.get(&serial_key) {
        problems.push(format!(
            "the serial number {serial} stands in line {first} already"
        ));
    } else {
        lines_by_serial.insert(serial_key.clone(), line);
    }
    AssetLine {
        line,
        values,
        serial_key,
        problems,
    }
}

#[cfg(test)]
mod tests {
    use super::{AssetFileError, Field, decode, parse};
    use proptest::prelude::*;

    /// Serial, site code, site name and class of each row, or the problems.
    fn check(text: &str) -> Vec<Result<[String; 4], Vec<String>>> {
        let file = parse(text).unwrap();
        let fields = [
            Field::Serial,
            Field::SiteCode,
            Field::SiteName,
            Field::Class,
        ];
        file.rows
            .into_iter()
            .map(|row| {
                if row.problems.is_empty() {
                    Ok(fields.map(|field| row.values.get(&field).cloned().unwrap_or_default()))
                } else {
                    Err(row.problems)
                }
            })
            .collect()
    }

    #[test]
    fn reads_what_spreadsheets_write() {
        let expected = vec![Ok([
            "PF1".to_owned(),
            "BJO".into(),
            "Bjørnøya skole".into(),
            "8B".into(),
        ])];
        let cases = [
            "serial,site code,site name,class\nPF1,BJO,Bjørnøya skole,8B\n",
            "Serienummer;Skolekode;Skolenavn;Klasse\r\n\r\nPF1;BJO;\"Bjørnøya skole\";8B\r\n",
            "\n;;;\nKlasse\tskole\tSkolekode\tserienr\n8B\tBjørnøya skole\tBJO\tPF1\n\n",
        ];
        for text in cases {
            assert_eq!(check(text), expected, "{text:?}");
        }
    }

    #[test]
    fn every_row_says_what_is_wrong_with_it() {
        let rows = check("serial,uuid\nPF1,\n,\nDefault string,\npf1 ,\nPF2,xyz\nPF3,,,\n");
        let texts: Vec<String> = rows
            .into_iter()
            .map(|row| row.err().unwrap_or_default().join("; "))
            .collect();
        assert_eq!(texts[0], "");
        // A line of separators only is blank.
        assert!(texts[1].contains("placeholder"), "{texts:?}");
        assert!(texts[2].contains("line 2"), "{texts:?}");
        assert!(texts[3].contains("not a UUID"), "{texts:?}");
        assert!(texts[4].contains("4 values"), "{texts:?}");
    }

    #[test]
    fn says_why_a_file_is_no_asset_file() {
        assert_eq!(parse(" \n\n"), Err(AssetFileError::Empty));
        assert!(matches!(
            parse("name,room\nx,y"),
            Err(AssetFileError::NoSerialColumn { .. })
        ));
        assert!(matches!(
            parse("serial,serienummer\nx,y"),
            Err(AssetFileError::TwoColumns { .. })
        ));
    }

    #[test]
    fn reads_every_encoding() {
        let text = "serial;skole\nPF1;Tromsø";
        let utf_16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let marked: Vec<u8> = [vec![0xff, 0xfe], utf_16.clone()].concat();
        let windows = encoding_rs::WINDOWS_1252.encode(text).0.into_owned();
        let utf_8_marked = ["\u{feff}".as_bytes(), text.as_bytes()].concat();
        for bytes in [
            text.as_bytes().to_vec(),
            utf_8_marked,
            utf_16,
            marked,
            windows,
        ] {
            assert_eq!(decode(&bytes), text);
        }
    }

    proptest! {
        #[test]
        fn garbage_is_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _read = parse(&decode(&bytes));
        }

        #[test]
        fn garbage_after_a_header_is_read_without_panic(rest in "(.|\n|;|\"){0,200}") {
            if let Ok(file) = parse(&format!("serial;uuid;site\n{rest}")) {
                for row in file.rows {
                    prop_assert!(!row.serial_key.is_empty() || !row.problems.is_empty());
                }
            }
        }
    }
}
