//! Files that are wrong are refused before the gateway listens, and the shipped ones are right.

use http::{Response, Version};

use crate::{
    backend::Server,
    client::Client,
    process::{Gateway, Setup, TempFile, run},
};

const GOOD: &str = "[[backend]]\nname = \"red\"\norigin = \"http://127.0.0.1:1\"\n";

/// What is said of this file, after the other signs of a refusal have been looked at.
async fn complaint(file: &TempFile) -> String {
    let output = run(&["--config", file.path()], &[]).await;
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{complaint}");
    assert!(output.stdout.is_empty(), "it does not listen: {:?}", output.stdout);
    assert!(complaint.contains(file.path()), "the file is named: {complaint}");
    complaint
}

async fn refused(text: &str, named: &[&str]) {
    let complaint = complaint(&TempFile::new("toml", text)).await;
    for word in named {
        assert!(complaint.contains(word), "{word} is not in: {complaint}\nof:\n{text}");
    }
}

fn second(lines: &str) -> String {
    format!("{GOOD}[[backend]]\n{lines}\n")
}

// C58
#[tokio::test]
async fn a_backend_that_cannot_be_is_named() {
    let weights =
        [("nan", "NaN"), ("inf", "inf"), ("-1", "-1"), ("-0.5", "-0.5"), ("\"much\"", "much"), ("0", "draining")];
    for (weight, shown) in weights {
        let lines = format!("name = \"blue\"\norigin = \"http://127.0.0.1:2\"\nweight = {weight}");
        refused(&second(&lines), &["backend[1].weight", shown]).await;
    }
    refused(&second("name = \"red\"\norigin = \"http://127.0.0.1:2\""), &["backend[1]", "red"]).await;
    refused(&second("name = \"blue\"\norigin = \"nowhere\""), &["backend[1].origin"]).await;
    refused(&second("name = \"blue\""), &["backend[1].origin"]).await;
    refused(&second("origin = \"http://127.0.0.1:2\""), &["backend[1]", "name"]).await;
    refused(&second("name = \"blue\"\nheigth = 1"), &["backend[1]", "heigth"]).await;
    refused(&second("name = 7\norigin = \"http://127.0.0.1:2\""), &["backend[1].name", "7"]).await;
}

// C9, C58
#[tokio::test]
async fn an_unknown_strategy_is_told_the_valid_ones() {
    let valid = ["round_robin", "shuffle", "weighted_round_robin", "failover", "weighted_failover"];
    refused(&format!("strategy = \"best\"\n{GOOD}"), &[&["strategy", "best"], &valid[..]].concat()).await;
}

// C58
#[tokio::test]
async fn settings_that_cannot_be_are_named() {
    for (section, line, named) in [
        ("server", "listen = \"here\"", &["server.listen", "here"][..]),
        ("server", "listen = 8080", &["server.listen", "8080"]),
        ("server", "listen = \"localhost\"", &["server.listen", "localhost", "localhost:8080"]),
        ("server", "listen = \":8080\"", &["server.listen", ":8080", "localhost:8080"]),
        ("server", "listen = \"localhost:http\"", &["server.listen", "localhost:http", "localhost:8080"]),
        ("server", "listen = \"nowhere.invalid:0\"", &["server.listen", "nowhere.invalid:0", "resolved"]),
        ("server", "workers = 0", &["server.workers", "0"]),
        ("server", "workers = 1000000", &["server.workers", "1000000"]),
        ("server", "max_headers = 100000000", &["server.max_headers", "100000000"]),
        ("failover", "served_by = \"content-length\"", &["failover.served_by", "content-length"]),
        ("server", "stall = \"long\"", &["server.stall", "long"]),
        ("server", "colour = 1", &["server", "colour"]),
        ("server", "trusted_proxies = [\"friend\"]", &["server.trusted_proxies", "friend"]),
        ("upstreams", "h2c = [\"blue\"]", &["upstreams.h2c[0]", "blue"]),
        ("upstreams", "ca = \"/nowhere/ca.pem\"", &["upstreams.ca", "/nowhere/ca.pem"]),
        ("upstreams", "connect_timeout = 5", &["upstreams.connect_timeout", "5"]),
        ("failover", "mode = \"quick\"", &["failover.mode", "quick", "race", "sequential", "hedged"]),
        ("failover", "mode = \"hedged\"", &["failover.mode.hedged", "{ hedged = \"50ms\" }"]),
        ("failover", "hedge_methods = \"get\"", &["failover.hedge_methods", "get", "all", "idempotent"]),
        ("failover", "timeout = \"-1s\"", &["failover.timeout", "-1s"]),
        ("failover", "replay_limit = \"1 ton\"", &["failover.replay_limit", "1 ton"]),
        ("failover", "tries = 3", &["failover", "tries"]),
        ("failover", "commit = { whole = \"much\" }", &["failover.commit", "much"]),
        ("breaker", "failures = 0", &["breaker.failures", "0"]),
        ("breaker", "open_for = true", &["breaker.open_for", "true"]),
        ("servr", "listen = \"127.0.0.1:0\"", &["servr"]),
    ] {
        refused(&format!("[{section}]\n{line}\n{GOOD}"), named).await;
    }
}

// C58
#[tokio::test]
async fn a_file_without_a_backend_is_refused() {
    refused("strategy = \"round_robin\"", &["[[backend]]"]).await;
}

