//! Lists as tables for a spreadsheet: CSV files that people open.

use axum::http::header;
use axum::response::{IntoResponse as _, Response};

use crate::error::Failure;
use crate::text::spreadsheet_safe;

/// Rows of one table: more than a spreadsheet shows well, and years of a county.
pub(crate) const TABLE_ROWS_MAX: usize = 100_000;

/// A table as a file of this name.
pub(crate) fn file(
    name: &str,
    columns: &[&str],
    rows: impl Iterator<Item = Vec<String>>,
) -> Result<Response, Failure> {
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8".to_owned()),
        (
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"{name}\""),
        ),
    ];
    Ok((headers, bytes(columns, rows)?).into_response())
}

/// The bytes of a table. No text in it is taken for a formula.
pub(crate) fn bytes(
    columns: &[&str],
    rows: impl Iterator<Item = Vec<String>>,
) -> Result<Vec<u8>, Failure> {
    // The mark of byte order: without it, Excel takes Norwegian letters for something else.
    let mut bytes = "\u{feff}".as_bytes().to_vec();
    let mut writer = csv::Writer::from_writer(&mut bytes);
    let failed = |source: csv::Error| Failure::System {
        what: "write a table",
        source: source.into(),
    };
    writer.write_record(columns).map_err(failed)?;
    for row in rows {
        let cells = row.iter().map(|text| spreadsheet_safe(text).into_owned());
        writer.write_record(cells).map_err(failed)?;
    }
    writer.flush().map_err(|source| failed(source.into()))?;
    drop(writer);
    Ok(bytes)
}

/// A moment as spreadsheets read it: in UTC, to the second.
pub(crate) fn moment(at_ms: i64) -> String {
    let moment = jiff::Timestamp::from_millisecond(at_ms);
    moment.map_or_else(
        |_| String::new(),
        |moment| moment.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_are_texts_and_norwegian_letters_stay() {
        let row = ["=1+1", "+47 1", "-1", "@SUM(A1)", "Åse 1=2", "a,\"b\"\n"];
        let row = row.map(str::to_owned).to_vec();
        let bytes = bytes(&["a"; 6], std::iter::once(row)).unwrap();
        let text = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap();
        let mut reader = csv::Reader::from_reader(text);
        let read = reader.records().next().unwrap().unwrap();
        let read: Vec<&str> = read.iter().collect();
        let expected = [
            "'=1+1",
            "'+47 1",
            "'-1",
            "'@SUM(A1)",
            "Åse 1=2",
            "a,\"b\"\n",
        ];
        assert_eq!(read, expected);
        assert_eq!(moment(1_786_953_600_000), "2026-08-17T08:00:00Z");
    }
}
