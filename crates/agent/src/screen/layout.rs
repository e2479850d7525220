//! From the model to a scene: where things stand, how large, in which colour. Pure: nothing here draws or waits.
//!
//! Everything is measured in units of a hundredth of the height (less on screens that are narrower than 5:4), so that
//! a small laptop and a large one show the same picture.

use super::canvas::{Area, Color, ceil, floor, round, signed, to_f32};
use super::code::{Code, QUIET};
use super::font::{Fonts, Weight};
use super::model::{ErrorText, Phase, PowerSafety, RunText, ScreenModel, StepText};
use super::scene::{Item, Scene, Symbol};
use super::text::{clock, estimate, harmless, seconds, shortened, wrapped};

const NIGHT: Color = 0x0010_1822;
const PANEL: Color = 0x001a_2633;
const TRACK: Color = 0x0032_4355;
const WHITE: Color = 0x00f5_f8fa;
const MUTED: Color = 0x00a6_b5c4;
const BLUE: Color = 0x0046_a6ff;
const BLUE_DONE: Color = 0x002c_6aa6;
const MINT: Color = 0x003c_cf91;
const AMBER: Color = 0x00ff_b938;
const ROSE: Color = 0x00ff_6b6b;
const GREEN: Color = 0x000b_7540;
const GREEN_PALE: Color = 0x00dc_f7e8;
const RED: Color = 0x009b_1b22;
const RED_DEEP: Color = 0x0073_1018;
const RED_PALE: Color = 0x00ff_d9d6;
/// As much contrast as a screen has: scanners need it.
const PAPER: Color = 0x00ff_ffff;
const INK: Color = 0x0000_0000;

/// The widest a capital letter is to its em in DejaVu Sans: what makes letters as high as they have to be.
const CAPITAL: f32 = 0.729;
/// Steps are shown one by one up to here; beyond that they would be hairlines.
const SEGMENTS_MAX: u32 = 48;
/// Below this a text is shortened rather than made smaller, in units.
const SHRINK: f32 = 0.7;

/// What the screen looks like for `model` on `width` × `height` pixels.
pub(crate) fn scene(model: &ScreenModel, width: usize, height: usize, fonts: &mut Fonts) -> Scene {
    let mut page = Page::new(width, height, fonts);
    match model.phase {
        Phase::StagedDone | Phase::DeployDone => done(&mut page, model),
        Phase::Failed => failed(&mut page, model),
        Phase::Staging | Phase::Deploying => working(&mut page, model),
        _ => waiting(&mut page, model),
    }
    Scene {
        width,
        height,
        items: page.items,
    }
}

/// Letters of one kind.
#[derive(Clone, Copy)]
struct Style {
    /// In units.
    size: f32,
    weight: Weight,
    color: Color,
}

const fn bold(size: f32, color: Color) -> Style {
    Style {
        size,
        weight: Weight::Bold,
        color,
    }
}

const fn regular(size: f32, color: Color) -> Style {
    Style {
        size,
        weight: Weight::Regular,
        color,
    }
}

/// Where a text stands to its `x`.
#[derive(Clone, Copy, PartialEq)]
enum Align {
    Left,
    Middle,
    Right,
}

/// A scene in the making; all places and sizes in units from the left and upper edge.
struct Page<'a> {
    fonts: &'a mut Fonts,
    items: Vec<Item>,
    unit: f32,
    top: f32,
    /// The width of the screen in units.
    wide: f32,
    margin: f32,
    screen: Area,
}

impl<'a> Page<'a> {
    fn new(width: usize, height: usize, fonts: &'a mut Fonts) -> Self {
        let (w, h) = (to_f32(signed(width)), to_f32(signed(height)));
        let unit = (h / 100.0).min(w / 125.0).max(0.1);
        let top = (h - 100.0 * unit) / 2.0;
        let wide = w / unit;
        let margin = (wide * 0.055).max(5.0);
        let screen = Area::new(0, 0, signed(width), signed(height));
        Self {
            fonts,
            items: Vec::new(),
            unit,
            top,
            wide,
            margin,
            screen,
        }
    }

