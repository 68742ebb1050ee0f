//! The order of smooth weighted round robin, to be read at any place.

/// Who is next, by ticket. Repeats after one period, in which everybody is chosen as often as its weight says.
#[derive(Debug)]
pub(super) enum Order {
    /// One period of the exact order.
    Exact { shares: Box<[f64]>, table: Box<[u32]> },
    /// Weights laid end to end, and a walk over them that visits every place once in a period.
    Spread { ends: Box<[u64]>, step: u64 },
}

impl Default for Order {
    fn default() -> Self {
        Self::Exact { shares: Box::default(), table: Box::default() }
    }
}

/// What an exact order may cost to compute: a millisecond or two, once per change of the set.
const STEPS: u64 = 1 << 20;

impl Order {
    pub(super) fn new(weights: &[u32]) -> Self {
        let divisor = weights.iter().fold(0, |divisor, weight| gcd(divisor, u64::from(*weight))).max(1);
        let weights: Vec<u64> = weights.iter().map(|weight| u64::from(*weight) / divisor).collect();
        let classes = Class::of(&weights);
        let period = weights.iter().sum::<u64>();
        if period.saturating_mul(classes.len() as u64) <= STEPS {
            let shares = weights.iter().map(|weight| *weight as f64 / period as f64).collect();
            Self::Exact { shares, table: smooth(classes, period) }
        } else {
            let ends = weights.iter().scan(0, |end, weight| {
                *end += weight;
                Some(*end)
            });
            Self::Spread { ends: ends.collect(), step: golden_step(period) }
        }
    }

    /// The index of the backend that the ticket stands for.
    #[inline]
    pub(super) fn at(&self, ticket: u64) -> usize {
        match self {
            Self::Exact { table, .. } => table[(ticket % table.len() as u64) as usize] as usize,
            Self::Spread { ends, step } => {
                let period = ends[ends.len() - 1];
                let place = u128::from(ticket % period) * u128::from(*step) % u128::from(period);
                ends.partition_point(|end| u128::from(*end) <= place)
            }
        }
    }

    /// What each of `backends` is owed once the tickets up to this one are given out, in requests; between -1 and 1.
    /// In a spread order nobody is owed enough to keep account of.
    pub(super) fn lags(&self, ticket: u64, backends: usize) -> Vec<f64> {
        match self {
            Self::Exact { shares, table } if !table.is_empty() => {
                let given = (ticket % table.len() as u64) as usize;
                let mut lags: Vec<f64> = shares.iter().map(|share| share * given as f64).collect();
                for winner in &table[..given] {
                    lags[*winner as usize] -= 1.0;
                }
                lags
            }
            _ => vec![0.0; backends],
        }
    }

    /// The ticket to begin with, so that everybody is owed as nearly as possible what it is owed now.
    pub(super) fn closest(&self, owed: &[f64], ticket: u64) -> u64 {
        let Self::Exact { shares, table } = self else { return ticket };
        // The squared distance between `owed` and the lags, carried along the period: one ticket moves all lags by
        // their share, which the sums take care of, and one backend by one.
        let squares: f64 = shares.iter().map(|share| share * share).sum();
        let mut apart: Vec<f64> = owed.to_vec();
        let mut distance: f64 = owed.iter().map(|owed| owed * owed).sum();
        let mut along: f64 = owed.iter().zip(shares).map(|(owed, share)| owed * share).sum();
        let (mut best, mut nearest) = (0, distance);
        for (given, winner) in table.iter().enumerate().map(|(index, winner)| (index + 1, *winner as usize)) {
            distance += squares - 2.0 * along;
            along -= squares;
            let gap = apart[winner] - shares[winner] * given as f64;
            distance += 2.0 * gap + 1.0;
            along += shares[winner];
            apart[winner] += 1.0;
            if distance < nearest - 1e-6 && given < table.len() {
                (best, nearest) = (given as u64, distance);
            }
        }
        best
    }
}

/// Backends of the same weight: they are chosen in turn, so that one look at a class is enough.
struct Class {
    weight: u64,
    members: Vec<u32>,
    chosen: u64,
}

impl Class {
    fn of(weights: &[u64]) -> Vec<Self> {
        let mut order: Vec<u32> = (0..weights.len() as u32).collect();
        order.sort_by_key(|index| weights[*index as usize]);
        let groups = order.chunk_by(|a, b| weights[*a as usize] == weights[*b as usize]);
        let class =
            |members: &[u32]| Self { weight: weights[members[0] as usize], members: members.to_vec(), chosen: 0 };
        groups.map(class).collect()
    }

    fn next(&self) -> u32 {
        self.members[(self.chosen % self.members.len() as u64) as usize]
    }

    /// What the next one is owed, in requests times the period.
    fn owed(&self, ticket: u64, period: u64) -> i64 {
        let got = self.chosen / self.members.len() as u64;
        (ticket * self.weight) as i64 - (got * period) as i64
    }
}

/// The classic rule, everybody gains its weight, the richest is chosen and pays the sum, over one period.
fn smooth(mut classes: Vec<Class>, period: u64) -> Box<[u32]> {
    let choose = |ticket: u64| {
        let richest =
            classes.iter_mut().max_by_key(|class| (class.owed(ticket, period), std::cmp::Reverse(class.next())))?;
        let next = richest.next();
        richest.chosen += 1;
        Some(next)
    };
    (1..=period).map_while(choose).collect()
}

/// About the golden section of the period and coprime to it: consecutive places lie far apart, and all are visited.
fn golden_step(period: u64) -> u64 {
    let mut step = (period as f64 * 0.618_033_988_749_894_9) as u64;
    while gcd(step, period) != 1 {
        step += 1;
    }
    step
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
