use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::{Candidate, Candidates, Pick, PickContext, Strategy};
use crate::{
    rng::{GOLDEN, mix},
    shard::{Lines, SLOTS},
};

/// Deals cards: every backend once in random order, then a new deck. Each thread deals decks of its own.
///
/// No deck is stored. A card is computed from its number, so dealing is one counter, and a deck of ten thousand costs no
/// more to begin than one of three.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shuffle {
    seed: Option<u64>,
}

impl Shuffle {
    /// Decks that no other process deals, nor another door.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same decks for the same seed, for tests.
    pub fn seeded(seed: u64) -> Self {
        Self { seed: Some(seed) }
    }
}

/// The decks of [`Shuffle`] for one set.
#[derive(Debug)]
pub struct ShufflePick {
    dealt: Arc<Dealt>,
    seed: u64,
}

#[derive(Debug)]
struct Dealt {
    /// How many cards each thread has dealt, below the number of the thread in the order in which threads began,
    /// counted from 1.
    lines: Lines,
    begun: AtomicU64,
}

/// Where the number of the thread begins.
const THREAD: u32 = 56;

impl Dealt {
    fn new() -> Arc<Self> {
        Arc::new(Self { lines: Lines::new(SLOTS), begun: AtomicU64::new(0) })
    }

    fn begin(&self, dealt: u64) -> u64 {
        if dealt != 0 { dealt } else { (self.begun.fetch_add(1, Ordering::Relaxed) % 255 + 1) << THREAD }
    }
}

impl Strategy for Shuffle {
    type Pick = ShufflePick;

    fn make(&self, candidates: &Candidates<'_>, before: Option<(&ShufflePick, &Candidates<'_>)>) -> ShufflePick {
        let ids = |candidates: &Candidates<'_>| candidates.iter().map(Candidate::id).collect::<Vec<_>>();
        match before {
            // Other weights, the same cards.
            Some((pick, before)) if ids(before) == ids(candidates) => {
                ShufflePick { dealt: Arc::clone(&pick.dealt), seed: pick.seed }
            }
            // A changed set is a new deck, and not the one it began with when the same set comes back.
            before => {
                let last = before.map(|(pick, _)| mix(pick.seed ^ pick.dealt.lines.sum()));
                let seed = last.or(self.seed).unwrap_or_else(|| fastrand::u64(..));
                ShufflePick { dealt: Dealt::new(), seed }
            }
        }
    }
}

impl ShufflePick {
    fn card(&self, dealt: u64, cards: u64) -> usize {
        let (thread, dealt) = (dealt >> THREAD, dealt & ((1 << THREAD) - 1));
        let decks = self.seed ^ ((thread - 1) << 32);
        let deck = mix(decks.wrapping_add((dealt / cards).wrapping_mul(GOLDEN)));
        card(deck, cards, dealt % cards) as usize
    }
}

impl Pick for ShufflePick {
    #[inline(always)]
    fn pick(&self, candidates: &Candidates<'_>, cx: &mut PickContext<'_>) -> usize {
        let (cards, skips_none) = (candidates.len() as u64, cx.skips_none());
        self.dealt.lines.update(cx.slot, |dealt| {
            let dealt = self.dealt.begin(dealt);
            let card = |dealt| self.card(dealt, cards);
            if skips_none {
                return (dealt + 1, card(dealt));
            }
            // Every card comes up within two decks.
            let next = (dealt..=dealt + 2 * cards).find(|dealt| !cx.skips(&candidates[card(*dealt)]));
            let dealt = next.unwrap_or(dealt);
            (dealt + 1, card(dealt))
        })
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