    fn right(&self) -> f32 {
        self.wide - self.margin
    }

    fn room(&self) -> f32 {
        self.wide - 2.0 * self.margin
    }

    fn background(&mut self, color: Color) {
        self.items.push(Item::Box {
            area: self.screen,
            radius: 0.0,
            color,
        });
    }

    fn block(&mut self, from: (f32, f32), to: (f32, f32), radius: f32, color: Color) {
        let (unit, top) = (self.unit, self.top);
        let area = Area::new(
            round(from.0 * unit),
            round(top + from.1 * unit),
            round(to.0 * unit),
            // A thin line must not vanish on a small screen.
            round(top + to.1 * unit).max(round(top + from.1 * unit) + 1),
        );
        self.items.push(Item::Box {
            area,
            radius: radius * unit,
            color,
        });
    }

    fn symbol(&mut self, symbol: Symbol, middle: (f32, f32), radius: f32, disc: Color, ink: Color) {
        let middle = (middle.0 * self.unit, self.top + middle.1 * self.unit);
        symbol.draw(&mut self.items, middle, radius * self.unit, disc, ink);
    }

    fn pixels(&self, size: f32) -> u32 {
        u32::try_from(round(size * self.unit)).unwrap_or(0).max(1)
    }

    /// The width of `text`, in units.
    fn measure(&mut self, text: &str, style: Style) -> f32 {
        let size = self.pixels(style.size);
        self.fonts.width(text, size, style.weight) / self.unit
    }

    /// One line, made smaller and then shortened until it fits `room`. Returns its width.
    fn line(&mut self, text: &str, at: (f32, f32), room: f32, style: Style, align: Align) -> f32 {
        let text = harmless(text);
        let mut style = style;
        let wanted = self.measure(&text, style);
        if wanted > room {
            style.size *= (room / wanted).max(SHRINK);
        }
        let text = shortened(&text, room, |text| self.measure(text, style));
        let width = self.measure(&text, style);
        let x = match align {
            Align::Left => at.0,
            Align::Middle => at.0 - width / 2.0,
            Align::Right => at.0 - width,
        };
        if !text.is_empty() {
            self.items.push(Item::Text {
                text,
                x: round(x * self.unit),
                baseline: round(self.top + at.1 * self.unit),
                width: width * self.unit,
                size: self.pixels(style.size),
                weight: style.weight,
                color: style.color,
            });
        }
        width
    }

    fn left(&mut self, text: &str, at: (f32, f32), room: f32, style: Style) -> f32 {
        self.line(text, at, room, style, Align::Left)
    }

    fn middle(&mut self, text: &str, y: f32, style: Style) -> f32 {
        self.line(
            text,
            (self.wide / 2.0, y),
            self.room(),
            style,
            Align::Middle,
        )
    }

    /// As many of `lines_max` lines as are needed; the first baseline at `at.1`. Returns the baseline after the last.
    fn lines(
        &mut self,
        text: &str,
        at: (f32, f32),
        room: f32,
        style: Style,
        lines_max: usize,
        align: Align,
    ) -> f32 {
        let mut y = at.1;
        for line in self.broken(text, room, style, lines_max) {
            self.line(&line, (at.0, y), room, style, align);
            y += style.size * LINE_HEIGHT;
        }
        y
    }

    fn broken(&mut self, text: &str, room: f32, style: Style, lines_max: usize) -> Vec<String> {
        wrapped(&harmless(text), room, lines_max, |text| {
            self.measure(text, style)
        })
    }
}

/// From one baseline to the next, in sizes.
const LINE_HEIGHT: f32 = 1.32;

