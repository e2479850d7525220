//! Labels as PDF: the modules of the code are filled rectangles, texts are Helvetica, which every reader has, in the
//! Windows-1252 encoding: Norwegian and North Sámi's á, š, ž are in it, other letters are written without their marks.

use pdf_writer::{Content, Finish as _, Name, Pdf, Rect, Ref, Str};

use super::layout::{Label, Mark, marks};
use super::paper::Paper;
use crate::error::Failure;

const POINTS_PER_MM: f32 = 72.0 / 25.4;
const REGULAR: Name<'static> = Name(b"F1");
const BOLD: Name<'static> = Name(b"F2");

/// A whole document; the first `skip` places of its first page stay empty.
pub(super) fn document(labels: &[Label], paper: &Paper, skip: usize) -> Result<Vec<u8>, Failure> {
    let mut next = 0;
    let mut fresh = || {
        next += 1;
        Ref::new(next)
    };
    let (catalog, tree, regular, bold) = (fresh(), fresh(), fresh(), fresh());
    let mut pdf = Pdf::new();
    pdf.catalog(catalog).pages(tree);
    for (font, base) in [(regular, "Helvetica"), (bold, "Helvetica-Bold")] {
        pdf.type1_font(font)
            .base_font(Name(base.as_bytes()))
            .encoding_predefined(Name(b"WinAnsiEncoding"));
    }
    let places: Vec<Option<&Label>> = std::iter::repeat_n(None, skip)
        .chain(labels.iter().map(Some))
        .collect();
    let mut pages = Vec::new();
    for labels in places.chunks(paper.places()) {
        let (page, stream) = (fresh(), fresh());
        let content = page_content(labels, paper)?;
        pdf.stream(stream, &content);
        let (width, height) = paper.page;
        let mut writer = pdf.page(page);
        writer
            .parent(tree)
            .media_box(Rect::new(
                0.0,
                0.0,
                width * POINTS_PER_MM,
                height * POINTS_PER_MM,
            ))
            .contents(stream);
        writer
            .resources()
            .fonts()
            .pair(REGULAR, regular)
            .pair(BOLD, bold);
        writer.finish();
        pages.push(page);
    }
    let count = i32::try_from(pages.len()).unwrap_or(i32::MAX);
    pdf.pages(tree).kids(pages).count(count);
    Ok(pdf.finish())
}

fn page_content(labels: &[Option<&Label>], paper: &Paper) -> Result<Vec<u8>, Failure> {
    let mut content = Content::new();
    for (place, label) in labels.iter().enumerate() {
        let Some(label) = label else { continue };
        let (left, top) = paper.corner(place);
        let x = |mm: f32| (left + mm) * POINTS_PER_MM;
        // PDF counts from the bottom.
        let y = |mm: f32| (paper.page.1 - top - mm) * POINTS_PER_MM;
        for mark in marks(label, paper.label)? {
            match mark {
                Mark::Bar(at, down, width, height) => {
                    content.rect(
                        x(at),
                        y(down + height),
                        width * POINTS_PER_MM,
                        height * POINTS_PER_MM,
                    );
                }
                Mark::Text(at, base, points, is_bold, text) => {
                    // What was outlined so far is filled first: text can't stand within a path.
                    content.fill_nonzero();
                    content.begin_text();
                    content.set_font(if is_bold { BOLD } else { REGULAR }, points);
                    content.next_line(x(at), y(base));
                    content.show(Str(&windows_1252(&text)));
                    content.end_text();
                }
            }
        }
    }
    Ok(content.finish().to_vec())
}

/// Letters that the encoding lacks lose their marks.
fn windows_1252(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for c in text.chars() {
        let c = match c {
            'č' | 'ć' => 'c',
            'Č' | 'Ć' => 'C',
            'đ' => 'd',
            'Đ' => 'D',
            'ŋ' => 'n',
            'Ŋ' => 'N',
            'ŧ' => 't',
            'Ŧ' => 'T',
            c => c,
        };
        let mut buffer = [0; 4];
        let (encoded, _, is_lost) = encoding_rs::WINDOWS_1252.encode(c.encode_utf8(&mut buffer));
        if is_lost {
            bytes.push(b'?');
        } else {
            bytes.extend_from_slice(&encoded);
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::super::paper::PAPERS;
    use super::{Label, document, windows_1252};

    #[test]
    fn norwegian_is_written_as_it_is() {
        assert_eq!(windows_1252("Blåbær…"), b"Bl\xe5b\xe6r\x85");
        assert_eq!(windows_1252("Čohkka 木"), b"Cohkka ?");
    }

    #[test]
    fn a_partly_used_sheet_goes_on_where_it_was() {
        let label = Label {
            serial: "PF1".into(),
            asset_tag: "T1".into(),
            name: String::new(),
            owner_line: String::new(),
        };
        for paper in PAPERS {
            let labels = vec![label.clone(); paper.places()];
            let pages = |skip| {
                let pdf = document(&labels, paper, skip).unwrap();
                let text = String::from_utf8_lossy(&pdf).into_owned();
                text.matches("/Type /Page\n").count()
            };
            assert_eq!((pages(0), pages(1)), (1, 2), "{}", paper.name);
        }
    }
}
