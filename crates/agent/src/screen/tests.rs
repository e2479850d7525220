//! Every screen at every size: nothing over the edge, nothing over something else, everything readable.
//!
//! `FORESTAGE_SCREENS=folder cargo test -p agent screen` also writes the pictures there, to be looked at.

use std::time::Duration;

use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};

use super::canvas::{Area, Canvas, Color};
use super::display::Display;
use super::font::{Fonts, Weight};
use super::framebuffer::Paths;
use super::layout::scene;
use super::model::FooterText;
use super::scene::{Item, Scene};
use super::{
    ErrorText, MachineText, Phase, PowerSafety, RunText, Screen, ScreenModel, StepText, counted_on,
};

const SIZES: [(usize, usize); 7] = [
    (1024, 768),
    (1280, 800),
    (1920, 1080),
    (800, 600),
    (640, 480),
    (1366, 768),
    (2880, 1800),
];
const FOLDER: &str = "/usr/share/fonts/truetype/dejavu";

fn fonts() -> Fonts {
    Fonts::load_from(
        &format!("{FOLDER}/DejaVuSans.ttf"),
        &format!("{FOLDER}/DejaVuSans-Bold.ttf"),
    )
    .expect(
        "these tests need the Debian package fonts-dejavu-core: apt-get install fonts-dejavu-core",
    )
}

fn machine() -> MachineText {
    MachineText {
        name: None,
        serial: "PF4XK2R9".into(),
        model: "Lenovo ThinkBook 14 G6 IRL".into(),
    }
}

fn footer() -> FooterText {
    FooterText {
        version: "0.1.0".into(),
        address: "10.0.2.15".into(),
        bundle: "book14@3 1f2e3d4c".into(),
    }
}

fn error() -> ErrorText {
    let chain = [
        "cannot install openjdk-17-jre".to_owned(),
        "dpkg exited with 1".to_owned(),
        "dpkg: error processing archive openjdk-17-jre-headless_17.0.21.deb (--install): cannot copy extracted data \
         for './usr/lib/jvm/java-17-openjdk-amd64/lib/modules' to '/usr/lib/jvm/java-17-openjdk-amd64/lib/modules.new': \
         failed to write (No space left on device)"
            .to_owned(),
    ];
    let hint = "make the os volume larger, or leave out a package".to_owned();
    ErrorText {
        last_lines: [
            "Preparing to unpack .../openjdk-17-jre-headless_17.0.21+9-1_amd64.deb ...",
            "Unpacking openjdk-17-jre-headless:amd64 (17.0.21+9-1) ...",
            "dpkg: error processing archive (--install): No space left on device",
            "Errors were encountered while processing: openjdk-17-jre-headless",
        ]
        .map(str::to_owned)
        .to_vec(),
        ..ErrorText::from_chain(Some("apps/java".into()), &chain, Some(hint))
    }
}

fn run() -> RunText {
    RunText {
        code: "2f7d 3e7b 1a10".into(),
        link: "https://forestage.school.example:8443/runs/7f0c1fd2-8f7e-4a51-9c39-2f7d3e7b1a10"
            .into(),
        again: vec![
            "Switching off and on again starts another try.".into(),
            "Without touching it: forestage run retry PF4XK2R9".into(),
        ],
    }
}

