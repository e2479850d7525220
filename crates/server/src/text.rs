//! Texts from outside, made fit to be stored and shown.

/// Control characters out, white space at the ends off, at most `chars_max` characters.
pub(crate) fn clean(text: &str, chars_max: usize) -> String {
    let visible = text
        .trim()
        .chars()
        .filter(|c| !c.is_control() && !is_direction_mark(*c));
    visible
        .take(chars_max)
        .collect::<String>()
        .trim()
        .to_owned()
}

/// Marks that reorder what is shown could make one serial look like another.
const fn is_direction_mark(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::clean;

    #[test]
    fn controls_and_direction_marks_are_taken_out() {
        assert_eq!(clean("  PF\u{1b}[31m3\u{202e}X\0 ", 20), "PF[31m3X");
        assert_eq!(clean("ææææ", 2), "ææ");
        assert_eq!(clean("\u{feff} \n", 5), "");
    }
}
