//! Chance that can be repeated: the same seed, the same fleet, the same bad luck.

/// splitmix64 (Steele, Lea and Flood, 2014): small, fast, and every seed is as good as any other.
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    /// Chance for one thing of a fleet: the same for the same seed and name.
    pub(super) fn new(seed: u64, name: &str) -> Self {
        // FNV-1a, so that neighbouring names begin far apart.
        let start = 0xcbf2_9ce4_8422_2325 ^ seed;
        let mixed = name.bytes().fold(start, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self(mixed)
    }

    pub(super) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to `limit - 1`. The bias of the remainder does not matter here.
    pub(super) const fn below(&mut self, limit: u64) -> u64 {
        if limit == 0 { 0 } else { self.next() % limit }
    }

    /// A number from `least` to `most`.
    pub(super) const fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most.saturating_sub(least) + 1)
    }

    pub(super) fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        let index = usize::try_from(self.below(items.len() as u64)).ok()?;
        items.get(index)
    }

    /// True for such a share of all calls, in hundredths of a percent.
    pub(super) const fn chance(&mut self, per_ten_thousand: u32) -> bool {
        self.below(10_000) < per_ten_thousand as u64
    }
}