/// The name of the product, with its mark: a step forward.
fn brand(page: &mut Page<'_>, model: &ScreenModel) {
    let (x, y) = (page.margin, 3.6);
    page.block((x, y), (x + 4.2, y + 4.2), 1.1, BLUE);
    let unit = page.unit;
    let at = |dx: f32, dy: f32| ((x + dx) * unit, page.top + (y + dy) * unit);
    let points = vec![at(1.5, 1.1), at(2.7, 2.1), at(1.5, 3.1)];
    page.items.push(Item::Stroke {
        points,
        width: 0.62 * unit,
        color: NIGHT,
    });
    page.left("Forestage", (x + 5.6, 6.8), 40.0, bold(2.7, WHITE));
    // Working screens say it below, with the other times.
    let is_counted =
        model.phase.is_at_work() && !matches!(model.phase, Phase::Staging | Phase::Deploying);
    if let Some(elapsed) = model.elapsed.filter(|_| is_counted) {
        page.line(
            &clock(elapsed),
            (page.right(), 6.8),
            30.0,
            regular(2.7, MUTED),
            Align::Right,
        );
    }
    page.block((x, 10.2), (page.right(), 10.35), 0.0, TRACK);
}

fn footer(page: &mut Page<'_>, model: &ScreenModel, color: Color) {
    let facts = &model.footer;
    let version = harmless(&facts.version);
    let named = |name: &str, value: &str| match harmless(value) {
        value if value.is_empty() => String::new(),
        value => format!("{name} {value}"),
    };
    let parts = [
        named("Forestage", &version),
        named("address", &facts.address),
        named("bundle", &facts.bundle),
    ];
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    page.left(
        &parts.join("   ·   "),
        (page.margin, 97.0),
        page.room(),
        regular(1.9, color),
    );
}

/// A small label over a large value.
fn fact(page: &mut Page<'_>, label: &str, value: &str, at: (f32, f32), room: f32) {
    page.left(label, at, room, regular(2.0, MUTED));
    page.left(value, (at.0, at.1 + 4.2), room, bold(3.1, WHITE));
}

/// Facts side by side; those without a value take no room.
fn facts(page: &mut Page<'_>, y: f32, entries: &[(&str, String, f32)]) {
    let entries: Vec<_> = entries
        .iter()
        .filter(|(_, value, _)| !harmless(value).is_empty())
        .collect();
    let shares: f32 = entries.iter().map(|(_, _, share)| share).sum();
    let (mut x, room) = (page.margin, page.room());
    for (label, value, share) in entries {
        let width = room * share / shares.max(1.0);
        fact(page, label, value, (x, y), width - 3.0);
        x += width;
    }
}

