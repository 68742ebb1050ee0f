//! The candidates that one pick of a load-aware strategy compares: all of a small set, or some of a large one.

use std::{fmt, ops::RangeInclusive};

use super::{Candidates, PickContext};
use crate::setting::InvalidSetting;

/// How many candidates a pick compares.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Choices {
    /// A set of up to this many is compared whole.
    pub(super) scan: usize,
    /// This many of a larger one, drawn at random.
    pub(super) draw: usize,
}

/// The most candidates that are drawn.
const MAX_DRAWN: usize = 16;
/// The largest set that is compared whole.
const MAX_SCANNED: usize = 256;

/// Checks the setting of a strategy.
pub(super) fn in_range<T: PartialOrd + fmt::Display>(
    strategy: &'static str,
    field: &'static str,
    value: T,
    range: RangeInclusive<T>,
    reason: impl Into<String>,
) -> Result<T, InvalidSetting> {
    if range.contains(&value) { Ok(value) } else { Err(InvalidSetting::of(strategy, field, value, reason.into())) }
}

/// The numbers of the candidates that one pick compares.
pub(super) enum Compared {
    All(usize),
    Drawn([u32; MAX_DRAWN], usize),
}

impl Choices {
    /// Draws the candidates to compare. A skipped one is drawn only if all that were drawn are.
    #[inline]
    pub(super) fn compared(self, candidates: &Candidates<'_>, cx: &mut PickContext<'_>) -> Compared {
        let len = candidates.len();
        if len <= self.scan.max(self.draw) {
            return Compared::All(len);
        }
        let mut drawn = [0; MAX_DRAWN];
        let draw = self.draw.min(MAX_DRAWN);
        drawn[..draw].iter_mut().for_each(|number| *number = cx.random_below(len) as u32);
        Compared::Drawn(drawn, draw)
    }

    /// Sets how many candidates are drawn.
    pub(super) fn drawing(self, strategy: &'static str, draw: usize) -> Result<Self, InvalidSetting> {
        let reason = format!("must be from 2 to {MAX_DRAWN}");
        in_range(strategy, "choices", draw, 2..=MAX_DRAWN, reason).map(|draw| Self { draw, ..self })
    }

    /// Sets up to which number all are compared.
    pub(super) fn scanning(self, strategy: &'static str, scan: usize) -> Result<Self, InvalidSetting> {
        let reason = format!("must be at most {MAX_SCANNED}");
        in_range(strategy, "scan", scan, 0..=MAX_SCANNED, reason).map(|scan| Self { scan, ..self })
    }
}

impl Compared {
    /// Calls `each` with the numbers that are not skipped.
    #[inline(always)]
    pub(super) fn each(
        &self,
        candidates: &Candidates<'_>,
        cx: &mut PickContext<'_>,
        mut each: impl FnMut(usize, &mut PickContext<'_>),
    ) {
        let skips_none = cx.skips_none();
        // One loop for both, so that `each` is inlined once.
        let len = match self {
            Self::All(len) | Self::Drawn(_, len) => *len,
        };
        for index in 0..len {
            let number = match self {
                Self::All(_) => index,
                Self::Drawn(drawn, _) => drawn[index & (MAX_DRAWN - 1)] as usize,
            };
            if skips_none || !cx.skips(&candidates[number]) {
                each(number, cx);
            }
        }
    }

    /// Returns the number of the least score, of several at random. If all candidates that were drawn are skipped, the
    /// first one behind a random place that is not.
    #[inline(always)]
    pub(super) fn least(
        &self,
        candidates: &Candidates<'_>,
        cx: &mut PickContext<'_>,
        mut score: impl FnMut(usize, &mut PickContext<'_>) -> f32,
    ) -> usize {
        let (mut best, mut least, mut equals) = (None, f32::INFINITY, 1);
        // Candidates that were drawn are in a random order already.
        let is_ordered = matches!(self, Self::All(_));
        self.each(candidates, cx, |number, cx| {
            let score = score(number, cx);
            if best.is_none() || score < least {
                (best, least, equals) = (Some(number), score, 1);
            } else if score == least && is_ordered {
                equals += 1;
                if cx.random_below(equals) == 0 {
                    best = Some(number);
                }
            }
        });
        best.unwrap_or_else(|| first_unskipped(candidates, cx))
    }
}

#[cold]
fn first_unskipped(candidates: &Candidates<'_>, cx: &mut PickContext<'_>) -> usize {
    let start = cx.random_below(candidates.len());
    let mut numbers = (start..candidates.len()).chain(0..start);
    numbers.find(|number| !cx.skips(&candidates[*number])).unwrap_or(start)
}
