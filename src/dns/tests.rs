//! Lookups in turn, with scripted answers and paused time.

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::time::Instant;

use super::{
    endpoint::{Endpoint, Found, endpoints},
    error::{Failure, ResolveErrorKind},
    refresh::{Answer, Refresh, Resolve},
    timing::Timing,
};

const TIMING: Timing =
    Timing { min_ttl: Duration::from_secs(5), max_ttl: Duration::from_secs(300), max_backoff: Duration::from_secs(60) };

type Result = std::result::Result<Answer, Failure>;

/// Gives answers one after the other, the last one again and again, and notes when it was asked.
#[derive(Clone, Default)]
struct Script {
    answers: Arc<Mutex<VecDeque<Result>>>,
    lookups: Arc<Mutex<Vec<Instant>>>,
}

impl Script {
    fn of(answers: impl IntoIterator<Item = Result>) -> Self {
        Self { answers: Arc::new(Mutex::new(answers.into_iter().collect())), ..Self::default() }
    }

    /// The whole seconds between lookups.
    fn pauses(&self) -> Vec<u64> {
        let lookups = self.lookups.lock().expect("no panic");
        lookups.windows(2).map(|pair| (pair[1] - pair[0]).as_secs()).collect()
    }

    fn count(&self) -> usize {
        self.lookups.lock().expect("no panic").len()
    }
}

impl Resolve for Script {
    fn resolve(self) -> BoxFuture<'static, (Self, Result)> {
        self.lookups.lock().expect("no panic").push(Instant::now());
        Box::pin(async move {
            let mut answers = self.answers.lock().expect("no panic");
            let copy = match &answers[0] {
                Ok(answer) => {
                    Ok(Answer { endpoints: answer.endpoints.clone(), failure: answer.failure.clone(), ..*answer })
                }
                Err(failure) => Err(failure.clone()),
            };
            if answers.len() > 1 {
                answers.pop_front();
            }
            drop(answers);
            (self, copy)
        })
    }
}

fn set(last: &[u8]) -> Vec<Endpoint> {
    let found = |last: &u8| Found {
        ip: [10, 0, 0, *last].into(),
        port: 80,
        target: "api".into(),
        srv_priority: 0,
        srv_weight: 0,
    };
    endpoints("api", last.iter().map(found))
}

fn answer(last: &[u8], ttl: u64) -> Result {
    let endpoints = set(last);
    Ok(Answer { found: endpoints.len(), endpoints, ttl: Some(Duration::from_secs(ttl)), failure: None })
}

fn failure() -> Result {
    Err(Failure::new(ResolveErrorKind::ErrorResponse))
}

fn refresh(script: &Script) -> Refresh<Script> {
    Refresh::new("api".into(), TIMING, script.clone())
}

async fn next(refresh: &mut Refresh<Script>) -> Option<Vec<Endpoint>> {
    poll_fn(|cx| refresh.poll_set(cx)).await
}

/// Polls for this long. Returns the sets.
async fn sets(refresh: &mut Refresh<Script>, seconds: u64) -> Vec<Vec<Endpoint>> {
    let (end, mut sets) = (Instant::now() + Duration::from_secs(seconds), Vec::new());
    while let Ok(Some(set)) = tokio::time::timeout_at(end, next(refresh)).await {
        sets.push(set);
    }
    sets
}

/// Collects the levels of events.
#[derive(Clone, Default)]
struct Events(Arc<Mutex<Vec<tracing::Level>>>);

