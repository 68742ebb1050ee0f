//! The entries `[[backend]]`, and the keys of the fleet.

use std::time::Duration;

use proptest::prelude::*;
use serde::{Deserialize, de::IntoDeserializer};

use super::*;
use crate::{
    AdminStatus,
    config::{
        ValueError,
        weight::{Weight, whole},
    },
};

/// The weights of backends with these weights in the file.
fn weights(written: &[&str]) -> Vec<u32> {
    let entry = |(index, weight): (usize, &&str)| format!("[[backend]]\nname = \"b{index}\"\nweight = {weight}\n");
    let config = good(&written.iter().enumerate().map(entry).collect::<String>());
    let weights = config.fleet(|_| ()).unwrap().snapshot();
    weights.iter().map(|backend| backend.weight).collect()
}

// C6
#[test]
fn whole_weights_stay_as_they_are() {
    assert_eq!(weights(&["70", "30"]), [70, 30]);
    assert_eq!(weights(&["1", "4294967295"]), [1, u32::MAX]);
    assert_eq!(weights(&["1.0", "2.0"]), [1, 2]);
}

// C6
#[test]
fn fractions_are_scaled_to_whole_numbers() {
    assert_eq!(weights(&["0.7", "0.3"]), [7, 3]);
    assert_eq!(weights(&["0.5", "2"]), [1, 4]);
    assert_eq!(weights(&["0.333333", "0.666667"]), [333333, 666667]);
    assert_eq!(weights(&["0.1", "0.2", "0.30000000000000004"]), [1, 2, 3]);
    assert_eq!(weights(&["1e-300", "3e-300"]), [1, 3]);
    assert_eq!(weights(&["4294967294.5", "1e-9"]), [u32::MAX, 1]);
}

// C6
#[test]
fn the_default_weight_is_1_on_the_same_scale() {
    let fleet = good("[[backend]]\nname = \"a\"\nweight = 0.5\n[[backend]]\nname = \"b\"").fleet(|_| ()).unwrap();
    assert_eq!(fleet.snapshot().iter().map(|backend| backend.weight).collect::<Vec<_>>(), [1, 2]);
}

// C6, C58
#[test]
fn invalid_weights_are_refused_by_name() {
    for (weight, shown) in [
        ("0", "0"),
        ("0.0", "0"),
        ("-0.0", "-0"),
        ("nan", "NaN"),
        ("inf", "inf"),
        ("-inf", "-inf"),
        ("-1", "-1"),
        ("-0.5", "-0.5"),
        ("4294967296", "4294967296"),
        ("\"7\"", "\"7\""),
    ] {
        let text = format!("[[backend]]\nname = \"a\"\n[[backend]]\nname = \"eu-1\"\nweight = {weight}");
        let expected = format!("backend[1].weight: {shown} of `eu-1` must be a number over 0 and up to 4294967295");
        assert!(refused(&text).starts_with(&expected), "{}", refused(&text));
    }
}

proptest! {
    // C6, C58
    #[test]
    fn scaling_keeps_the_shares(parts in prop::collection::vec(1_u32..=999_999, 1..40), places in 1..=6_i32) {
        let scale = 10_f64.powi(places);
        let written: Vec<_> = parts.iter().map(|part| weight(f64::from(*part) / scale)).collect();
        let weights = whole(&written);
        for (part, weight) in parts.iter().zip(&weights) {
            // Compares the ratios without a division.
            prop_assert_eq!(u64::from(*part) * u64::from(weights[0]), u64::from(parts[0]) * u64::from(*weight));
        }
    }

    // C6, C58
    #[test]
    fn scaling_keeps_the_order_and_no_weight_becomes_0(
        written in prop::collection::vec(0.0..=4294967295.0_f64, 1..40), down in 0..320_i32,
    ) {
        let written: Vec<f64> = written.iter().map(|weight| weight * 10_f64.powi(-down)).collect();
        let written: Vec<f64> = written.into_iter().filter(|weight| *weight > 0.0).collect();
        let weights = whole(&written.iter().copied().map(weight).collect::<Vec<_>>());
        prop_assert_eq!(weights.len(), written.len());
        for (a, b) in written.iter().zip(&weights) {
            prop_assert!(*b >= 1);
            for (c, d) in written.iter().zip(&weights) {
                prop_assert!(a > c || b <= d, "{} {} {} {}", a, b, c, d);
            }
        }
    }
}

