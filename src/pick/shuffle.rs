use std::sync::atomic::{AtomicU64, Ordering};

use super::{
    Candidate, Dice, Pick,
    dice::{GOLDEN, mix},
};

/// Deals cards: every backend once in random order, then a new deck.
///
/// No deck is stored. A card is computed from its number, so dealing is one counter for all who draw at once, and a
/// deck of ten thousand costs no more to begin than one of three.
#[derive(Debug)]
pub struct Shuffle {
    dealt: AtomicU64,
    seed: u64,
}

impl Shuffle {
    /// Decks that no other process deals.
    pub fn new() -> Self {
        Self::seeded(fastrand::u64(..))
    }

    /// The same decks for the same seed, for tests.
    pub fn seeded(seed: u64) -> Self {
        Self { dealt: AtomicU64::new(0), seed }
    }
}

impl Default for Shuffle {
    fn default() -> Self {
        Self::new()
    }
}

impl Pick for Shuffle {
    fn renew(&self, _: &[Candidate], _: &[Candidate]) -> Self {
        // A changed set is a new deck, and not the one it began with when the same set comes back.
        Self::seeded(mix(self.seed ^ self.dealt.load(Ordering::Relaxed)))
    }

    #[inline]
    fn pick(&self, candidates: &[Candidate], _: &mut Dice) -> usize {
        let (dealt, cards) = (self.dealt.fetch_add(1, Ordering::Relaxed), candidates.len() as u64);
        let deck = mix(self.seed.wrapping_add((dealt / cards).wrapping_mul(GOLDEN)));
        card(deck, cards, dealt % cards) as usize
    }
}

/// The card at `place` of the given deck.
fn card(deck: u64, cards: u64, place: u64) -> u64 {
    if cards <= SMALL { small_deck(deck, cards, place) } else { large_deck(deck, cards, place) }
}

/// 20! is the largest factorial in 64 bits; at 12 the bias of the remainder is below one in 10^10.
const SMALL: u64 = 12;

/// One of all `cards!` orders, each as likely: the deck's number in the factorial number system, where every digit
/// names one of the cards that are left.
fn small_deck(deck: u64, cards: u64, place: u64) -> u64 {
    // Four bits a card, the next one lowest.
    let (mut left, mut number) = (0xBA98_7654_3210_u64, deck);
    for dealt in 0..place {
        let choice = 4 * (number % (cards - dealt));
        number /= cards - dealt;
        let below = (1 << choice) - 1;
        left = (left & below) | ((left >> 4) & !below);
    }
    (left >> (4 * (number % (cards - place)))) & 0xF
}

/// A keyed permutation: a Feistel network over the next power of two, walked until it falls on a card. Fewer than two
/// steps on average.
fn large_deck(deck: u64, cards: u64, place: u64) -> u64 {
    let bits = 64 - (cards - 1).leading_zeros();
    let (low_bits, high_bits) = (bits / 2, bits - bits / 2);
    let mut card = place;
    loop {
        let (mut left, mut right) = (card >> low_bits, card & mask(low_bits));
        let (mut left_bits, mut right_bits) = (high_bits, low_bits);
        for round in 0..ROUNDS {
            // The high bits of a product depend on all bits below.
            let key = deck.rotate_left(11 * round) ^ right;
            let mixed = key.wrapping_mul(GOLDEN) >> (64 - left_bits);
            (left, right) = (right, left ^ mixed);
            (left_bits, right_bits) = (right_bits, left_bits);
        }
        card = (left << right_bits) | right;
        if card < cards {
            return card;
        }
    }
}

/// Even, so that the halves end as they began; more changes nothing that a chi-square test can see.
const ROUNDS: u32 = 6;

fn mask(bits: u32) -> u64 {
    (1 << bits) - 1
}
