//! Backends: hyper's servers, whose port can be closed and opened again.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use futures::{TryFutureExt, future::BoxFuture};
use http::{Request, Response};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;
use tower::BoxError;

use crate::Body;

pub(crate) type Answer = Result<Response<Body>, BoxError>;

type Answering = dyn Fn(Request<Incoming>) -> BoxFuture<'static, io::Result<Response<Body>>> + Send + Sync;

/// A server of HTTP/1.1 and HTTP/2. Where its answer is an error, the connection or the stream breaks.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    answering: Arc<Answering>,
    tls: Option<TlsAcceptor>,
    running: Mutex<Option<JoinHandle<()>>>,
    connections: Arc<AtomicUsize>,
}

impl Server {
    pub(crate) async fn start<F>(
        name: &'static str,
        answer: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        Self::start_with(name, None, answer).await
    }

    pub(crate) async fn start_with<F>(
        name: &'static str,
        tls: Option<TlsAcceptor>,
        answer: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            name,
            address: listener.local_addr().unwrap(),
            answering: Arc::new(move |request| Box::pin(answer(request).map_err(io::Error::other))),
            tls,
            running: Mutex::default(),
            connections: Arc::default(),
        };
        server.run(listener);
        server
    }

    /// Closes the port, and drops every connection as it is.
    pub(crate) async fn kill(&self) {
        let running = self.running.lock().unwrap().take().expect("it runs");
        running.abort();
        let _ = running.await;
    }

    /// Comes back at the same port.
    pub(crate) fn restart(&self) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(self.address).unwrap();
        self.run(socket.listen(1024).unwrap());
    }

    /// Connections that it ever took.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }

    fn run(&self, listener: TcpListener) {
        let (answering, tls, connections) =
            (Arc::clone(&self.answering), self.tls.clone(), Arc::clone(&self.connections));
        let running = tokio::spawn(async move {
            let mut open = JoinSet::new();
            loop {
                let Ok((socket, _)) = listener.accept().await else { continue };
                connections.fetch_add(1, SeqCst);
                open.spawn(serve(socket, tls.clone(), Arc::clone(&answering)));
                while open.try_join_next().is_some() {}
            }
        });
        *self.running.lock().unwrap() = Some(running);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(running) = self.running.lock().unwrap().take() {
            running.abort();
        }
    }
}

async fn serve(socket: TcpStream, tls: Option<TlsAcceptor>, answering: Arc<Answering>) {
    let _ = socket.set_nodelay(true);
    let service = service_fn(|request| answering(request));
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http2().adaptive_window(true).max_concurrent_streams(1_000);
    // Whoever asks goes away as he pleases.
    let _ = match tls {
        None => http.serve_connection(TokioIo::new(socket), service).await,
        Some(tls) => match tls.accept(socket).await {
            Ok(socket) => http.serve_connection(TokioIo::new(socket), service).await,
            Err(_) => Ok(()),
        },
    };
}

/// A port without a listener.
pub(crate) async fn closed_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

/// Notes when it is dropped before its work was done.
pub(crate) struct Guard {
    left: Arc<AtomicUsize>,
    done: bool,
}

impl Guard {
    pub(crate) fn new(left: &Arc<AtomicUsize>) -> Self {
        Self { left: Arc::clone(left), done: false }
    }

    pub(crate) fn done(mut self) {
        self.done = true;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.done {
            self.left.fetch_add(1, SeqCst);
        }
    }
}