// C58
#[tokio::test]
async fn an_origin_whose_host_cannot_be_resolved_is_refused_at_the_start() {
    for origin in ["http://nowhere.invalid", "https://nowhere.invalid:8443/v1"] {
        // A backend that gets no requests yet may get some later.
        for status in ["healthy", "draining"] {
            let lines = format!("name = \"blue\"\norigin = \"{origin}\"\nstatus = \"{status}\"");
            refused(&second(&lines), &["backend[1].origin", "`blue`", "`nowhere.invalid`", "resolved"]).await;
        }
    }
}

#[tokio::test]
async fn host_names_and_addresses_of_both_families_are_resolved() {
    let red = Server::start("red", |_| async { Ok(Response::new(crate::text("well"))) }).await;
    let named = format!("http://localhost:{}", red.address.port());
    let setup = Setup::default().with("server", "listen = \"localhost:0\"\nworkers = 2").origin("red", &named, "");
    let gateway = setup.origin("six", "http://[::1]:1", "").start().await;
    assert!(gateway.address.ip().is_loopback(), "{}", gateway.address);
    let answer = Client::new(Version::HTTP_11).get(&gateway, "/").await;
    assert_eq!((answer.status().as_u16(), answer.body().as_ref()), (200, &b"well"[..]));
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    refused(&format!("[server]\nlisten = \"{address}\"\n{GOOD}"), &["server.listen", &address]).await;
}

#[tokio::test]
async fn a_file_that_is_none_is_named() {
    refused("strategy = [", &["1"]).await;
    refused(&format!("{GOOD}name = \"blue\""), &["4"]).await;
    let output = run(&["--config", "/nowhere/fleet.toml"], &[]).await;
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(complaint.contains("/nowhere/fleet.toml") && output.stdout.is_empty(), "{complaint}");
}

#[tokio::test]
async fn certificates_that_are_none_are_named() {
    let empty = TempFile::new("pem", "");
    let garbled = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let garbled = TempFile::new("pem", garbled);
    for file in [empty, garbled] {
        refused(&format!("[upstreams]\nca = \"{}\"\n{GOOD}", file.path()), &["upstreams.ca", file.path()]).await;
    }
}

// C59
#[tokio::test]
async fn a_secret_that_is_missing_is_named_and_none_is_shown() {
    let missing = second("name = \"blue\"\norigin = \"http://127.0.0.1:2\"\nbearer = \"env:GATEWAY_TEST_MISSING\"");
    refused(&missing, &["backend[1].bearer", "GATEWAY_TEST_MISSING"]).await;
    for (place, lines) in [
        // Not by reference.
        ("backend[1].bearer", "bearer = \"hush\""),
        ("backend[1].secrets", "secrets = { api-key = \"hush\" }"),
        ("backend[1].origin", "origin = \"http://user:hush@127.0.0.1:2\""),
    ] {
        let origin = if lines.starts_with("origin") { "" } else { "origin = \"http://127.0.0.1:2\"\n" };
        let file = TempFile::new("toml", &second(&format!("name = \"blue\"\n{origin}{lines}")));
        let complaint = complaint(&file).await;
        assert!(complaint.contains(place) && !complaint.contains("hush"), "C59: {complaint}");
    }
    // One that no header can hold: it came from the environment, and stays there.
    let file = TempFile::new(
        "toml",
        &second("name = \"blue\"\norigin = \"http://127.0.0.1:2\"\nbearer = \"env:GATEWAY_TEST_BAD\""),
    );
    let output = run(&["--config", file.path()], &[("GATEWAY_TEST_BAD", "hush\nhush")]).await;
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{complaint}");
    assert!(complaint.contains("backend[1].bearer") && !complaint.contains("hush"), "C59: {complaint}");
}

/// A shipped file, on a free port, with every secret that it needs. This machine may know no names but its own.
async fn shipped(name: &str) -> Gateway {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/gateway").join(name);
    let text = std::fs::read_to_string(&path).unwrap();
    let secrets: Vec<_> = text.split("\"env:").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    let line = text.lines().find(|line| line.trim_start().starts_with("listen")).expect("it says where it listens");
    let text = text.replace(line, "listen = \"127.0.0.1:0\"");
    let text = ["openai", "anthropic", "deepseek"]
        .iter()
        .fold(text, |text, provider| text.replace(&format!("https://api.{provider}.com"), "https://localhost"));
    let file = TempFile::new("toml", &text);
    // The machine may have no certificates.
    let store = rcgen::generate_simple_self_signed(["backend.test".to_owned()]).unwrap();
    let store = TempFile::new("pem", &store.cert.pem());
    let mut environment: Vec<_> = secrets.iter().map(|name| (*name, "hush")).collect();
    environment.push(("SSL_CERT_FILE", store.path()));
    Gateway::start(file, &environment).await
}

#[tokio::test]
async fn the_shipped_files_are_served() {
    for name in ["fleet.toml", "llm.toml", "llm-safe.toml", "sidecar.toml"] {
        let gateway = shipped(name).await;
        // No backend is asked.
        let request = http::Request::get(gateway.url("/a/%2e%2e/b")).body(crate::text("")).unwrap();
        let answer = Client::new(Version::HTTP_11).ask(request).await;
        assert_eq!(answer.status(), 400, "{name}");
    }
}

// C9
#[tokio::test]
async fn every_strategy_is_served_by_its_name() {
    for strategy in [
        "",
        "round_robin",
        "Round-Robin",
        "shuffle",
        "weighted_round_robin",
        "least_loaded",
        "peak_ewma",
        "latency",
        "failover",
        "weighted_failover",
    ] {
        Setup::new().top(&format!("strategy = \"{strategy}\"")).origin("red", "http://127.0.0.1:1", "").start().await;
    }
}
