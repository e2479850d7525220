//! Where things stand on a label. Millimetres from its left and top.

use qrcodegen::{QrCode, QrCodeEcc};

use crate::error::Failure;
use crate::pupils::label_code;

/// Labels are cut and printed a little off.
const EDGE_MM: f32 = 2.0;
/// A label's edge where it is low.
const EDGE_LOW_MM: f32 = 1.5;
/// Below 25 mm a label is low.
const LOW_MM: f32 = 25.0;
/// Modules around a QR code that stay white; scanners ask for four, and paper's edge gives the rest.
const QUIET_MODULES: f32 = 2.0;
const POINTS_PER_MM: f32 = 72.0 / 25.4;
/// Smaller letters can't be read.
const SIZE_POINTS_MIN: f32 = 4.5;

/// What a label says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Label {
    pub(crate) serial: String,
    pub(crate) asset_tag: String,
    pub(crate) name: String,
    pub(crate) owner_line: String,
}

/// Something drawn.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Mark {
    /// A black rectangle: left, top, width, height.
    Bar(f32, f32, f32, f32),
    /// A line of text: left, base line, size in points, whether it is bold.
    Text(f32, f32, f32, bool, String),
}

/// The marks of a label of this size.
#[expect(
    clippy::cast_precision_loss,
    clippy::as_conversions,
    reason = "a QR code has at most 177 modules"
)]
pub(crate) fn marks(label: &Label, size: (f32, f32)) -> Result<Vec<Mark>, Failure> {
    let code = label_code::write(&label.serial);
    let code = QrCode::encode_text(&code, QrCodeEcc::Medium).map_err(|source| Failure::System {
        what: "draw a QR code",
        source: source.into(),
    })?;
    let edge = if size.1 < LOW_MM {
        EDGE_LOW_MM
    } else {
        EDGE_MM
    };
    let side = (size.1 - 2.0 * edge).min(size.0 * 0.48);
    let module = side / (code.size() as f32 + 2.0 * QUIET_MODULES);
    let (left, top) = (
        edge + QUIET_MODULES * module,
        (size.1 - side) / 2.0 + QUIET_MODULES * module,
    );
    let mut marks = Vec::new();
    for y in 0..code.size() {
        let mut x = 0;
        while x < code.size() {
            let begin = x;
            while x < code.size() && code.get_module(x, y) {
                x += 1;
            }
            if x > begin {
                marks.push(Mark::Bar(
                    left + begin as f32 * module,
                    top + y as f32 * module,
                    (x - begin) as f32 * module,
                    module,
                ));
            }
            x += 1;
        }
    }
    let text_left = edge + side + 1.0;
    marks.extend(texts(
        label,
        text_left,
        size.0 - edge - text_left,
        size.1,
        edge,
    ));
    Ok(marks)
}

/// The lines beside the code: what people look for is the largest.
fn texts(label: &Label, left: f32, width: f32, height: f32, edge: f32) -> Vec<Mark> {
    let scale = (height / 37.0).clamp(0.6, 1.0);
    let lines = [
        (&label.name, 13.0 * scale, true),
        (
            &label.serial,
            if label.name.is_empty() { 13.0 } else { 10.0 } * scale,
            true,
        ),
        (&label.asset_tag, 10.0 * scale, false),
    ];
    let mut marks = Vec::new();
    let mut base = edge;
    for (text, points, is_bold) in lines {
        if text.is_empty() {
            continue;
        }
        let points = fitted(text, points, is_bold, width);
        base += points * 1.25 / POINTS_PER_MM;
        marks.push(Mark::Text(
            left,
            base,
            points,
            is_bold,
            shortened(text, points, is_bold, width),
        ));
    }
    if !label.owner_line.is_empty() {
        let points = 7.0 * scale.max(0.75);
        let mut lines = wrapped(&label.owner_line, points, width);
        lines.truncate(3);
        let line_mm = points * 1.2 / POINTS_PER_MM;
        let mut base = height - edge - points * 0.25 / POINTS_PER_MM;
        for line in lines.into_iter().rev() {
            marks.push(Mark::Text(left, base, points, false, line));
            base -= line_mm;
        }
    }
    marks
}