/// A screen of each phase as it is in real life.
fn sample(phase: Phase) -> ScreenModel {
    let mut model = ScreenModel {
        phase,
        machine: machine(),
        footer: footer(),
        ..ScreenModel::default()
    };
    model.elapsed = Some(Duration::from_secs(271));
    model.power = Some(PowerSafety::Safe);
    match phase {
        Phase::Starting => {
            model.elapsed = Some(Duration::from_secs(3));
            model.power = Some(PowerSafety::StartsOver);
        }
        Phase::Staging => {
            model.footer.address.clear();
            model.step = Some(step(2, 5, "Stage content", 43, "3.4 of 7.9 GiB"));
            model.remaining = Some(Duration::from_secs(348));
            model.source = Some("from the boot medium".into());
        }
        Phase::Deploying | Phase::RestartingIntoOs => {
            model.machine.name = Some("BJØ-0412".into());
            model.step = Some(step(
                7,
                12,
                "Install LibreOffice",
                61,
                "libreoffice-core_7.4.7-1+deb12u5_amd64.deb",
            ));
            model.remaining = Some(Duration::from_secs(140));
            model.source = Some("from this disk".into());
        }
        Phase::Failed => {
            model.machine.name = Some("BJØ-0412".into());
            model.error = Some(error());
            model.run = Some(run());
        }
        Phase::Refused => {
            model.error = Some(ErrorText {
                what: "another machine already uses serial number PF4XK2R9".into(),
                hint: Some(
                    "compare the labels of both machines, then release one of them on the server"
                        .into(),
                ),
                ..ErrorText::default()
            });
        }
        Phase::DeployDone => {
            model.machine.name = Some("BJØ-0412".into());
            model.elapsed = Some(Duration::from_secs(412));
        }
        _ => {}
    }
    model
}

fn step(number: u32, count: u32, title: &str, percent: u8, detail: &str) -> StepText {
    StepText {
        number,
        count,
        title: title.into(),
        percent: Some(percent),
        detail: detail.into(),
    }
}

/// As bad as it gets: long names, floods of text, control characters, characters no font has.
fn nightmares() -> Vec<ScreenModel> {
    let long = "Blåbærsyltetøykrukkeåpnerverksted ved Øvre Årdal ungdomsskule på Sør-Trøndelagskysten, rom 4 ÅØÆ";
    let hostile = "\x1b[2J\x07\0\r\n\u{202e}evil\u{10ffff}\u{fffd}\u{1f600}漢字 عربى W̊̊̊̊";
    let flood = "W".repeat(5000);
    let mut models = Vec::new();
    for phase in Phase::ALL {
        for text in [long, hostile, &flood, ""] {
            let mut model = sample(phase);
            let owned = text.to_owned();
            model.headline.clone_from(&owned);
            model.message.clone_from(&owned);
            model.machine = MachineText {
                name: Some(owned.clone()),
                serial: owned.clone(),
                model: owned.clone(),
            };
            model.step = Some(step(u32::MAX, u32::MAX, text, 255, text));
            model.source = Some(owned.clone());
            model.elapsed = Some(Duration::MAX);
            model.remaining = Some(Duration::MAX);
            model.error = Some(ErrorText {
                step: Some(owned.clone()),
                what: owned.clone(),
                why: vec![owned.clone(); 30],
                hint: Some(owned.clone()),
                last_lines: vec![owned.clone(); 30],
            });
            model.run = Some(RunText {
                code: owned.clone(),
                link: owned.clone(),
                again: vec![owned.clone(); 3],
            });
            model.footer = FooterText {
                version: owned.clone(),
                address: owned.clone(),
                bundle: owned,
            };
            models.push(model.clone());
            model.headline = String::new();
            model.step = Some(step(3, 48, text, 0, text));
            models.push(model);
        }
    }
    models
}

fn painted(scene: &Scene, fonts: &mut Fonts) -> Canvas {
    let mut canvas = Canvas::new(scene.width, scene.height);
    scene.paint(&mut canvas, fonts, &scene.area());
    canvas
}

/// The letters of a text, without the room around them.
fn letters(item: &Item) -> Option<Area> {
    let Item::Text {
        x,
        baseline,
        width,
        size,
        ..
    } = item
    else {
        return None;
    };
    let part = |share: i32| i32::try_from(*size).unwrap() * share / 100;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "widths of texts are below the width of a screen"
    )]
    let right = x + width.round() as i32;
    Some(Area::new(
        *x,
        baseline - part(74),
        right,
        baseline + part(16),
    ))
}

