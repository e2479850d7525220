//! Inputs with mistakes in them, made from good ones; the same ones for the same seed.

use testkit::chance::Chance;

/// The longest input: twice what the largest of the corpus has, and no less than this.
const BYTES_MIN: usize = 4096;
/// Mistakes in one input, at most.
const MISTAKES_MAX: u64 = 4;
/// What is put in: the edges of chance, and what begins, ends and nests in texts.
const ODD: [&[u8]; 26] = [
    b"\0",
    b"\xff",
    b"\xff\xff",
    b"\x7f\xff",
    b"\x80\0",
    b"\0\0\0\x80",
    b"\xff\xff\xff\x7f",
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\0\0\0\0\0\0\0\0",
    b"-1",
    b"1e999",
    b"18446744073709551616",
    b"null",
    b"{\"",
    b"\":",
    b"[",
    b"]}",
    b"\"",
    b"\\u0000",
    b"\r\n",
    b"\t;,",
    b"{{",
    b"%00../",
    "\u{202e}\u{feff}".as_bytes(),
];

/// Makes one input after the other.
#[derive(Debug)]
pub struct Mutator<'a> {
    corpus: &'a [Vec<u8>],
    bytes_max: usize,
    chance: Chance,
    input: Vec<u8>,
}

impl<'a> Mutator<'a> {
    /// Starts from `corpus`, which isn't empty.
    #[must_use]
    pub fn new(corpus: &'a [Vec<u8>], seed: u64) -> Self {
        let largest = corpus.iter().map(Vec::len).max().unwrap_or_default();
        Self {
            corpus,
            bytes_max: BYTES_MIN.max(2 * largest),
            chance: Chance::new(seed),
            input: Vec::new(),
        }
    }

    /// The next input: one of the corpus with one mistake or a few.
    pub fn next_input(&mut self) -> &[u8] {
        let from = self.chance.place(self.corpus.len());
        self.input.clone_from(&self.corpus[from]);
        for _ in 0..=self.chance.below(MISTAKES_MAX) {
            self.make_mistake();
        }
        self.input.truncate(self.bytes_max);
        &self.input
    }

    /// A stretch of `length` bytes: short ones more often than long ones.
    fn stretch(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.chance.place(length + 1);
        let longest = 1 << self.chance.below(11);
        let bytes = self.chance.place(longest + 1);
        start..(start + bytes).min(length)
    }

    fn make_mistake(&mut self) {
        let length = self.input.len();
        match self.chance.below(9) {
            0 if length > 0 => {
                let at = self.chance.place(length);
                self.input[at] ^= 1 << self.chance.below(8);
            }
            1 if length > 0 => {
                let at = self.chance.place(length);
                self.input[at] = self.chance.number().to_le_bytes()[0];
            }
            2 if length > 0 => {
                let at = self.chance.place(length);
                let by = self.chance.below(9).to_le_bytes()[0];
                self.input[at] = self.input[at].wrapping_add(by).wrapping_sub(4);
            }
            3 => {
                let cut = self.chance.place(length + 1);
                self.input.truncate(cut);
            }
            4 => {
                let lost = self.stretch(length);
                self.input.drain(lost);
            }
            5 => {
                let from = self.stretch(length);
                let copy = self.input[from].to_vec();
                let at = self.chance.place(length + 1);
                self.input.splice(at..at, copy);
            }
            6 => {
                let corpus = self.corpus;
                let other = &corpus[self.chance.place(corpus.len())];
                let from = self.stretch(other.len());
                let over = self.stretch(length);
                self.input.splice(over, other[from].iter().copied());
            }
            7 => {
                let odd = ODD[self.chance.place(ODD.len())];
                let at = self.chance.place(length + 1);
                self.input.splice(at..at, odd.iter().copied());
            }
            _ => {
                let odd = ODD[self.chance.place(ODD.len())];
                let at = self.chance.place(length + 1);
                let end = (at + odd.len()).min(length);
                self.input.splice(at..end, odd.iter().copied());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_inputs_and_few_are_as_they_were() {
        let corpus = [b"{\"a\":1}".to_vec(), vec![7; 3000]];
        let mut one = Mutator::new(&corpus, 3);
        let mut two = Mutator::new(&corpus, 3);
        let mut same = 0;
        for _ in 0..2000 {
            let input = one.next_input().to_vec();
            assert_eq!(input, two.next_input());
            assert!(input.len() <= 6000);
            same += usize::from(corpus.contains(&input));
        }
        assert!(same < 200, "{same}");
    }
}
