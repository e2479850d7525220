//! The kernel's framebuffer as a file: geometry from sysfs, pixels by `write`. No ioctl, no mapping, no `unsafe`.
//!
//! What is left out because files can't tell it: the order of the colour channels. It is blue, green, red in every
//! framebuffer of UEFI firmware and of the drivers that follow it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::canvas::{Area, Canvas, Color, signed, unsigned};

/// No screen of a laptop is larger; 8K is 7680 pixels wide.
const SIDE_MAX: usize = 8192;
/// Rows are padded to a power of two at most.
const STRIDE_MAX: usize = SIDE_MAX * 4 * 2;
/// Rows that follow each other are written together up to this many bytes.
const WRITE_BYTES: usize = 256 << 10;

/// How pixels lie in the framebuffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) width: usize,
    pub(crate) height: usize,
    stride: usize,
    pixel: PixelFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PixelFormat {
    /// Two bytes: 5 bits red, 6 green, 5 blue.
    Rgb565,
    /// Four bytes: blue, green, red, nothing.
    Xrgb8888,
}

impl PixelFormat {
    const fn bytes(self) -> usize {
        match self {
            Self::Rgb565 => 2,
            Self::Xrgb8888 => 4,
        }
    }
}

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FramebufferError {
    #[error("cannot use {path}")]
    Io { path: PathBuf, source: io::Error },
    #[error("the framebuffer says {text:?} of its {what}, which we can't use")]
    Geometry { what: &'static str, text: String },
}

/// Where the kernel shows the framebuffer.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    /// The folder with `virtual_size`, `bits_per_pixel`, `stride`.
    pub(crate) sys: PathBuf,
    /// The device.
    pub(crate) device: PathBuf,
}

/// An open framebuffer.
pub(crate) struct Framebuffer {
    file: File,
    paths: Paths,
    geometry: Geometry,
}

impl Framebuffer {
    pub(crate) fn open(paths: &Paths) -> Result<Self, FramebufferError> {
        let geometry = read_geometry(&paths.sys)?;
        let file = OpenOptions::new()
            .write(true)
            .open(&paths.device)
            .map_err(|source| FramebufferError::Io {
                path: paths.device.clone(),
                source,
            })?;
        Ok(Self {
            file,
            paths: paths.clone(),
            geometry,
        })
    }

    pub(crate) const fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Whether it is still there and still the same size: the firmware's framebuffer goes when a driver takes over.
    pub(crate) fn is_current(&self) -> bool {
        read_geometry(&self.paths.sys).is_ok_and(|geometry| geometry == self.geometry)
    }

    /// Puts the part of `canvas` in `area` on the screen.
    pub(crate) fn write(&self, canvas: &Canvas, area: &Area) -> io::Result<()> {
        let Geometry {
            width,
            height,
            stride,
            pixel,
        } = self.geometry;
        let area = area.intersection(&canvas.area()).intersection(&Area::new(
            0,
            0,
            signed(width),
            signed(height),
        ));
        if area.is_empty() {
            return Ok(());
        }
        // Rows without a gap between them go out in one write.
        let is_gapless = area.left == 0 && unsigned(area.right) * pixel.bytes() == stride;
        let mut bytes = Vec::new();
        let mut start = offset(stride, pixel, area.top, area.left);
        for row in area.top..area.bottom {
            encode(canvas.row(row, area.left, area.right), pixel, &mut bytes);
            if !is_gapless || bytes.len() >= WRITE_BYTES || row + 1 == area.bottom {
                self.file.write_all_at(&bytes, start)?;
                bytes.clear();
                start = offset(stride, pixel, row + 1, area.left);
            }
        }
        Ok(())
    }
}

fn offset(stride: usize, pixel: PixelFormat, row: i32, column: i32) -> u64 {
    (unsigned(row) * stride + unsigned(column) * pixel.bytes()) as u64
}

#[expect(clippy::cast_possible_truncation, reason = "masked to sixteen bits")]
fn encode(pixels: &[Color], format: PixelFormat, bytes: &mut Vec<u8>) {
    match format {
        PixelFormat::Xrgb8888 => bytes.extend(pixels.iter().flat_map(|pixel| pixel.to_le_bytes())),
        PixelFormat::Rgb565 => bytes.extend(pixels.iter().flat_map(|pixel| {
            let (red, green, blue) = (pixel >> 19 & 0x1f, pixel >> 10 & 0x3f, pixel >> 3 & 0x1f);
            ((red << 11 | green << 5 | blue) as u16).to_le_bytes()
        })),
    }
}

fn read_geometry(sys: &Path) -> Result<Geometry, FramebufferError> {
    let read = |name: &str| {
        let path = sys.join(name);
        std::fs::read_to_string(&path).map_err(|source| FramebufferError::Io { path, source })
    };
    // The visible mode is not always there; without it all of the framebuffer is visible.
    let modes = read("modes").unwrap_or_default();
    parse_geometry(
        &read("virtual_size")?,
        &read("bits_per_pixel")?,
        &read("stride")?,
        &modes,
    )
}

