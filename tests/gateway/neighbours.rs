//! Beside the requests: probes, the state across restarts, replicas, and endpoints of DNS.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use hickory_proto::{op::ResponseCode, rr::RecordType};
use http::{Response, StatusCode, Version};

use crate::{
    backend::Server,
    client::Client,
    name_server::{Asked, Reply, Server as NameServer, address, no_data, records, srv},
    process::{Gateway, Setup, TempFile},
    text, until,
    valkey_server::Server as ValkeyServer,
};

/// A backend that can be told to fail, and that counts what is sent to it.
struct Moody {
    server: Server,
    is_failing: Arc<AtomicBool>,
    requests: Arc<AtomicUsize>,
    probes: Arc<AtomicUsize>,
}

impl Moody {
    async fn start(name: &'static str) -> Self {
        let (is_failing, requests, probes) = (Arc::<AtomicBool>::default(), Arc::default(), Arc::default());
        let state: (_, Arc<AtomicUsize>, Arc<AtomicUsize>) =
            (Arc::clone(&is_failing), Arc::clone(&requests), Arc::clone(&probes));
        let server = Server::start(name, move |request| {
            let (is_failing, requests, probes) = state.clone();
            let is_probe = request.uri().path() == "/health";
            if is_probe { probes } else { requests }.fetch_add(1, SeqCst);
            async move {
                let status = match is_failing.load(SeqCst) {
                    true => StatusCode::SERVICE_UNAVAILABLE,
                    false => StatusCode::OK,
                };
                Ok(Response::builder().status(status).body(text(name)).unwrap())
            }
        })
        .await;
        Self { server, is_failing, requests, probes }
    }

    fn requests(&self) -> usize {
        self.requests.load(SeqCst)
    }
}

/// A circuit that opens at the first failure, and stays open.
fn setup(red: &Moody, blue: &Moody) -> Setup {
    Setup::new()
        .with("breaker", "failures = 1\nopen_for = \"1h\"\nmax_open_for = \"1h\"")
        .backend_with(&red.server, "priority = 1")
        .backend(&blue.server)
}

async fn served_by(gateway: &Gateway) -> String {
    let response = Client::new(Version::HTTP_11).get(gateway, "/").await;
    assert_eq!(response.status(), StatusCode::OK);
    String::from_utf8(response.body().to_vec()).unwrap()
}

/// Answers with one service, at the port of a backend.
fn service_at(backend: &Moody) -> impl Fn(&Asked) -> Reply + Send + Sync + use<> {
    let port = backend.server.address.port();
    move |asked| match asked.kind {
        RecordType::SRV => records(vec![srv(&asked.name, 0, [0, 1, port], "host.test.")]),
        RecordType::A => records(vec![address(&asked.name, 0, "127.0.0.1")]),
        _ => no_data(0),
    }
}

