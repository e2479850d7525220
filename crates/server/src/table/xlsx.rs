//! Excel workbooks. A workbook is a ZIP of XML: how far it unpacks is measured before anything reads it. Hidden rows
//! and columns are read like all others, so that nothing is left out without a word.

use std::io::{Cursor, Read as _};

use calamine::{DataRef, ExcelDateTime, Reader as _, Xlsx};

use super::{
    Book, CELLS_MAX, COLUMNS_MAX, LINES_MAX, Line, SHEETS_MAX, Sheet, TableError, has_text,
    unwrapped,
};

/// All parts of a workbook, unpacked: 100 000 machines take about 60 MiB.
pub(super) const UNPACKED_BYTES_MAX: u64 = 256 << 20;
/// Parts of a workbook: sheets, styles, themes, pictures.
const PARTS_MAX: usize = 2000;
/// Whole numbers up to here are exact in Excel; longer ones have lost their last digits.
const EXACT_MAX: f64 = 1e15;

/// Reads all sheets.
pub(super) fn read(bytes: &[u8]) -> Result<Book, TableError> {
    measure(bytes, UNPACKED_BYTES_MAX)?;
    let mut book: Xlsx<_> = Xlsx::new(Cursor::new(bytes)).map_err(unreadable)?;
    let names: Vec<(String, bool)> = book
        .sheets_metadata()
        .iter()
        .filter(|sheet| sheet.typ == calamine::SheetType::WorkSheet)
        .map(|sheet| {
            let hidden = sheet.visible != calamine::SheetVisible::Visible;
            (sheet.name.clone(), hidden)
        })
        .collect();
    if names.len() > SHEETS_MAX {
        return Err(TableError::Sheets);
    }
    let mut cells_count = 0;
    let mut sheets = Vec::with_capacity(names.len());
    for (name, hidden) in names {
        let lines = lines(&mut book, &name, &mut cells_count)?;
        sheets.push(Sheet {
            name,
            hidden,
            lines,
        });
    }
    if sheets.is_empty() {
        return Err(TableError::Empty);
    }
    Ok(Book {
        form: "Excel workbook".into(),
        sheets,
    })
}

/// Unpacks everything once, into nothing: what a ZIP says of its sizes is not to be trusted.
pub(super) fn measure(bytes: &[u8], bytes_max: u64) -> Result<(), TableError> {
    let mut zip = zip::ZipArchive::new(Cursor::new(bytes)).map_err(unreadable)?;
    if zip.len() > PARTS_MAX {
        return Err(TableError::Unpacked);
    }
    let mut left = bytes_max;
    for number in 0..zip.len() {
        let part = zip.by_index(number).map_err(unreadable)?;
        let read = std::io::copy(&mut part.take(left + 1), &mut std::io::sink());
        let read = read.map_err(unreadable)?;
        left = left.checked_sub(read).ok_or(TableError::Unpacked)?;
    }
    Ok(())
}

fn unreadable(error: impl std::fmt::Display) -> TableError {
    TableError::Workbook {
        why: error.to_string().chars().take(200).collect(),
    }
}

/// Cell by cell: the ranges of the library are as large as a sheet says it is, and a sheet may lie.
fn lines(
    book: &mut Xlsx<Cursor<&[u8]>>,
    name: &str,
    cells_count: &mut usize,
) -> Result<Vec<Line>, TableError> {
    let mut reader = book.worksheet_cells_reader(name).map_err(unreadable)?;
    let mut lines: Vec<Line> = Vec::new();
    while let Some(cell) = reader.next_cell().map_err(unreadable)? {
        let (row, column) = cell.get_position();
        let text = text(cell.get_value());
        if text.is_empty() {
            continue;
        }
        let number = u64::from(row) + 1;
        let column = column as usize;
        if column >= COLUMNS_MAX {
            return Err(TableError::Columns { line: number });
        }
        if lines.last().is_none_or(|line| line.number < number) {
            if lines.len() >= LINES_MAX {
                return Err(TableError::Lines);
            }
            lines.push(Line {
                number,
                cells: Vec::new(),
            });
        }
        // Rows out of order are no workbook that Excel wrote.
        let Some(line) = lines.last_mut().filter(|line| line.number == number) else {
            return Err(unreadable("its rows are out of order"));
        };
        if line.cells.len() <= column {
            *cells_count += column + 1 - line.cells.len();
            if *cells_count > CELLS_MAX {
                return Err(TableError::Cells);
            }
            line.cells.resize(column + 1, String::new());
        }
        line.cells[column] = text;
    }
    lines.retain(|line| has_text(&line.cells));
    Ok(lines)
}

fn text(value: &DataRef<'_>) -> String {
    match value {
        DataRef::Empty | DataRef::Error(_) => String::new(),
        DataRef::String(text) | DataRef::DateTimeIso(text) | DataRef::DurationIso(text) => {
            unwrapped(text)
        }
        DataRef::SharedString(text) => unwrapped(text),
        DataRef::Int(number) => number.to_string(),
        DataRef::Float(number) => number_text(*number),
        DataRef::Bool(true) => "true".into(),
        DataRef::Bool(false) => "false".into(),
        DataRef::DateTime(moment) => moment_text(moment),
    }
}

/// A number as it was typed, as far as that is known. One that lost digits keeps the form that says so.
fn number_text(number: f64) -> String {
    if number.abs() >= EXACT_MAX {
        let text = format!("{number:E}");
        return text.replacen('E', "E+", 1);
    }
    format!("{number}")
}

fn moment_text(moment: &ExcelDateTime) -> String {
    if !moment.is_datetime() {
        return number_text(moment.as_f64());
    }
    let (year, month, day, hour, minute, second, _) = moment.to_ymd_hms_milli();
    let date = format!("{year:04}-{month:02}-{day:02}");
    if (hour, minute, second) == (0, 0, 0) {
        date
    } else {
        format!("{date} {hour:02}:{minute:02}:{second:02}")
    }
}