fn check_layout(model: &ScreenModel, scene: &Scene) {
    let what = format!("{:?} at {}x{}", model.phase, scene.width, scene.height);
    let texts: Vec<(&Item, Area)> = scene
        .items
        .iter()
        .filter_map(|item| Some((item, letters(item)?)))
        .collect();
    assert!(!texts.is_empty(), "{what}: nothing to read");
    for code in scene
        .items
        .iter()
        .filter(|item| matches!(item, Item::Code { .. }))
    {
        let area = code.area();
        assert_eq!(
            area.intersection(&scene.area()),
            area,
            "{what}: code over the edge"
        );
        let over = texts.iter().find(|(_, text)| text.touches(&area));
        assert!(over.is_none(), "{what}: {over:?} lies over the code");
    }
    for (at, (item, area)) in texts.iter().enumerate() {
        assert_eq!(
            area.intersection(&scene.area()),
            *area,
            "{what}: over the edge: {item:?}"
        );
        for (other, other_area) in &texts[at + 1..] {
            assert!(
                !area.touches(other_area),
                "{what}: {item:?} lies over {other:?}"
            );
        }
        let Item::Text { text, color, .. } = item else {
            unreachable!()
        };
        assert!(!text.chars().any(char::is_control), "{what}: {text:?}");
        let contrast = contrast(*color, ground(scene, item, area));
        assert!(
            contrast >= 4.5,
            "{what}: contrast of {text:?} is {contrast}"
        );
    }
}

/// The colour under a text: that of the last box before it that holds its start.
fn ground(scene: &Scene, item: &Item, area: &Area) -> Color {
    let before = scene.items.iter().take_while(|other| *other != item);
    let mut color = 0;
    for other in before {
        if let Item::Box {
            area: held,
            color: its,
            ..
        } = other
            && Area::new(area.left, area.top, area.left + 1, area.bottom).touches(held)
        {
            color = *its;
        }
    }
    color
}

/// As WCAG 2 reckons it: 1 to 21.
fn contrast(a: Color, b: Color) -> f64 {
    let light = |color: Color| {
        let channel = |shift: u32| {
            let value = f64::from(color >> shift & 0xff) / 255.0;
            if value <= 0.04045 {
                value / 12.92
            } else {
                ((value + 0.055) / 1.055).powf(2.4)
            }
        };
        0.2126 * channel(16) + 0.7152 * channel(8) + 0.0722 * channel(0) + 0.05
    };
    (light(a) / light(b)).max(light(b) / light(a))
}

#[test]
fn every_screen_fits_and_can_be_read_at_every_size() {
    let mut fonts = fonts();
    for (width, height) in SIZES {
        for model in Phase::ALL.map(sample) {
            let scene = scene(&model, width, height, &mut fonts);
            check_layout(&model, &scene);
            write_picture(
                &format!("{:?}-{width}x{height}", model.phase),
                &scene,
                &mut fonts,
            );
        }
    }
}

#[test]
fn nightmares_fit_too() {
    let mut fonts = fonts();
    for (width, height) in [(1280, 800), (800, 600), (1080, 1920)] {
        for (at, model) in nightmares().iter().enumerate() {
            let scene = scene(model, width, height, &mut fonts);
            check_layout(model, &scene);
            if at % 8 == 0 {
                write_picture(
                    &format!("nightmare-{:?}-{width}x{height}", model.phase),
                    &scene,
                    &mut fonts,
                );
            }
        }
    }
    // Sizes that no screen has must not panic either.
    for (width, height) in [(1, 1), (1, 4000), (4000, 1), (64, 48)] {
        let scene = scene(&sample(Phase::Failed), width, height, &mut fonts);
        painted(&scene, &mut fonts);
    }
}

#[test]
fn a_stopped_run_and_its_code_are_never_cut() {
    let mut fonts = fonts();
    for (width, height) in SIZES {
        let mut model = sample(Phase::Failed);
        model.headline = "STOPPED".to_owned();
        // The widest letters that a code can have.
        let code = "dddd dddd dddd".to_owned();
        model.run = Some(RunText { code, ..run() });
        let scene = scene(&model, width, height, &mut fonts);
        for wanted in ["STOPPED", "Run dddd dddd dddd"] {
            let is_whole = scene
                .items
                .iter()
                .any(|item| matches!(item, Item::Text { text, .. } if text == wanted));
            assert!(is_whole, "{wanted} is cut at {width}x{height}");
        }
        write_picture(&format!("Stopped-{width}x{height}"), &scene, &mut fonts);
    }
}

