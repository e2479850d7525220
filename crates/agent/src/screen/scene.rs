//! A scene: what is to be drawn, as a list. Two scenes can be compared, so that only what differs is painted anew.

use super::canvas::{Area, Canvas, Color, ceil, floor, round, signed, stroke_area, to_f32};
use super::code::Code;
use super::font::{Fonts, Text, Weight};

/// Areas to repaint are joined beyond this many; a screen changes in three or four places at a time.
const AREAS_MAX: usize = 16;

/// One thing to draw; later ones lie on top.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Item {
    /// A rectangle, with round corners if `radius` isn't 0.
    Box {
        area: Area,
        radius: f32,
        color: Color,
    },
    /// A line with round ends.
    Stroke {
        points: Vec<(f32, f32)>,
        width: f32,
        color: Color,
    },
    /// A QR code, each square `pixels` wide, from its left upper square on. It is drawn in `color` on what lies below.
    Code {
        code: Code,
        left: i32,
        top: i32,
        pixels: i32,
        color: Color,
    },
    /// A line of text; `width` is what it measures.
    Text {
        text: String,
        x: i32,
        baseline: i32,
        width: f32,
        size: u32,
        weight: Weight,
        color: Color,
    },
}

impl Item {
    /// The pixels it can touch.
    pub(crate) fn area(&self) -> Area {
        match self {
            Self::Box { area, .. } => *area,
            Self::Stroke { points, width, .. } => stroke_area(points, *width),
            Self::Code {
                code,
                left,
                top,
                pixels,
                ..
            } => {
                let side = code.side * pixels;
                Area::new(*left, *top, left + side, top + side)
            }
            Self::Text {
                x,
                baseline,
                width,
                size,
                ..
            } => {
                // Marks reach above the ascender and slanted parts over the sides, never further than this.
                let em = to_f32(i32::try_from(*size).unwrap_or(i32::MAX));
                let (left, baseline) = (to_f32(*x), to_f32(*baseline));
                Area::new(
                    floor(left - 0.3 * em),
                    floor(baseline - 1.3 * em),
                    ceil(left + width + 0.3 * em),
                    ceil(baseline + 0.5 * em),
                )
            }
        }
    }

    fn paint(&self, canvas: &mut Canvas, fonts: &mut Fonts, clip: &Area) {
        match self {
            Self::Box {
                area,
                radius,
                color,
            } if *radius > 0.0 => canvas.fill_round(area, *radius, *color, clip),
            Self::Box { area, color, .. } => canvas.fill(area, *color, clip),
            Self::Stroke {
                points,
                width,
                color,
            } => canvas.stroke(points, *width, *color, clip),
            Self::Code {
                code,
                left,
                top,
                pixels,
                color,
            } => {
                for (row, from, to) in code.runs() {
                    let area = Area::new(
                        left + from * pixels,
                        top + row * pixels,
                        left + to * pixels,
                        top + (row + 1) * pixels,
                    );
                    canvas.fill(&area, *color, clip);
                }
            }
            Self::Text {
                text,
                x,
                baseline,
                size,
                weight,
                color,
                ..
            } => {
                // The area of a text is generous; it ends there all the same, whatever a font says of itself.
                let clip = clip.intersection(&self.area());
                let (size, weight, color) = (*size, *weight, *color);
                fonts.draw(
                    canvas,
                    &Text {
                        text,
                        x: *x,
                        baseline: *baseline,
                        size,
                        weight,
                        color,
                    },
                    &clip,
                );
            }
        }
    }
}

/// Everything on the screen.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scene {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) items: Vec<Item>,
}

impl Scene {
    /// The whole screen.
    pub(crate) fn area(&self) -> Area {
        Area::new(0, 0, signed(self.width), signed(self.height))
    }

    /// Paints what lies in `area`.
    pub(crate) fn paint(&self, canvas: &mut Canvas, fonts: &mut Fonts, area: &Area) {
        for item in self.items.iter().filter(|item| item.area().touches(area)) {
            item.paint(canvas, fonts, area);
        }
    }

    /// Where this scene differs from `before`; everywhere if there was none of this size.
    pub(crate) fn changes(&self, before: Option<&Self>) -> Vec<Area> {
        let whole = self.area();
        let Some(before) = before.filter(|before| before.area() == whole) else {
            return vec![whole];
        };
        let gone = before
            .items
            .iter()
            .filter(|item| !self.items.contains(item));
        let new = self
            .items
            .iter()
            .filter(|item| !before.items.contains(item));
        let mut areas: Vec<Area> = Vec::new();
        for item in gone.chain(new) {
            add_area(&mut areas, item.area().intersection(&whole));
        }
        if areas.len() > AREAS_MAX {
            areas = areas
                .into_iter()
                .reduce(|a, b| a.union(&b))
                .into_iter()
                .collect();
        }
        areas
    }
}

