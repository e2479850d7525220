//! What the columns of a vendor's file mean: guessed from their titles, corrected by people.

use std::collections::BTreeMap;

use wire::reasons::FileReason;

use crate::limits::ASSET_TEXT_CHARS_MAX;
use crate::table::{Line, Sheet};
use crate::text::clean;

/// Lines above the titles that are looked through: a letterhead and an order's details.
const TITLE_LINES_MAX: usize = 60;
/// Free fields that one file may bring.
pub(crate) const FREE_FIELDS_MAX: usize = 60;
/// A free field's name, in characters.
pub(crate) const FREE_NAME_CHARS_MAX: usize = 40;

/// What a column can be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
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
    /// Kept beside the others under this name, such as `order-number`.
    Free(String),
    /// Not kept.
    Ignored,
}

/// The fields with a column of their own, and what they are called.
const NAMED: [(Field, &str); 10] = [
    (Field::Serial, "serial"),
    (Field::AssetTag, "asset-tag"),
    (Field::Uuid, "uuid"),
    (Field::Vendor, "vendor"),
    (Field::Product, "product"),
    (Field::Sku, "sku"),
    (Field::Baseboard, "baseboard"),
    (Field::SiteCode, "site"),
    (Field::SiteName, "site-name"),
    (Field::Class, "class"),
];
const FREE_PREFIX: &str = "field:";
const IGNORED: &str = "ignored";

impl std::fmt::Display for Field {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Free(name) => write!(f, "{FREE_PREFIX}{name}"),
            Self::Ignored => f.write_str(IGNORED),
            named => match NAMED.iter().find(|(field, _)| field == named) {
                Some((_, name)) => f.write_str(name),
                None => f.write_str(IGNORED),
            },
        }
    }
}

/// A text that is no field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no field: it is serial, asset-tag, uuid, vendor, product, sku, baseboard, site, site-name, class, \
     field:NAME (small letters, digits and -) or ignored"
)]
pub(crate) struct NoField(String);

impl std::str::FromStr for Field {
    type Err = NoField;

    fn from_str(text: &str) -> Result<Self, NoField> {
        if let Some((field, _)) = NAMED.iter().find(|(_, name)| *name == text) {
            return Ok(field.clone());
        }
        if matches!(text, IGNORED | "ignore" | "") {
            return Ok(Self::Ignored);
        }
        match text.strip_prefix(FREE_PREFIX) {
            Some(name) if !name.is_empty() && free_name(name) == name => {
                Ok(Self::Free(name.to_owned()))
            }
            _ => Err(NoField(text.to_owned())),
        }
    }
}

impl Field {
    /// Guesses from a column's title. `None` is a title that nobody taught us.
    fn of_title(title: &str) -> Option<Self> {
        let letters: String = title
            .to_lowercase()
            .chars()
            .filter(|c| c.is_alphanumeric())
            .collect();
        let free = |name: &str| Self::Free(name.to_owned());
        Some(match letters.as_str() {
            "serial" | "serialnumber" | "serialno" | "serialnr" | "serials" | "serienummer"
            | "serienr" | "sn" | "servicetag" | "machineserial" | "maskinserienummer" => {
                Self::Serial
            }
            "assettag" | "asset" | "tag" | "assetnumber" | "assetno" | "inventarnummer"
            | "inventarnr" | "merke" | "eiendelsmerke" | "eiendelsnummer" => Self::AssetTag,
            "uuid" | "smbiosuuid" | "systemuuid" | "guid" | "biosuuid" => Self::Uuid,
            "vendor" | "manufacturer" | "make" | "brand" | "produsent" | "leverandør"
            | "fabrikat" => Self::Vendor,
            "product" | "model" | "modell" | "produkt" | "productname" | "modelname"
            | "produktnavn" | "modellnavn" | "maskinmodell" | "maskintype" => Self::Product,
            "sku" | "skunumber" | "artikkelnummer" | "artikkelnr" | "partnumber" | "partno"
            | "varenummer" | "varenr" => Self::Sku,
            "baseboard" | "hovedkort" => Self::Baseboard,
            "site" | "skole" | "sitecode" | "skolekode" | "lokasjon" | "sted" | "location" => {
                Self::SiteCode
            }
            "sitename" | "skolenavn" | "schoolname" | "school" => Self::SiteName,
            "class" | "klasse" | "group" | "gruppe" => Self::Class,
            "order" | "ordernumber" | "orderno" | "ordre" | "ordrenummer" | "ordrenr"
            | "salesorder" | "bestillingsnummer" => free("order-number"),
            "purchasedate" | "orderdate" | "kjøpsdato" | "innkjøpsdato" | "ordredato" => {
                free("purchase-date")
            }
            "deliverydate" | "shipdate" | "leveringsdato" | "levert" => free("delivery-date"),
            "warrantyend" | "warrantyenddate" | "warranty" | "garanti" | "garantitil"
            | "garantiutløp" | "garantislutt" => free("warranty-end"),
            "price" | "unitprice" | "pris" | "enhetspris" => free("price"),
            "mac" | "macaddress" | "macadresse" | "lanmac" => free("mac"),
            _ => return None,
        })
    }

    /// Whether its values are dates.
    pub(crate) fn is_date(&self) -> bool {
        matches!(self, Self::Free(name) if name.ends_with("-date") || name.ends_with("-end"))
    }
}