#[test]
fn done_is_a_quarter_of_the_screen_high() {
    let mut fonts = fonts();
    for (width, height) in SIZES {
        for phase in [Phase::StagedDone, Phase::DeployDone] {
            let scene = scene(&sample(phase), width, height, &mut fonts);
            let word = scene
                .items
                .iter()
                .find(|item| matches!(item, Item::Text { text, .. } if text == "DONE"))
                .unwrap();
            let word = Scene {
                items: vec![word.clone()],
                ..scene.clone()
            };
            let canvas = painted(&word, &mut fonts);
            let is_inked = |row: &i32| {
                canvas
                    .row(*row, 0, canvas.area().right)
                    .iter()
                    .any(|pixel| *pixel > 0x0080_8080)
            };
            let rows = (0..canvas.area().bottom).filter(is_inked).count();
            assert!(rows * 4 >= height, "{rows} of {height}");
        }
    }
}

#[test]
fn norwegian_letters_are_in_the_font() {
    let mut fonts = fonts();
    let missing = fonts.width("\u{10ffff}", 100, Weight::Bold);
    for letter in ["æ", "ø", "å", "Æ", "Ø", "Å", "…", "·", "–", "½"] {
        for weight in [Weight::Regular, Weight::Bold] {
            let width = fonts.width(letter, 100, weight);
            assert!(
                width > 5.0 && (width - missing).abs() > 0.01,
                "{letter} is missing"
            );
        }
    }
    assert!(
        fonts.width("AV", 100, Weight::Bold)
            < fonts.width("A", 100, Weight::Bold) + fonts.width("V", 100, Weight::Bold)
    );
}

#[test]
fn painting_only_what_changed_gives_the_same_picture() {
    let mut fonts = fonts();
    let (width, height) = (800, 500);
    let mut models: Vec<ScreenModel> = Phase::ALL.map(sample).to_vec();
    let mut moved = sample(Phase::Deploying);
    moved.step = Some(step(8, 12, "Install Java", 3, "ø.deb"));
    models.insert(8, moved);
    models.extend(nightmares().into_iter().take(20));
    let mut canvas = Canvas::new(width, height);
    let mut before: Option<Scene> = None;
    for model in &models {
        let scene = scene(model, width, height, &mut fonts);
        for area in scene.changes(before.as_ref()) {
            scene.paint(&mut canvas, &mut fonts, &area);
        }
        assert!(canvas == painted(&scene, &mut fonts), "{:?}", model.phase);
        before = Some(scene);
    }
}

#[test]
fn a_small_change_repaints_little() {
    let mut fonts = fonts();
    let mut share = |change: fn(&mut ScreenModel)| {
        let before = sample(Phase::Deploying);
        let mut after = before.clone();
        change(&mut after);
        let before = scene(&before, 1280, 800, &mut fonts);
        let after = scene(&after, 1280, 800, &mut fonts);
        let areas = after.changes(Some(&before));
        let pixels: i32 = areas
            .iter()
            .map(|area| (area.right - area.left) * (area.bottom - area.top))
            .sum();
        pixels * 1000 / (1280 * 800)
    };
    assert_eq!(share(|_| {}), 0);
    let clock = share(|model| model.elapsed = Some(Duration::from_secs(272)));
    assert!((1..10).contains(&clock), "the clock repaints {clock} ‰");
    let bar = share(|model| model.step.as_mut().unwrap().percent = Some(62));
    assert!((1..70).contains(&bar), "the bar repaints {bar} ‰");
}

#[test]
fn time_goes_on_only_while_something_is_done() {
    let mut model = sample(Phase::Deploying);
    let later = counted_on(model.clone(), Duration::from_secs(200));
    assert_eq!(
        (later.elapsed, later.remaining),
        (Some(Duration::from_secs(471)), Some(Duration::ZERO))
    );
    model.phase = Phase::Failed;
    assert_eq!(counted_on(model.clone(), Duration::from_secs(200)), model);
}