// C43: without a request, and long before the open time is over.
#[tokio::test]
async fn a_probe_finds_a_recovered_backend() {
    let (red, blue) = (Moody::start("red").await, Moody::start("blue").await);
    let setup = setup(&red, &blue).with("probe", "http = \"/health\"\ninterval = \"50ms\"");
    let gateway = setup.start().await;
    red.is_failing.store(true, SeqCst);
    assert_eq!(served_by(&gateway).await, "blue");
    until("failed probes", || red.probes.load(SeqCst) > 2).await;
    assert_eq!((served_by(&gateway).await.as_str(), red.requests()), ("blue", 1));
    red.is_failing.store(false, SeqCst);
    let so_far = red.probes.load(SeqCst);
    until("a good probe", || red.probes.load(SeqCst) > so_far).await;
    // The probe's response may be on its way.
    let mut last = String::new();
    for _ in 0..200 {
        last = served_by(&gateway).await;
        if last == "red" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(last, "red");
    assert_eq!(blue.probes.load(SeqCst), 0, "only backends that are out are probed");
}

// C54: the first request after a restart in an outage.
#[tokio::test]
async fn a_restarted_gateway_avoids_what_was_down() {
    let (red, blue) = (Moody::start("red").await, Moody::start("blue").await);
    let state = TempFile::new("json", "");
    std::fs::remove_file(state.path()).unwrap();
    let setup = || setup(&red, &blue).with("state", &format!("path = {:?}", state.path()));
    let gateway = setup().start().await;
    assert_eq!(served_by(&gateway).await, "red");
    red.is_failing.store(true, SeqCst);
    assert_eq!(served_by(&gateway).await, "blue");
    gateway.terminate();
    let (status, said) = gateway.end().await;
    assert!(status.success(), "{said}");
    let gateway = setup().start().await;
    assert_eq!((served_by(&gateway).await.as_str(), red.requests()), ("blue", 2), "{}", gateway.said());
    // Killed, it has saved what changed before.
    drop(gateway);
    let gateway = setup().start().await;
    assert_eq!((served_by(&gateway).await.as_str(), red.requests()), ("blue", 2));
}

// C54: a file that cannot be used costs its content, and nothing else.
#[tokio::test]
async fn a_state_that_cannot_be_read_or_written_stops_nothing() {
    let (red, blue) = (Moody::start("red").await, Moody::start("blue").await);
    let garbled = TempFile::new("json", "{ \"version\": ");
    for path in [garbled.path(), "/proc/fleet.json", "/"] {
        let gateway = setup(&red, &blue).with("state", &format!("path = {path:?}")).start().await;
        assert_eq!(served_by(&gateway).await, "red", "{path}");
        gateway.terminate();
        let (status, said) = gateway.end().await;
        assert!(status.success());
        assert!(said.contains("state ") && said.contains(path), "{path}: {said}");
    }
}

// C55: an opening at one gateway is known at the other.
#[tokio::test]
async fn gateways_share_what_they_learn() {
    let Some(store) = ValkeyServer::start(&[]) else { return };
    let (red, blue) = (Moody::start("red").await, Moody::start("blue").await);
    let setup = || {
        let share = "url = \"env:STORE\"\nresync_every = \"1s\"";
        setup(&red, &blue).top("name = \"shop\"").with("share", share).env("STORE", store.url().leak())
    };
    let (one, two) = (setup().start().await, setup().start().await);
    assert_eq!((served_by(&one).await.as_str(), served_by(&two).await.as_str()), ("red", "red"));
    red.is_failing.store(true, SeqCst);
    assert_eq!(served_by(&one).await, "blue");
    let key = "tower-fleet:";
    until("the report", || store.run("KEYS *").contains(key)).await;
    // It travels while this waits.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let before = red.requests();
    assert_eq!((served_by(&two).await.as_str(), red.requests()), ("blue", before));
    // Without the store each decides alone, and no request waits for it.
    store.freeze();
    assert_eq!((served_by(&one).await.as_str(), served_by(&two).await.as_str()), ("blue", "blue"));
    until("the warning", || one.said().contains("sharing interrupted")).await;
    store.thaw();
    until("the end of the outage", || one.said().contains("sharing resumed")).await;
    assert!(!one.said().contains("redis://") && !two.said().contains("redis://"));
}

// C56
#[tokio::test]
async fn backends_follow_dns() {
    let (red, blue) = (Moody::start("red").await, Moody::start("blue").await);
    let dns = NameServer::start(service_at(&red)).await;
    let lines = format!(
        "[[backend]]\nname = \"shop\"\norigin = \"http://shop.test/base\"\n\
         dns = {{ srv = \"_http._tcp.shop.test\", servers = [\"{}\"], min_ttl = \"100ms\", max_ttl = \"200ms\" }}\n",
        dns.address,
    );
    let gateway = Gateway::start(TempFile::new("toml", &(Setup::new().text() + &lines)), &[]).await;
    assert_eq!(served_by(&gateway).await, "red", "the endpoints are known before the first request");
    dns.set(service_at(&blue));
    until("the other set", || gateway.said().contains("1 inserted, 1 removed")).await;
    assert_eq!(served_by(&gateway).await, "blue");
    // C70: DNS that fails takes nothing away.
    dns.set(|_| Reply::Nothing);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(served_by(&gateway).await, "blue");
}

// C56, C70: a gateway whose DNS is down starts all the same.
#[tokio::test]
async fn a_gateway_starts_without_dns() {
    let red = Moody::start("red").await;
    let dns = NameServer::start(|_| Reply::Code(ResponseCode::ServFail)).await;
    let lines = format!(
        "[[backend]]\nname = \"shop\"\n\
         dns = {{ host = \"shop.test:80\", servers = [\"{}\"], min_ttl = \"100ms\", timeout = \"1s\" }}\n",
        dns.address,
    );
    let setup = Setup::new().backend_with(&red.server, "priority = -1");
    let gateway = Gateway::start(TempFile::new("toml", &(setup.text() + &lines)), &[]).await;
    until("the log line", || gateway.said().contains("serving without the endpoints of a lookup")).await;
    assert_eq!(served_by(&gateway).await, "red");
}
