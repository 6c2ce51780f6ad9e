//! Chance, all of it from the seed.

/// A stream of random numbers (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    /// Returns the stream of this name: what one takes does not move the others.
    pub(crate) fn new(seed: u64, stream: &str) -> Self {
        let hash = stream.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let mut rng = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ hash);
        rng.next();
        rng
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number from `low` to `high`, without `high`.
    pub(crate) fn range(&mut self, low: u64, high: u64) -> u64 {
        if high <= low { low } else { low + self.next() % (high - low) }
    }

    pub(crate) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(len.max(1)).unwrap_or(1)).unwrap_or(0)
    }

    /// Returns true so many times in a million.
    pub(crate) fn ppm(&mut self, ppm: u64) -> bool {
        0 < ppm && self.next() % 1_000_000 < ppm
    }

    /// Returns true so many times in a hundred.
    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.ppm(percent * 10_000)
    }

    pub(crate) fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.index(all.len())]
    }

    /// Returns a waiting time with this mean, at most eight times as long.
    pub(crate) fn waiting(&mut self, mean: u64) -> u64 {
        // Sums of bits instead of a logarithm: the same on every machine.
        let mut total = 0;
        let step = (mean / 4).max(1);
        for _ in 0..32 {
            total += self.range(0, 2 * step);
            if self.percent(25) {
                break;
            }
        }
        total
    }
}
