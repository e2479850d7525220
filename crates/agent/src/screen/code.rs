//! A QR code, as a grid of dark and light squares. Pure; where it stands is decided in `layout`.

use qrcodegen::{QrCode, QrCodeEcc};

/// The quiet zone around a code that scanners rely on, in modules (ISO/IEC 18004, 5.3.8).
pub(crate) const QUIET: i32 = 4;
/// A longer text makes squares too small to scan from an arm's length.
const TEXT_BYTES_MAX: usize = 150;

/// The squares of a code, row by row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Code {
    /// How many squares a side has, without the quiet zone.
    pub(crate) side: i32,
    /// Which of them are dark.
    pub(crate) dark: Vec<bool>,
}

impl Code {
    /// The code that says `text`; `None` if there is nothing to say, or too much.
    pub(crate) fn of(text: &str) -> Option<Self> {
        if text.is_empty() || text.len() > TEXT_BYTES_MAX {
            return None;
        }
        // A screen has no scratches: the squares may rather be large. What room is left over goes to correction.
        let code = QrCode::encode_text(text, QrCodeEcc::Low).ok()?;
        let side = code.size();
        let dark = (0..side).flat_map(|y| (0..side).map(move |x| (x, y)));
        let dark = dark.map(|(x, y)| code.get_module(x, y)).collect();
        Some(Self { side, dark })
    }

    /// The runs of dark squares: row, from, up to.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (i32, i32, i32)> {
        let side = usize::try_from(self.side).unwrap_or(1).max(1);
        (0..).zip(self.dark.chunks(side)).flat_map(|(y, row)| {
            let mut x = 0;
            row.chunk_by(|a, b| a == b).filter_map(move |run| {
                let from = x;
                x += i32::try_from(run.len()).unwrap_or(0);
                run[0].then_some((y, from, x))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Code;

    #[test]
    fn a_link_fits_and_its_runs_are_its_dark_squares() {
        let code = Code::of(
            "https://forestage.school.example:8443/runs/7f0c1fd2-8f7e-4a51-9c39-2f7d3e7b1a10",
        )
        .unwrap();
        assert!(code.side <= 37, "{} squares", code.side);
        let dark: i32 = code.runs().map(|(_, from, to)| to - from).sum();
        let expected = code.dark.iter().filter(|dark| **dark).count();
        assert_eq!(usize::try_from(dark).unwrap(), expected);
        // The finder in the corner: seven dark squares in the first row.
        assert_eq!(code.runs().next(), Some((0, 0, 7)));
    }

    #[test]
    fn nothing_and_too_much_are_no_code() {
        assert_eq!(Code::of(""), None);
        assert_eq!(Code::of(&"x".repeat(151)), None);
    }
}
