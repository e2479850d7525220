//! Tables as people send them: CSV of any spreadsheet, or an Excel workbook. Here they become sheets of lines of
//! text cells; what the columns mean is for others to say.

mod csv_text;
mod xlsx;

/// Lines of one sheet.
pub(crate) const LINES_MAX: usize = crate::limits::ASSET_ROWS_MAX;
/// Columns of a sheet: vendors' widest exports have some sixty.
pub(crate) const COLUMNS_MAX: usize = 200;
/// Cells of all sheets together: 100 000 machines with twenty columns.
pub(crate) const CELLS_MAX: usize = 2_000_000;
/// Characters of one cell that are kept; what is longer is no name of anything.
pub(crate) const CELL_CHARS_MAX: usize = 1000;
/// Sheets of a workbook.
pub(crate) const SHEETS_MAX: usize = 50;

/// A file, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Book {
    /// How it was written, in words: `Windows-1252, ";" between values`.
    pub(crate) form: String,
    /// At least one.
    pub(crate) sheets: Vec<Sheet>,
}

/// One table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sheet {
    /// Its name; empty for CSV.
    pub(crate) name: String,
    /// Whether the workbook hides it.
    pub(crate) hidden: bool,
    /// Lines with something in them, in order.
    pub(crate) lines: Vec<Line>,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// Its number in the file, from 1, as an editor or a spreadsheet shows it.
    pub(crate) number: u64,
    /// Its values, trimmed.
    pub(crate) cells: Vec<String>,
}

/// Why a file is no table.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TableError {
    #[error("the file is empty")]
    Empty,
    #[error("the file has more than {LINES_MAX} lines")]
    Lines,
    #[error("line {line} has more than {COLUMNS_MAX} columns")]
    Columns { line: u64 },
    #[error("the file has more than {CELLS_MAX} cells")]
    Cells,
    #[error("the workbook has more than {SHEETS_MAX} sheets")]
    Sheets,
    #[error("line {line} can't be read as CSV")]
    Line { line: u64 },
    #[error("the Excel workbook unpacks to more than {} MiB", xlsx::UNPACKED_BYTES_MAX >> 20)]
    Unpacked,
    #[error("the Excel workbook can't be read ({why})")]
    Workbook { why: String },
    #[error("this is an old Excel workbook (.xls) or one with a password")]
    OldWorkbook,
}

impl TableError {
    /// What its sender can do.
    pub(crate) const fn hint(&self) -> &'static str {
        match self {
            Self::OldWorkbook => "open it in Excel and save it as .xlsx, without a password",
            Self::Workbook { .. } => {
                "open it in Excel and save it again as .xlsx, or export it as CSV"
            }
            Self::Empty => {
                "the first line holds the titles of the columns, such as: serial;asset tag;site;class"
            }
            _ => "send a CSV or .xlsx file with one machine per line",
        }
    }
}

/// Reads CSV or Excel, told apart by what the file begins with, never by its name.
pub(crate) fn read(bytes: &[u8]) -> Result<Book, TableError> {
    const ZIP: &[u8] = b"PK\x03\x04";
    const COMPOUND: &[u8] = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1";
    let book = if bytes.starts_with(ZIP) {
        xlsx::read(bytes)?
    } else if bytes.starts_with(COMPOUND) {
        return Err(TableError::OldWorkbook);
    } else {
        csv_text::read(bytes)?
    };
    if book.sheets.iter().all(|sheet| sheet.lines.is_empty()) {
        return Err(TableError::Empty);
    }
    Ok(book)
}

/// A value as its writer meant it: `="000123"` and `'000123` are how spreadsheets keep leading zeros.
fn unwrapped(text: &str) -> String {
    let text = text.trim();
    let inner = text
        .strip_prefix("=\"")
        .and_then(|rest| rest.strip_suffix('"'))
        .map(|inner| inner.replace("\"\"", "\""));
    let text = inner.as_deref().unwrap_or(text);
    let text = match text.strip_prefix('\'') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_digit()) => rest,
        _ => text,
    };
    text.trim().chars().take(CELL_CHARS_MAX).collect()
}

/// Whether a cell says anything at all.
fn has_text(cells: &[String]) -> bool {
    cells
        .iter()
        .any(|cell| cell.chars().any(|c| !c.is_whitespace()))
}

#[cfg(test)]
mod tests;
