//! The gateway without arguments: its own backends, faults and traffic.

use serde_json::Value;

use crate::process::run;

// C57
#[tokio::test]
async fn the_demo_loses_nothing_and_sums_up() {
    let output = run(&["--demo", "3s", "--json"], &[]).await;
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.starts_with("listening on http://127.0.0.1:"), "{said}");
    let summary: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!(summary["lost"], 0, "{said}");
    assert!(summary["requests"].as_u64().unwrap() > 0, "{said}");
    assert!(summary["failovers"].is_u64(), "{said}");
    for figure in ["p50_ms", "p99_ms", "healthy_p99_ms"] {
        assert!(summary[figure].as_f64().is_some_and(|figure| figure > 0.0), "{figure}: {said}");
    }
    assert!(summary["p50_ms"].as_f64() <= summary["p99_ms"].as_f64(), "{said}");
}

#[tokio::test]
async fn arguments_that_are_not_understood_are_named() {
    for (arguments, named) in [
        (&["--demo", "soon"][..], "soon"),
        (&["--demo"], "--demo"),
        (&["--config"], "--config"),
        (&["--frobnicate"], "--frobnicate"),
    ] {
        let output = run(arguments, &[]).await;
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {complaint}");
        assert!(complaint.contains(named) && output.stdout.is_empty(), "{arguments:?}: {complaint}");
    }
}
