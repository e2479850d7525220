//! What changed from one text to another, line by line.

/// Lines compared at most between what both texts begin and end with; beyond it the middle is shown as replaced whole.
const LINES_MAX: usize = 2000;

/// One line of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line<'a> {
    /// In both.
    Same(&'a str),
    /// Only in the text before.
    Removed(&'a str),
    /// Only in the text after.
    Added(&'a str),
}

/// The lines of both texts, those in common once.
#[must_use]
pub fn diff<'a>(before: &'a str, after: &'a str) -> Vec<Line<'a>> {
    let (before, after): (Vec<_>, Vec<_>) = (before.lines().collect(), after.lines().collect());
    let same = |(a, b): &(&&str, &&str)| a == b;
    let head = before.iter().zip(&after).take_while(same).count();
    let (left, right) = (&before[head..], &after[head..]);
    let tail = left
        .iter()
        .rev()
        .zip(right.iter().rev())
        .take_while(same)
        .count();
    let (left, right) = (&left[..left.len() - tail], &right[..right.len() - tail]);
    let mut lines: Vec<_> = before[..head].iter().map(|line| Line::Same(line)).collect();
    lines.extend(middle(left, right));
    lines.extend(
        before[before.len() - tail..]
            .iter()
            .map(|line| Line::Same(line)),
    );
    lines
}

/// By the longest common subsequence.
fn middle<'a>(left: &[&'a str], right: &[&'a str]) -> Vec<Line<'a>> {
    let removed = left.iter().map(|line| Line::Removed(line));
    let added = right.iter().map(|line| Line::Added(line));
    if left.len() > LINES_MAX || right.len() > LINES_MAX {
        return removed.chain(added).collect();
    }
    let width = right.len() + 1;
    let mut lengths = vec![0_u16; (left.len() + 1) * width];
    for (i, a) in left.iter().enumerate().rev() {
        for (j, b) in right.iter().enumerate().rev() {
            lengths[i * width + j] = if a == b {
                lengths[(i + 1) * width + j + 1] + 1
            } else {
                lengths[(i + 1) * width + j].max(lengths[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut lines = Vec::with_capacity(left.len() + right.len());
    while i < left.len() || j < right.len() {
        if i < left.len() && j < right.len() && left[i] == right[j] {
            lines.push(Line::Same(left[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == right.len()
            || (i < left.len() && lengths[(i + 1) * width + j] >= lengths[i * width + j + 1])
        {
            lines.push(Line::Removed(left[i]));
            i += 1;
        } else {
            lines.push(Line::Added(right[j]));
            j += 1;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_changed_line_stands_between_the_same() {
        let found = diff("a\nb\nc\nd", "a\nB\nc\nx\nd");
        let expected = [
            Line::Same("a"),
            Line::Removed("b"),
            Line::Added("B"),
            Line::Same("c"),
            Line::Added("x"),
            Line::Same("d"),
        ];
        assert_eq!(found, expected);
    }

    proptest! {
        #[test]
        fn both_texts_can_be_read_out_of_it(before in "[ab\n]{0,40}", after in "[ab\n]{0,40}") {
            let lines = diff(&before, &after);
            let left: Vec<_> = lines.iter().filter_map(|line| match line {
                Line::Same(text) | Line::Removed(text) => Some(*text),
                Line::Added(_) => None,
            }).collect();
            let right: Vec<_> = lines.iter().filter_map(|line| match line {
                Line::Same(text) | Line::Added(text) => Some(*text),
                Line::Removed(_) => None,
            }).collect();
            prop_assert_eq!(left, before.lines().collect::<Vec<_>>());
            prop_assert_eq!(right, after.lines().collect::<Vec<_>>());
        }
    }
}
