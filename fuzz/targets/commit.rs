//! A response body through a failover that commits at any point: what the caller reads is the body of one backend, whole
//! or with its error, whatever its frames and pauses are.

#![no_main]

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use arbitrary::Arbitrary;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Empty};
use libfuzzer_sys::fuzz_target;
use tower::{BoxError, Layer, service_fn};
use tower_fleet::{
    Backend, FailoverLayer, Fleet, Ledger, Mode, ReplayBody,
    failover::{CommitPoint, Decision},
};

#[derive(Arbitrary, Clone, Debug)]
enum Piece {
    Data(Vec<u8>),
    Trailers,
    Error,
    /// Pending, and woken at once.
    Yield,
    /// Pending for ever.
    Stall,
}

#[derive(Arbitrary, Clone, Debug)]
enum Point {
    Head,
    FirstFrame,
    Whole(u16),
    /// Accepts or refuses at the first of these bytes.
    Prelude {
        bound: u16,
        accept: u8,
        refuse: u8,
    },
}

#[derive(Arbitrary, Debug)]
struct Case {
    first: Vec<Piece>,
    second: Vec<Piece>,
    /// The exact size that the first body announces, true or not.
    size: Option<u16>,
    point: Point,
    mode: u8,
    success_at_end: bool,
}

struct Script {
    pieces: VecDeque<Piece>,
    size: Option<u64>,
}

impl Body for Script {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(piece) = self.pieces.pop_front() else { return Poll::Ready(None) };
        Poll::Ready(Some(match piece {
            Piece::Data(data) => Ok(Frame::data(Bytes::from(data))),
            Piece::Trailers => {
                Ok(Frame::trailers(HeaderMap::from_iter([(http::header::VIA, HeaderValue::from_static("script"))])))
            }
            Piece::Error => Err("script".into()),
            Piece::Yield => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Piece::Stall => {
                self.pieces.push_front(Piece::Stall);
                return Poll::Pending;
            }
        }))
    }

    fn size_hint(&self) -> SizeHint {
        self.size.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// What a reader of the script gets: the data, and how it ends.
fn expected(pieces: &[Piece]) -> (Vec<u8>, End) {
    let mut data = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Data(chunk) => data.extend_from_slice(chunk),
            Piece::Error => return (data, End::Error),
            Piece::Stall => return (data, End::Stall),
            Piece::Trailers | Piece::Yield => {}
        }
    }
    (data, End::Clean)
}

#[derive(Debug, PartialEq)]
enum End {
    Clean,
    Error,
    Stall,
}

/// Reads a body to its end.
async fn read(mut body: impl Body<Data = Bytes, Error = BoxError> + Unpin) -> (Vec<u8>, End) {
    let mut data = Vec::new();
    loop {
        match tokio::time::timeout(Duration::from_secs(1_000), body.frame()).await {
            Ok(Some(Ok(frame))) => data.extend_from_slice(frame.data_ref().map_or(&[], |chunk| chunk)),
            Ok(Some(Err(_))) => return (data, End::Error),
            Ok(None) => return (data, End::Clean),
            Err(_) => return (data, End::Stall),
        }
    }
}

async fn run(case: Case) {
    let point = match case.point {
        Point::Head => CommitPoint::head(),
        Point::FirstFrame => CommitPoint::first_frame(),
        Point::Whole(bound) => CommitPoint::whole(bound.into()),
        Point::Prelude { bound, accept, refuse } => CommitPoint::prelude(bound.into(), move |data| {
            match data.iter().find(|byte| **byte == accept || **byte == refuse) {
                Some(byte) if *byte == refuse => Decision::Refuse("script"),
                Some(_) => Decision::Accept,
                None => Decision::Wait,
            }
        }),
    };
    let mode = match case.mode % 3 {
        0 => Mode::Race,
        1 => Mode::Sequential,
        _ => Mode::hedged(Duration::from_millis(20)),
    };
    let scripts = Arc::new([case.first, case.second]);
    let backend = |index: usize, size: Option<u64>| {
        let scripts = Arc::clone(&scripts);
        let service = service_fn(move |_: Request<ReplayBody<Empty<Bytes>>>| {
            let pieces = scripts[index].iter().cloned().collect();
            async move { Ok::<_, BoxError>(Response::new(Script { pieces, size })) }
        });
        tower::util::BoxCloneSyncService::new(service)
    };
    let backends = [
        Backend::new("first", backend(0, case.size.map(u64::from))).priority(1),
        Backend::new("second", backend(1, None)),
    ];
    let fleet = Fleet::builder()
        .backends(backends)
        .classify(tower_fleet::outcome::HttpClassifier::new().success_at_end(case.success_at_end))
        .build()
        .expect("a fleet");
    let layer = FailoverLayer::builder().mode(mode).commit(point).timeout(Duration::from_secs(2));
    let door = layer.build().expect("a layer").layer(fleet.clone());
    let request = door.oneshot(Request::new(Empty::new()));
    let answer = tokio::time::timeout(Duration::from_secs(3_600), request).await.expect("every wait is bounded");
    if let Ok(response) = answer {
        let ledger = response.extensions().get::<Ledger>().expect("a ledger");
        let index = usize::from(ledger.served().is_some_and(|name| name == "second"));
        let (script, read) = (&scripts[index], read(response.into_body()).await);
        // Trailers are the last frame of a body: nothing behind them has to be read.
        let trailers = script.iter().position(|piece| matches!(piece, Piece::Trailers));
        let is_cut = trailers.is_some_and(|trailers| read == expected(&script[..trailers]));
        assert!(is_cut || read == expected(script), "{read:?} of {script:?}");
    }
    assert!(fleet.snapshot().iter().all(|backend| backend.in_flight == 0), "a call is still in flight");
}

fuzz_target!(|case: Case| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(run(case));
});