impl tracing::Subscriber for Events {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "tower_fleet"
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        self.0.lock().expect("no panic").push(*event.metadata().level());
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

// C56
#[tokio::test(start_paused = true)]
async fn a_set_is_yielded_when_it_changed_and_looked_up_when_its_ttl_is_over() {
    let script = Script::of([answer(&[1, 2], 30), answer(&[2, 1], 30), answer(&[2, 3], 100), answer(&[2, 3], 9_999)]);
    let mut refresh = refresh(&script);
    assert_eq!(sets(&mut refresh, 1_000).await, [set(&[1, 2]), set(&[2, 3])]);
    let pauses = script.pauses();
    let expected = [30..=33, 30..=33, 100..=110, 300..=330];
    assert!(pauses.iter().zip(&expected).all(|(pause, expected)| expected.contains(pause)), "{pauses:?}");
    assert!((5..=6).contains(&script.count()), "{pauses:?}");
}

// C56
#[tokio::test(start_paused = true)]
async fn a_set_that_changes_each_second_is_looked_up_at_the_shortest_ttl() {
    let script = Script::of((0..100).map(|at| answer(&[at % 2 + 1], u64::from(at % 2))));
    let mut refresh = refresh(&script);
    let sets = sets(&mut refresh, 100).await;
    assert!((18..=20).contains(&sets.len()), "{}", sets.len());
    assert!(script.pauses().iter().all(|pause| *pause == 5), "{:?}", script.pauses());
}

// C70
#[tokio::test(start_paused = true)]
async fn an_outage_keeps_the_last_set_with_one_warning_and_a_bounded_number_of_lookups() {
    let events = Events::default();
    let _guard = tracing::subscriber::set_default(events.clone());
    let script = Script::of([answer(&[1], 10), failure()]);
    let mut refresh = refresh(&script);
    let status = refresh.status.clone();
    assert_eq!(sets(&mut refresh, 3_600).await, [set(&[1])]);
    let (error, pauses) = (status.error().expect("it fails"), script.pauses());
    assert_eq!((error.kind(), status.endpoints()), (&ResolveErrorKind::ErrorResponse, 1));
    assert!(status.age() > Some(Duration::from_secs(3_500)), "{:?}", status.age());
    let expected = [10..=11, 5..=7, 10..=15, 20..=30, 40..=60, 60..=90];
    assert!(pauses.iter().zip(&expected).all(|(pause, expected)| expected.contains(pause)), "{pauses:?}");
    assert!((40..=65).contains(&script.count()), "{pauses:?}");
    assert_eq!(*events.0.lock().expect("no panic"), [tracing::Level::WARN]);

    *script.answers.lock().expect("no panic") = [answer(&[1], 10)].into();
    assert!(sets(&mut refresh, 100).await.is_empty(), "the same set is no change");
    assert_eq!(*events.0.lock().expect("no panic"), [tracing::Level::WARN, tracing::Level::INFO]);
    assert!(status.error().is_none() && status.failures() == 0 && status.age() < Some(Duration::from_secs(12)));
    // The next outage begins at the minimum again.
    *script.answers.lock().expect("no panic") = [failure()].into();
    sets(&mut refresh, 22).await;
    assert!(status.failures() >= 2, "{}", status.failures());
    assert_eq!(events.0.lock().expect("no panic").len(), 3);
}

// C70
#[tokio::test(start_paused = true)]
async fn a_negative_answer_is_not_looked_up_again_before_its_ttl() {
    let negative = Failure::definite(ResolveErrorKind::NoSuchName, Duration::from_secs(40));
    let script = Script::of([Err(negative), answer(&[1], 10)]);
    let mut refresh = refresh(&script);
    assert_eq!(next(&mut refresh).await, Some(set(&[1])));
    assert!((40..=60).contains(&script.pauses()[0]), "{:?}", script.pauses());
}

// C56, C70
#[tokio::test(start_paused = true)]
async fn an_incomplete_answer_is_used_and_its_rest_looked_up_sooner() {
    let incomplete = || {
        let failure = Some(Failure::new(ResolveErrorKind::TimedOut));
        answer(&[1], 200).map(|answer| Answer { failure, ..answer })
    };
    let events = Events::default();
    let _guard = tracing::subscriber::set_default(events.clone());
    let script = Script::of([incomplete(), incomplete(), answer(&[1, 2], 200)]);
    let mut refresh = refresh(&script);
    assert_eq!(next(&mut refresh).await, Some(set(&[1])));
    assert_eq!(refresh.status.error().expect("a part is missing").kind(), &ResolveErrorKind::TimedOut);
    assert_eq!(next(&mut refresh).await, Some(set(&[1, 2])));
    assert!(script.pauses()[0] < 8 && script.pauses()[1] < 16, "{:?}", script.pauses());
    assert_eq!(*events.0.lock().expect("no panic"), [tracing::Level::WARN, tracing::Level::INFO]);
}

// C70
#[tokio::test(start_paused = true)]
async fn a_surplus_of_endpoints_is_one_warning() {
    let events = Events::default();
    let _guard = tracing::subscriber::set_default(events.clone());
    let cut = |last| answer(last, 10).map(|answer| Answer { found: 9, ..answer });
    let script = Script::of([cut(&[1]), cut(&[2]), cut(&[1])]);
    assert_eq!(sets(&mut refresh(&script), 100).await.len(), 3);
    assert_eq!(*events.0.lock().expect("no panic"), [tracing::Level::WARN]);
}

// C56
#[tokio::test(start_paused = true)]
async fn an_answer_that_is_valid_for_ever_ends_the_stream() {
    let script = Script::of([answer(&[1], 0).map(|answer| Answer { ttl: None, ..answer })]);
    let mut refresh = refresh(&script);
    assert_eq!(next(&mut refresh).await, Some(set(&[1])));
    assert_eq!((next(&mut refresh).await, next(&mut refresh).await, script.count()), (None, None, 1));
}
