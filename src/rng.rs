//! The random number generator that doors pass to their strategies.

/// A SplitMix64 random number generator. Not for secrets.
///
/// Each door owns one and passes it down, so strategies stay pure and no thread-local is read per request. It is seeded
/// from the process's random state when the first number is drawn.
#[derive(Debug, Default)]
pub(crate) struct Rng(Option<u64>);

impl Rng {
    #[inline(always)]
    pub(crate) const fn new() -> Self {
        Self(None)
    }

    /// Creates a generator that yields the same numbers for the same seed.
    #[cfg(test)]
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(Some(seed))
    }

    /// Returns the next number.
    #[inline]
    pub(crate) fn next_u64(&mut self) -> u64 {
        let state = self.0.unwrap_or_else(|| fastrand::u64(..));
        self.0 = Some(state.wrapping_add(GOLDEN));
        mix(state)
    }

    /// Returns a number below `bound`, or 0 if `bound` is 0.
    #[inline]
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        // The bias is below bound / 2^64.
        ((u128::from(self.next_u64()) * bound as u128) >> 64) as usize
    }
}

/// 2^64 divided by the golden ratio: the increment of SplitMix64.
pub(crate) const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// The finaliser of SplitMix64: each bit of the input changes about half of the bits of the output.
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
    fn numbers_below_the_bound_are_equally_likely() {
        let mut rng = Rng::seeded(7);
        let mut seen = [0; 6];
        (0..6_000).for_each(|_| seen[rng.below(6)] += 1);
        assert!(seen.iter().all(|count| (800..1_200).contains(count)), "{seen:?}");
        assert_eq!(rng.below(0), 0);
        assert_eq!(rng.below(1), 0);
    }
}