/// The size at which a text fits.
fn fitted(text: &str, points: f32, is_bold: bool, width_mm: f32) -> f32 {
    let width = text_points(text, points, is_bold) / POINTS_PER_MM;
    if width <= width_mm {
        points
    } else {
        (points * width_mm / width).max(SIZE_POINTS_MIN)
    }
}

/// A text that doesn't fit at any size loses its end.
fn shortened(text: &str, points: f32, is_bold: bool, width_mm: f32) -> String {
    let mut text = text.to_owned();
    let fits = |text: &str| text_points(text, points, is_bold) / POINTS_PER_MM <= width_mm + 0.1;
    if fits(&text) {
        return text;
    }
    while text.pop().is_some() {
        let cut = format!("{}…", text.trim_end());
        if fits(&cut) {
            return cut;
        }
    }
    text
}

fn wrapped(text: &str, points: f32, width_mm: f32) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let longer = lines.last().map(|line| format!("{line} {word}"));
        match longer {
            Some(longer) if text_points(&longer, points, false) / POINTS_PER_MM <= width_mm => {
                if let Some(line) = lines.last_mut() {
                    *line = longer;
                }
            }
            _ => lines.push(shortened(word, points, false, width_mm)),
        }
    }
    lines
}

/// Widths of Helvetica's letters from the space to the tilde, in thousandths of the size.
#[rustfmt::skip]
const WIDTHS: [u16; 95] = [
    278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278, 556, 556, 556, 556, 556, 556, 556,
    556, 556, 556, 278, 278, 584, 584, 584, 556, 1015, 667, 667, 722, 722, 667, 611, 778, 722, 278, 500, 667, 556, 833,
    722, 778, 667, 778, 722, 667, 611, 722, 667, 944, 667, 667, 611, 278, 278, 278, 469, 556, 333, 556, 556, 500, 556,
    556, 278, 556, 556, 222, 222, 500, 222, 833, 556, 556, 556, 556, 333, 500, 278, 556, 500, 722, 500, 500, 500, 334,
    260, 334, 584,
];
/// Of letters beyond ASCII: as wide as Æ, the widest of them that is common.
const WIDTH_OTHER: u16 = 1000;
/// Bold letters are wider by less than this.
const BOLD: f32 = 1.1;

fn text_points(text: &str, points: f32, is_bold: bool) -> f32 {
    let thousandths: f32 = text
        .chars()
        .map(|c| {
            let at = u32::from(c)
                .checked_sub(0x20)
                .and_then(|at| usize::try_from(at).ok());
            let width = at.and_then(|at| WIDTHS.get(at)).copied();
            f32::from(width.unwrap_or(match c {
                'å' | 'ø' | 'é' | 'ö' | 'ä' | 'á' => 611,
                'Å' | 'Ø' | 'Ö' | 'Ä' | 'Á' => 778,
                _ => WIDTH_OTHER,
            }))
        })
        .sum();
    thousandths / 1000.0 * points * if is_bold { BOLD } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::super::paper::PAPERS;
    use super::{Label, Mark, marks};

    #[test]
    fn everything_is_on_the_label_whatever_it_says() {
        let long = "Ærlig lang æøå ÆØÅ ".repeat(6);
        let labels = [
            (
                "PF3K2ABC".to_owned(),
                String::new(),
                String::new(),
                String::new(),
            ),
            (long.clone(), long.clone(), long.clone(), long),
        ];
        for (serial, asset_tag, name, owner_line) in labels {
            let label = Label {
                serial,
                asset_tag,
                name,
                owner_line,
            };
            for paper in PAPERS {
                for mark in marks(&label, paper.label).unwrap() {
                    let (right, bottom) = match &mark {
                        Mark::Bar(x, y, width, height) => (x + width, y + height),
                        Mark::Text(x, y, points, bold, text) => (
                            x + super::text_points(text, *points, *bold) / super::POINTS_PER_MM,
                            *y,
                        ),
                    };
                    assert!(
                        right <= paper.label.0 && bottom <= paper.label.1,
                        "{} {mark:?}",
                        paper.name
                    );
                }
            }
        }
    }
}
