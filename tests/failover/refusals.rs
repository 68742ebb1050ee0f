//! Values that make no sense.

use std::{num::NonZeroU32, time::Duration};

use tower::ServiceExt;
use tower_fleet::{
    FailoverLayer,
    failover::{Backoff, Budget, ErrorKind, Http, Mode},
};
use tower_layer::Layer;

use crate::mock::*;

fn bad() -> Vec<(&'static str, FailoverLayer<Http>)> {
    let layer = FailoverLayer::new;
    let budget = |share| Budget::new(share, NonZeroU32::MIN);
    vec![
        ("mode.hedged", layer().mode(Mode::Hedged(Duration::ZERO))),
        ("race_bound", layer().race_bound(Duration::ZERO)),
        ("timeout", layer().timeout(Duration::ZERO)),
        ("deadline", layer().deadline(Duration::ZERO)),
        ("attempts_per_backend", layer().attempts_per_backend(0)),
        ("attempts_per_backend", layer().attempts_per_backend(101)),
        ("attempts_per_backend", layer().attempts_per_backend(u32::MAX)),
        ("backoff.base", layer().backoff(Backoff::new(Duration::ZERO, millis(1)))),
        ("backoff.cap", layer().backoff(Backoff::new(millis(2), millis(1)))),
        ("backoff.factor", layer().backoff(Backoff::default().factor(f64::INFINITY))),
        ("backoff.jitter", layer().backoff(Backoff::default().jitter(1.5))),
        ("budget.share", layer().budget(budget(f64::NAN))),
        ("budget.share", layer().budget(budget(-0.2))),
    ]
}

// C23, C58
#[test]
fn bad_values_are_refused_by_name() {
    for (setting, layer) in bad() {
        let refused = layer.checked().unwrap_err().to_string();
        assert!(refused.starts_with(setting), "{setting}: {refused}");
    }
}

// C58
#[tokio::test(start_paused = true)]
async fn a_door_with_a_bad_value_serves_nobody_and_says_why() {
    for (setting, layer) in bad() {
        let (fleet, [a, b]) = fleet();
        let door = layer.layer(fleet.clone());
        for _ in 0..2 {
            let refused = door.clone().oneshot(get()).await.unwrap_err();
            assert!(matches!(refused.kind(), ErrorKind::Misconfigured(_)), "{refused:?}");
            assert!(refused.to_string().contains(setting), "{setting}: {refused}");
        }
        assert_eq!(a.calls() + b.calls(), 0);
        assert_idle(&fleet);
    }
}

// C58
#[tokio::test(start_paused = true)]
async fn extreme_values_are_no_trouble() {
    let long = Duration::MAX;
    for mode in [Mode::Race, Mode::Sequential, Mode::Hedged(long)] {
        let layer = FailoverLayer::new()
            .mode(mode)
            .race_bound(long)
            .timeout(long)
            .deadline(long)
            .attempts_per_backend(100)
            .retry_after_cap(long)
            .budget(Budget::new(100.0, NonZeroU32::MAX))
            .checked()
            .unwrap();
        let (fleet, [a, b]) = fleet();
        a.usually(status(503).after(1));
        b.usually(status(200).after(5));
        assert_eq!(told(ask(&layer, &fleet, get()).await).await, (200, "b".into()), "{mode:?}");
    }
    let layer = FailoverLayer::new()
        .mode(Mode::Sequential)
        .same_backend_delay(long)
        .attempts_per_backend(2)
        .backoff(Backoff::new(long, long))
        .checked()
        .unwrap();
    let (fleet, [a]) = fleet();
    a.usually(status(429).header("retry-after", "99999999999999999999"));
    let waiting = ask(&layer, &fleet, get());
    assert!(tokio::time::timeout(Duration::from_secs(100_000), waiting).await.is_err(), "it waits");
}
