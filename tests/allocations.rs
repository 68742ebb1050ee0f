//! What a request costs in memory: nothing.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use allocation_counter::measure;
use tower::{Layer, Service};
use tower_fleet::{
    Backend, BalanceLayer, CircuitPolicy, FailoverLayer, Fleet, Mode,
    breaker::Rate,
    fleet::FleetBuilder,
    outcome::ErrorsOnly,
    pick::{AnyStrategy, Hash, Primary, RoundRobin, Shuffle, Strategy, StrategyName, Weighted, pick_fn},
};

/// Always ready, boxes nothing.
#[derive(Clone)]
struct Unit;

impl Service<()> for Unit {
    type Response = ();
    type Error = Infallible;
    type Future = Ready<Result<(), Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        ready(Ok(()))
    }
}

fn request(door: &mut impl Service<(), Response = ()>) {
    let mut cx = Context::from_waker(Waker::noop());
    assert!(matches!(door.poll_ready(&mut cx), Poll::Ready(Ok(()))));
    assert!(matches!(pin!(door.call(())).poll(&mut cx), Poll::Ready(Ok(()))));
}

/// As a fleet is in use: it has seen changes, some of its backends are out, and there is a reserve.
fn fleet(backends: usize) -> Fleet<Unit, ErrorsOnly> {
    let fleet = (0..backends + 2).map(|index| Backend::new(format!("b{index}"), Unit).weight(1 + index as u32 % 3));
    let fleet = Fleet::plain()
        .backends(fleet)
        .backend(Backend::new("reserve", Unit).priority(-1))
        .build()
        .expect("good backends");
    assert!(fleet.drain("b0") && fleet.remove("b1"));
    fleet
}

const REQUESTS: u64 = 1_000;

fn assert_allocates_nothing(name: &str, strategy: impl Strategy) {
    for backends in [3, 100, 10_000] {
        let fleet = fleet(backends);
        let mut door = BalanceLayer::new(strategy.clone()).layer(fleet.clone());
        let kept = measure(|| (0..REQUESTS).for_each(|_| request(&mut door)));
        assert_eq!(kept.count_total, 0, "{name}, {backends} backends, door kept");

        let cloned = measure(|| (0..REQUESTS).for_each(|_| request(&mut door.clone())));
        assert_eq!(cloned.count_total, 0, "{name}, {backends} backends, door cloned per call");

        // The first request after a change may make tables; those after it do not.
        fleet.drain("b2");
        request(&mut door);
        let changed = measure(|| (0..REQUESTS).for_each(|_| request(&mut door)));
        assert_eq!(changed.count_total, 0, "{name}, {backends} backends, after a change");
        let cloned = measure(|| (0..REQUESTS).for_each(|_| request(&mut door.clone())));
        assert_eq!(cloned.count_total, 0, "{name}, {backends} backends, after a change, door cloned per call");
        assert!(fleet.snapshot().iter().all(|backend| backend.in_flight == 0));
    }
}

// C12
#[test]
fn a_request_allocates_nothing_whatever_the_strategy() {
    assert_allocates_nothing("round robin", RoundRobin);
    assert_allocates_nothing("shuffle", Shuffle::new());
    assert_allocates_nothing("weighted", Weighted);
    assert_allocates_nothing("primary", Primary);
    assert_allocates_nothing("hash", Hash::by_classifier());
    assert_allocates_nothing("closure", pick_fn(|candidates, cx| cx.random_below(candidates.len())));
}

// C12
#[test]
fn a_request_allocates_nothing_when_the_strategy_is_chosen_at_run_time() {
    for name in StrategyName::ALL {
        let strategy = match name {
            StrategyName::Hash => AnyStrategy::new(Hash::by_classifier()),
            name => AnyStrategy::try_from(*name).expect("the name is enough"),
        };
        assert_allocates_nothing(name.name(), strategy);
    }
}

// C5, C6: with weights whose period is too long to hold.
#[test]
fn a_request_allocates_nothing_in_a_spread_order() {
    let weights = [1_000_003, 999_983, u32::MAX];
    let backends = (0..).zip(weights).map(|(index, weight)| Backend::new(format!("b{index}"), Unit).weight(weight));
    let fleet = Fleet::plain().backends(backends).build().expect("good backends");
    let mut door = BalanceLayer::weighted().layer(fleet);
    assert_eq!(measure(|| (0..REQUESTS).for_each(|_| request(&mut door))).count_total, 0);
    assert_eq!(measure(|| (0..REQUESTS).for_each(|_| request(&mut door.clone()))).count_total, 0);
}

