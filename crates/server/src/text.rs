//! Texts from outside, made fit to be stored and shown.

use std::borrow::Cow;

/// Control characters and invisible marks out, white space at the ends off, at most `chars_max` characters.
pub(crate) fn clean(text: &str, chars_max: usize) -> String {
    let visible = text
        .trim()
        .chars()
        .filter(|c| !c.is_control() && !is_invisible_mark(*c));
    visible
        .take(chars_max)
        .collect::<String>()
        .trim()
        .to_owned()
}

/// A text for a cell of a CSV that people open in a spreadsheet. What a spreadsheet would take for a formula, and carry
/// out, gets an apostrophe in front.
pub(crate) fn spreadsheet_safe(text: &str) -> Cow<'_, str> {
    match text.chars().next() {
        Some('=' | '+' | '-' | '@' | '\t' | '\r' | '\n') => Cow::Owned(format!("'{text}")),
        _ => Cow::Borrowed(text),
    }
}

/// Marks that reorder what is shown could make one serial look like another, separators of lines one line look like two.
const fn is_invisible_mark(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::{clean, spreadsheet_safe};

    #[test]
    fn controls_and_direction_marks_are_taken_out() {
        assert_eq!(clean("  PF\u{1b}[31m3\u{202e}X\0 ", 20), "PF[31m3X");
        assert_eq!(clean("one\u{2028}line\u{2029}", 20), "oneline");
        assert_eq!(clean("ææææ", 2), "ææ");
        assert_eq!(clean("\u{feff} \n", 5), "");
    }

    #[test]
    fn a_formula_is_defused() {
        assert_eq!(spreadsheet_safe("=HYPERLINK(\"x\")"), "'=HYPERLINK(\"x\")");
        assert_eq!(spreadsheet_safe("@SUM(A1)"), "'@SUM(A1)");
        assert_eq!(spreadsheet_safe("PF=1"), "PF=1");
        assert_eq!(spreadsheet_safe(""), "");
    }
}
