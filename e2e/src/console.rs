//! What a scenario says to the person in front of it.
#![expect(
    clippy::print_stdout,
    reason = "talking to people is what this module is for"
)]

/// The headline of a chapter.
pub(crate) fn chapter(number: u32, title: &str) {
    println!("\n\x1b[1m{number}. {title}\x1b[0m");
}

/// A line of the story.
pub(crate) fn say(text: &str) {
    for line in text.lines() {
        println!("   {line}");
    }
}

/// A command, as it is typed.
pub(crate) fn command(words: &[&str]) {
    let typed: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    println!("   \x1b[36m$ forestage {}\x1b[0m", typed.join(" "));
}

/// A result in the form that test runners use.
pub(crate) fn results(passed: usize, failed: usize) {
    println!("\n{passed} passed, {failed} failed");
}

/// An error with its causes.
pub(crate) fn failure(error: &anyhow::Error) {
    eprintln!("\x1b[31merror:\x1b[0m {error}");
    error
        .chain()
        .skip(1)
        .for_each(|cause| eprintln!("  cause: {cause}"));
}

fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./:=@+,".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{word}'")
    }
}

/// Bytes for people: `1.4 MB`, with powers of ten as on disks' boxes.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    for (size, unit) in UNITS {
        if count >= size {
            return format!("{}.{} {unit}", count / size, count % size * 10 / size);
        }
    }
    format!("{count} B")
}

#[cfg(test)]
mod tests {
    use super::{bytes, quoted};

    #[test]
    fn bytes_for_people() {
        assert_eq!(
            (bytes(999), bytes(1_450_000)),
            ("999 B".to_owned(), "1.4 MB".to_owned())
        );
    }

    #[test]
    fn words_with_blanks_are_quoted() {
        assert_eq!(
            (quoted("Book 14"), quoted("a-b.csv")),
            ("'Book 14'".to_owned(), "a-b.csv".to_owned())
        );
    }
}
