use super::{Candidate, Pick, Rng};

/// Always the first of the highest tier: one active backend, the others in reserve.
#[derive(Clone, Debug, Default)]
pub struct Primary;

impl Pick for Primary {
    fn renew(&self, _: &[Candidate], _: &[Candidate]) -> Self {
        Self
    }

    fn pick(&self, _: &[Candidate], _: &mut Rng) -> usize {
        0
    }
}
