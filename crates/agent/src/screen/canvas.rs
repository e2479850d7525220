//! Pixels in memory: rectangles, rounded rectangles, strokes, and blending with a coverage. No I/O, no layout.

/// A colour, `0x00RRGGBB`.
pub(crate) type Color = u32;

/// A rectangle of pixels: from `left`, `top` up to and without `right`, `bottom`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Area {
    pub(crate) left: i32,
    pub(crate) top: i32,
    pub(crate) right: i32,
    pub(crate) bottom: i32,
}

impl Area {
    pub(crate) const fn new(left: i32, top: i32, right: i32, bottom: i32) -> Self {
        Self {
            left,
            top,
            right,
            bottom,
        }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.left >= self.right || self.top >= self.bottom
    }

    pub(crate) fn intersection(&self, other: &Self) -> Self {
        Self {
            left: self.left.max(other.left),
            top: self.top.max(other.top),
            right: self.right.min(other.right),
            bottom: self.bottom.min(other.bottom),
        }
    }

    pub(crate) fn union(&self, other: &Self) -> Self {
        Self {
            left: self.left.min(other.left),
            top: self.top.min(other.top),
            right: self.right.max(other.right),
            bottom: self.bottom.max(other.bottom),
        }
    }

    pub(crate) fn touches(&self, other: &Self) -> bool {
        !self.intersection(other).is_empty()
    }
}

/// A grid of pixels.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<Color>,
}

impl Canvas {
    pub(crate) fn new(width: usize, height: usize) -> Self {
        Self {
            width,
            height,
            pixels: vec![0; width * height],
        }
    }

    pub(crate) fn area(&self) -> Area {
        Area::new(0, 0, signed(self.width), signed(self.height))
    }

    /// The pixels of `row` from `left` up to `right`, which must lie in the canvas.
    pub(crate) fn row(&self, row: i32, left: i32, right: i32) -> &[Color] {
        let start = unsigned(row) * self.width;
        &self.pixels[start + unsigned(left)..start + unsigned(right)]
    }

    fn row_mut(&mut self, row: i32, left: i32, right: i32) -> &mut [Color] {
        let start = unsigned(row) * self.width;
        &mut self.pixels[start + unsigned(left)..start + unsigned(right)]
    }

    /// Fills what of `area` lies in `clip`.
    pub(crate) fn fill(&mut self, area: &Area, color: Color, clip: &Area) {
        let area = area.intersection(clip).intersection(&self.area());
        if area.is_empty() {
            return;
        }
        for row in area.top..area.bottom {
            self.row_mut(row, area.left, area.right).fill(color);
        }
    }

    /// Mixes `color` into one pixel; `coverage` 255 replaces it. The pixel must lie in the canvas.
    pub(crate) fn blend(&mut self, x: i32, y: i32, color: Color, coverage: u8) {
        let pixel = &mut self.pixels[unsigned(y) * self.width + unsigned(x)];
        *pixel = mix(*pixel, color, coverage);
    }

    /// Fills a rectangle with round corners.
    pub(crate) fn fill_round(&mut self, area: &Area, radius: f32, color: Color, clip: &Area) {
        let clip = clip.intersection(&self.area()).intersection(area);
        if clip.is_empty() {
            return;
        }
        let half_width = to_f32(area.right - area.left) / 2.0;
        let half_height = to_f32(area.bottom - area.top) / 2.0;
        let radius = radius.min(half_width).min(half_height);
        let middle = (
            to_f32(area.left) + half_width,
            to_f32(area.top) + half_height,
        );
        let corner = ceil(radius);
        for y in clip.top..clip.bottom {
            let in_corner = y < area.top + corner || y >= area.bottom - corner;
            let (left, right) = if in_corner {
                (area.left + corner, area.right - corner)
            } else {
                (area.left, area.right)
            };
            let inner = Area::new(left, y, right, y + 1);
            self.fill(&inner, color, &clip);
            if !in_corner {
                continue;
            }
            for x in (clip.left..clip.right).filter(|x| *x < left || *x >= right) {
                let dx = ((to_f32(x) + 0.5 - middle.0).abs() - (half_width - radius)).max(0.0);
                let dy = ((to_f32(y) + 0.5 - middle.1).abs() - (half_height - radius)).max(0.0);
                self.blend(x, y, color, coverage(radius - dx.hypot(dy) + 0.5));
            }
        }
    }

