//! What goes to stdout and stderr: tables and sentences for people, JSON for programs. Deciding what to say is done
//! elsewhere, by pure functions; nothing here knows a command.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::failure::{Failure, Outcome};

/// Lines for people are at most this long when the terminal doesn't say how wide it is.
const WIDTH_DEFAULT: usize = 110;
/// Below this, wrapping makes a table less readable than an overlong line.
const WRAPPED_COLUMN_MIN: usize = 24;

/// Where a command says things.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    json: bool,
    paint: Paint,
    width: usize,
}

impl Output {
    /// Looks at the terminal once.
    pub(crate) fn new(json: bool) -> Self {
        let is_terminal = std::io::stdout().is_terminal();
        let wants_color = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let columns = std::env::var("COLUMNS")
            .ok()
            .and_then(|text| text.parse().ok());
        let terminal = console::Term::stdout()
            .size_checked()
            .map(|(_, columns)| usize::from(columns));
        let width = columns.or(terminal).unwrap_or(WIDTH_DEFAULT).clamp(60, 200);
        Self {
            json,
            paint: Paint {
                on: is_terminal && wants_color,
            },
            width,
        }
    }

    /// Whether machine output was asked for.
    pub(crate) const fn is_json(&self) -> bool {
        self.json
    }

    /// The answer of a command: `value` as JSON, or the text that `render` makes of it.
    pub(crate) fn answer<T: Serialize>(
        &self,
        value: &T,
        render: impl FnOnce(&Look) -> String,
    ) -> Outcome<()> {
        let text = if self.json {
            let mut text = serde_json::to_string_pretty(value)
                .map_err(|error| Failure::new("cannot write the answer as JSON").because(error))?;
            text.push('\n');
            text
        } else {
            render(&Look {
                paint: self.paint,
                width: self.width,
            })
        };
        print(&text)
    }

    /// One JSON document on one line, for commands that answer bit by bit.
    pub(crate) fn json_line<T: Serialize>(&self, value: &T) -> Outcome<()> {
        let text = serde_json::to_string(value)
            .map_err(|error| Failure::new("cannot write JSON").because(error))?;
        print(&format!("{text}\n"))
    }

    /// What somebody is asked about, line by line, for people only: to stderr.
    pub(crate) fn show(&self, render: impl FnOnce(&Look) -> String) {
        let look = Look {
            paint: Paint { on: false },
            width: self.width,
        };
        render(&look).lines().for_each(|line| self.say(line));
    }

    /// A line about what is going on, for people only: to stderr.
    pub(crate) fn say(&self, line: &str) {
        // Nobody reads stderr any more: there is no one left to tell.
        let _ = writeln!(std::io::stderr(), "{}", clean(line));
    }

    /// A failure that does not end the command: to stderr.
    pub(crate) fn say_failure(&self, failure: &Failure) {
        // Nobody reads stderr any more: there is no one left to tell.
        let _ = write!(std::io::stderr(), "{}", failure.render());
    }

    /// How text for people looks here.
    pub(crate) const fn look(&self) -> Look {
        Look {
            paint: self.paint,
            width: self.width,
        }
    }

    /// A progress bar over bytes on stderr; invisible unless stderr is a terminal.
    pub(crate) fn bytes_bar(&self, what: &str) -> Bar {
        let bar = ProgressBar::new(0);
        bar.set_style(style(
            "{msg:<34} {bar:30} {bytes:>11} of {total_bytes:<11} {bytes_per_sec:>13}  {eta:>4}",
        ));
        bar.set_message(clean(what));
        Bar(bar)
    }

    /// A progress bar over things that are counted, on stderr; invisible unless stderr is a terminal.
    pub(crate) fn count_bar(&self, what: &str) -> Bar {
        let bar = ProgressBar::new(0);
        bar.set_style(style(&format!(
            "{{bar:30}} {{pos}} of {{len}} {what}  {{msg}}  {{elapsed}}"
        )));
        Bar(bar)
    }

