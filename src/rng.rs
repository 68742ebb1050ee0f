/// A small source of random numbers, one for each door, so that chance is an argument and costs no look-up.
///
/// Not for secrets: SplitMix64, seeded from the process's random state.
#[derive(Debug)]
pub struct Rng(u64);

impl Rng {
    pub(crate) fn new() -> Self {
        Self::seeded(fastrand::u64(..))
    }

    /// The same numbers for the same seed, for tests.
    pub fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        let number = mix(self.0);
        self.0 = self.0.wrapping_add(GOLDEN);
        number
    }

    /// A number below `sides`; 0 when there are none.
    #[inline]
    pub fn below(&mut self, sides: usize) -> usize {
        // The bias is below sides / 2^64.
        ((u128::from(self.next_u64()) * sides as u128) >> 64) as usize
    }
}

pub(crate) const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// The finaliser of SplitMix64: every bit of the input moves half the bits of the output.
#[inline]
pub(crate) fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(GOLDEN);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_side_comes_up_and_no_other() {
        let mut rng = Rng::seeded(7);
        let mut seen = [0; 6];
        (0..6_000).for_each(|_| seen[rng.below(6)] += 1);
        assert!(seen.iter().all(|count| (800..1_200).contains(count)), "{seen:?}");
        assert_eq!(rng.below(0), 0);
        assert_eq!(rng.below(1), 0);
    }
}
