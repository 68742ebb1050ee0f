//! Common random numbers: each draw has a generator of its own, so that no strategy disturbs the draws of another.

use fastrand::Rng;

/// What is drawn.
#[derive(Clone, Copy)]
pub(crate) enum Draw {
    Arrival = 1,
    Work,
    Key,
    Client,
    Antagonist,
    /// The random numbers of the doors, which differ between the strategies anyway.
    Door,
}

/// Returns the generator of one draw: the same for the same seed, subject and numbers.
pub(crate) fn draw(seed: u64, what: Draw, number: u64, part: u64) -> Rng {
    [what as u64, number, part].into_iter().fold(Rng::with_seed(seed), |mut rng, word| {
        let key = rng.u64(..).wrapping_add(word.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        Rng::with_seed(key)
    })
}

/// Draws from the exponential distribution with mean 1.
pub(crate) fn exponential(rng: &mut Rng) -> f64 {
    // The argument is in (0, 1].
    -(1.0 - rng.f64()).ln()
}

/// Draws from the standard normal distribution, by the method of Box and Muller.
pub(crate) fn normal(rng: &mut Rng) -> f64 {
    let radius = (2.0 * exponential(rng)).sqrt();
    radius * (std::f64::consts::TAU * rng.f64()).cos()
}
