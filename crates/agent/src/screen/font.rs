//! Letters: measuring and rasterising, each glyph once per size.
//!
//! `ab_glyph` reads an outline when it is first asked for. `fontdue`, the other living crate of this kind, prepares
//! every one of DejaVu's 6000 glyphs when the font is opened, which takes an emulated or old CPU longer than all we
//! ever draw. Both need no C code; neither shapes complex scripts, which our languages don't need.

use std::collections::HashMap;

use ab_glyph::{Font, FontVec, GlyphId, PxScale, point};

use super::canvas::{Area, Canvas, Color, coverage, floor, round};

/// A fixed place: the boot image builder puts Debian's DejaVu Sans there.
const REGULAR_PATH: &str = "/usr/share/forestage/font.ttf";
/// The same in bold.
const BOLD_PATH: &str = "/usr/share/forestage/font-bold.ttf";
/// DejaVu Sans, among the largest fonts there are, has 760 kB.
const FONT_BYTES_MAX: u64 = 8 << 20;
/// A screen shows some hundred different glyphs; a thousand of them at usual sizes are below 2 MB.
const GLYPHS_MAX: usize = 1000;

/// How thick letters are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Weight {
    Regular,
    Bold,
}

/// Why there are no letters.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FontError {
    #[error("cannot read the font {path}")]
    Read {
        path: String,
        source: std::io::Error,
    },
    #[error("the font {path} is longer than {FONT_BYTES_MAX} bytes")]
    TooLong { path: String },
    #[error("{path} is not a font")]
    Invalid {
        path: String,
        source: ab_glyph::InvalidFont,
    },
}

struct Glyph {
    left: i32,
    top: i32,
    width: usize,
    coverage: Vec<u8>,
}

struct Face {
    font: FontVec,
    units_per_em: f32,
    /// Glyph and advance in ems of every character seen so far.
    known: HashMap<char, (GlyphId, f32)>,
}

/// Two weights of one family, with a cache of glyphs.
pub(crate) struct Fonts {
    regular: Face,
    bold: Face,
    glyphs: HashMap<(Weight, u32, u16), Option<Glyph>>,
}

impl Fonts {
    /// The fonts of the boot image.
    pub(crate) fn load() -> Result<Self, FontError> {
        Self::load_from(REGULAR_PATH, BOLD_PATH)
    }

    pub(crate) fn load_from(regular: &str, bold: &str) -> Result<Self, FontError> {
        Ok(Self {
            regular: Face::load(regular)?,
            bold: Face::load(bold)?,
            glyphs: HashMap::new(),
        })
    }

    fn face(&mut self, weight: Weight) -> &mut Face {
        match weight {
            Weight::Regular => &mut self.regular,
            Weight::Bold => &mut self.bold,
        }
    }

    /// How wide `text` is at `size` pixels per em.
    pub(crate) fn width(&mut self, text: &str, size: u32, weight: Weight) -> f32 {
        let mut end = 0.0;
        self.place(text, size, weight, |_, _, _, right| end = right);
        end
    }

    /// Draws `text` with its baseline at `y`.
    pub(crate) fn draw(&mut self, canvas: &mut Canvas, text: &Text<'_>, clip: &Area) {
        let clip = clip.intersection(&canvas.area());
        let mut places = Vec::with_capacity(text.text.len());
        self.place(text.text, text.size, text.weight, |_, id, left, _| {
            places.push((id, left))
        });
        if self.glyphs.len() > GLYPHS_MAX {
            self.glyphs.clear();
        }
        for (id, left) in places {
            let key = (text.weight, text.size, id.0);
            if !self.glyphs.contains_key(&key) {
                let glyph = self.face(text.weight).rasterise(id, text.size);
                self.glyphs.insert(key, glyph);
            }
            if let Some(Some(glyph)) = self.glyphs.get(&key) {
                draw_glyph(
                    canvas,
                    glyph,
                    text.x + round(left),
                    text.baseline,
                    text.color,
                    &clip,
                );
            }
        }
    }