    /// A progress bar over steps on stderr; invisible unless stderr is a terminal.
    pub(crate) fn steps_bar(&self) -> Bar {
        let bar = ProgressBar::new(0);
        bar.set_style(style("{bar:30} step {pos} of {len}  {msg}  {elapsed}"));
        Bar(bar)
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━╸─")
}

/// Writes to stdout. A reader that went away (`forestage … | head`) is no error.
pub(crate) fn print(text: &str) -> Outcome<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new("cannot write to stdout").because(error))
        }
        _ => Ok(()),
    }
}

/// A progress bar that content's long work can report to.
#[derive(Debug, Clone)]
pub(crate) struct Bar(ProgressBar);

impl Bar {
    /// Says how far it is.
    pub(crate) fn set(&self, done: u64, total: u64) {
        self.0.set_length(total.max(done));
        self.0.set_position(done);
    }

    /// Says what is being done.
    pub(crate) fn message(&self, text: &str) {
        self.0.set_message(clean(text));
    }

    /// Does something that prints, without the bar in its way.
    pub(crate) fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        self.0.suspend(print)
    }

    /// Takes the bar away; what remains is said in words.
    pub(crate) fn clear(&self) {
        self.0.finish_and_clear();
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if !self.0.is_finished() {
            self.0.finish_and_clear();
        }
    }
}

impl content::Meter for Bar {
    fn report(&self, done: u64, total: u64) {
        self.set(done, total);
    }
}

/// Says each phase of some building once, as a line, and its bytes as a bar.
pub(crate) struct Phases {
    output: Output,
    bar: Bar,
    latest: std::cell::RefCell<String>,
}

impl Phases {
    /// Nothing has been said yet.
    pub(crate) fn new(output: &Output) -> Self {
        Self {
            output: *output,
            bar: output.bytes_bar(""),
            latest: std::cell::RefCell::default(),
        }
    }
}

impl media::progress::Progress for Phases {
    fn phase(&self, text: &str) {
        let mut latest = self.latest.borrow_mut();
        if *latest != text {
            self.bar.0.suspend(|| self.output.say(text));
            self.bar.0.set_message(clean(text));
            self.bar.set(0, 0);
            text.clone_into(&mut latest);
        }
    }

    fn bytes(&self, done: u64, total: u64) {
        self.bar.set(done, total);
    }
}

/// How text for people looks: colors (if any) and the width to wrap at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    /// Colors, or none.
    pub(crate) paint: Paint,
    /// Columns.
    pub(crate) width: usize,
}

/// Colors, or none. Meaning never rests on them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paint {
    on: bool,
}

impl Paint {
    /// No colors.
    #[cfg(test)]
    pub(crate) const NONE: Self = Self { on: false };

    fn wrap(self, code: &str, text: &str) -> String {
        if self.on && !text.is_empty() {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// A title.
    pub(crate) fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    /// Less important.
    pub(crate) fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    /// Went well.
    pub(crate) fn good(self, text: &str) -> String {
        self.wrap("32", text)
    }

    /// Worth a look.
    pub(crate) fn warn(self, text: &str) -> String {
        self.wrap("33", text)
    }

    /// Someone must act.
    pub(crate) fn bad(self, text: &str) -> String {
        self.wrap("1;31", text)
    }

    /// Colors a state word by its meaning.
    pub(crate) fn state(self, word: &str, padded: &str) -> String {
        match word {
            "completed" | "done" | "staged" | "new" => self.good(padded),
            "warning" | "stalled" | "changed" | "undecided" => self.warn(padded),
            "failed" | "fails" | "quarantined" | "error" | "invalid" => self.bad(padded),
            "waiting" | "skipped" | "imported" | "unchanged" => self.dim(padded),
            _ => padded.to_owned(),
        }
    }
}

/// A table: the last column is wrapped, the others are as wide as they need to be.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
    sums: Option<Vec<String>>,
    widths_min: Vec<usize>,
}

#[derive(Debug)]
struct Column {
    title: &'static str,
    right: bool,
}

impl Table {
    /// A table with these columns; a title that begins with `>` makes a column of right-aligned numbers.
    pub(crate) fn new(titles: &[&'static str]) -> Self {
        let columns = titles
            .iter()
            .map(|title| match title.strip_prefix('>') {
                Some(title) => Column { title, right: true },
                None => Column {
                    title,
                    right: false,
                },
            })
            .collect();
        Self {
            columns,
            rows: Vec::new(),
            sums: None,
            widths_min: Vec::new(),
        }
    }

    /// Adds a row; control characters are made visible.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.columns.len(), "one cell per column");
        self.rows
            .push(cells.iter().map(|cell| clean(cell)).collect());
    }

