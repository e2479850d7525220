//! One label as a PNG for label printers that take pictures: 300 dots per inch, black on white.

use embedded_graphics::Drawable as _;
use embedded_graphics::draw_target::DrawTarget;
use embedded_graphics::geometry::{OriginDimensions, Point, Size};
use embedded_graphics::mono_font::iso_8859_1::FONT_10X20;
use embedded_graphics::mono_font::{MonoFont, MonoTextStyle};
use embedded_graphics::pixelcolor::BinaryColor;
use embedded_graphics::text::Text;

use super::layout::{Label, Mark, marks};
use crate::error::Failure;

const DOTS_PER_MM: f32 = 300.0 / 25.4;
const POINTS_PER_INCH: f32 = 72.0;
const FONT: &MonoFont<'static> = &FONT_10X20;
/// Letters of the font are so high from base line to top.
const FONT_ASCENT: f32 = 15.0;

/// A grey picture.
struct Picture {
    width: usize,
    height: usize,
    dots: Vec<u8>,
}

/// The label as a PNG.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::as_conversions,
    reason = "a label has at most 900 dots to a side"
)]
pub(super) fn png(label: &Label, size: (f32, f32)) -> Result<Vec<u8>, Failure> {
    let dots = |mm: f32| (mm * DOTS_PER_MM).round().max(0.0) as usize;
    let mut picture = Picture {
        width: dots(size.0),
        height: dots(size.1),
        dots: vec![255; dots(size.0) * dots(size.1)],
    };
    for mark in marks(label, size)? {
        match mark {
            Mark::Bar(x, y, width, height) => {
                for row in dots(y)..dots(y + height) {
                    for column in dots(x)..dots(x + width) {
                        picture.blacken(column, row);
                    }
                }
            }
            Mark::Text(x, base, points, _, text) => {
                picture.write(dots(x), dots(base), points, size.0 - x, &text);
            }
        }
    }
    picture.encode()
}

impl Picture {
    fn blacken(&mut self, x: usize, y: usize) {
        if x < self.width && y < self.height {
            self.dots[y * self.width + x] = 0;
        }
    }

    /// Letters of one width, enlarged by a whole number so that they stay sharp.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::as_conversions,
        reason = "letters are some dozen dots high, lines some dozen letters long"
    )]
    fn write(&mut self, x: usize, base: usize, points: f32, width_mm: f32, text: &str) {
        let wanted = points / POINTS_PER_INCH * 300.0 / 20.0;
        let letter = FONT.character_size.width as usize;
        let room = (width_mm * DOTS_PER_MM) as usize;
        let zoom = (wanted.round() as usize).clamp(1, 4);
        let fits = |zoom: usize| text.chars().count() * letter * zoom <= room;
        let zoom = (1..=zoom).rev().find(|zoom| fits(*zoom)).unwrap_or(1);
        let mut line = Line {
            size: Size::new((text.chars().count() * letter) as u32, 24),
            dots: Vec::new(),
        };
        let style = MonoTextStyle::new(FONT, BinaryColor::On);
        // The line never fails to be drawn on: its error is `Infallible`.
        let _ = Text::new(text, Point::new(0, FONT_ASCENT as i32), style).draw(&mut line);
        let top = base.saturating_sub(FONT_ASCENT as usize * zoom);
        for (column, row) in line.dots {
            for dx in 0..zoom {
                for dy in 0..zoom {
                    self.blacken(x + column * zoom + dx, top + row * zoom + dy);
                }
            }
        }
    }

    fn encode(&self) -> Result<Vec<u8>, Failure> {
        let failed = |source: png::EncodingError| Failure::System {
            what: "write a PNG",
            source: source.into(),
        };
        let side = |dots: usize| u32::try_from(dots).unwrap_or(u32::MAX);
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, side(self.width), side(self.height));
        encoder.set_color(png::ColorType::Grayscale);
        encoder.set_pixel_dims(Some(png::PixelDimensions {
            xppu: 11_811,
            yppu: 11_811,
            unit: png::Unit::Meter,
        }));
        let mut writer = encoder.write_header().map_err(failed)?;
        writer.write_image_data(&self.dots).map_err(failed)?;
        writer.finish().map_err(failed)?;
        Ok(bytes)
    }
}

/// The dots of one line of text.
struct Line {
    size: Size,
    dots: Vec<(usize, usize)>,
}

impl OriginDimensions for Line {
    fn size(&self) -> Size {
        self.size
    }
}

impl DrawTarget for Line {
    type Color = BinaryColor;
    type Error = std::convert::Infallible;

    fn draw_iter<I>(&mut self, pixels: I) -> Result<(), Self::Error>
    where
        I: IntoIterator<Item = embedded_graphics::Pixel<Self::Color>>,
    {
        for embedded_graphics::Pixel(point, color) in pixels {
            if let (BinaryColor::On, Ok(x), Ok(y)) =
                (color, usize::try_from(point.x), usize::try_from(point.y))
            {
                self.dots.push((x, y));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::paper::PAPERS;
    use super::{Label, png};
    use crate::pupils::label_code;

    /// What a real decoder reads in a picture.
    fn decoded(bytes: &[u8]) -> Vec<String> {
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes))
            .read_info()
            .unwrap();
        let (width, height) = reader.info().size();
        let mut dots = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut dots).unwrap();
        let (width, height) = (width as usize, height as usize);
        let mut image =
            rqrr::PreparedImage::prepare_from_greyscale(width, height, |x, y| dots[y * width + x]);
        image
            .detect_grids()
            .iter()
            .map(|grid| grid.decode().unwrap().1)
            .collect()
    }

    #[test]
    fn a_decoder_reads_the_serial_number_on_every_paper() {
        for serial in ["PF3K2ABC", "BJØ 12/34-Æ", "VERYLONGSERIALNUMBER0123456789"] {
            let label = Label {
                serial: serial.into(),
                asset_tag: "NFK-000123".into(),
                name: "BJO-8B-014".into(),
                owner_line: "Tilhører Bjørnøya kommune".into(),
            };
            for paper in PAPERS {
                let read = decoded(&png(&label, paper.label).unwrap());
                let serials: Vec<_> = read.iter().map(|text| label_code::read(text)).collect();
                assert_eq!(serials, [Some(serial.to_owned())], "{}", paper.name);
            }
        }
    }
}
