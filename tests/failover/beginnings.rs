//! What is held of a response body before the response is final.

use std::{collections::VecDeque, convert::Infallible, sync::Arc};

use bytes::{Buf, Bytes};
use futures::stream;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_fleet::{
    Backend, FailoverLayer, Fleet,
    body::ReplayBody,
    failover::{CommitPoint, Decision, Ledger, ResponseBody},
};

type Outgoing = Request<ReplayBody<Empty<Bytes>>>;

/// The response of a failover with this commit point over one backend that sends `body`.
async fn respond<B, F>(commit: CommitPoint, body: F) -> Response<ResponseBody<B>>
where
    B: http_body::Body<Error = Infallible> + Unpin + Send + 'static,
    F: Fn() -> B + Clone + Send + Sync + 'static,
{
    let backend = service_fn(move |_: Outgoing| std::future::ready(Ok::<_, Infallible>(Response::new(body()))));
    let fleet = Fleet::builder().backend(Backend::new("only", backend)).build().unwrap();
    let mut door = FailoverLayer::builder().commit(commit).build().unwrap().layer(fleet);
    door.ready().await.unwrap().call(Request::new(Empty::new())).await.unwrap()
}

/// Data in pieces of one byte each.
#[derive(Clone)]
struct Pieces(VecDeque<u8>);

impl Buf for Pieces {
    fn remaining(&self) -> usize {
        self.0.len()
    }

    fn chunk(&self) -> &[u8] {
        let (front, _) = self.0.as_slices();
        &front[..front.len().min(1)]
    }

    fn advance(&mut self, count: usize) {
        self.0.drain(..count);
    }
}

// C32
#[tokio::test(start_paused = true)]
async fn a_predicate_sees_all_data_of_a_frame_in_many_pieces() {
    let text: Vec<u8> = (0..100).collect();
    let expected = text.clone();
    let commit = CommitPoint::prelude(1_000, move |seen| match seen.len() {
        0 => Decision::Wait,
        _ if seen == expected => Decision::Refuse("all of it"),
        _ => Decision::Accept,
    });
    let body = text.clone();
    let response = respond(commit, move || Full::new(Pieces(body.clone().into()))).await;
    let ledger = response.extensions().get::<Ledger>().unwrap().to_string();
    assert!(ledger.contains("all of it"), "{ledger}");
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), text);
}

/// A buffer that shows whether it is alive, as the read buffer of a connection.
struct Buffer([u8; 8_192], #[allow(dead_code, reason = "it is counted")] Arc<()>);

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// A body whose first frames are slices of buffers, followed by a last frame and trailers.
fn received(
    frames: usize,
    alive: &Arc<()>,
    last: &Bytes,
) -> impl http_body::Body<Data = Bytes, Error = Infallible> + Unpin + Send + use<> {
    let (alive, last) = (alive.clone(), last.clone());
    let slice = move |_| Frame::data(Bytes::from_owner(Buffer([7; 8_192], alive.clone())).slice(100..101));
    let trailers = HeaderMap::from_iter([("x-sum".parse().unwrap(), HeaderValue::from_static("42"))]);
    let end = [Frame::data(last), Frame::trailers(trailers)];
    StreamBody::new(stream::iter((0..frames).map(slice).chain(end).map(Ok)))
}

fn prelude(decision: Decision) -> CommitPoint {
    CommitPoint::prelude(1_000, move |seen| if seen.len() < 100 { Decision::Wait } else { decision })
}

// C32: but for the frame that makes the response final, which is passed on at once.
#[tokio::test(start_paused = true)]
async fn what_is_read_before_the_commit_holds_no_buffer_of_its_connection() {
    let points = [
        (prelude(Decision::Accept), 100),
        (prelude(Decision::Refuse("error")), 100),
        (CommitPoint::prelude(100, |_| Decision::Wait), 100),
    ];
    for (commit, frames) in points {
        let (alive, last) = (Arc::new(()), Bytes::from(vec![8; 10]));
        let body = {
            let (alive, last) = (Arc::downgrade(&alive), last.clone());
            move || received(frames, &alive.upgrade().unwrap(), &last)
        };
        let mut response = respond(commit.clone(), body).await;
        // One more belongs to the frames that were not read.
        assert!(Arc::strong_count(&alive) <= 2, "{commit:?}");
        assert_eq!(response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap(), vec![7; frames]);
        // After the commit, frames are passed on as they come.
        let frame = response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(frame.as_ptr(), last.as_ptr(), "{commit:?}");
        assert_eq!(response.body_mut().frame().await.unwrap().unwrap().into_trailers().unwrap()["x-sum"], "42");
        assert!(response.body_mut().frame().await.is_none());
    }
}

// C32
#[tokio::test(start_paused = true)]
async fn trailers_before_the_commit_are_returned_after_the_data() {
    let wait = CommitPoint::prelude(1_000, |_| Decision::Wait);
    let (alive, last) = (Arc::new(()), Bytes::from(vec![8; 10]));
    let mut response = respond(wait, move || received(3, &alive, &last)).await;
    let data = response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(data, [vec![7; 3], vec![8; 10]].concat());
    assert!(!response.body().is_end_stream());
    assert_eq!(response.body_mut().frame().await.unwrap().unwrap().into_trailers().unwrap()["x-sum"], "42");
    assert!(response.body().is_end_stream());
    assert!(response.body_mut().frame().await.is_none());
}
