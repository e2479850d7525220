use super::{Book, TableError, read};
use proptest::prelude::*;
use rust_xlsxwriter::{Format, Workbook};

/// The cells of the first sheet, each line with its number before it.
fn check(bytes: &[u8]) -> Vec<String> {
    let book = read(bytes).unwrap();
    let line = |line: &super::Line| format!("{}: {}", line.number, line.cells.join("|"));
    book.sheets[0].lines.iter().map(line).collect()
}

#[test]
fn csv_of_any_spreadsheet_is_the_same_table() {
    let expected = ["1: serial|skole", "2: PF1|Tromsø"];
    let text = "serial;skole\r\nPF1;Tromsø\r\n";
    let utf_16 =
        |order: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(order).collect::<Vec<u8>>();
    let files = [
        text.as_bytes().to_vec(),
        ["\u{feff}", text].concat().into_bytes(),
        [vec![0xff, 0xfe], utf_16(u16::to_le_bytes)].concat(),
        [vec![0xfe, 0xff], utf_16(u16::to_be_bytes)].concat(),
        utf_16(u16::to_le_bytes),
        utf_16(u16::to_be_bytes),
        encoding_rs::WINDOWS_1252.encode(text).0.into_owned(),
        text.replace(';', "\t").into_bytes(),
        text.replace(';', ",").into_bytes(),
        text.replace(';', "|").into_bytes(),
    ];
    for bytes in files {
        assert_eq!(check(&bytes), expected, "{bytes:?}");
    }
}

#[test]
fn title_rows_blank_lines_quotes_and_announced_separators() {
    let text = "Ordrebekreftelse, 2026, Troms, 2 500 stk\n\n;;\n\nserial;skole\nPF1;\"Bardufoss; avd. \"\"A\"\"\n2. etasje\"\n";
    assert_eq!(
        check(text.as_bytes()),
        [
            "1: Ordrebekreftelse, 2026, Troms, 2 500 stk",
            "5: serial|skole",
            "6: PF1|Bardufoss; avd. \"A\"\n2. etasje"
        ]
    );
    assert_eq!(
        check(b"sep=:\nserial:class\nA,1:8B\n"),
        ["2: serial|class", "3: A,1|8B"]
    );
}

#[test]
fn leading_zeros_survive_every_way_spreadsheets_keep_them() {
    let text = "serial;tag\n000123;=\"000124\"\n\"=\"\"000125\"\"\";'000126\n";
    assert_eq!(
        check(text.as_bytes())[1..],
        ["2: 000123|000124", "3: 000125|000126"]
    );
}

fn workbook(fill: impl FnOnce(&mut Workbook)) -> Vec<u8> {
    let mut book = Workbook::new();
    fill(&mut book);
    book.save_to_buffer().unwrap()
}

#[test]
fn excel_cells_become_the_text_that_was_meant() {
    let bytes = workbook(|book| {
        let sheet = book.add_worksheet().set_name("Ordre").unwrap();
        sheet.write_string(0, 0, "Ordrebekreftelse").unwrap();
        sheet.write_string(3, 1, "Serienr").unwrap();
        sheet.write_string(3, 2, "Levert").unwrap();
        sheet.write_string(4, 1, "000123").unwrap();
        let date = Format::new().set_num_format("dd.mm.yyyy");
        sheet
            .write_number_with_format(4, 2, 46_200.0, &date)
            .unwrap();
        sheet.write_number(5, 1, 5_123_456_789.0).unwrap();
        sheet.write_number(6, 1, 1.234_567_890_123_456e17).unwrap();
        sheet.write_number(7, 1, 12.5).unwrap();
        sheet.write_boolean(7, 2, true).unwrap();
        sheet.set_row_hidden(7).unwrap();
        book.add_worksheet().set_name("Vilkår").unwrap();
    });
    assert_eq!(
        check(&bytes),
        [
            "1: Ordrebekreftelse",
            "4: |Serienr|Levert",
            "5: |000123|2026-06-27",
            "6: |5123456789",
            "7: |1.234567890123456E+17",
            "8: |12.5|true",
        ]
    );
    let book: Book = read(&bytes).unwrap();
    assert_eq!(book.sheets[1].name, "Vilkår");
    assert_eq!(book.form, "Excel workbook");
}

#[test]
fn what_is_no_table_says_so() {
    assert_eq!(read(b" \n\n"), Err(TableError::Empty));
    assert_eq!(
        read(&workbook(|book| {
            book.add_worksheet();
        })),
        Err(TableError::Empty)
    );
    assert!(matches!(
        read(b"PK\x03\x04 and then nothing"),
        Err(TableError::Workbook { .. })
    ));
    assert_eq!(
        read(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1old"),
        Err(TableError::OldWorkbook)
    );
    let wide = "a;".repeat(300);
    assert_eq!(read(wide.as_bytes()), Err(TableError::Columns { line: 1 }));
    let long = "x\n".repeat(super::LINES_MAX + 1);
    assert_eq!(read(long.as_bytes()), Err(TableError::Lines));
}

#[test]
fn a_cell_far_out_costs_no_memory() {
    let bytes = workbook(|book| {
        let sheet = book.add_worksheet();
        sheet.write_string(0, 0, "serial").unwrap();
        sheet.write_string(1_048_575, 16_383, "x").unwrap();
    });
    assert_eq!(read(&bytes), Err(TableError::Columns { line: 1_048_576 }));
}

#[test]
fn a_zip_bomb_is_refused_before_it_is_read() {
    use std::io::Write as _;
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    zip.start_file("xl/workbook.xml", options).unwrap();
    zip.write_all(&vec![b' '; 1 << 20]).unwrap();
    let bytes = zip.finish().unwrap().into_inner();
    assert!(bytes.len() < 4096);
    assert_eq!(super::xlsx::measure(&bytes, 1 << 20), Ok(()));
    assert_eq!(
        super::xlsx::measure(&bytes, (1 << 20) - 1),
        Err(TableError::Unpacked)
    );
}

proptest! {
    #[test]
    fn garbage_is_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _read = read(&bytes);
    }

    #[test]
    fn a_damaged_workbook_is_read_without_panic(at in 0usize..6000, byte in any::<u8>()) {
        let mut bytes = workbook(|book| {
            book.add_worksheet().write_string(0, 0, "serial").unwrap();
        });
        let at = at % bytes.len();
        bytes[at] = byte;
        let _read = read(&bytes);
    }

    #[test]
    fn what_was_written_is_read(values in proptest::collection::vec("[A-Z0-9æøå\" ]{1,12}", 4..20)) {
        let rows: Vec<&[String]> = values.chunks(2).filter(|row| row.len() == 2).collect();
        let mut writer = csv::WriterBuilder::new().delimiter(b'\t').from_writer(Vec::new());
        for row in &rows {
            writer.write_record([format!("x{}", row[0]), format!("y{}", row[1])]).unwrap();
        }
        let book = read(&writer.into_inner().unwrap()).unwrap();
        for (line, row) in book.sheets[0].lines.iter().zip(rows) {
            prop_assert_eq!(&line.cells, &[format!("x{}", row[0]).trim().to_owned(), format!("y{}", row[1]).trim().to_owned()]);
        }
    }
}