fn weight(value: f64) -> Weight {
    Weight::deserialize(IntoDeserializer::<ValueError>::into_deserializer(value)).unwrap()
}

// C8, C11, C50
#[test]
fn every_setting_takes_effect() {
    let config = good(
        "name = \"api\"\n[[backend]]\nname = \"a\"\nweight = 3\npriority = -10\ntimeout = \"30min\"\nstatus = \"draining\"",
    );
    let backend = &config.backends()[0];
    assert_eq!(backend.name(), "a");
    assert!(debugged(backend).contains("weight: 3, priority: -10, timeout: Some(1800s), status: Draining"));
    let snapshot = &config.fleet(|_| ()).unwrap().snapshot()[0];
    assert_eq!((snapshot.priority, snapshot.status), (-10, AdminStatus::Draining));
    assert!(debugged(&good("[[backend]]\nname = \"a\"").backends()[0]).contains("timeout: None, status: Healthy"));
}

// C24
#[tokio::test]
async fn the_client_gets_requests_that_are_rewritten_for_its_backend() {
    let text = "[[backend]]\nname = \"a\"\norigin = \"https://up.example.com/v1\"\nhost = \"inner\"\n\
        bearer = \"env:A_KEY\"\nsecrets = { Api-Key = \"env:B_KEY\" }\nheaders = { x-tenant = \"t\" }\n\
        without = [\"cookie\"]";
    let config = good(text);
    let target = config.backends()[0].service().target().unwrap();
    assert_eq!(target, "https://up.example.com/v1/");
    let fleet = config.fleet(|backend| {
        assert_eq!(backend.name(), "a");
        service_fn(|request: Request<ReplayBody<Full<Bytes>>>| async move {
            assert_eq!(request.uri(), "https://up.example.com/v1/chat");
            for (name, value) in [
                ("host", "inner"),
                ("authorization", "Bearer hush-A_KEY"),
                ("api-key", "hush-B_KEY"),
                ("x-tenant", "t"),
            ] {
                assert_eq!(request.headers()[name], value);
            }
            assert!(!request.headers().contains_key("cookie"));
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
        })
    });
    let request = Request::get("/chat").header("cookie", "mine").header("authorization", "mine");
    let door = config.failover().layer(fleet.unwrap());
    let response = door.oneshot(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
}

// C50
#[tokio::test(start_paused = true)]
async fn the_timeout_of_a_backend_takes_precedence_over_that_of_the_failover() {
    let text = "[[backend]]\nname = \"slow\"\ntimeout = \"30min\"\n[failover]\ntimeout = \"1s\"";
    let config = good(text);
    let fleet = config.fleet(|_| {
        service_fn(|_: Request<ReplayBody<Full<Bytes>>>| async {
            tokio::time::sleep(Duration::from_secs(29 * 60)).await;
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
        })
    });
    let door = config.failover().layer(fleet.unwrap());
    assert_eq!(door.oneshot(Request::new(Full::<Bytes>::default())).await.unwrap().status(), 200);
}

// C42
#[tokio::test(start_paused = true)]
async fn the_ejection_limits_of_the_fleet_take_effect() {
    for (limits, serves) in [("", false), ("max_ejected = 0.5", true), ("panic_below = 0.6", true)] {
        let config = good(&with_backends(limits, &["a", "b"]));
        let client = service_fn(|_: Request<ReplayBody<Full<Bytes>>>| async {
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
        });
        let fleet = config.fleet(|_| client).unwrap();
        for name in ["a", "b"] {
            fleet.switch(name).unwrap().trip();
        }
        let response = config.failover().layer(fleet).oneshot(Request::new(Full::<Bytes>::default())).await;
        assert_eq!(response.is_ok(), serves, "{limits}");
    }
}

// C19
#[tokio::test(start_paused = true)]
async fn errors_name_the_fleet() {
    for (text, name) in [("", "`fleet`"), ("name = \"api\"", "`api`")] {
        let text = format!("{text}\nfailover = {{ on_exhausted = \"error\" }}");
        let config = good(&with_backends(&text, &["a", "b"]));
        let client = service_fn(|_: Request<ReplayBody<Full<Bytes>>>| async {
            Ok::<_, Infallible>(Response::builder().status(503).body(Full::<Bytes>::default()).unwrap())
        });
        let door = config.failover().layer(config.fleet(|_| client).unwrap());
        let error = door.oneshot(Request::new(Full::<Bytes>::default())).await.unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
}
