//! An event stream of ten events through a failover, read to its end: by the point at which it is final.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{
    FutureExt,
    future::LocalBoxFuture,
    stream::{self, Iter},
};
use http::{Request, Response, header::CONTENT_TYPE};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, StreamBody};
use tower::{Layer, Service};
use tower_fleet::{
    Backend, Failover, FailoverLayer, Fleet, TimeLimits,
    content::EventRules,
    failover::{CommitPoint, FailoverBuilder},
    outcome::HttpClassifier,
};

use crate::row::Row;

const GROUP: &str = "event stream";
const EVENT: &str = "data: {\"id\":\"x\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"token\"}}]}\n\n";
const DONE: &str = "data: [DONE]\n\n";

type Body = StreamBody<Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>>;

/// Answers with a stream of ten events and an end marker, one in each frame.
#[derive(Clone)]
struct Web;

impl<B> Service<Request<B>> for Web {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        let events = (0..10).map(|_| EVENT).chain([DONE]);
        let frames: Vec<_> = events.map(|event| Ok(Frame::data(Bytes::from_static(event.as_bytes())))).collect();
        let response = Response::builder().header(CONTENT_TYPE, "text/event-stream");
        ready(Ok(response.body(StreamBody::new(stream::iter(frames))).expect("a response")))
    }
}

/// Sends a request and reads the stream to its end.
#[derive(Clone)]
struct Reader<S>(S);

impl<S, B> Service<()> for Reader<S>
where
    S: Service<Request<Empty<Bytes>>, Response = Response<B>>,
    S::Future: 'static,
    S::Error: std::fmt::Debug,
    B: http_body::Body + Unpin + 'static,
{
    type Response = ();
    type Error = S::Error;
    type Future = LocalBoxFuture<'static, Result<(), S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, (): ()) -> Self::Future {
        let response = self.0.call(Request::new(Empty::new()));
        async {
            let mut body = response.await?.into_body();
            while let Some(frame) = body.frame().await {
                assert!(frame.is_ok(), "no stream breaks");
            }
            Ok(())
        }
        .boxed_local()
    }
}

pub(crate) fn rows() -> Vec<Row> {
    let plain = || FailoverLayer::builder().commit(CommitPoint::first_frame());
    let content = || FailoverLayer::builder().commit(CommitPoint::first_content(64 * 1024));
    let limits =
        TimeLimits::new().first_content(std::time::Duration::from_secs(30)).idle(std::time::Duration::from_secs(30));
    let events = || HttpClassifier::new().events(EventRules::new().end_data("[DONE]"));
    let chats = || HttpClassifier::new().events(EventRules::chat_completions());
    vec![
        Row::sole(GROUP, "floor", "bare service", 1, Reader(Web)),
        row("failover, first frame", plain(), HttpClassifier::new()),
        row("failover, first content", content(), events()),
        row("failover, first content, JSON", content(), chats()),
        row("failover, first content, limits", content().time_limits(limits), events()),
        row("failover, until the end", FailoverLayer::builder().commit(CommitPoint::until_end(64 * 1024)), events()),
    ]
}

fn row(name: &str, layer: FailoverBuilder, classifier: HttpClassifier) -> Row {
    let backends = ["a", "b", "c"].map(|name| Backend::new(name, Web));
    let fleet = Fleet::builder().classify(classifier).backends(backends).build().expect("good backends");
    let door: Failover<Web> = layer.build().expect("good settings").layer(fleet);
    Row::sole(GROUP, "ours", name, 3, Reader(door))
}
