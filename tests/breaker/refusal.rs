//! Values that make no sense.

use std::time::Duration;

use tower::{Layer, ServiceExt};
use tower_fleet::{Backend, CircuitBreakerLayer, Fleet, breaker::Misconfigured, fleet::Field, outcome::ErrorsOnly};

use crate::{ask, layer, mock::Mock, secs};

type Bad = (&'static str, CircuitBreakerLayer<ErrorsOnly>);

fn bad_layers() -> Vec<Bad> {
    let (none, ages) = (Duration::ZERO, Duration::MAX);
    let mut bad = vec![
        ("failures", layer().failures(0)),
        ("failures", layer().failures(u32::MAX)),
        ("within", layer().within(none)),
        ("within", layer().within(ages)),
        ("consecutive", layer().consecutive(0)),
        ("failure_rate.window", layer().failure_rate(0.5, none, 1)),
        ("failure_rate.window", layer().failure_rate(0.5, ages, 1)),
        ("failure_rate.minimum_calls", layer().failure_rate(0.5, secs(1), 0)),
        ("slow_calls.slower_than", layer().slow_calls(0.5, none, secs(1), 1)),
        ("slow_calls.slower_than", layer().slow_calls(0.5, ages, secs(1), 1)),
        ("slow_calls.window", layer().slow_calls(0.5, secs(1), none, 1)),
        ("slow_calls.minimum_calls", layer().slow_calls(0.5, secs(1), secs(1), 0)),
        ("open_for", layer().open_for(none)),
        ("open_for", layer().open_for(ages)),
        ("longest", layer().longest(none)),
        ("longest", layer().longest(ages)),
        ("longest", layer().longest(secs(29))),
        ("forgive_after", layer().forgive_after(none)),
        ("forgive_after", layer().forgive_after(ages)),
        ("probes", layer().probes(0)),
        ("probes", layer().probes(u32::MAX)),
        ("probe_timeout", layer().probe_timeout(none)),
        ("probe_timeout", layer().probe_timeout(ages)),
        ("successes_to_close", layer().successes_to_close(0)),
    ];
    for rate in [0.0, -0.0, -0.1, 1.000_001, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        bad.push(("failure_rate", layer().failure_rate(rate, secs(1), 1)));
        bad.push(("slow_calls", layer().slow_calls(rate, secs(1), secs(1), 1)));
    }
    for growth in [0.0, 0.99, -1.0, f64::NAN, f64::INFINITY] {
        bad.push(("growth", layer().growth(growth)));
    }
    for jitter in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        bad.push(("jitter", layer().jitter(jitter)));
    }
    bad
}

fn names(error: &str, field: &str) -> bool {
    error.split([' ', '`', ':']).any(|word| word == field)
}

// C58
#[test]
fn a_checked_layer_names_the_setting() {
    for (field, layer) in bad_layers() {
        let error = layer.checked().unwrap_err().to_string();
        assert!(names(&error, field), "{field}: {error}");
    }
    for name in ["", "white space", "new\nline", &"x".repeat(129)] {
        let error = layer().name(name).checked().unwrap_err().to_string();
        assert!(error.contains("name") && !error.contains('\n'), "{error}");
    }
    assert!(layer().open_for(secs(1_000)).checked().is_ok(), "the default cap makes room");
}

// C58
#[test]
fn a_fleet_is_not_built_with_it() {
    for (field, layer) in bad_layers() {
        let builder = Fleet::<Mock, _>::plain().circuit_breaker(layer).backend(Backend::new("a", Mock::new("a").0));
        let refused = builder.build().unwrap_err();
        assert_eq!(refused.field, Field::Fleet(field), "{refused}");
        assert!(names(&refused.to_string(), field), "{refused}");
    }
    for share in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        let refused = Fleet::<Mock, _>::plain().most_ejected(share).build().unwrap_err();
        assert_eq!(refused.field, Field::Fleet("most_ejected"));
        let refused = Fleet::<Mock, _>::plain().panic_below(share).build().unwrap_err();
        assert_eq!(refused.field, Field::Fleet("panic_below"));
    }
    let twice = Fleet::<Mock, _>::plain().circuit_breaker(layer()).circuit_breaker(layer()).build().unwrap_err();
    assert_eq!(twice.to_string(), "circuit_breaker is set twice");
}

// C58
#[tokio::test(start_paused = true)]
async fn an_unchecked_layer_answers_every_call_with_it() {
    for (field, layer) in bad_layers() {
        let (mock, remote) = Mock::new("orders");
        for layer in [layer.clone(), layer.clone().separate(), layer.clone().waiting()] {
            let service = layer.layer(mock.clone());
            for _ in 0..10 {
                let error = ask(&service).await.unwrap_err();
                let error = error.downcast_ref::<Misconfigured>().unwrap_or_else(|| panic!("{error}"));
                assert!(names(&error.to_string(), field), "{error}");
            }
            // The handle is there all the same, and harmless.
            let switch = service.switch();
            switch.trip();
            switch.hasten();
            switch.force_open();
            switch.reset();
        }
        let most = std::num::NonZeroUsize::MIN;
        let keyed = layer.keyed(most, |(): &()| "key".into()).layer(mock);
        let error = keyed.oneshot(()).await.unwrap_err();
        assert!(error.is::<Misconfigured>(), "{error}");
        assert_eq!(remote.calls(), 0);
    }
}