#[test]
fn the_last_model_is_on_the_framebuffer_when_the_screen_ends() {
    let folder = tempfile::tempdir().unwrap();
    let paths = Paths {
        sys: folder.path().to_owned(),
        device: folder.path().join("fb0"),
    };
    for (name, text) in [
        ("virtual_size", "320,200"),
        ("bits_per_pixel", "32"),
        ("stride", "1280"),
    ] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    std::fs::write(&paths.device, vec![0; 320 * 200 * 4]).unwrap();
    let device = paths.device.clone();
    let screen =
        Screen::start_on(move || Display::new(paths, "/nonexistent".into(), Some(fonts())));
    for percent in 0..=100 {
        let mut model = sample(Phase::Staging);
        model.step.as_mut().unwrap().percent = Some(percent);
        screen.show(model);
    }
    screen.show(sample(Phase::StagedDone));
    drop(screen);

    let mut fonts = fonts();
    let canvas = painted(
        &scene(&sample(Phase::StagedDone), 320, 200, &mut fonts),
        &mut fonts,
    );
    let expected: Vec<u8> = (0..200)
        .flat_map(|row| canvas.row(row, 0, 320).to_vec())
        .flat_map(Color::to_le_bytes)
        .collect();
    assert!(std::fs::read(device).unwrap() == expected);
}

#[test]
fn without_a_framebuffer_the_console_tells() {
    let folder = tempfile::tempdir().unwrap();
    let console = folder.path().join("console");
    std::fs::write(&console, "").unwrap();
    for fonts in [None, Some(fonts())] {
        let paths = Paths {
            sys: folder.path().join("none"),
            device: folder.path().join("none"),
        };
        let to = console.clone();
        let screen = Screen::start_on(move || Display::new(paths, to, fonts));
        screen.show(sample(Phase::Failed));
    }
    let told = std::fs::read_to_string(console).unwrap();
    assert_eq!(
        told.matches("error: cannot install openjdk-17-jre\r\n  step: apps/java\r\n")
            .count(),
        2,
        "{told}"
    );
}

fn any_model() -> impl Strategy<Value = ScreenModel> {
    let text = || prop_oneof![any::<String>(), "[a-zæøå ]{0,300}", Just(String::new())];
    let texts = (text(), text(), text(), text(), text(), text());
    (0..Phase::ALL.len(), texts, any::<(u32, u32, u8, u32)>()).prop_map(
        |(phase, (a, b, c, d, e, f), numbers)| {
            let (number, count, percent, seconds) = numbers;
            let mut model = sample(Phase::ALL[phase]);
            model.machine = MachineText {
                name: Some(a.clone()),
                serial: b.clone(),
                model: c.clone(),
            };
            model.step = Some(step(number, count % 70, &d, percent, &e));
            model.elapsed = Some(Duration::from_secs(seconds.into()));
            model.error = Some(ErrorText {
                step: Some(f.clone()),
                what: e,
                why: vec![d, c, b, a],
                hint: Some(f.clone()),
                last_lines: vec![f.clone(); 9],
            });
            model.run = (number % 2 == 0).then(|| RunText {
                code: f.clone(),
                link: f.clone(),
                again: vec![f; 2],
            });
            model
        },
    )
}

proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(48))]
    #[test]
    fn whatever_the_model_says_it_fits(model in any_model()) {
        let mut fonts = fonts();
        let scene = scene(&model, 1024, 768, &mut fonts);
        check_layout(&model, &scene);
        painted(&scene, &mut fonts);
    }
}

fn write_picture(name: &str, scene: &Scene, fonts: &mut Fonts) {
    let Ok(folder) = std::env::var("FORESTAGE_SCREENS") else {
        return;
    };
    let canvas = painted(scene, fonts);
    let rows =
        (0..canvas.area().bottom).flat_map(|row| canvas.row(row, 0, canvas.area().right).iter());
    let pixels: Vec<u8> = rows
        .flat_map(|pixel| pixel.to_be_bytes()[1..].to_vec())
        .collect();
    std::fs::create_dir_all(&folder).unwrap();
    let file = std::fs::File::create(format!("{folder}/{name}.png")).unwrap();
    let (width, height) = (
        u32::try_from(scene.width).unwrap(),
        u32::try_from(scene.height).unwrap(),
    );
    let mut encoder = png::Encoder::new(std::io::BufWriter::new(file), width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder
        .write_header()
        .unwrap()
        .write_image_data(&pixels)
        .unwrap();
}
