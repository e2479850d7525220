//! Texts from outside, made fit to be stored and shown.

use std::borrow::Cow;

pub(crate) use wire::plain::clean;

/// A text for a cell of a CSV that people open in a spreadsheet. What a spreadsheet would take for a formula, and carry
/// out, gets an apostrophe in front.
pub(crate) fn spreadsheet_safe(text: &str) -> Cow<'_, str> {
    match text.chars().next() {
        Some('=' | '+' | '-' | '@' | '\t' | '\r' | '\n') => Cow::Owned(format!("'{text}")),
        _ => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::spreadsheet_safe;

    #[test]
    fn a_formula_is_defused() {
        assert_eq!(spreadsheet_safe("=HYPERLINK(\"x\")"), "'=HYPERLINK(\"x\")");
        assert_eq!(spreadsheet_safe("@SUM(A1)"), "'@SUM(A1)");
        assert_eq!(spreadsheet_safe("PF=1"), "PF=1");
        assert_eq!(spreadsheet_safe(""), "");
    }
}
