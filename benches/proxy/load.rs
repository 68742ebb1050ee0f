//! Clients: keep-alive connections of their own, each answer checked byte for byte.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    future::Future,
    rc::Rc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use hdrhistogram::Histogram;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    sync::mpsc,
    task::{JoinSet, LocalSet},
};

use crate::backends;

/// A request without an answer by then has failed.
const PATIENCE: Duration = Duration::from_secs(3);

/// What became of the requests.
pub(crate) struct Tally {
    /// Microseconds, of answers and failures alike.
    latencies: Histogram<u64>,
    /// How often each kind of failure happened.
    pub(crate) failures: BTreeMap<String, u64>,
    pub(crate) elapsed: Duration,
}

impl Tally {
    fn new() -> Self {
        let latencies = Histogram::new_with_bounds(1, 60_000_000, 3).expect("valid bounds");
        Self { latencies, failures: BTreeMap::new(), elapsed: Duration::ZERO }
    }

    fn record(&mut self, took: Duration, result: Result<(), String>) {
        self.latencies.saturating_record(took.as_micros() as u64);
        if let Err(failure) = result {
            *self.failures.entry(failure).or_default() += 1;
        }
    }

    pub(crate) fn requests(&self) -> u64 {
        self.latencies.len()
    }

    pub(crate) fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.requests() as f64 / self.elapsed.as_secs_f64()
    }

    /// In milliseconds; `percent` of the requests took no longer.
    pub(crate) fn millis(&self, percent: f64) -> f64 {
        self.latencies.value_at_percentile(percent) as f64 / 1e3
    }
}

/// The body of the request of this number, None for a GET.
pub(crate) type BodyOf = fn(u64) -> Option<Bytes>;

pub(crate) const GETS: BodyOf = |_| None;

/// Every other request is a POST of 1 to 8 KiB.
pub(crate) const MIXED: BodyOf = |number| {
    static LETTERS: [u8; 8192] = {
        let mut letters = [0; 8192];
        let mut index = 0;
        while index < letters.len() {
            letters[index] = b'a' + (index % 23) as u8;
            index += 1;
        }
        letters
    };
    let length = 1024 + (number * 2_654_435_761 % 7169) as usize;
    (number % 2 == 1).then(|| Bytes::from_static(&LETTERS[8192 - length..]))
};

/// Runs one load to its end, on one thread.
pub(crate) fn run<F: Future>(load: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, load)
}

/// So many connections, each with one request after the other.
pub(crate) async fn closed(port: u16, connections: usize, time: Duration, body_of: BodyOf) -> Tally {
    let tally = Rc::new(RefCell::new(Tally::new()));
    let start = Instant::now();
    let mut clients = JoinSet::new();
    for client in 0..connections as u64 {
        let tally = Rc::clone(&tally);
        clients.spawn_local(async move {
            let mut kept = None;
            let mut number = client * 1_000_000_000;
            while start.elapsed() < time {
                let sent = Instant::now();
                let result = ask(&mut kept, port, number, body_of(number)).await;
                if result.is_err() {
                    // Somebody who refuses at once must not be asked in a busy loop.
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                tally.borrow_mut().record(sent.elapsed(), result);
                number += 1;
            }
        });
    }
    while clients.join_next().await.is_some() {}
    let mut tally = Rc::into_inner(tally).expect("every client has ended").into_inner();
    tally.elapsed = start.elapsed();
    tally
}

/// Requests by the clock, whatever became of those before. Latency counts from the moment at which a request was due.
pub(crate) async fn open(port: u16, rate: u32, time: Duration) -> Tally {
    let tally = Rc::new(RefCell::new(Tally::new()));
    // The last one back is the first one out, so that the pool stays warm.
    let pool = Rc::new(RefCell::new(Vec::new()));
    let start = Instant::now();
    let mut due = pace(start, rate, time);
    let mut requests = JoinSet::new();
    let mut number = 0;
    while let Some(due) = due.recv().await {
        let (tally, pool) = (Rc::clone(&tally), Rc::clone(&pool));
        number += 1;
        requests.spawn_local(async move {
            let mut connection = pool.borrow_mut().pop();
            let result = ask(&mut connection, port, number, None).await;
            tally.borrow_mut().record(due.elapsed(), result);
            pool.borrow_mut().extend(connection);
        });
        while requests.try_join_next().is_some() {}
    }
    while requests.join_next().await.is_some() {}
    let mut tally = Rc::into_inner(tally).expect("every request has ended").into_inner();
    tally.elapsed = start.elapsed();
    tally
}

/// A thread of its own keeps the time: a runtime's timers know milliseconds only.
fn pace(start: Instant, rate: u32, time: Duration) -> mpsc::UnboundedReceiver<Instant> {
    let (ticks, due) = mpsc::unbounded_channel();
    let count = (time.as_secs_f64() * f64::from(rate)) as u32;
    std::thread::spawn(move || {
        for tick in (0..count).map(|number| start + Duration::from_secs(1) * number / rate) {
            std::thread::sleep(tick.saturating_duration_since(Instant::now()));
            let _ = ticks.send(tick);
        }
    });
    due
}

/// A connection; dropping it closes it.
struct Connection {
    requests: http1::SendRequest<Full<Bytes>>,
    _driver: JoinSet<()>,
}

impl Connection {
    async fn open(port: u16) -> Result<Self, String> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.map_err(|error| format!("connect: {error}"))?;
        let _ = stream.set_nodelay(true);
        let (requests, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        let mut driver = JoinSet::new();
        driver.spawn_local(async { drop(connection.await) });
        Ok(Self { requests, _driver: driver })
    }
}

/// One request over the kept connection, or over a new one; a good connection is kept.
async fn ask(kept: &mut Option<Connection>, port: u16, number: u64, sent: Option<Bytes>) -> Result<(), String> {
    let mut connection = kept.take();
    let exchange = async {
        if connection.as_mut().is_none_or(|connection| connection.requests.is_closed()) {
            connection = Some(Connection::open(port).await?);
        }
        let connection = connection.as_mut().expect("one is open");
        exchange(&mut connection.requests, number, sent).await
    };
    let result = tokio::time::timeout(PATIENCE, exchange).await.unwrap_or_else(|_| Err("no answer".to_owned()));
    *kept = connection.filter(|connection| result.is_ok() && !connection.requests.is_closed());
    result
}

async fn exchange(
    requests: &mut http1::SendRequest<Full<Bytes>>,
    number: u64,
    sent: Option<Bytes>,
) -> Result<(), String> {
    let path = format!("/{number}");
    let method = if sent.is_some() { Method::POST } else { Method::GET };
    let sent = sent.unwrap_or_default();
    let request = Request::builder().method(method).uri(&path).header(HOST, "fleet.test");
    let request = request.body(Full::new(sent.clone())).map_err(|error| error.to_string())?;
    requests.ready().await.map_err(|error| error.to_string())?;
    let response = requests.send_request(request).await.map_err(|error| error.to_string())?;
    let status = response.status();
    let body = response.into_body().collect().await.map_err(|error| format!("body: {error}"))?.to_bytes();
    if status != StatusCode::OK {
        return Err(status.as_u16().to_string());
    }
    let name = body.get(..2).and_then(|name| std::str::from_utf8(name).ok());
    let whole = name.is_some_and(|name| name.starts_with('b') && body == backends::answer(name, &path, &sent));
    if whole { Ok(()) } else { Err("wrong body".to_owned()) }
}
