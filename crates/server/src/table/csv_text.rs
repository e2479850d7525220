//! CSV: any encoding, any separator, title rows above the header, `sep=;` and quotes.

use super::{
    Book, CELLS_MAX, COLUMNS_MAX, LINES_MAX, Line, Sheet, TableError, has_text, unwrapped,
};

/// Separators that spreadsheets write, the likeliest first.
const SEPARATORS: [u8; 4] = *b";\t,|";
/// Lines that are looked at to find the separator.
const SAMPLE_LINES: usize = 60;

/// The text, and how it was encoded: UTF-8 or UTF-16 by its mark, else UTF-8, else Windows-1252.
fn decoded(bytes: &[u8]) -> (String, &'static str) {
    let (encoding, rest) = match encoding_rs::Encoding::for_bom(bytes) {
        Some((encoding, mark_bytes)) => (encoding, &bytes[mark_bytes..]),
        None => match utf_16_without_mark(bytes) {
            Some(encoding) => (encoding, bytes),
            None if std::str::from_utf8(bytes).is_ok() => (encoding_rs::UTF_8, bytes),
            None => (encoding_rs::WINDOWS_1252, bytes),
        },
    };
    let text = encoding.decode_without_bom_handling(rest).0.into_owned();
    (text, encoding.name())
}

/// Titles begin with a plain letter: in UTF-16 its other byte is zero.
fn utf_16_without_mark(bytes: &[u8]) -> Option<&'static encoding_rs::Encoding> {
    match bytes.get(..4)? {
        [a, 0, b, 0] if *a != 0 && *b != 0 => Some(encoding_rs::UTF_16LE),
        [0, a, 0, b] if *a != 0 && *b != 0 => Some(encoding_rs::UTF_16BE),
        _ => None,
    }
}

/// Reads a whole file.
pub(super) fn read(bytes: &[u8]) -> Result<Book, TableError> {
    let (text, encoding) = decoded(bytes);
    // One kind of line end: otherwise the numbers of lines are off by one.
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let (separator, announced) = match announced_separator(&text) {
        Some(separator) => (separator, true),
        None => (likeliest_separator(&text), false),
    };
    let mut lines = lines(&text, separator)?;
    if announced && !lines.is_empty() {
        lines.remove(0);
    }
    let sign = match separator {
        b'\t' => "tab".to_owned(),
        sign => format!("“{}”", char::from(sign)),
    };
    Ok(Book {
        form: format!("{encoding}, {sign} between values"),
        sheets: vec![Sheet {
            name: String::new(),
            hidden: false,
            lines,
        }],
    })
}

/// Excel's own way to say it: a first line of `sep=;`.
fn announced_separator(text: &str) -> Option<u8> {
    let line = text.lines().next()?.trim().trim_matches('"');
    match line.as_bytes() {
        [b's' | b'S', b'e' | b'E', b'p' | b'P', b'=', sign] if sign.is_ascii_punctuation() => {
            Some(*sign)
        }
        _ => None,
    }
}

/// The one that cuts most lines into the same number of values, more values being better. Sentences above the
/// titles have commas, too, but not the same number in each.
fn likeliest_separator(text: &str) -> u8 {
    let sample: String = text
        .split_inclusive('\n')
        .filter(|line| line.chars().any(char::is_alphanumeric))
        .take(SAMPLE_LINES)
        .collect();
    let weigh = |separator: u8| {
        let mut widths = std::collections::BTreeMap::<usize, usize>::new();
        for line in raw(&sample, separator).into_records().flatten() {
            *widths.entry(line.len()).or_default() += 1;
        }
        widths
            .into_iter()
            .filter(|(width, _)| *width > 1)
            .map(|(width, lines)| lines * width.min(20))
            .max()
            .unwrap_or(0)
    };
    SEPARATORS
        .into_iter()
        .rev()
        .max_by_key(|separator| weigh(*separator))
        .unwrap_or(b';')
}

fn raw(text: &str, separator: u8) -> csv::Reader<&[u8]> {
    csv::ReaderBuilder::new()
        .delimiter(separator)
        .has_headers(false)
        .flexible(true)
        .from_reader(text.as_bytes())
}

fn lines(text: &str, separator: u8) -> Result<Vec<Line>, TableError> {
    let mut reader = raw(text, separator);
    let mut lines = Vec::new();
    let mut cells_count = 0;
    let mut record = csv::StringRecord::new();
    loop {
        let line = reader.position().line();
        match reader.read_record(&mut record) {
            Ok(true) => {}
            Ok(false) => return Ok(lines),
            Err(_) => return Err(TableError::Line { line }),
        }
        let number = record.position().map_or(line, |at| number_of(text, at));
        if record.len() > COLUMNS_MAX {
            return Err(TableError::Columns { line: number });
        }
        let cells: Vec<String> = record.iter().map(unwrapped).collect();
        if !has_text(&cells) {
            continue;
        }
        cells_count += cells.len();
        if lines.len() >= LINES_MAX {
            return Err(TableError::Lines);
        }
        if cells_count > CELLS_MAX {
            return Err(TableError::Cells);
        }
        lines.push(Line { number, cells });
    }
}

/// The reader passes over blank lines without counting them to the record that follows.
fn number_of(text: &str, at: &csv::Position) -> u64 {
    let start = usize::try_from(at.byte()).unwrap_or(usize::MAX);
    let rest = text.as_bytes().get(start..).unwrap_or_default();
    let blank = rest.iter().take_while(|byte| **byte == b'\n').count();
    at.line() + blank as u64
}
