//! Values that make no sense.

use std::time::Duration;

use tower_fleet::{
    FailoverLayer,
    body::ReplayLayer,
    failover::{Backoff, Budget, FailoverBuilder, Mode, Percentile},
};

use crate::mock::*;

fn bad() -> Vec<(&'static str, FailoverBuilder)> {
    let layer = FailoverLayer::builder;
    let budget = |share| Budget::new(share).reserve(1);
    vec![
        ("mode.hedged", layer().mode(Mode::hedged(Duration::ZERO))),
        ("mode.hedged.percentile", layer().mode(Mode::hedged(Percentile::new(f64::NAN)))),
        ("mode.hedged.percentile", layer().mode(Mode::hedged(Percentile::new(1.0)))),
        ("mode.hedged.window", layer().mode(Mode::hedged(Percentile::default().window(Duration::ZERO)))),
        ("mode.hedged.min_samples", layer().mode(Mode::hedged(Percentile::default().min_samples(0)))),
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
        ("budget.share", layer().budget(budget(20.0))),
        ("budget.reserve", layer().budget(Budget::default().reserve(0))),
        ("race_width", layer().race_width(0)),
        ("upload_idle_timeout", layer().replay(ReplayLayer::new().idle_timeout(Duration::ZERO))),
    ]
}

// C23, C63
#[test]
fn a_layer_is_not_built_with_a_bad_value() {
    for (field, builder) in bad() {
        let refused = builder.build().unwrap_err();
        assert_eq!((refused.field(), refused.backend()), (field, None), "{refused}");
        let begin = format!("failover: {field} {} must be ", refused.value());
        assert!(!refused.value().is_empty() && refused.to_string().starts_with(&begin), "{refused}");
    }
    let refused = FailoverLayer::builder().deadline(Duration::ZERO).build().unwrap_err();
    assert_eq!(refused.to_string(), "failover: deadline 0ns must be longer than zero");
}

// C63
#[test]
fn nor_is_one_for_another_protocol_or_one_that_was_made_of_a_layer() {
    assert_eq!(FailoverLayer::plain().race_bound(Duration::ZERO).build().unwrap_err().field(), "race_bound");
    let layer = FailoverLayer::builder().attempts_per_backend(3).build().unwrap();
    assert_eq!(layer.into_builder().race_width(0).build().unwrap_err().field(), "race_width");
}

// C63
#[tokio::test(start_paused = true)]
async fn the_last_of_a_setting_that_is_given_twice_counts() {
    let layer = FailoverLayer::builder().attempts_per_backend(0).timeout(Duration::ZERO);
    let layer = layer.timeout(None).attempts_per_backend(2).mode(Mode::Race).mode(Mode::Sequential);
    let (fleet, [a, b]) = fleet();
    a.usually(status(503));
    assert_eq!(told(ask(&layer, &fleet, get()).await).await, (200, "b".into()));
    assert_eq!((a.calls(), b.calls()), (2, 1));
}

// C63
#[tokio::test(start_paused = true)]
async fn a_builder_that_was_made_of_a_layer_keeps_its_settings() {
    let layer = FailoverLayer::builder().mode(Mode::Sequential).attempts_per_backend(3).build().unwrap();
    let changed = layer.clone().into_builder().same_backend_delay(millis(5));
    let (fleet, [a, b]) = fleet();
    a.usually(status(503));
    assert_eq!(told(ask(&changed, &fleet, get()).await).await, (200, "b".into()));
    assert_eq!((a.calls(), b.calls()), (3, 1));
}

// C58
#[tokio::test(start_paused = true)]
async fn extreme_values_are_no_trouble() {
    let long = Duration::MAX;
    for mode in [Mode::Race, Mode::Sequential, Mode::hedged(long)] {
        let layer = FailoverLayer::builder()
            .mode(mode)
            .race_bound(long)
            .timeout(long)
            .deadline(long)
            .attempts_per_backend(100)
            .retry_after_cap(long)
            .budget(Budget::new(1.0).reserve(u32::MAX));
        let (fleet, [a, b]) = fleet();
        a.usually(status(503).after(1));
        b.usually(status(200).after(5));
        assert_eq!(told(ask(&layer, &fleet, get()).await).await, (200, "b".into()), "{mode:?}");
    }
    let layer = FailoverLayer::builder()
        .mode(Mode::Sequential)
        .same_backend_delay(long)
        .attempts_per_backend(2)
        .backoff(Backoff::new(long, long));
    let (fleet, [a]) = fleet();
    a.usually(status(429).header("retry-after", "99999999999999999999"));
    let waiting = ask(&layer, &fleet, get());
    assert!(tokio::time::timeout(Duration::from_secs(100_000), waiting).await.is_err(), "it waits");
}