    /// Sets the line of sums below the rows.
    pub(crate) fn sums<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.columns.len(), "one cell per column");
        self.sums = Some(cells.to_vec());
    }

    /// Makes the columns of both tables equally wide, so that one can be read below the other.
    pub(crate) fn align_with(&mut self, other: &mut Self) {
        debug_assert_eq!(
            self.columns.len(),
            other.columns.len(),
            "tables of the same columns"
        );
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|at| self.width_of(at).max(other.width_of(at)))
            .collect();
        self.widths_min.clone_from(&widths);
        other.widths_min = widths;
    }

    /// Whether there is no row.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The text, each line beginning with `indent`.
    pub(crate) fn render(&self, look: &Look, indent: &str) -> String {
        let last = self.columns.len() - 1;
        let widths: Vec<usize> = (0..=last).map(|at| self.width_of(at)).collect();
        let before: usize =
            indent.len() + widths[..last].iter().map(|width| width + 2).sum::<usize>();
        let wrap_at = look.width.saturating_sub(before).max(WRAPPED_COLUMN_MIN);
        let mut text = String::new();

        let titles: Vec<String> = self
            .columns
            .iter()
            .map(|column| column.title.to_owned())
            .collect();
        self.line(
            &mut text,
            look,
            indent,
            &titles,
            &widths,
            wrap_at,
            Kind::Title,
        );
        let tails = self
            .rows
            .iter()
            .chain(&self.sums)
            .flat_map(|row| wrap(&row[last], wrap_at));
        let tail_width = tails
            .map(|tail| tail.chars().count())
            .chain([self.columns[last].title.chars().count()])
            .max();
        let rule_width = before - indent.len() + tail_width.unwrap_or(0);
        let rule = format!("{indent}{}", look.paint.dim(&"─".repeat(rule_width)));
        let _ = writeln!(text, "{rule}");
        for row in &self.rows {
            self.line(&mut text, look, indent, row, &widths, wrap_at, Kind::Row);
        }
        if let Some(sums) = &self.sums {
            let _ = writeln!(text, "{rule}");
            self.line(&mut text, look, indent, sums, &widths, wrap_at, Kind::Title);
        }
        text
    }

    fn width_of(&self, at: usize) -> usize {
        let cells = self
            .rows
            .iter()
            .chain(&self.sums)
            .map(|row| row[at].chars().count());
        let least = self.widths_min.get(at).copied().unwrap_or(0);
        cells
            .chain([self.columns[at].title.chars().count(), least])
            .max()
            .unwrap_or(0)
    }

    #[expect(clippy::too_many_arguments, reason = "private, called from one place")]
    fn line(
        &self,
        text: &mut String,
        look: &Look,
        indent: &str,
        cells: &[String],
        widths: &[usize],
        wrap_at: usize,
        kind: Kind,
    ) {
        let last = cells.len() - 1;
        let wrapped = wrap(&cells[last], wrap_at);
        for (number, tail) in wrapped.iter().enumerate() {
            let mut line = String::from(indent);
            for (at, cell) in cells[..last].iter().enumerate() {
                let cell = if number == 0 { cell.as_str() } else { "" };
                let padded = pad(cell, widths[at], self.columns[at].right);
                line.push_str(&kind.paint(look.paint, cell, &padded));
                line.push_str("  ");
            }
            let tail = if self.columns[last].right {
                pad(tail, widths[last], true)
            } else {
                tail.clone()
            };
            line.push_str(&kind.paint(look.paint, &tail, &tail));
            let _ = writeln!(text, "{}", line.trim_end());
        }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Title,
    Row,
}

impl Kind {
    fn paint(self, paint: Paint, word: &str, padded: &str) -> String {
        match self {
            Self::Title => paint.bold(padded),
            Self::Row => paint.state(word, padded),
        }
    }
}

