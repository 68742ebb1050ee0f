use std::sync::atomic::{AtomicU64, Ordering};

use super::{Candidate, Pick, Rng};
use crate::rng::{GOLDEN, mix};

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
    fn renew(&self, before: &[Candidate], now: &[Candidate]) -> Self {
        if now.is_empty() {
            // For another door: it deals decks of its own, so that doors do not all begin with the same backend.
            return Self::seeded(mix(self.seed ^ self.dealt.fetch_add(1, Ordering::Relaxed)));
        }
        let dealt = self.dealt.load(Ordering::Relaxed);
        if before.iter().map(Candidate::id).eq(now.iter().map(Candidate::id)) {
            // Other weights, the same cards.
            return Self { dealt: AtomicU64::new(dealt), seed: self.seed };
        }
        // A changed set is a new deck, and not the one it began with when the same set comes back.
        Self::seeded(mix(self.seed ^ dealt))
    }

    #[inline]
    fn pick(&self, candidates: &[Candidate], _: &mut Rng) -> usize {
        let (dealt, cards) = (self.dealt.fetch_add(1, Ordering::Relaxed), candidates.len() as u64);
        let deck = mix(self.seed.wrapping_add((dealt / cards).wrapping_mul(GOLDEN)));
        card(deck, cards, dealt % cards) as usize
    }
}

/// The card at `place` of the given deck.
fn card(deck: u64, cards: u64, place: u64) -> u64 {
    if cards <= SMALL { small_deck(deck, cards, place) } else { large_deck(deck, cards, place) }
}

/// 16! is below 2^45, so that no order is likelier than another by more than one in 10^5; and sixteen cards of four
/// bits are one word.
const SMALL: u64 = 16;

/// One of all `cards!` orders, each as likely: the deck's number as a fraction in the factorial number system, where
/// every digit names one of the cards that are left.
fn small_deck(deck: u64, cards: u64, place: u64) -> u64 {
    // Four bits a card, the next one lowest.
    let (mut left, mut fraction) = (0xFEDC_BA98_7654_3210_u64, deck);
    for dealt in 0..place {
        let (choice, rest) = digit(fraction, cards - dealt);
        fraction = rest;
        let below = (1 << (4 * choice)) - 1;
        left = (left & below) | ((left >> 4) & !below);
    }
    (left >> (4 * digit(fraction, cards - place).0)) & 0xF
}

/// The first digit of a fraction in this base, and the fraction behind it.
fn digit(fraction: u64, base: u64) -> (u64, u64) {
    let product = u128::from(fraction) * u128::from(base);
    ((product >> 64) as u64, product as u64)
}

/// A keyed permutation: a Feistel network over the next power of two, walked until it falls on a card. Fewer than two
/// steps on average.
fn large_deck(deck: u64, cards: u64, place: u64) -> u64 {
    let bits = 64 - (cards - 1).leading_zeros();
    let (low_bits, high_bits) = (bits / 2, bits - bits / 2);
    // Cut at a random place: then every card is exactly as likely anywhere, whatever the network does.
    let mut card = place + digit(deck, cards).0;
    if card >= cards {
        card -= cards;
    }
    loop {
        let (mut left, mut right) = (card >> low_bits, card & mask(low_bits));
        let (mut left_bits, mut right_bits) = (high_bits, low_bits);
        for round in 0..ROUNDS {
            // The high bits of a product depend on all bits below. Both factors are of the deck: with a fixed one a
            // round has few functions to choose from, and small networks are far from uniform.
            let key = deck.rotate_left(11 * round);
            let mixed = (key ^ (right + 1).wrapping_mul(GOLDEN)).wrapping_mul(key | 1) >> (64 - left_bits);
            (left, right) = (right, left ^ mixed);
            (left_bits, right_bits) = (right_bits, left_bits);
        }
        card = (left << right_bits) | right;
        if card < cards {
            return card;
        }
    }
}

/// Even, so that the halves end as they began. Chi-square over two million decks: places are uniform, pairs of
/// successive cards from twenty cards on; at seventeen a bias begins to show.
const ROUNDS: u32 = 6;

fn mask(bits: u32) -> u64 {
    (1 << bits) - 1
}
