//! Texts: made harmless, broken into lines, shortened; times in words. Widths come from whoever draws.

use std::time::Duration;

/// What a screen can hold of one text, with room to spare: three lines of two hundred letters.
const CHARS_MAX: usize = 600;

/// One harmless line: control characters (and with them escape sequences), line breaks and invisible marks that turn
/// the direction of writing become spaces; runs of white space become one space.
pub(crate) fn harmless(text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(CHARS_MAX));
    for character in text.chars().take(CHARS_MAX) {
        if !(character.is_whitespace() || character.is_control() || is_invisible(character)) {
            line.push(character);
        } else if !line.is_empty() && !line.ends_with(' ') {
            line.push(' ');
        }
    }
    line.truncate(line.trim_end().len());
    line
}

/// Characters that show nothing and change how others are shown.
fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

/// `text`, or as much of its start as fits `room` with an ellipsis after it.
pub(crate) fn shortened(text: &str, room: f32, mut width: impl FnMut(&str) -> f32) -> String {
    if width(text) <= room {
        return text.to_owned();
    }
    let ends: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
    // The longest start that fits, by halving: texts may be long and measuring is not free.
    let (mut fits, mut too_long) = (0, ends.len());
    while too_long - fits > 1 {
        let middle = usize::midpoint(fits, too_long);
        if width(&format!("{}…", text[..ends[middle]].trim_end())) <= room {
            fits = middle;
        } else {
            too_long = middle;
        }
    }
    format!(
        "{}…",
        text[..ends.get(fits).copied().unwrap_or(0)].trim_end()
    )
}

/// `text` in at most `lines_max` lines of at most `room`; what is left over is cut off with an ellipsis.
pub(crate) fn wrapped(
    text: &str,
    room: f32,
    lines_max: usize,
    mut width: impl FnMut(&str) -> f32,
) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut rest = text;
    while !rest.is_empty() && lines.len() < lines_max {
        if lines.len() + 1 == lines_max {
            lines.push(shortened(rest, room, &mut width));
            break;
        }
        let end = line_end(rest, room, &mut width);
        lines.push(rest[..end].trim_end().to_owned());
        rest = rest[end..].trim_start();
    }
    lines
}

/// Where the first line of `text` ends: after the last word that fits, or within a word that is longer than a line.
fn line_end(text: &str, room: f32, mut width: impl FnMut(&str) -> f32) -> usize {
    let mut fits = 0;
    let word_ends = text
        .match_indices(' ')
        .map(|(at, _)| at)
        .chain([text.len()]);
    for end in word_ends {
        if width(&text[..end]) > room {
            break;
        }
        fits = end;
    }
    if fits > 0 {
        return fits;
    }
    let mut ends = text
        .char_indices()
        .skip(1)
        .map(|(at, _)| at)
        .chain([text.len()]);
    let first = ends.next().unwrap_or(text.len());
    ends.take_while(|end| width(&text[..*end]) <= room)
        .last()
        .unwrap_or(first)
}

/// `4:31` or `1:02:07`.
pub(crate) fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}")
    }
}

/// An estimate, no more precise than it is: `about 6 minutes`.
pub(crate) fn estimate(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..=9 => "a few seconds".to_owned(),
        10..=54 => format!("about {} seconds", seconds.div_ceil(10) * 10),
        55..=89 => "about a minute".to_owned(),
        90..=5399 => format!("about {} minutes", (seconds + 30) / 60),
        _ => {
            let halves = seconds.saturating_add(900) / 1800;
            format!(
                "about {}{} hours",
                halves / 2,
                if halves % 2 == 1 { "½" } else { "" }
            )
        }
    }
}

/// `1 second`, `412 seconds`.
pub(crate) fn seconds(time: Duration) -> String {
    match time.as_secs() {
        1 => "1 second".to_owned(),
        seconds => format!("{seconds} seconds"),
    }
}

#[cfg(test)]
mod tests {
    use super::{clock, estimate, harmless, shortened, wrapped};
    use proptest::prelude::{any, proptest};
    use std::time::Duration;

    fn count(text: &str) -> f32 {
        f32::from(u16::try_from(text.chars().count()).unwrap())
    }

    #[test]
    fn hostile_texts_become_harmless() {
        assert_eq!(
            harmless("a\x1b[2J\x07b\r\n\tc\u{202e}d\u{0}"),
            "a [2J b c d"
        );
        assert_eq!(harmless("  \n "), "");
        assert_eq!(harmless(&"x".repeat(9000)).len(), 600);
    }

    #[test]
    fn times_are_no_more_precise_than_they_are() {
        let words = |seconds| estimate(Duration::from_secs(seconds));
        assert_eq!(words(3), "a few seconds");
        assert_eq!(words(41), "about 50 seconds");
        assert_eq!(words(60), "about a minute");
        assert_eq!(words(290), "about 5 minutes");
        assert_eq!(words(9000), "about 2½ hours");
        assert_eq!(clock(Duration::from_secs(271)), "4:31");
        assert_eq!(clock(Duration::from_secs(3727)), "1:02:07");
    }

    #[test]
    fn long_words_are_broken_and_long_texts_cut() {
        assert_eq!(wrapped("ab cd ef", 5.0, 9, count), ["ab cd", "ef"]);
        assert_eq!(
            wrapped("abcdefgh ij", 3.0, 9, count),
            ["abc", "def", "gh", "ij"]
        );
        assert_eq!(wrapped("ab cd ef gh", 5.0, 2, count), ["ab cd", "ef gh"]);
        assert_eq!(wrapped("ab cd ef ghi", 5.0, 2, count), ["ab cd", "ef g…"]);
        assert_eq!(shortened("Bjørnstjerne", 6.0, count), "Bjørn…");
    }

    proptest! {
        #[test]
        fn lines_fit_whatever_the_text(text in any::<String>(), room in 1_u8..40, lines in 1_usize..6) {
            let wrapped = wrapped(&harmless(&text), f32::from(room), lines, count);
            assert!(wrapped.len() <= lines);
            for line in wrapped {
                assert!(count(&line) <= f32::from(room), "{line:?}");
                assert!(!line.chars().any(char::is_control));
            }
        }
    }
}