/// A failover over services that are not HTTP, all of whose requests go well.
fn assert_failover_allocates_nothing(name: &str, builder: FleetBuilder<Unit, ErrorsOnly>) {
    let fleet = builder.build().expect("good backends");
    for mode in [Mode::Race, Mode::Sequential, Mode::hedged(Duration::from_secs(1))] {
        let mut door = FailoverLayer::plain().mode(mode).build().expect("good values").layer(fleet.clone());
        request(&mut door);
        let kept = measure(|| (0..REQUESTS).for_each(|_| request(&mut door)));
        assert_eq!(kept.count_total, 0, "{name}, {mode:?}, door kept");
        let cloned = measure(|| (0..REQUESTS).for_each(|_| request(&mut door.clone())));
        assert_eq!(cloned.count_total, 0, "{name}, {mode:?}, door cloned per call");
    }
}

// C12, C13
#[test]
fn a_failover_whose_request_goes_well_allocates_nothing() {
    let backends = |timeout: Option<Duration>| {
        (0..3).map(move |index| {
            let backend = Backend::new(format!("b{index}"), Unit).priority(index);
            timeout.into_iter().fold(backend, Backend::timeout)
        })
    };
    let limit = Some(Duration::from_secs(30));
    assert_failover_allocates_nothing("plain", Fleet::plain().backends(backends(None)));
    let guarded = || Fleet::plain().circuit_breaker(CircuitPolicy::new());
    assert_failover_allocates_nothing("breakers", guarded().backends(backends(None)));
    assert_failover_allocates_nothing("breakers and a timeout", guarded().backends(backends(limit)));
    let timed = CircuitPolicy::new().slow_calls(Duration::from_secs(1), Rate::new(0.5).minimum_calls(10));
    assert_failover_allocates_nothing(
        "breakers that time calls",
        Fleet::plain().circuit_breaker(timed).backends(backends(limit)),
    );
}

// C11: what a backend costs beside its service, in a large fleet with circuits and a door in use.
#[test]
fn a_backend_of_a_large_fleet_takes_less_than_a_kibibyte() {
    const BACKENDS: u64 = 10_000;
    let mut kept = None;
    let measured = measure(|| {
        let backends = (0..BACKENDS).map(|index| Backend::new(format!("backend-{index}"), Unit));
        let fleet =
            Fleet::plain().circuit_breaker(CircuitPolicy::new()).backends(backends).build().expect("good backends");
        let mut door = BalanceLayer::weighted().layer(fleet.clone());
        (0..REQUESTS).for_each(|_| request(&mut door));
        kept = Some((fleet, door));
    });
    let each = measured.bytes_current / BACKENDS as i64;
    println!("{each} bytes for each of {BACKENDS} backends");
    assert!(each < 1024, "{each} bytes");
    drop(kept);
}

/// Failover over HTTP. A head of a usual size, and a body or none.
#[cfg(feature = "http")]
mod failover {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use bytes::Bytes;
    use futures::stream;
    use http::{HeaderValue, Request, Response};
    use http_body::{Body as _, Frame};
    use http_body_util::{Full, StreamBody};
    use tower_fleet::{
        Failover, TimeLimits,
        body::ReplayBody,
        content::EventRules,
        failover::{CommitPoint, Ending, FailoverBuilder, Ledger},
        outcome::HttpClassifier,
    };

    use super::*;

    type Body = Full<Bytes>;

    /// Answers at once, without a body.
    #[derive(Clone)]
    struct Web;

