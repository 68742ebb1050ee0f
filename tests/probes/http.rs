//! Probes by HTTP: what is sent, and what counts as well.

use std::{
    convert::Infallible,
    error::Error,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use ::http::{Method, Request, Response, Uri};
use bytes::Bytes;
use futures::stream;
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty, Full, StreamBody, combinators::UnsyncBoxBody};
use tower::{BoxError, service_fn};
use tower_fleet::{
    UpstreamLayer,
    body::ReplayBody,
    outcome::Statuses,
    probe::{HttpProbe, Scope},
};
use tower_layer::Layer;

use super::*;

type Answer = UnsyncBoxBody<Bytes, BoxError>;
type Sent = Full<Bytes>;

fn name() -> BackendName {
    shown(&fleet::<1>().0, "a").name
}

fn status(code: u16) -> Response<Empty<Bytes>> {
    Response::builder().status(code).body(Empty::new()).unwrap()
}

async fn probe_of(probe: &HttpProbe<Sent>, code: u16) -> Result<(), ProbeError> {
    probe.probe(&name(), service_fn(move |_: Request<Sent>| async move { Ok::<_, Infallible>(status(code)) })).await
}

// C43
#[tokio::test]
async fn the_status_decides() {
    let probe = HttpProbe::get("/").unwrap();
    for code in [200, 204, 299] {
        probe_of(&probe, code).await.unwrap();
    }
    for code in [301, 404, 429, 500, 503] {
        assert_eq!(probe_of(&probe, code).await.unwrap_err().to_string(), format!("status {code}"));
    }
    let probe = probe.expect(Statuses::none().and(429).unwrap()).unwrap();
    probe_of(&probe, 429).await.unwrap();
    assert!(probe_of(&probe, 200).await.is_err());
}

// C10, C43
#[tokio::test]
async fn the_request_is_sent_through_the_backends_own_layers() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let client = service_fn(move |request: Request<Sent>| {
        assert!(request.body().is_end_stream());
        log.lock().unwrap().push(request);
        async { Ok::<_, Infallible>(status(200)) }
    });
    let upstream = UpstreamLayer::new().origin("http://10.0.0.7:8080/api").unwrap().bearer("key").unwrap();
    let probe = HttpProbe::head("/ready?full=1").unwrap().header("x-probe", "1").unwrap();
    probe.probe(&name(), upstream.layer(client.clone())).await.unwrap();
    let absolute = HttpProbe::get("http://10.0.0.8/health").unwrap();
    absolute.probe(&name(), client.clone()).await.unwrap();
    let origin = |name: &BackendName| format!("http://{name}.example:81").parse::<Uri>().ok();
    HttpProbe::get("/health").unwrap().origin(origin).probe(&name(), client).await.unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(
        (seen[0].method(), &*seen[0].uri().to_string()),
        (&Method::HEAD, "http://10.0.0.7:8080/api/ready?full=1")
    );
    assert_eq!(
        (&seen[0].headers()["x-probe"], &seen[0].headers()["authorization"]),
        (&"1".parse().unwrap(), &"Bearer key".parse().unwrap())
    );
    assert!(seen[0].headers()["user-agent"].to_str().unwrap().starts_with("tower-fleet-probe/"));
    assert_eq!((seen[1].method(), &*seen[1].uri().to_string()), (&Method::GET, "http://10.0.0.8/health"));
    assert_eq!(seen[2].uri(), "http://a.example:81/health");
}

async fn body_of(body: impl Fn() -> Answer + Send + Sync + Clone + 'static) -> Result<(), ProbeError> {
    let client = service_fn(move |_: Request<Sent>| {
        let response = Response::new(body());
        async { Ok::<_, BoxError>(response) }
    });
    HttpProbe::get("/").unwrap().probe(&name(), client).await
}

// C43, C58
#[tokio::test]
async fn a_body_that_breaks_off_has_failed_and_an_endless_one_is_dropped() {
    let broken = body_of(|| {
        let items = [Ok(Frame::data(Bytes::from("half"))), Err("http://me:hush@host broke".into())];
        StreamBody::new(stream::iter(items)).boxed_unsync()
    });
    let error = broken.await.unwrap_err();
    assert_eq!(error.to_string(), "the call failed");
    assert!(error.source().is_some());
    let frames = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&frames);
    let endless = body_of(move || {
        let counter = Arc::clone(&counter);
        let items = stream::repeat_with(move || {
            counter.fetch_add(1, SeqCst);
            Ok(Frame::data(Bytes::from(vec![0; 1024])))
        });
        StreamBody::new(items).boxed_unsync()
    });
    endless.await.unwrap();
    assert_eq!(frames.load(SeqCst), 65);
    // Also if there is nothing in it.
    let empty = body_of(|| StreamBody::new(stream::repeat_with(|| Ok(Frame::data(Bytes::new())))).boxed_unsync());
    empty.await.unwrap();
}

// C43
#[tokio::test(start_paused = true)]
async fn a_body_that_hangs_has_failed() {
    let client = service_fn(|_: Request<Sent>| async {
        Ok::<_, BoxError>(Response::new(StreamBody::new(stream::pending::<Result<Frame<Bytes>, BoxError>>())))
    });
    let fleet = Fleet::builder().backend(Backend::new("a", client)).build().unwrap();
    tokio::spawn(fleet.probe(Probes::new(HttpProbe::get("/").unwrap()).scope(Scope::All)).unwrap());
    pass(secs(40)).await;
    assert!(fleet.snapshot()[0].is_failing);
}

// C43: the clients that there are.
#[test]
fn probes_fit_the_bodies_of_common_clients() {
    fn fits<S: Clone + Send + Sync + 'static>(fleet: &Fleet<S>, probe: impl Probe<S>) {
        let probing = fleet.probe(Probes::new(probe)).unwrap();
        fn spawns(_: impl Future<Output = ()> + Send + 'static) {}
        spawns(probing);
    }
    fn client<B: Send + 'static>() -> Fleet<tower::util::BoxCloneSyncService<Request<B>, Response<Answer>, BoxError>> {
        Fleet::builder().build().unwrap()
    }
    fits(&client::<Full<Bytes>>(), HttpProbe::get("/").unwrap());
    fits(&client::<ReplayBody<hyper::body::Incoming>>(), HttpProbe::get("/").unwrap());
    fits(&client::<UnsyncBoxBody<Bytes, BoxError>>(), HttpProbe::get("/").unwrap());
    fits(&client::<axum::body::Body>(), HttpProbe::get("/").unwrap());
    fits(&client::<tonic::body::Body>(), HttpProbe::get("/").unwrap());
    fits(&client::<Option<u8>>(), HttpProbe::with_body(Method::OPTIONS, "/", || Some(1)).unwrap());
    use tower_fleet::probe::GrpcProbe;
    fits(&client::<Full<Bytes>>(), GrpcProbe::new());
    fits(&client::<ReplayBody<hyper::body::Incoming>>(), GrpcProbe::new());
    fits(&client::<axum::body::Body>(), GrpcProbe::new());
    fits(&client::<tonic::body::Body>(), GrpcProbe::with_body(|bytes| tonic::body::Body::new(Full::new(bytes))));
    let reqwest: Fleet<reqwest::Client> = Fleet::builder().build().unwrap();
    fits(
        &reqwest,
        probe_fn(|_: BackendName, client: reqwest::Client| async move { client.get("/").send().await.map(drop) }),
    );
}
