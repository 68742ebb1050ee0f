//! What is logged of probes. In a process of its own, since other tests would register the same events without a
//! subscriber.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fmt::{self, Write},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::sleep;
use tower_fleet::{
    Backend, Fleet,
    fleet::BackendName,
    probe::{Probes, Scope, probe_fn},
};

/// Collects the events, as text.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

struct Line(String);

impl tracing::field::Visit for Line {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
        write!(self.0, " {field}={value:?}").unwrap();
    }
}

impl tracing::Subscriber for Log {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        if event.metadata().target() == "tower_fleet" {
            let mut line = Line(event.metadata().level().to_string());
            event.record(&mut line);
            self.0.lock().unwrap().push(line.0);
        }
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

// C43, C59
#[tokio::test(start_paused = true)]
async fn each_change_of_what_probes_show_is_one_event_without_secrets() {
    let fleet = Fleet::plain().backend(Backend::new("a", ())).build().unwrap();
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let fails = Arc::new(Mutex::new(false));
    let flag = Arc::clone(&fails);
    let probe = probe_fn(move |_: BackendName, (): ()| {
        let fails = *flag.lock().unwrap();
        async move { if fails { Err("GET http://me:hush@10.0.0.1/ failed") } else { Ok(()) } }
    });
    tokio::spawn(fleet.probe(Probes::new(probe).scope(Scope::All)).unwrap());
    sleep(Duration::from_secs(100)).await;
    *fails.lock().unwrap() = true;
    sleep(Duration::from_secs(3_600)).await;
    *fails.lock().unwrap() = false;
    sleep(Duration::from_secs(100)).await;
    let log = log.0.lock().unwrap();
    let expected = [
        r#"INFO message=probes succeed backend="a""#,
        r#"WARN message=probes fail backend="a" reason=the call failed"#,
        r#"INFO message=probes succeed backend="a""#,
    ];
    assert_eq!(*log, expected);
}
