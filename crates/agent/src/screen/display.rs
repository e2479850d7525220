//! Where the screen is: the framebuffer, or the lines of a console.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::canvas::Canvas;
use super::font::Fonts;
use super::framebuffer::{Framebuffer, Paths};
use super::layout;
use super::model::ScreenModel;
use super::plain;
use super::scene::Scene;

/// So often the whole screen is written again: a kernel message that got through doesn't stay for long.
const WHOLE_APART: Duration = Duration::from_secs(15);
/// So often we look whether a driver has taken over the framebuffer.
const LOOKS_APART: Duration = Duration::from_secs(1);

/// Shows models, one after the other.
pub(crate) struct Display {
    paths: Paths,
    console: PathBuf,
    fonts: Option<Fonts>,
    picture: Option<Picture>,
    looked_at: Option<Instant>,
    /// What the lines on the console have told so far.
    told: Option<ScreenModel>,
}

/// What is on a framebuffer.
struct Picture {
    framebuffer: Framebuffer,
    canvas: Canvas,
    scene: Option<Scene>,
    whole_at: Instant,
}

impl Display {
    /// The first framebuffer and the console of this machine, with the fonts of the boot image.
    pub(crate) fn of_this_machine() -> Self {
        let paths = Paths {
            sys: "/sys/class/graphics/fb0".into(),
            device: "/dev/fb0".into(),
        };
        let mut display = Self::new(paths, "/dev/console".into(), None);
        match Fonts::load() {
            Ok(fonts) => display.fonts = Some(fonts),
            // Going on without letters is right: the lines say the same.
            Err(error) => display.tell(&[format!("no fonts, so no picture: {error}")]),
        }
        display
    }

    pub(crate) fn new(paths: Paths, console: PathBuf, fonts: Option<Fonts>) -> Self {
        Self {
            paths,
            console,
            fonts,
            picture: None,
            looked_at: None,
            told: None,
        }
    }

    pub(crate) fn show(&mut self, model: &ScreenModel) {
        self.look_for_framebuffer();
        if let (Some(fonts), Some(picture)) = (&mut self.fonts, &mut self.picture) {
            match picture.show(model, fonts) {
                Ok(()) => return,
                // The framebuffer went away under us. Its successor is looked for at once next time.
                Err(_) => (self.picture, self.looked_at) = (None, None),
            }
        }
        let lines = plain::lines(self.told.as_ref(), model);
        self.tell(&lines);
        self.told = Some(model.clone());
    }

    fn look_for_framebuffer(&mut self) {
        if self.fonts.is_none() || self.looked_at.is_some_and(|at| at.elapsed() < LOOKS_APART) {
            return;
        }
        self.looked_at = Some(Instant::now());
        if self
            .picture
            .as_ref()
            .is_some_and(|picture| picture.framebuffer.is_current())
        {
            return;
        }
        // No framebuffer is not an error: the lines on the console are there, and a driver may still bring one.
        self.picture = Framebuffer::open(&self.paths).ok().map(Picture::new);
        if self.picture.is_some() {
            calm_console();
        }
    }

    fn tell(&self, lines: &[String]) {
        if lines.is_empty() {
            return;
        }
        let text: String = lines
            .iter()
            .flat_map(|line| [line.as_str(), "\r\n"])
            .collect();
        // A console that can't be written to has no reader.
        let _ = write_file(&self.console, text.as_bytes());
    }
}

impl Picture {
    fn new(framebuffer: Framebuffer) -> Self {
        let geometry = framebuffer.geometry();
        let canvas = Canvas::new(geometry.width, geometry.height);
        Self {
            framebuffer,
            canvas,
            scene: None,
            whole_at: Instant::now(),
        }
    }

    fn show(&mut self, model: &ScreenModel, fonts: &mut Fonts) -> std::io::Result<()> {
        let geometry = self.framebuffer.geometry();
        let scene = layout::scene(model, geometry.width, geometry.height, fonts);
        for area in scene.changes(self.scene.as_ref()) {
            scene.paint(&mut self.canvas, fonts, &area);
            self.framebuffer.write(&self.canvas, &area)?;
        }
        self.scene = Some(scene);
        if self.whole_at.elapsed() >= WHOLE_APART {
            self.framebuffer.write(&self.canvas, &self.canvas.area())?;
            self.whole_at = Instant::now();
        }
        Ok(())
    }
}

/// Keeps the kernel's own console from writing over the picture, as far as files allow. Nothing here is essential,
/// and none of it exists everywhere, so what fails is passed over.
fn calm_console() {
    let _ = write_file("/sys/class/graphics/fbcon/cursor_blink".as_ref(), b"0");
    // No cursor, an empty screen, and no blanking after ten minutes without a key press.
    let _ = write_file("/dev/tty0".as_ref(), b"\x1b[?25l\x1b[2J\x1b[9;0]\x1b[14;0]");
    // Messages of the kernel go to all consoles alike; only where the screen is one of them they are turned down.
    let active = std::fs::read_to_string("/sys/class/tty/console/active").unwrap_or_default();
    if active.split_whitespace().any(|console| console == "tty0") {
        let _ = write_file("/proc/sys/kernel/printk".as_ref(), b"1");
    }
}

fn write_file(path: &std::path::Path, bytes: &[u8]) -> std::io::Result<()> {
    OpenOptions::new().append(true).open(path)?.write_all(bytes)
}