/// A free field's name from a title: small letters and digits, the rest hyphens.
fn free_name(title: &str) -> String {
    let mut name = String::new();
    for c in title.to_lowercase().chars() {
        if c.is_alphanumeric() {
            name.push(c);
        } else if !name.is_empty() && !name.ends_with('-') {
            name.push('-');
        }
    }
    let name: String = name.chars().take(FREE_NAME_CHARS_MAX).collect();
    name.trim_end_matches('-').to_owned()
}

/// How a title is compared: profiles and corrections mean the same column whatever its spaces and capitals.
pub(crate) fn title_key(title: &str) -> String {
    title
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .to_lowercase()
}

/// The columns of a sheet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Columns {
    /// The number of the line that holds the titles.
    pub(crate) line: u64,
    /// Title, meaning, and whether a person (or a profile) said so.
    pub(crate) columns: Vec<Column>,
    /// Why rows can't be read with them, if so.
    pub(crate) problems: Vec<FileReason>,
}

/// One column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) title: String,
    pub(crate) field: Field,
    pub(crate) told: bool,
}

/// What people said: title (by [`title_key`]) to field.
pub(crate) type Mapping = BTreeMap<String, Field>;

/// Finds the line of titles and what each column means.
pub(crate) fn columns(sheet: &Sheet, mapping: &Mapping) -> Option<Columns> {
    let line = title_line(sheet, mapping)?;
    let mut columns: Vec<Column> = line
        .cells
        .iter()
        .map(|title| {
            let title = clean(title, ASSET_TEXT_CHARS_MAX);
            match mapping.get(&title_key(&title)) {
                Some(field) => Column {
                    title,
                    field: field.clone(),
                    told: true,
                },
                None => {
                    let field = Field::of_title(&title).unwrap_or_else(|| {
                        let name = free_name(&title);
                        if name.is_empty() {
                            Field::Ignored
                        } else {
                            Field::Free(name)
                        }
                    });
                    Column {
                        title,
                        field,
                        told: false,
                    }
                }
            }
        })
        .collect();
    name_beside_code(&mut columns);
    yield_to_the_told(&mut columns);
    let problems = problems(&columns);
    Some(Columns {
        line: line.number,
        columns,
        problems,
    })
}

/// The line with the most titles that are known; without any, the first with two values or more.
fn title_line<'a>(sheet: &'a Sheet, mapping: &Mapping) -> Option<&'a Line> {
    let known = |line: &Line| {
        let is_known = |cell: &&String| {
            mapping.contains_key(&title_key(cell)) || Field::of_title(cell).is_some()
        };
        line.cells.iter().filter(is_known).count()
    };
    let candidates = || {
        sheet.lines.iter().take(TITLE_LINES_MAX).filter(|line| {
            line.cells
                .iter()
                .any(|cell| cell.chars().any(char::is_alphanumeric))
        })
    };
    candidates()
        .rev()
        .max_by_key(|line| known(line))
        .filter(|line| known(line) > 0)
        .or_else(|| {
            candidates().find(|line| line.cells.iter().filter(|c| !c.is_empty()).count() > 1)
        })
        .or_else(|| candidates().next())
}

/// With `site` beside `site code`, the former is the name: `skole;skolekode`.
fn name_beside_code(columns: &mut [Column]) {
    let is_code = |title: &str| {
        let title = title.to_lowercase();
        title.contains("code") || title.contains("kode")
    };
    let has = |columns: &[Column], field: Field| columns.iter().any(|c| c.field == field);
    let has_code = columns
        .iter()
        .any(|c| c.field == Field::SiteCode && is_code(&c.title));
    if has_code && !has(columns, Field::SiteName) {
        for column in columns {
            if column.field == Field::SiteCode && !column.told && !is_code(&column.title) {
                column.field = Field::SiteName;
            }
        }
    }
}

/// A guess gives way to what a person said, and a second column of the same free name gets a number.
fn yield_to_the_told(columns: &mut [Column]) {
    for at in 0..columns.len() {
        let field = columns[at].field.clone();
        if field == Field::Ignored {
            continue;
        }
        let told_elsewhere = (0..columns.len())
            .any(|other| other != at && columns[other].told && columns[other].field == field);
        if told_elsewhere && !columns[at].told {
            columns[at].field = Field::Ignored;
            continue;
        }
        if let Field::Free(name) = &field
            && !columns[at].told
        {
            let taken = columns[..at].iter().filter(|c| c.field == field).count();
            if taken > 0 {
                columns[at].field = Field::Free(format!("{name}-{}", at + 1));
            }
        }
    }
}

fn problems(columns: &[Column]) -> Vec<FileReason> {
    let mut problems = Vec::new();
    for (at, second) in columns.iter().enumerate() {
        if second.field == Field::Ignored {
            continue;
        }
        if let Some(first) = columns[..at].iter().find(|c| c.field == second.field) {
            problems.push(FileReason::TwoColumns {
                field: second.field.to_string(),
                first: first.title.clone(),
                second: second.title.clone(),
            });
        }
    }
    if !columns.iter().any(|c| c.field == Field::Serial) {
        let titles: Vec<&str> = columns.iter().map(|c| c.title.as_str()).collect();
        problems.push(FileReason::NoSerialColumn {
            titles: titles.join(", "),
        });
    }
    let free = columns
        .iter()
        .filter(|c| matches!(c.field, Field::Free(_)))
        .count();
    if free > FREE_FIELDS_MAX {
        problems.push(FileReason::TooManyFields {
            columns: free as u64,
            allowed: FREE_FIELDS_MAX as u64,
        });
    }
    problems
}
