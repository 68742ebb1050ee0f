//! Three small backends, and the faults that they have in turns.

use std::{
    convert::Infallible,
    fmt,
    future::pending,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::watch,
    task::JoinSet,
    time::sleep,
};

/// How a backend is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Good,
    Unavailable,
    Hanging,
    Slow,
    Killed,
}

/// As in "flaky …".
impl fmt::Display for Mood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Good => "is well again",
            Self::Unavailable => "answers 503",
            Self::Hanging => "hangs",
            Self::Slow => "takes 200 ms",
            Self::Killed => "is killed",
        })
    }
}

/// A small HTTP server: it answers with what it was sent.
pub(crate) struct Backend {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    mood: watch::Sender<Mood>,
    served: AtomicU64,
}

impl Backend {
    /// Starts to serve on a free port.
    pub(crate) async fn start(name: &'static str) -> io::Result<Arc<Self>> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let backend = Arc::new(Self { name, address, mood: watch::Sender::new(Mood::Good), served: AtomicU64::new(0) });
        tokio::spawn(Arc::clone(&backend).live(listener));
        Ok(backend)
    }

    pub(crate) fn be(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    pub(crate) fn mood(&self) -> Mood {
        *self.mood.borrow()
    }

    /// Requests answered well since the start.
    pub(crate) fn served(&self) -> u64 {
        self.served.load(Relaxed)
    }

    async fn live(self: Arc<Self>, mut listener: TcpListener) -> io::Result<Infallible> {
        let mut mood = self.mood.subscribe();
        loop {
            tokio::select! {
                _ = self.serve(listener) => {}
                _ = mood.wait_for(|mood| *mood == Mood::Killed) => {}
            }
            // The port is closed, and so is every connection.
            let _ = mood.wait_for(|mood| *mood != Mood::Killed).await;
            let socket = TcpSocket::new_v4()?;
            socket.set_reuseaddr(true)?;
            socket.bind(self.address)?;
            listener = socket.listen(1024)?;
        }
    }

    async fn serve(self: &Arc<Self>, listener: TcpListener) -> io::Result<()> {
        let mut connections = JoinSet::new();
        loop {
            let (socket, _) = listener.accept().await?;
            let backend = Arc::clone(self);
            connections.spawn(async move {
                let service = service_fn(move |request| Arc::clone(&backend).answer(request));
                let _ = http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
            });
            while connections.try_join_next().is_some() {}
        }
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
        let body = request.into_body().collect().await?.to_bytes();
        match self.mood() {
            Mood::Unavailable => {
                let mut response = Response::new(Full::default());
                *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                return Ok(response);
            }
            Mood::Hanging => pending().await,
            Mood::Slow => sleep(Duration::from_millis(200)).await,
            Mood::Good | Mood::Killed => {}
        }
        self.served.fetch_add(1, Relaxed);
        let answer = if body.is_empty() { format!("{} is well\n", self.name).into() } else { body };
        Ok(Response::new(Full::new(answer)))
    }
}

/// One fault after the other, each of them over before the next one begins.
pub(crate) async fn misbehave(flaky: Arc<Backend>, moody: Arc<Backend>, tell: impl Fn(&Backend, Mood)) -> Infallible {
    const CALM: Duration = Duration::from_millis(900);
    const FAULT: Duration = Duration::from_millis(1_100);
    // Time to see how it is when all is well.
    sleep(CALM).await;
    loop {
        for (backend, mood) in
            [(&flaky, Mood::Unavailable), (&flaky, Mood::Hanging), (&moody, Mood::Slow), (&flaky, Mood::Killed)]
        {
            sleep(CALM).await;
            for (mood, time) in [(mood, FAULT), (Mood::Good, Duration::ZERO)] {
                backend.be(mood);
                tell(backend, mood);
                sleep(time).await;
            }
        }
    }
}
