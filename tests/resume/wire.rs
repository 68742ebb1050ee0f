//! A large download over three real servers whose connections are cut.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use tokio::net::TcpListener;
use tower::{BoxError, ServiceBuilder};
use tower_fleet::{
    Backend, FailoverLayer, Fleet, ReplayBody, UpstreamLayer,
    failover::{Attempted, Ending},
    resume::{self, ByteRanges, ResumeLayer},
};

const MIB: u64 = 1 << 20;
const TOTAL: u64 = 100 * MIB;
const CUT_EVERY: u64 = 5 * MIB;
const FRAME: u64 = 64 * 1024;

/// The representation. It does not repeat, so that a byte in a wrong place is seen.
static CONTENT: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut content = vec![0; TOTAL as usize];
    for (word, bytes) in (1_u64..).zip(content.chunks_exact_mut(8)) {
        bytes.copy_from_slice(&word.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    }
    content
});

fn content(start: u64, end: u64) -> &'static [u8] {
    &CONTENT[start as usize..end as usize]
}

/// The bytes of a range, until the connection is cut.
struct Served {
    position: u64,
    end: u64,
    cut_at: u64,
}

impl Body for Served {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let (start, end) = (self.position, self.end.min(self.cut_at).min(self.position + FRAME));
        if start == self.end {
            return Poll::Ready(None);
        }
        if start >= self.cut_at {
            return Poll::Ready(Some(Err("cut".into())));
        }
        self.position = end;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(content(start, end))))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.end - self.position)
    }
}

/// A server that cuts each connection after 5 MiB of a response. After `changes_after` responses of all servers, the
/// representation has another validator.
async fn serve(responses: Arc<AtomicUsize>, changes_after: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            let responses = Arc::clone(&responses);
            let service = service_fn(move |request: Request<Incoming>| {
                let etag = if responses.fetch_add(1, Ordering::SeqCst) < changes_after { "\"one\"" } else { "\"two\"" };
                let is_same = request.headers().get(header::IF_RANGE).is_none_or(|validator| validator == etag);
                let range = request.headers().get(header::RANGE).filter(|_| is_same);
                let start =
                    range.map(|range| range.to_str().unwrap()["bytes=".len()..].trim_end_matches('-').parse().unwrap());
                let position: u64 = start.unwrap_or(0);
                let mut response = Response::new(Served { position, end: TOTAL, cut_at: position + CUT_EVERY });
                if start.is_some() {
                    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
                    let range = format!("bytes {position}-{}/{TOTAL}", TOTAL - 1);
                    response.headers_mut().insert(header::CONTENT_RANGE, range.parse().unwrap());
                }
                response.headers_mut().insert(header::ETAG, HeaderValue::from_static(etag));
                async move { Ok::<_, Infallible>(response) }
            });
            let server = hyper::server::conn::http1::Builder::new();
            tokio::spawn(server.serve_connection(TokioIo::new(connection), service));
        }
    });
    address
}

/// What a caller got of the download.
struct Got {
    bytes: u64,
    is_right: bool,
    error: Option<BoxError>,
    cuts: usize,
}

async fn download(changes_after: usize) -> Got {
    type Sent = ReplayBody<resume::RequestBody<Empty<Bytes>>>;
    let responses = Arc::new(AtomicUsize::new(0));
    let client: Client<HttpConnector, Sent> = Client::builder(TokioExecutor::new()).build_http();
    let mut builder = Fleet::builder();
    for name in ["one", "two", "three"] {
        let origin = format!("http://{}", serve(Arc::clone(&responses), changes_after).await);
        let upstream = UpstreamLayer::new().origin(&origin).unwrap();
        builder = builder.backend(Backend::new(name, client.clone()).layer(upstream));
    }
    let downloads = ServiceBuilder::new()
        .layer(ResumeLayer::new(ByteRanges::new()).most(64))
        .layer(FailoverLayer::new())
        .service(builder.build().unwrap());
    let response = downloads.oneshot(Request::get("/large").body(Empty::new()).unwrap()).await.unwrap();
    assert_eq!((response.status(), &response.headers()[header::CONTENT_LENGTH]), (StatusCode::OK, &TOTAL.into()));
    let mut body = response.into_body();
    let (mut bytes, mut is_right, mut error) = (0, true, None);
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => {
                let data = frame.into_data().unwrap();
                let end = bytes + data.len() as u64;
                is_right &= end <= TOTAL && data == content(bytes, end);
                bytes = end;
            }
            Err(broken) => error = Some(broken),
        }
    }
    let is_cut = |attempt: &&Attempted| matches!(attempt.ending, Ending::Cut { .. });
    let cuts = body.ledger().unwrap().attempts().iter().filter(is_cut).count();
    Got { bytes, is_right, error, cuts }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(120), future).await.expect("a download ends in time")
}

// C75
#[tokio::test]
async fn a_download_of_100_mib_that_is_cut_every_5_mib_arrives_intact() {
    let got = within(download(usize::MAX)).await;
    assert!(got.error.is_none(), "{:?}", got.error);
    assert_eq!((got.bytes, got.is_right), (TOTAL, true));
    // What was sent right before a cut may be lost with the connection.
    assert!(got.cuts >= 19, "{}", got.cuts);
}

// C75
#[tokio::test]
async fn a_download_whose_representation_changes_ends_with_a_clean_error() {
    let got = within(download(4)).await;
    assert!(got.error.is_some(), "a truncated download must not look whole");
    assert!(got.is_right, "no byte of the other representation is passed on");
    assert!(got.bytes <= 4 * CUT_EVERY, "{}", got.bytes);
}