    /// Walks along `text`: character, glyph, left and right end in pixels.
    fn place(
        &mut self,
        text: &str,
        size: u32,
        weight: Weight,
        mut each: impl FnMut(char, GlyphId, f32, f32),
    ) {
        let em = em(size);
        let face = self.face(weight);
        let mut x = 0.0;
        let mut before = None;
        for character in text.chars() {
            let (id, advance) = face.look_up(character);
            if let Some(before) = before {
                x += face.font.kern_unscaled(before, id) / face.units_per_em * em;
            }
            let right = x + advance * em;
            each(character, id, x, right);
            x = right;
            before = Some(id);
        }
    }
}

/// A line of text to draw.
pub(crate) struct Text<'a> {
    pub(crate) text: &'a str,
    pub(crate) x: i32,
    pub(crate) baseline: i32,
    pub(crate) size: u32,
    pub(crate) weight: Weight,
    pub(crate) color: Color,
}

impl Face {
    fn load(path: &str) -> Result<Self, FontError> {
        let read = |source| FontError::Read {
            path: path.to_owned(),
            source,
        };
        if std::fs::metadata(path).map_err(read)?.len() > FONT_BYTES_MAX {
            return Err(FontError::TooLong {
                path: path.to_owned(),
            });
        }
        let bytes = std::fs::read(path).map_err(read)?;
        let font = FontVec::try_from_vec(bytes).map_err(|source| FontError::Invalid {
            path: path.to_owned(),
            source,
        })?;
        let units_per_em = font.units_per_em().unwrap_or(1000.0);
        Ok(Self {
            font,
            units_per_em,
            known: HashMap::new(),
        })
    }

    fn look_up(&mut self, character: char) -> (GlyphId, f32) {
        if let Some(known) = self.known.get(&character) {
            return *known;
        }
        let id = self.font.glyph_id(character);
        let found = (id, self.font.h_advance_unscaled(id) / self.units_per_em);
        if self.known.len() > GLYPHS_MAX {
            self.known.clear();
        }
        self.known.insert(character, found);
        found
    }

    fn rasterise(&self, id: GlyphId, size: u32) -> Option<Glyph> {
        // ab_glyph scales by the height from descender to ascender, not by the em.
        let scale = PxScale::from(em(size) * self.font.height_unscaled() / self.units_per_em);
        let outline = self
            .font
            .outline_glyph(id.with_scale_and_position(scale, point(0.0, 0.0)))?;
        let bounds = outline.px_bounds();
        let width = usize::try_from(round(bounds.width())).ok()?;
        let height = usize::try_from(round(bounds.height())).ok()?;
        let mut pixels = vec![0; width * height];
        outline.draw(|x, y, part| {
            let (x, y) = (x as usize, y as usize);
            if x < width && y < height {
                pixels[y * width + x] = coverage(part);
            }
        });
        Some(Glyph {
            left: floor(bounds.min.x),
            top: floor(bounds.min.y),
            width,
            coverage: pixels,
        })
    }
}

fn draw_glyph(
    canvas: &mut Canvas,
    glyph: &Glyph,
    x: i32,
    baseline: i32,
    color: Color,
    clip: &Area,
) {
    if glyph.width == 0 {
        return;
    }
    let left = x + glyph.left;
    for (y, row) in (baseline + glyph.top..).zip(glyph.coverage.chunks_exact(glyph.width)) {
        if y < clip.top || y >= clip.bottom {
            continue;
        }
        for (x, coverage) in (left..).zip(row) {
            if *coverage > 0 && x >= clip.left && x < clip.right {
                canvas.blend(x, y, color, *coverage);
            }
        }
    }
}

/// Pixels per em as a float; sizes are at most some hundred.
fn em(size: u32) -> f32 {
    f32::from(u16::try_from(size).unwrap_or(u16::MAX))
}
