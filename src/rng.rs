//! Chance, as an argument.

/// A small source of random numbers, one for each door, so that chance is an argument and costs no look-up.
///
/// Not for secrets: SplitMix64, seeded from the process's random state when the first number is drawn.
#[derive(Debug, Default)]
pub struct Rng(Option<u64>);

impl Rng {
    #[inline(always)]
    pub(crate) const fn new() -> Self {
        Self(None)
    }

    /// The same numbers for the same seed, for tests.
    pub fn seeded(seed: u64) -> Self {
        Self(Some(seed))
    }

    /// The next number.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        let state = self.0.unwrap_or_else(|| fastrand::u64(..));
        self.0 = Some(state.wrapping_add(GOLDEN));
        mix(state)
    }

    /// A number below `bound`; 0 when there is none.
    #[inline]
    pub fn below(&mut self, bound: usize) -> usize {
        // The bias is below bound / 2^64.
        ((u128::from(self.next_u64()) * bound as u128) >> 64) as usize
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
    fn every_number_below_the_bound_comes_up_and_no_other() {
        let mut rng = Rng::seeded(7);
        let mut seen = [0; 6];
        (0..6_000).for_each(|_| seen[rng.below(6)] += 1);
        assert!(seen.iter().all(|count| (800..1_200).contains(count)), "{seen:?}");
        assert_eq!(rng.below(0), 0);
        assert_eq!(rng.below(1), 0);
    }
}