/// `text` with spaces up to `width`.
pub(crate) fn pad(text: &str, width: usize, right: bool) -> String {
    let spaces = " ".repeat(width.saturating_sub(text.chars().count()));
    if right {
        format!("{spaces}{text}")
    } else {
        format!("{text}{spaces}")
    }
}

/// Breaks `text` at spaces into lines of at most `width` characters (longer words stay whole); at least one line.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is always a line");
        let length = line.chars().count();
        if length > 0 && length + 1 + word.chars().count() > width {
            lines.push(word.to_owned());
        } else {
            if length > 0 {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

/// Replaces control characters: a serial number or a server's message must not steer the terminal.
pub(crate) fn clean(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() || is_bidi(c) {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

/// Characters that reorder the text around them.
const fn is_bidi(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A size for people: `812 bytes`, `12.3 MiB`.
#[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count == 1 {
        return "1 byte".into();
    }
    if count < 1024 {
        return format!("{count} bytes");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let decimals = if value < 9.995 { 2 } else { 1 };
    format!("{value:.decimals$} {}", UNITS[unit])
}

/// A duration for people: `42 s`, `3 min 05 s`, `2 h 10 min`.
pub(crate) fn seconds(count: u64) -> String {
    match count {
        0..60 => format!("{count} s"),
        60..3600 => format!("{} min {:02} s", count / 60, count % 60),
        _ => format!("{} h {:02} min", count / 3600, count / 60 % 60),
    }
}

/// A moment for people, in their own time zone.
pub(crate) fn moment(ms_since_1970: i64) -> String {
    match jiff::Timestamp::from_millisecond(ms_since_1970) {
        Ok(time) => time
            .to_zoned_datetime(jiff::tz::TimeZone::system())
            .strftime("%Y-%m-%d %H:%M")
            .to_string(),
        Err(_) => "?".into(),
    }
}

/// `1 package`, `2 packages`.
pub(crate) fn count(number: usize, one: &str) -> String {
    if number == 1 {
        format!("1 {one}")
    } else {
        format!("{number} {one}s")
    }
}

#[cfg(test)]
mod tests {
    use super::{Look, Paint, Table, bytes, clean, count, seconds, wrap};

    #[test]
    fn sizes_and_times_read_well() {
        let cases = [
            (0, "0 bytes"),
            (1, "1 byte"),
            (1023, "1023 bytes"),
            (1024, "1.00 KiB"),
            (12_900_000, "12.3 MiB"),
            (1 << 30, "1.00 GiB"),
            (u64::MAX, "16384.0 PiB"),
        ];
        for (number, text) in cases {
            assert_eq!(bytes(number), text);
        }
        assert_eq!(
            [seconds(59), seconds(65), seconds(7260)],
            ["59 s", "1 min 05 s", "2 h 01 min"]
        );
        assert_eq!([count(1, "step"), count(2, "step")], ["1 step", "2 steps"]);
    }

    #[test]
    fn long_reasons_wrap_in_their_column() {
        assert_eq!(wrap("a bb ccc dddd", 6), ["a bb", "ccc", "dddd"]);
        assert_eq!(wrap("", 6), [""]);
        let mut table = Table::new(&["name", ">size", "why"]);
        table.row([
            "java".into(),
            "1 MiB".into(),
            "step `apps/java` may run because the class is not known".into(),
        ]);
        table.sums(["1 package".into(), "1 MiB".into(), String::new()]);
        let text = table.render(
            &Look {
                paint: Paint::NONE,
                width: 46,
            },
            "  ",
        );
        assert_eq!(
            text,
            "  name        size  why\n  ──────────────────────────────────────────\n  \
             java       1 MiB  step `apps/java` may run\n                    because the class is not\n  \
             \x20                 known\n  \
             ──────────────────────────────────────────\n  1 package  1 MiB\n"
        );
    }

    #[test]
    fn nothing_from_outside_steers_the_terminal() {
        assert_eq!(
            clean("PF3\u{1b}]0;x\u{7}\u{202e}\n"),
            "PF3\u{fffd}]0;x\u{fffd}\u{fffd}\u{fffd}"
        );
        assert_eq!(clean("Bjørnøya Ærø Øst"), "Bjørnøya Ærø Øst");
    }
}