    /// Draws a line through `points`, `width` thick, with round ends and joints.
    pub(crate) fn stroke(&mut self, points: &[(f32, f32)], width: f32, color: Color, clip: &Area) {
        let clip = stroke_area(points, width)
            .intersection(clip)
            .intersection(&self.area());
        for y in clip.top..clip.bottom {
            for x in clip.left..clip.right {
                let here = (to_f32(x) + 0.5, to_f32(y) + 0.5);
                let distance = points
                    .windows(2)
                    .map(|pair| distance_to_segment(here, pair[0], pair[1]))
                    .fold(f32::INFINITY, f32::min);
                let coverage = coverage(width / 2.0 - distance + 0.5);
                if coverage > 0 {
                    self.blend(x, y, color, coverage);
                }
            }
        }
    }
}

/// The pixels a stroke can touch.
pub(crate) fn stroke_area(points: &[(f32, f32)], width: f32) -> Area {
    let reach = width / 2.0 + 1.0;
    let mut area = Area::new(i32::MAX, i32::MAX, i32::MIN, i32::MIN);
    for (x, y) in points {
        let around = Area::new(
            floor(x - reach),
            floor(y - reach),
            ceil(x + reach),
            ceil(y + reach),
        );
        area = area.union(&around);
    }
    area
}

fn distance_to_segment(point: (f32, f32), from: (f32, f32), to: (f32, f32)) -> f32 {
    let (dx, dy) = (to.0 - from.0, to.1 - from.1);
    let length_squared = dx * dx + dy * dy;
    let along = if length_squared > 0.0 {
        (((point.0 - from.0) * dx + (point.1 - from.1) * dy) / length_squared).clamp(0.0, 1.0)
    } else {
        0.0
    };
    (point.0 - from.0 - along * dx).hypot(point.1 - from.1 - along * dy)
}

/// `coverage` of 0 leaves `under`, 255 gives `over`.
fn mix(under: Color, over: Color, coverage: u8) -> Color {
    if coverage == u8::MAX {
        return over;
    }
    let alpha = u32::from(coverage);
    let channel = |shift: u32| {
        let (under, over) = ((under >> shift) & 0xff, (over >> shift) & 0xff);
        ((under * (255 - alpha) + over * alpha + 127) / 255) << shift
    };
    channel(16) | channel(8) | channel(0)
}

/// From 0 (nothing) to 1 (all) to 0 to 255.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to 0..=255 before"
)]
pub(crate) fn coverage(part: f32) -> u8 {
    (part.clamp(0.0, 1.0) * 255.0).round() as u8
}

/// Rounded to the nearest pixel. Casting a float saturates, so that no coordinate can go astray.
#[expect(clippy::cast_possible_truncation, reason = "saturates")]
pub(crate) fn round(value: f32) -> i32 {
    value.round() as i32
}

#[expect(clippy::cast_possible_truncation, reason = "saturates")]
pub(crate) fn floor(value: f32) -> i32 {
    value.floor() as i32
}

#[expect(clippy::cast_possible_truncation, reason = "saturates")]
pub(crate) fn ceil(value: f32) -> i32 {
    value.ceil() as i32
}

/// Coordinates of a screen are far below the 16 million that an `f32` holds exactly.
#[expect(
    clippy::cast_precision_loss,
    reason = "screens have at most some thousand pixels a side"
)]
pub(crate) fn to_f32(value: i32) -> f32 {
    value as f32
}

pub(crate) fn signed(value: usize) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

/// A coordinate that is known not to be negative.
pub(crate) fn unsigned(value: i32) -> usize {
    usize::try_from(value).unwrap_or(0)
}