    impl Service<Request<ReplayBody<Body>>> for Web {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = Ready<Result<Response<Body>, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: Request<ReplayBody<Body>>) -> Self::Future {
            drop(request);
            ready(Ok(Response::new(Body::default())))
        }
    }

    fn request(body: impl Into<Bytes>) -> Request<Body> {
        let head = Request::post("http://fleet.example/v1/chat").header("authorization", "Bearer secret");
        let head = head.header("content-type", "application/json").header("x-trace", "0123456789abcdef");
        head.body(Body::new(body.into())).expect("a request")
    }

    /// What a copy of that head takes by hand.
    fn head_by_hand() -> u64 {
        let original = request("");
        measure(|| {
            let mut copy = Request::new(());
            copy.method_mut().clone_from(original.method());
            copy.uri_mut().clone_from(original.uri());
            copy.headers_mut().clone_from(original.headers());
            drop(copy);
        })
        .count_total
    }

    fn ask<S>(door: &mut Failover<S>, body: impl Into<Bytes>) -> u64
    where
        S: Service<Request<ReplayBody<Body>>, Response = Response<Body>, Error = Infallible> + Clone,
        S: Send + Sync + 'static,
    {
        let asked = request(body);
        let mut cx = Context::from_waker(Waker::noop());
        let mut answer = None;
        let count = measure(|| {
            assert!(matches!(Service::<Request<Body>>::poll_ready(door, &mut cx), Poll::Ready(Ok(()))));
            let Poll::Ready(Ok(response)) = pin!(door.call(asked)).poll(&mut cx) else { panic!("an answer at once") };
            answer = Some(response);
        });
        let answer = answer.expect("there is one");
        let ledger = answer.extensions().get::<Ledger>().expect("C25");
        assert!(ledger.attempts().len() == 1 && ledger.attempts()[0].ending == Ending::Served);
        count.count_total
    }

    /// The map of headers and its index, and what its values and the address take to be shared.
    const HEAD: u64 = 6;
    /// What `http::Extensions` takes to hold the ledger, whose first line is in place: itself, its table, and a box.
    const LEDGER: u64 = 3;
    /// What several attempts share of a body that is not empty, and the upload of the attempt: itself, and what
    /// `http::Extensions` takes to hold it.
    const BODY: u64 = 1 + 4;

    // C13, C25: without a runtime, so that a timer could not be made: none is made for a response that comes at once.
    #[test]
    fn a_request_that_goes_well_costs_one_copy_of_its_head_and_the_ledger() {
        let head = head_by_hand();
        assert_eq!(head, HEAD, "of this head");
        for mode in [Mode::Race, Mode::Sequential] {
            for backends in [3, 100] {
                let fleet = (0..backends).map(|index| Backend::new(format!("b{index}"), Web));
                let fleet = Fleet::builder().backends(fleet).build().expect("good backends");
                let mut door = FailoverLayer::builder().mode(mode).build().unwrap().layer(fleet);
                ask(&mut door, "");
                assert_eq!(ask(&mut door, ""), head + LEDGER, "{mode:?}, {backends} backends, no body");
                assert_eq!(ask(&mut door, "{}"), head + LEDGER + BODY, "{mode:?}, {backends} backends, a body");
            }
        }
    }

    /// Reads its request to the end, then answers.
    #[derive(Clone)]
    struct Reading;

    impl Service<Request<ReplayBody<Body>>> for Reading {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = Ready<Result<Response<Body>, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, mut request: Request<ReplayBody<Body>>) -> Self::Future {
            let mut cx = Context::from_waker(Waker::noop());
            while let Poll::Ready(Some(frame)) = pin!(request.body_mut()).poll_frame(&mut cx) {
                assert!(frame.is_ok());
            }
            ready(Ok(Response::new(Body::default())))
        }
    }

    // C33: a body in one frame, which is kept for another attempt: copied if it is small, and shared if it is large.
    #[test]
    fn a_body_in_one_frame_costs_one_allocation_to_be_kept() {
        let fleet = ["a", "b"].map(|name| Backend::new(name, Reading));
        let fleet = Fleet::builder().backends(fleet).build().expect("good backends");
        let mut door = FailoverLayer::new().layer(fleet);
        ask(&mut door, "");
        let without = ask(&mut door, "") + BODY;
        for len in [2, 2_048, 4_095, 4_096, 65_536] {
            let made = Bytes::from(vec![b'x'; len]);
            assert_eq!(ask(&mut door, made), without + 1, "{len} bytes that were made for this request");
        }
        for len in [2, 2_048, 65_536] {
            let shared = Bytes::from(vec![b'x'; len]);
            assert_eq!(ask(&mut door, shared.clone()), without + 1, "{len} bytes that are used elsewhere too");
        }
        assert_eq!(ask(&mut door, "{}"), without + 1, "a constant");
    }

    // C18: the only attempt there can be sends the original.
    #[test]
    fn one_backend_alone_costs_no_copy() {
        let fleet = Fleet::builder().backend(Backend::new("only", Web)).build().expect("a good backend");
        let mut door = FailoverLayer::new().layer(fleet);
        ask(&mut door, "");
        assert_eq!(ask(&mut door, ""), LEDGER);
        assert_eq!(ask(&mut door, "{}"), LEDGER + BODY);
    }

    /// Answers with a stream of three events, one in each frame.
    #[derive(Clone)]
    struct Streaming;

    type Events = StreamBody<stream::Iter<std::array::IntoIter<Result<Frame<Bytes>, Infallible>, 3>>>;

    impl Service<Request<ReplayBody<Body>>> for Streaming {
        type Response = Response<Events>;
        type Error = Infallible;
        type Future = Ready<Result<Response<Events>, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: Request<ReplayBody<Body>>) -> Self::Future {
            drop(request);
            let events = ["data: one\n\n", "data: two\n\n", "data: [DONE]\n\n"];
            let frames = events.map(|event| Ok(Frame::data(Bytes::from_static(event.as_bytes()))));
            let mut response = Response::new(StreamBody::new(stream::iter(frames)));
            response.headers_mut().insert("content-type", HeaderValue::from_static("text/event-stream"));
            ready(Ok(response))
        }
    }

    /// The allocations of a request to a stream that is read to its end. Its frames are passed on without a copy.
    fn stream(layer: FailoverBuilder, classifier: HttpClassifier) -> u64 {
        let fleet = ["a", "b"].map(|name| Backend::new(name, Streaming));
        let fleet = Fleet::builder().classify(classifier).backends(fleet).build().expect("good backends");
        let mut door = layer.build().expect("good settings").layer(fleet);
        let mut cx = Context::from_waker(Waker::noop());
        let mut read = || {
            let asked = request("");
            measure(|| {
                assert!(matches!(Service::<Request<Body>>::poll_ready(&mut door, &mut cx), Poll::Ready(Ok(()))));
                let Poll::Ready(Ok(response)) = pin!(door.call(asked)).poll(&mut cx) else { panic!("at once") };
                let mut body = response.into_body();
                let mut frames = 0;
                while let Poll::Ready(Some(frame)) = pin!(&mut body).poll_frame(&mut cx) {
                    assert!(frame.expect("no stream breaks").is_data());
                    frames += 1;
                }
                assert_eq!(frames, 3);
            })
            .count_total
        };
        read();
        read()
    }

    // C32, C73, C74
    #[test]
    fn a_stream_that_is_read_event_by_event_costs_one_allocation() {
        let events = || HttpClassifier::new().events(EventRules::new().end_data("[DONE]"));
        let content = || FailoverLayer::builder().commit(CommitPoint::first_content(1_000));
        let before = stream(FailoverLayer::builder(), HttpClassifier::new());
        assert_eq!(stream(FailoverLayer::builder(), events()), before + 1, "the watch over its events");
        assert_eq!(stream(content(), events()), before + 1, "its first event is not copied");
        let limits = TimeLimits::new().idle(Duration::from_secs(9)).first_content(Duration::from_secs(9));
        assert_eq!(stream(content().time_limits(limits), events()), before + 2, "the limits");
    }

    /// Never answers.
    #[derive(Clone)]
    struct Silent;

    impl Service<Request<ReplayBody<Body>>> for Silent {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = std::future::Pending<Result<Response<Body>, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<ReplayBody<Body>>) -> Self::Future {
            std::future::pending()
        }
    }

    fn wait_for_silence(builder: FailoverBuilder) {
        let backends = ["a", "b"].map(|name| Backend::new(name, Silent));
        let fleet = Fleet::builder().backends(backends).build().expect("good backends");
        let mut door = builder.build().expect("good values").layer(fleet);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(matches!(Service::<Request<Body>>::poll_ready(&mut door, &mut cx), Poll::Ready(Ok(()))));
        assert!(pin!(door.call(request(""))).poll(&mut cx).is_pending());
    }

    // C50: a timer outside of a runtime is a panic.
    #[test]
    fn a_request_that_waits_has_no_timer_where_the_timeout_is_switched_off() {
        wait_for_silence(FailoverLayer::builder().timeout(None));
        wait_for_silence(FailoverLayer::builder().mode(Mode::Sequential).timeout(None));
        for with in [FailoverLayer::builder(), FailoverLayer::builder().timeout(Duration::from_secs(1))] {
            let timer = catch_unwind(AssertUnwindSafe(|| wait_for_silence(with)));
            assert!(timer.is_err(), "this one has");
        }
    }
}

#[test]
fn the_counter_counts() {
    assert_eq!(measure(|| drop(std::hint::black_box(Box::new(1_u64)))).count_total, 1);
}