fn machine_facts(model: &ScreenModel) -> [(&'static str, String, f32); 3] {
    let machine = &model.machine;
    [
        ("Name", machine.name.clone().unwrap_or_default(), 1.0),
        ("Serial number", machine.serial.clone(), 1.0),
        ("Model", machine.model.clone(), 1.4),
    ]
}

fn power(page: &mut Page<'_>, power: Option<PowerSafety>) {
    let Some(power) = power else { return };
    let style = bold(2.6, MINT);
    let x = page.margin;
    page.symbol(Symbol::Check, (x + 1.7, 89.6), 1.7, MINT, NIGHT);
    page.left(power.text(), (x + 5.0, 90.5), page.right() - x - 5.0, style);
}

/// The model's own text, or the phase's.
fn or_default<'t>(text: &'t str, default: &'t str) -> &'t str {
    if harmless(text).is_empty() {
        default
    } else {
        text
    }
}

/// Errors are written in small letters, to be put one after the other; alone on a screen they begin with a capital.
fn capitalised(text: &str) -> String {
    let text = harmless(text);
    let mut rest = text.chars();
    // Only plain words: `/dev/sda1` and `rEFInd` are names.
    match rest.next().filter(|first| {
        first.is_ascii_lowercase() && !rest.as_str().starts_with(char::is_uppercase)
    }) {
        Some(first) => format!("{}{}", first.to_ascii_uppercase(), rest.as_str()),
        None => text,
    }
}

const fn look(phase: Phase) -> (Symbol, Color) {
    match phase {
        Phase::Starting => (Symbol::Dots, BLUE),
        Phase::Staging | Phase::Deploying => (Symbol::Down, BLUE),
        Phase::WaitingNetwork => (Symbol::Network, AMBER),
        Phase::Contacting => (Symbol::Swap, BLUE),
        Phase::Quarantined => (Symbol::Question, AMBER),
        Phase::Refused | Phase::Failed => (Symbol::Cross, ROSE),
        Phase::RestartingIntoOs => (Symbol::Turn, BLUE),
        Phase::StagedDone | Phase::DeployDone => (Symbol::Check, MINT),
        Phase::Idle => (Symbol::Pause, MUTED),
    }
}

/// A run is going on: which machine, which step, how far, how long still.
fn working(page: &mut Page<'_>, model: &ScreenModel) {
    page.background(NIGHT);
    brand(page, model);
    let (symbol, color) = look(model.phase);
    page.symbol(symbol, (page.margin + 4.5, 20.0), 4.5, color, NIGHT);
    let (x, room) = (page.margin + 12.0, page.room() - 12.0);
    let message = or_default(&model.message, model.phase.message());
    let baseline = if message.is_empty() { 22.1 } else { 20.6 };
    page.left(
        or_default(&model.headline, model.phase.headline()),
        (x, baseline),
        room,
        bold(5.8, WHITE),
    );
    page.left(message, (x, 24.8), room, regular(2.5, MUTED));
    facts(page, 31.2, &machine_facts(model));
    match &model.step {
        Some(step) => step_panel(page, step),
        None => {
            page.block((page.margin, 41.5), (page.right(), 73.5), 1.6, PANEL);
            page.left(
                "Getting ready",
                (page.margin + 3.5, 59.0),
                page.room() - 7.0,
                bold(4.2, WHITE),
            );
        }
    }
    let text = |time: Option<std::time::Duration>, words: fn(std::time::Duration) -> String| {
        time.map(words).unwrap_or_default()
    };
    let entries = [
        ("Time so far", text(model.elapsed, clock), 1.0),
        ("Time left", text(model.remaining, estimate), 1.0),
        (
            "Content comes",
            model.source.clone().unwrap_or_default(),
            1.4,
        ),
    ];
    facts(page, 78.2, &entries);
    power(page, model.power);
    footer(page, model, MUTED);
}

fn step_panel(page: &mut Page<'_>, step: &StepText) {
    let (left, right, top) = (page.margin + 3.5, page.right() - 3.5, 41.5);
    page.block((page.margin, top), (page.right(), 73.5), 1.6, PANEL);
    let number = if step.count > 0 {
        format!("Step {} of {}", step.number, step.count)
    } else {
        String::new()
    };
    page.left(
        &number,
        (left, top + 5.4),
        right - left,
        regular(2.5, MUTED),
    );
    let percent = step.percent.map(|percent| percent.min(100));
    let words = percent
        .map(|percent| format!("{percent} %"))
        .unwrap_or_default();
    let taken = page.line(
        &words,
        (right, top + 11.0),
        30.0,
        bold(5.6, WHITE),
        Align::Right,
    );
    page.left(
        &step.title,
        (left, top + 11.0),
        right - left - taken - 3.0,
        bold(4.2, WHITE),
    );
    page.block((left, top + 14.6), (right, top + 18.2), 1.8, TRACK);
    if let Some(percent) = percent.filter(|percent| *percent > 0) {
        // A fill shorter than it is high would not be a pill any more.
        let end = (left + (right - left) * f32::from(percent) / 100.0).max(left + 3.6);
        page.block((left, top + 14.6), (end, top + 18.2), 1.8, BLUE);
    }
    page.left(
        &step.detail,
        (left, top + 23.0),
        right - left,
        regular(2.4, MUTED),
    );
    segments(page, step, (left, right), top + 26.6);
}

/// All steps in a row: those that are done, the one that runs, those to come.
fn segments(page: &mut Page<'_>, step: &StepText, (left, right): (f32, f32), y: f32) {
    let count = step.count.min(100_000);
    if count < 2 {
        return;
    }
    let steps = |number: u32| f32::from(u16::try_from(number.min(count)).unwrap_or(u16::MAX));
    if count > SEGMENTS_MAX {
        page.block((left, y), (right, y + 1.2), 0.6, TRACK);
        let end = left + (right - left) * steps(step.number) / steps(count);
        page.block((left, y), (end.max(left + 1.2), y + 1.2), 0.6, BLUE_DONE);
        return;
    }
    let gap = 0.8;
    let width = (right - left + gap) / steps(count) - gap;
    for number in 1..=count {
        let color = match number.cmp(&step.number) {
            std::cmp::Ordering::Less => BLUE_DONE,
            std::cmp::Ordering::Equal => BLUE,
            std::cmp::Ordering::Greater => TRACK,
        };
        let x = left + steps(number - 1) * (width + gap);
        page.block((x, y), (x + width, y + 1.2), 0.6, color);
    }
}

/// Nothing moves yet, or any more: one symbol, one line, one sentence, in the middle.
fn waiting(page: &mut Page<'_>, model: &ScreenModel) {
    page.background(NIGHT);
    brand(page, model);
    let (symbol, color) = look(model.phase);
    let (y, radius, lines_max) = if model.error.is_some() {
        (20.0, 6.5, 2)
    } else {
        (29.0, 7.5, 3)
    };
    let centre = page.wide / 2.0;
    page.symbol(symbol, (centre, y), radius, color, NIGHT);
    page.middle(
        or_default(&model.headline, model.phase.headline()),
        y + radius + 9.5,
        bold(6.6, WHITE),
    );
    let room = page.room() * 0.86;
    let message = or_default(&model.message, model.phase.message());
    let mut y = y + radius + 15.7;
    y = page.lines(
        message,
        (centre, y),
        room,
        regular(3.0, WHITE),
        lines_max,
        Align::Middle,
    );
    if let Some(error) = &model.error {
        y = page.lines(
            &capitalised(&error.what),
            (centre, y + 2.2),
            room,
            bold(2.9, color),
            2,
            Align::Middle,
        );
        let why = error.why.join(": ");
        y = page.lines(
            &why,
            (centre, y + 0.2),
            room,
            regular(2.3, MUTED),
            2,
            Align::Middle,
        );
        let hint = capitalised(error.hint.as_deref().unwrap_or_default());
        page.lines(
            &hint,
            (centre, y + 0.8),
            room,
            regular(2.5, WHITE),
            2,
            Align::Middle,
        );
    } else if let Some(step) = &model.step {
        let words = format!("Step {} of {}: {}", step.number, step.count, step.title);
        page.middle(&words, 69.0, regular(2.5, MUTED));
    }
    page.block((page.margin, 73.4), (page.right(), 73.55), 0.0, TRACK);
    facts(page, 77.6, &machine_facts(model));
    power(page, model.power);
    footer(page, model, MUTED);
}

/// Done: to be read from two metres, and never mistaken for anything else.
fn done(page: &mut Page<'_>, model: &ScreenModel) {
    page.background(GREEN);
    let word = or_default(&model.headline, model.phase.headline());
    let high = 27.0;
    let style = bold(high / CAPITAL, WHITE);
    let width = page.measure(&harmless(word), style);
    let (centre, disc) = (page.wide / 2.0, 12.5);
    if width + 2.0 * disc + 6.0 <= page.room() {
        let left = centre - (width + 2.0 * disc + 6.0) / 2.0;
        page.symbol(Symbol::Check, (left + disc, 31.5), disc, WHITE, GREEN);
        page.left(word, (left + 2.0 * disc + 6.0, 45.0), width + 1.0, style);
    } else {
        page.symbol(Symbol::Check, (centre, 11.5), 7.5, WHITE, GREEN);
        page.line(word, (centre, 50.0), page.wide - 4.0, style, Align::Middle);
    }
    let machine = &model.machine;
    let name = machine.name.as_deref().unwrap_or_default();
    let serial = if name.is_empty() {
        &machine.serial
    } else {
        name
    };
    page.middle(serial, 61.5, bold(7.0, WHITE));
    let mut about = vec![machine.model.clone()];
    if !name.is_empty() {
        about.insert(0, machine.serial.clone());
    }
    about.retain(|part| !harmless(part).is_empty());
    page.middle(&about.join("   ·   "), 67.5, regular(2.9, GREEN_PALE));
    if let Some(elapsed) = model.elapsed {
        let did = if model.phase == Phase::StagedDone {
            "Staged"
        } else {
            "Set up"
        };
        page.middle(
            &format!("{did} in {}", seconds(elapsed)),
            75.0,
            bold(3.6, WHITE),
        );
    }
    let message = or_default(&model.message, model.phase.message());
    page.lines(
        message,
        (centre, 84.5),
        page.room(),
        bold(4.0, WHITE),
        2,
        Align::Middle,
    );
    footer(page, model, GREEN_PALE);
}

/// What to do if nobody has written down anything better.
const HINT: &str = "Take a picture of this screen and give it to whoever looks after the machines.";
/// How many ways to try again are shown.
const AGAIN_MAX: usize = 2;

/// It went wrong: which step, what, why, and what to do. The run's code stands to the right, for a telephone.
fn failed(page: &mut Page<'_>, model: &ScreenModel) {
    page.background(RED);
    let none = ErrorText::default();
    let error = model.error.as_ref().unwrap_or(&none);
    let taken = model.run.as_ref().map_or(0.0, |run| run_code(page, run));
    let (x, room) = (page.margin, page.room() - taken);
    page.symbol(Symbol::Cross, (x + 7.0, 14.5), 7.0, WHITE, RED);
    let word = or_default(&model.headline, model.phase.headline());
    let mut style = bold(12.4 / CAPITAL, WHITE);
    // One word that everybody must be able to read: rather small than cut.
    style.size *= ((room - 18.0) / page.measure(word, style)).min(1.0);
    page.left(word, (x + 18.0, 20.6), room - 18.0, style);

    let mut y = 30.6;
    let step = error
        .step
        .as_deref()
        .map(|step| format!("Step {step}"))
        .unwrap_or_default();
    if !harmless(&step).is_empty() {
        page.left(&step, (x, y), room, regular(3.2, RED_PALE));
        y += 5.8;
    }
    let what = capitalised(or_default(
        &error.what,
        or_default(&model.message, "it is not known what went wrong"),
    ));
    y = page.lines(&what, (x, y), room, bold(4.2, WHITE), 3, Align::Left);

    let panel_top = hint_panel(page, model, error);
    y = reasons(page, &error.why, (x, y), room, panel_top - 2.0);
    last_lines(page, &error.last_lines, (x, y), room, panel_top - 2.0);

    let machine = &model.machine;
    let after = model
        .elapsed
        .map(|time| format!("after {}", seconds(time)))
        .unwrap_or_default();
    let parts = [
        machine.name.clone().unwrap_or_default(),
        machine.serial.clone(),
        machine.model.clone(),
        after,
    ];
    let parts: Vec<String> = parts
        .into_iter()
        .filter(|part| !harmless(part).is_empty())
        .collect();
    page.left(
        &parts.join("   ·   "),
        (x, 92.4),
        page.room(),
        bold(2.5, WHITE),
    );
    footer(page, model, RED_PALE);
}

/// How wide the code and the white around it are: on a 14 inch screen more than 5 cm, which a telephone reads from
/// half a metre.
const CODE_SIDE: f32 = 30.0;

/// The run's code in the upper right corner, as a QR code and in letters. Returns the width that is taken.
fn run_code(page: &mut Page<'_>, run: &RunText) -> f32 {
    let words = format!("Run {}", run.code);
    let top = 6.0;
    let mut baseline = top + 4.0;
    if let Some(code) = Code::of(&run.link) {
        let squares = code.side + 2 * QUIET;
        // Whole pixels: squares of uneven width are what scanners stumble over.
        let pixels = (floor(CODE_SIDE * page.unit) / squares).max(1);
        let side = squares * pixels;
        let unit = page.unit;
        let (x, y) = (
            round(page.right() * unit) - side,
            round(page.top + top * unit),
        );
        page.items.push(Item::Box {
            area: Area::new(x, y, x + side, y + side),
            radius: 1.2 * unit,
            color: PAPER,
        });
        page.items.push(Item::Code {
            code,
            left: x + QUIET * pixels,
            top: y + QUIET * pixels,
            pixels,
            color: INK,
        });
        baseline = top + to_f32(side) / unit + 4.0;
    }
    page.line(
        &words,
        (page.right(), baseline),
        CODE_SIDE + 3.0,
        bold(2.4, WHITE),
        Align::Right,
    );
    CODE_SIDE + 4.0
}

/// "What to do", at the bottom of the page. Returns where it begins.
fn hint_panel(page: &mut Page<'_>, model: &ScreenModel, error: &ErrorText) -> f32 {
    let hint = capitalised(or_default(error.hint.as_deref().unwrap_or_default(), HINT));
    let again = model.run.as_ref().map_or(&[][..], |run| &run.again);
    let again: Vec<&String> = again
        .iter()
        .filter(|way| !harmless(way).is_empty())
        .take(AGAIN_MAX)
        .collect();
    let (x, room) = (page.margin + 3.5, page.room() - 7.0);
    let (style, small) = (bold(3.2, WHITE), regular(2.6, WHITE));
    let height = |lines: usize, style: Style| {
        f32::from(u8::try_from(lines).unwrap_or(4)) * style.size * LINE_HEIGHT
    };
    let lines = page.broken(&hint, room, style, 3).len();
    let bottom = 88.0;
    let top = bottom - 8.0 - height(lines, style) - height(again.len(), small);
    page.block((page.margin, top), (page.right(), bottom), 1.6, RED_DEEP);
    page.left("What to do", (x, top + 4.6), room, regular(2.4, RED_PALE));
    let mut y = page.lines(&hint, (x, top + 9.4), room, style, 3, Align::Left);
    for way in again {
        page.left(way, (x, y), room, small);
        y += height(1, small);
    }
    top
}

/// The causes, outermost first, as many as there is room for down to `bottom`. Returns the next baseline.
fn reasons(page: &mut Page<'_>, why: &[String], at: (f32, f32), room: f32, bottom: f32) -> f32 {
    let style = regular(2.8, RED_PALE);
    let height = style.size * LINE_HEIGHT;
    let room = room - 3.4;
    let mut y = at.1;
    let why: Vec<&String> = why
        .iter()
        .filter(|reason| !harmless(reason).is_empty())
        .collect();
    for (index, reason) in why.iter().enumerate() {
        let is_last = index + 1 == why.len();
        // One line is kept free for "and more", if there is more.
        let free = (bottom - y) / height - if is_last { 0.0 } else { 1.0 };
        let lines = usize::try_from(ceil(free) - 1).unwrap_or(0).min(3);
        if lines == 0 {
            let more = format!("… and {} more, in the log", why.len() - index);
            page.left(&more, (at.0 + 3.4, y), room, style);
            return y + height;
        }
        page.left("–", (at.0, y), 3.0, style);
        y = page.lines(reason, (at.0 + 3.4, y), room, style, lines, Align::Left);
    }
    y
}

/// The last lines the step said, as many of the newest as there is room for down to `bottom`, with a bar beside them.
fn last_lines(page: &mut Page<'_>, said: &[String], at: (f32, f32), room: f32, bottom: f32) {
    let style = regular(2.2, RED_PALE);
    let height = style.size * LINE_HEIGHT;
    let top = at.1 + 0.6;
    let free = usize::try_from(floor((bottom - top) / height)).unwrap_or(0);
    let said: Vec<&String> = said
        .iter()
        .filter(|line| !harmless(line).is_empty())
        .collect();
    let shown = &said[said.len().saturating_sub(free)..];
    let mut y = top;
    for line in shown {
        page.left(line, (at.0 + 3.4, y), room - 3.4, style);
        y += height;
    }
    if !shown.is_empty() {
        page.block(
            (at.0 + 0.8, top - 2.0),
            (at.0 + 1.2, y - height + 0.6),
            0.2,
            RED_PALE,
        );
    }
}
