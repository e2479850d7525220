//! The papers that labels come on, in millimetres.

/// A4, portrait.
const A4: (f32, f32) = (210.0, 297.0);

/// A paper with labels on it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Paper {
    /// What it is asked for by.
    pub(crate) name: &'static str,
    /// Width and height of a page.
    pub(crate) page: (f32, f32),
    /// Labels side by side and below each other.
    pub(crate) grid: (usize, usize),
    /// Where the first label begins, from left and top.
    pub(crate) begin: (f32, f32),
    /// From one label's beginning to the next one's.
    pub(crate) pitch: (f32, f32),
    /// Width and height of a label.
    pub(crate) label: (f32, f32),
}

/// All papers; the first is the usual one.
pub(crate) const PAPERS: &[Paper] = &[
    Paper {
        name: "a4-3x8",
        page: A4,
        grid: (3, 8),
        begin: (0.0, 0.5),
        pitch: (70.0, 37.0),
        label: (70.0, 37.0),
    },
    Paper {
        name: "a4-3x7",
        page: A4,
        grid: (3, 7),
        begin: (7.21, 15.15),
        pitch: (66.04, 38.1),
        label: (63.5, 38.1),
    },
    Paper {
        name: "a4-5x13",
        page: A4,
        grid: (5, 13),
        begin: (4.67, 10.7),
        pitch: (40.64, 21.2),
        label: (38.1, 21.2),
    },
    Paper {
        name: "roll-62x29",
        page: (62.0, 29.0),
        grid: (1, 1),
        begin: (0.0, 0.0),
        pitch: (62.0, 29.0),
        label: (62.0, 29.0),
    },
];

impl Paper {
    /// The paper with this name.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        PAPERS.iter().find(|paper| paper.name == name)
    }

    /// Labels on one page.
    pub(crate) const fn places(&self) -> usize {
        self.grid.0 * self.grid.1
    }

    /// Left and top of the label at a place, counted row by row from 0.
    #[expect(
        clippy::cast_precision_loss,
        clippy::as_conversions,
        reason = "a page has at most 13 rows"
    )]
    pub(crate) fn corner(&self, place: usize) -> (f32, f32) {
        let (column, row) = (place % self.grid.0, place / self.grid.0);
        (
            self.begin.0 + column as f32 * self.pitch.0,
            self.begin.1 + row as f32 * self.pitch.1,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::PAPERS;

    #[test]
    fn every_label_is_on_its_page() {
        for paper in PAPERS {
            let (x, y) = paper.corner(paper.places() - 1);
            assert!(x + paper.label.0 <= paper.page.0 + 0.01, "{}", paper.name);
            assert!(y + paper.label.1 <= paper.page.1 + 0.01, "{}", paper.name);
        }
    }
}
