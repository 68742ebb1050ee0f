//! Random order without repetition.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::{Candidate, Candidates, Pick, PickContext, Strategy};
use crate::{
    rng::{GOLDEN, mix},
    shard::{PerThreadU64, SLOTS},
};

/// Selects every candidate once in random order, then again in another order: like cards dealt from a shuffled deck,
/// then from a new one. Each thread has decks of its own.
///
/// A deck is not stored: each card is computed from its place in the deck. A pick costs one counter and some
/// arithmetic, whatever the number of candidates.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shuffle {
    seed: Option<u64>,
}

impl Shuffle {
    /// Creates the strategy with a random seed for each door.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates the strategy with a fixed seed, so that each door deals the same decks. For tests.
    pub fn seeded(seed: u64) -> Self {
        Self { seed: Some(seed) }
    }
}

/// The decks of [`Shuffle`] for one set of candidates.
#[derive(Debug)]
pub struct ShufflePick {
    progress: Arc<Progress>,
    seed: u64,
}

#[derive(Debug)]
struct Progress {
    /// Per thread: the number of cards dealt in the lower `THREAD_SHIFT` bits, and above them the number of the thread,
    /// counted from 1 in the order in which threads began.
    dealt: PerThreadU64,
    /// The number of threads that have begun.
    begun: AtomicU64,
}

const THREAD_SHIFT: u32 = 56;

impl Progress {
    fn new() -> Arc<Self> {
        Arc::new(Self { dealt: PerThreadU64::new(SLOTS), begun: AtomicU64::new(0) })
    }

    /// Numbers a thread that has not dealt a card yet.
    fn begin(&self, dealt: u64) -> u64 {
        if dealt != 0 { dealt } else { (self.begun.fetch_add(1, Ordering::Relaxed) % 255 + 1) << THREAD_SHIFT }
    }
}

impl Strategy for Shuffle {
    type Pick = ShufflePick;

    fn make(&self, candidates: &Candidates<'_>, before: Option<(&ShufflePick, &Candidates<'_>)>) -> ShufflePick {
        let ids = |candidates: &Candidates<'_>| candidates.iter().map(Candidate::id).collect::<Vec<_>>();
        match before {
            // Only weights changed: the deck continues.
            Some((pick, before)) if ids(before) == ids(candidates) => {
                ShufflePick { progress: Arc::clone(&pick.progress), seed: pick.seed }
            }
            // A changed set begins a new deck. Its seed depends on the progress, so that a set that returns does not
            // begin with the same deck each time.
            before => {
                let last = before.map(|(pick, _)| mix(pick.seed ^ pick.progress.dealt.sum()));
                let seed = last.or(self.seed).unwrap_or_else(|| fastrand::u64(..));
                ShufflePick { progress: Progress::new(), seed }
            }
        }
    }
}

impl ShufflePick {
    /// Returns the next card of a thread, after `dealt` in the format of [`Progress::dealt`].
    fn card(&self, dealt: u64, cards: u64) -> usize {
        let (thread, dealt) = (dealt >> THREAD_SHIFT, dealt & ((1 << THREAD_SHIFT) - 1));
        let decks = self.seed ^ ((thread - 1) << 32);
        let deck = mix(decks.wrapping_add((dealt / cards).wrapping_mul(GOLDEN)));
        card(deck, cards, dealt % cards) as usize
    }
}

impl Pick for ShufflePick {
    #[inline(always)]
    fn pick(&self, candidates: &Candidates<'_>, cx: &mut PickContext<'_>) -> usize {
        let (cards, skips_none) = (candidates.len() as u64, cx.skips_none());
        self.progress.dealt.update(cx.slot, |dealt| {
            let dealt = self.progress.begin(dealt);
            let card = |dealt| self.card(dealt, cards);
            if skips_none {
                return (dealt + 1, card(dealt));
            }
            // Two successive decks contain every card.
            let next = (dealt..=dealt + 2 * cards).find(|dealt| !cx.skips(&candidates[card(*dealt)]));
            let dealt = next.unwrap_or(dealt);
            (dealt + 1, card(dealt))
        })
    }
}

/// Returns the card at `place` of a deck.
fn card(deck: u64, cards: u64, place: u64) -> u64 {
    if cards <= SMALL { small_deck(deck, cards, place) } else { large_deck(deck, cards, place) }
}

/// 16! is below 2^45, so the probabilities of two orders differ by less than 10^-5. And 16 cards of 4 bits fit in a
/// word.
const SMALL: u64 = 16;

/// Computes one of all `cards!` orders, each equally likely.
///
/// The number of the deck is a fraction in the factorial number system: each digit is the index of the next card among
/// those that are not dealt yet.
fn small_deck(deck: u64, cards: u64, place: u64) -> u64 {
    // Four bits per card, the first card in the lowest bits.
    let (mut undealt, mut fraction) = (0xFEDC_BA98_7654_3210_u64, deck);
    for dealt in 0..place {
        let (choice, rest) = digit(fraction, cards - dealt);
        fraction = rest;
        let below = (1 << (4 * choice)) - 1;
        undealt = (undealt & below) | ((undealt >> 4) & !below);
    }
    (undealt >> (4 * digit(fraction, cards - place).0)) & 0xF
}

/// Returns the first digit of a fraction in this base, and the remaining fraction.
fn digit(fraction: u64, base: u64) -> (u64, u64) {
    let product = u128::from(fraction) * u128::from(base);
    ((product >> 64) as u64, product as u64)
}

/// Computes a keyed permutation: a Feistel network over the next power of two, repeated until its result is a card
/// (cycle walking). Fewer than two steps on average.
fn large_deck(deck: u64, cards: u64, place: u64) -> u64 {
    let bits = 64 - (cards - 1).leading_zeros();
    let (low_bits, high_bits) = (bits / 2, bits - bits / 2);
    // Cuts the deck at a random place, so that each card is equally likely at each place even if the network is biased.
    let mut card = place + digit(deck, cards).0;
    if card >= cards {
        card -= cards;
    }
    loop {
        let (mut left, mut right) = (card >> low_bits, card & mask(low_bits));
        let (mut left_bits, mut right_bits) = (high_bits, low_bits);
        for round in 0..ROUNDS {
            // The high bits of a product depend on all lower bits. Both factors depend on the deck: with a fixed
            // factor, a round has too few functions, and small networks are far from uniform.
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

/// Even, so that the halves end with their original widths. Chi-square tests over two million decks: places are
/// uniform; pairs of successive cards are uniform from 20 cards on, with a slight bias at 17.
const ROUNDS: u32 = 6;

fn mask(bits: u32) -> u64 {
    (1 << bits) - 1
}
