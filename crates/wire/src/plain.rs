//! Texts that a machine tells of itself, made fit to be stored, shown and compared.

/// Control characters and invisible marks out, white space at the ends off, at most `chars_max` characters.
#[must_use]
pub fn clean(text: &str, chars_max: usize) -> String {
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

/// Marks that reorder what is shown could make one serial look like another, separators of lines one line look like two.
const fn is_invisible_mark(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::clean;

    #[test]
    fn controls_and_direction_marks_are_taken_out() {
        assert_eq!(clean("  PF\u{1b}[31m3\u{202e}X\0 ", 20), "PF[31m3X");
        assert_eq!(clean("one\u{2028}line\u{2029}", 20), "oneline");
        assert_eq!(clean("ææææ", 2), "ææ");
        assert_eq!(clean("\u{feff} \n", 5), "");
    }
}