/// Adds `area`, joined with those that it touches.
fn add_area(areas: &mut Vec<Area>, mut area: Area) {
    if area.is_empty() {
        return;
    }
    while let Some(at) = areas.iter().position(|other| other.touches(&area)) {
        area = area.union(&areas.swap_remove(at));
    }
    areas.push(area);
}

/// A picture for a state, drawn in strokes: meaning never rests on colour alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Symbol {
    Check,
    Cross,
    Dots,
    Down,
    Network,
    Swap,
    Question,
    Turn,
    Pause,
}

type Line = Vec<(f32, f32)>;

/// Enough for a curve to look like one at any size.
const ARC_POINTS: u8 = 24;

/// A part of a circle; angles in degrees, 0 to the right, clockwise.
fn arc(middle: (f32, f32), radius: f32, from: f32, to: f32) -> impl Iterator<Item = (f32, f32)> {
    (0..=ARC_POINTS).map(move |point| {
        let part = f32::from(point) / f32::from(ARC_POINTS);
        let angle = (from + (to - from) * part).to_radians();
        (
            middle.0 + radius * angle.cos(),
            middle.1 + radius * angle.sin(),
        )
    })
}

/// A dot: a line without length.
fn dot(x: f32, y: f32) -> Line {
    vec![(x, y), (x, y)]
}

/// A small square around a point.
fn square(x: f32, y: f32, half: f32) -> Line {
    let (left, top, right, bottom) = (x - half, y - half, x + half, y + half);
    vec![
        (left, top),
        (right, top),
        (right, bottom),
        (left, bottom),
        (left, top),
    ]
}

impl Symbol {
    /// Lines in a circle of radius 1.
    fn lines(self) -> Vec<Line> {
        match self {
            Self::Check => vec![vec![(-0.46, 0.04), (-0.13, 0.36), (0.48, -0.32)]],
            Self::Cross => vec![
                vec![(-0.36, -0.36), (0.36, 0.36)],
                vec![(-0.36, 0.36), (0.36, -0.36)],
            ],
            Self::Dots => vec![dot(-0.42, 0.0), dot(0.0, 0.0), dot(0.42, 0.0)],
            Self::Down => vec![
                vec![(0.0, -0.5), (0.0, 0.2)],
                vec![(-0.29, -0.07), (0.0, 0.22), (0.29, -0.07)],
                vec![(-0.44, 0.28), (-0.44, 0.48), (0.44, 0.48), (0.44, 0.28)],
            ],
            Self::Network => vec![
                square(0.0, -0.35, 0.16),
                square(-0.4, 0.37, 0.16),
                square(0.4, 0.37, 0.16),
                vec![(0.0, -0.19), (0.0, 0.02)],
                vec![(-0.4, 0.21), (-0.4, 0.02), (0.4, 0.02), (0.4, 0.21)],
            ],
            Self::Swap => vec![
                vec![(-0.45, -0.2), (0.45, -0.2)],
                vec![(0.22, -0.43), (0.45, -0.2), (0.22, 0.03)],
                vec![(0.45, 0.26), (-0.45, 0.26)],
                vec![(-0.22, 0.03), (-0.45, 0.26), (-0.22, 0.49)],
            ],
            Self::Question => {
                let bow = arc((0.0, -0.25), 0.25, -175.0, 65.0);
                vec![
                    bow.chain([(0.0, 0.1), (0.0, 0.2)]).collect(),
                    dot(0.0, 0.48),
                ]
            }
            Self::Turn => vec![
                arc((0.0, 0.0), 0.42, 20.0, 320.0).collect(),
                vec![(0.36, -0.56), (0.36, -0.26), (0.06, -0.26)],
            ],
            Self::Pause => vec![
                vec![(-0.18, -0.34), (-0.18, 0.34)],
                vec![(0.18, -0.34), (0.18, 0.34)],
            ],
        }
    }

    /// A disc with the symbol in it.
    pub(crate) fn draw(
        self,
        items: &mut Vec<Item>,
        middle: (f32, f32),
        radius: f32,
        disc: Color,
        ink: Color,
    ) {
        let area = Area::new(
            round(middle.0 - radius),
            round(middle.1 - radius),
            round(middle.0 + radius),
            round(middle.1 + radius),
        );
        items.push(Item::Box {
            area,
            radius,
            color: disc,
        });
        let width = match self {
            Self::Check | Self::Cross | Self::Pause => 0.2,
            Self::Dots => 0.24,
            Self::Question => 0.17,
            Self::Down | Self::Swap | Self::Turn => 0.14,
            Self::Network => 0.1,
        };
        for line in self.lines() {
            let points = line
                .iter()
                .map(|(x, y)| (middle.0 + x * radius, middle.1 + y * radius))
                .collect();
            items.push(Item::Stroke {
                points,
                width: width * radius,
                color: ink,
            });
        }
    }
}
