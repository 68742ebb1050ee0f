//! The sections `[slow_start]` and `[outliers]`.

use super::*;

fn shown(text: &str) -> String {
    debugged(&good(text))
}

// C49
#[test]
fn every_setting_of_a_slow_start_takes_effect() {
    assert!(shown("").contains("slow_start: None"));
    for (section, expected) in [
        ("", "SlowStart { window: 30s, aggression: 1.0, floor: 0.1, steps: 10 }"),
        ("aggression = 1.5", "aggression: 1.5"),
        ("aggression = 2", "aggression: 2.0"),
        ("floor = \"5%\"", "floor: 0.05"),
        ("steps = 4", "steps: 4"),
    ] {
        let shown = shown(&format!("[slow_start]\nwindow = \"30s\"\n{section}"));
        assert!(shown.contains(expected), "{section}: {shown}");
    }
}

// C67
#[test]
fn every_setting_of_the_outliers_takes_effect() {
    assert!(shown("").contains("outliers: None"));
    let code = debugged(&crate::fleet::Outliers::new());
    assert!(shown("[outliers]").contains(&code), "an empty section has the defaults of the code");
    for (section, expected) in [
        ("interval = \"5s\"", "interval: 5s"),
        ("minimum_calls = 20", "minimum_calls: 20"),
        ("minimum_hosts = 5", "minimum_hosts: 5"),
        ("failure_share = \"30%\"", "failure_share: Some(0.3)"),
        ("failure_share = 0.3", "failure_share: Some(0.3)"),
        ("failure_share = false", "failure_share: None"),
        ("success_rate = 2", "success_rate: Some(2.0)"),
        ("success_rate = false", "success_rate: None"),
        ("latency = 2.5", "latency: Some(2.5)"),
        ("latency = false", "latency: None"),
        ("latency_difference = \"20ms\"", "latency_difference: 20ms"),
        ("latency_floor = \"50ms\"", "latency_floor: 50ms"),
        ("floor = 0.2", "floor: 0.2"),
        ("eject_for = \"1min\"", "eject_for: 60s"),
        ("max_eject_for = \"10min\"", "max_eject_for: 600s"),
    ] {
        let shown = shown(&format!("[outliers]\n{section}"));
        assert!(shown.contains(expected), "{section}: {shown}");
    }
}

// C58
#[test]
fn a_bad_setting_is_refused_by_its_path() {
    for (text, expected) in [
        ("[slow_start]", "slow_start.window: is missing"),
        ("[slow_start]\nwindow = 0", "slow_start.window: 0ns must be longer than zero"),
        ("[slow_start]\nwindow = 30", "slow_start.window: 30 needs a unit: 30s, 5min"),
        ("[slow_start]\nwindow = \"1s\"\nfloor = 0", "slow_start.floor: 0 must be a share over 0 and up to 1"),
        (
            "[slow_start]\nwindow = \"1s\"\naggression = nan",
            "slow_start.aggression: NaN must be a number from 0.01 to 100",
        ),
        ("[slow_start]\nwindow = \"1s\"\nsteps = 0", "slow_start.steps: 0 must be from 1 to 1000"),
        ("[outliers]\ninterval = 0", "outliers.interval: 0ns must be longer than zero"),
        ("[outliers]\nlatency = 0.5", "outliers.latency: 0.5 must be a number from 1 to 1000"),
        ("[outliers]\nlatency = nan", "outliers.latency: NaN must be a number from 1 to 1000"),
        ("[outliers]\nlatency = true", "outliers.latency: true must be a number, or false to switch it off"),
        ("[outliers]\nlatency = \"fast\"", "outliers.latency: \"fast\" must be"),
        ("[outliers]\nfailure_share = 50", "outliers.failure_share: 50 must be a share from 0 to 1"),
        ("[outliers]\nfailure_share = 1", "outliers.failure_share: 1 must be less than 1"),
        ("[outliers]\nminimum_hosts = 2", "outliers.minimum_hosts: 2 must be from 3 to"),
        ("[outliers]\nfloor = 0", "outliers.floor: 0 must be a share over 0 and up to 1"),
        (
            "[outliers]\nfailure_share = false\nsuccess_rate = false\nlatency = false",
            "outliers.rules: none must be at least one of",
        ),
        ("[outliers]\nslow = 1", "outliers.slow: there is no such key"),
    ] {
        let error = refused(text);
        assert!(error.starts_with(expected), "{error}");
    }
}

// C49, C67
#[tokio::test(start_paused = true)]
async fn the_fleet_of_a_file_has_its_settings() {
    let text = with_backends("[slow_start]\nwindow = \"30s\"\n[outliers]", &["a", "b"]);
    let config = good(&text);
    let client = service_fn(|_: Request<ReplayBody<Full<Bytes>>>| async {
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
    });
    let fleet = config.fleet(|_| client).unwrap();
    config.failover().layer(fleet.clone()).oneshot(Request::new(Full::<Bytes>::default())).await.unwrap();
    fleet.drain("b");
    fleet.set_status("b", crate::AdminStatus::Healthy);
    assert_eq!((fleet.snapshot()[1].share * 10.0).round(), 1.0);
}