fn parse_geometry(
    size: &str,
    bits: &str,
    stride: &str,
    modes: &str,
) -> Result<Geometry, FramebufferError> {
    let bad = |what, text: &str| FramebufferError::Geometry {
        what,
        text: text.chars().take(40).collect(),
    };
    let (width, height) = parse_size(size, ',').ok_or_else(|| bad("size", size))?;
    let pixel = match bits.trim() {
        "16" => PixelFormat::Rgb565,
        "32" => PixelFormat::Xrgb8888,
        _ => return Err(bad("bits per pixel", bits)),
    };
    let row = width * pixel.bytes();
    let stride = stride
        .trim()
        .parse()
        .ok()
        .filter(|stride| (row..=STRIDE_MAX).contains(stride));
    let stride = stride.ok_or_else(|| bad("stride", "too short or too long"))?;
    // Such as "U:1280x800p-60": a framebuffer may be higher than what is seen of it.
    let mode = modes.lines().next().and_then(|mode| {
        let numbers = mode.split_once(':')?.1;
        let end = numbers
            .find(|c: char| c != 'x' && !c.is_ascii_digit())
            .unwrap_or(numbers.len());
        parse_size(&numbers[..end], 'x')
    });
    let (width, height) = mode
        .filter(|(w, h)| *w <= width && *h <= height)
        .unwrap_or((width, height));
    Ok(Geometry {
        width,
        height,
        stride,
        pixel,
    })
}

fn parse_size(text: &str, separator: char) -> Option<(usize, usize)> {
    let (width, height) = text.trim().split_once(separator)?;
    let side = |text: &str| {
        text.parse()
            .ok()
            .filter(|side| (1..=SIDE_MAX).contains(side))
    };
    Some((side(width)?, side(height)?))
}

#[cfg(test)]
mod tests {
    use super::{Framebuffer, Paths, parse_geometry};
    use crate::screen::canvas::{Area, Canvas};
    use proptest::prelude::{any, proptest};

    /// A framebuffer made of plain files; `then` gets it and says what its bytes must be.
    fn check(
        size: &str,
        bits: &str,
        stride: &str,
        paint: impl FnOnce(&Framebuffer),
        expected: &[u8],
    ) {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths {
            sys: folder.path().to_owned(),
            device: folder.path().join("fb0"),
        };
        for (name, text) in [
            ("virtual_size", size),
            ("bits_per_pixel", bits),
            ("stride", stride),
        ] {
            std::fs::write(folder.path().join(name), format!("{text}\n")).unwrap();
        }
        std::fs::write(&paths.device, vec![0xee; expected.len()]).unwrap();
        let framebuffer = Framebuffer::open(&paths).unwrap();
        assert!(framebuffer.is_current());
        paint(&framebuffer);
        assert_eq!(std::fs::read(&paths.device).unwrap(), expected);
        std::fs::write(folder.path().join("virtual_size"), "3,3").unwrap();
        assert!(!framebuffer.is_current());
    }

    fn two_by_two() -> Canvas {
        let mut canvas = Canvas::new(2, 2);
        let whole = canvas.area();
        canvas.fill(&whole, 0x00ff_8040, &whole);
        canvas.fill(&Area::new(1, 1, 2, 2), 0x0012_3456, &whole);
        canvas
    }

    #[test]
    fn pixels_of_32_bits_are_blue_green_red() {
        let canvas = two_by_two();
        let orange = [0x40, 0x80, 0xff, 0];
        let expected = [orange, orange, orange, [0x56, 0x34, 0x12, 0]].concat();
        check(
            "2,2",
            "32",
            "8",
            |fb| fb.write(&canvas, &canvas.area()).unwrap(),
            &expected,
        );
    }

    #[test]
    fn only_the_area_is_written_and_padding_left_alone() {
        let canvas = two_by_two();
        let mut expected = vec![0xee; 12];
        expected[8..10].copy_from_slice(&[0xaa, 0x11]);
        check(
            "2,2",
            "16",
            "6",
            |fb| fb.write(&canvas, &Area::new(1, 1, 9, 9)).unwrap(),
            &expected,
        );
    }

    #[test]
    fn the_visible_mode_counts_and_nonsense_is_refused() {
        let geometry = parse_geometry("1280,1600\n", "32\n", "5120\n", "U:1280x800p-60\n").unwrap();
        assert_eq!((geometry.width, geometry.height), (1280, 800));
        let geometry = parse_geometry("1280,800", "32", "5120", "U:9999x800p-0").unwrap();
        assert_eq!((geometry.width, geometry.height), (1280, 800));
        for (size, bits, stride) in [
            ("1280", "32", "5120"),
            ("0,800", "32", "5120"),
            ("99999,800", "32", "5120"),
            ("1280,800", "24", "5120"),
            ("1280,800", "32", "5119"),
            ("1280,800", "32", "999999999"),
            ("-1,800", "32", "5120"),
        ] {
            assert!(
                parse_geometry(size, bits, stride, "").is_err(),
                "{size} {bits} {stride}"
            );
        }
    }

    proptest! {
        #[test]
        fn geometry_of_garbage_never_panics(a in any::<String>(), b in any::<String>(), c in any::<String>()) {
            let _ = parse_geometry(&a, "32", &b, &c);
            let _ = parse_geometry("640,480", &a, "2560", &c);
        }
    }
}
