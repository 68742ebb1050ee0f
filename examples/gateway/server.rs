//! Listens, and hands connections to workers: one thread and one runtime per core, each with its own connections to the
//! backends, so that a request never changes threads.

use std::{
    convert::Infallible,
    error::Error,
    io,
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use http::HeaderValue;
use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
};
use tokio::{
    runtime::{self, Runtime},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch},
    time::timeout,
};
use tower_fleet::{config::ConfigFile, pick};

use crate::{
    events::Events,
    greeting::Greeting,
    headers::Peer,
    keeper::Keeper,
    log::{Log, Written},
    proxy::{Doors, Fleet, Proxy},
    settings::{Server, Settings},
    tally::Tally,
    upstream::{Clients, take_seat},
};

/// A gateway at work. It serves until it is stopped.
pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    pub(crate) fleet: Fleet,
    pub(crate) tally: Arc<Tally>,
    pub(crate) log: Arc<Log>,
    written: Written,
    stop: oneshot::Sender<()>,
    threads: Vec<JoinHandle<()>>,
    pub(crate) keeper: Keeper,
}

impl Gateway {
    /// Follows the file, if there is one.
    pub(crate) fn start(settings: Settings, file: Option<ConfigFile<Settings>>) -> Result<Self, Box<dyn Error>> {
        let Settings { server, config, .. } = &settings;
        let workers = server.workers.get();
        let clients = Clients::new(workers, &settings)?;
        let fleet = config.fleet(|backend| clients.of(backend))?;
        let tally = Arc::new(Tally::default());
        let (log, written) = Log::start()?;
        let log = Arc::new(log);
        // Another gateway of this process may have been the first.
        let _ = tracing::subscriber::set_global_default(Events(Arc::downgrade(&log)));
        let doors = Doors::new(&fleet, config)?;
        let proxy = Proxy::new(doors, server, Arc::clone(&tally), Arc::clone(&log));
        let listener =
            TcpListener::bind(server.listen).map_err(|error| format!("server.listen: {}: {error}", server.listen))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;

        let (mut threads, mut desks, mut doors) = (Vec::new(), Vec::new(), Vec::new());
        for index in 0..workers {
            let (sockets, arrivals) = mpsc::unbounded_channel();
            let live = Arc::new(AtomicUsize::new(0));
            desks.push(Desk { sockets, live });
            let (alive, running) = watch::channel(());
            let (proxy, server, runtime) = (Arc::new(proxy.at_work(running)), server.clone(), runtime()?);
            doors.push(proxy.current());
            threads.push(thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
                take_seat(index);
                runtime.block_on(work(arrivals, proxy, alive, &server));
                // A request that is not done by now is dropped with the runtime.
            })?);
        }
        let (stop, stopped) = oneshot::channel();
        let (acceptor, most) = (runtime()?, server.max_connections.get());
        threads.push(thread::Builder::new().name("acceptor".to_owned()).spawn(move || {
            acceptor.block_on(accept(listener, desks, most, stopped));
        })?);
        let keeper = Keeper::start(settings, file, &fleet, clients, doors, Arc::clone(&log))?;
        Ok(Self { address, fleet, tally, log, written, stop, threads, keeper })
    }

    /// Takes no more connections, lets what runs finish, and returns when it has, or when the time for that is up.
    pub(crate) fn stop(self) {
        // The receiver is dropped if the acceptor has ended already.
        let _ = self.stop.send(());
        for thread in self.threads {
            let _ = thread.join();
        }
        self.keeper.stop();
        drop(self.log);
        self.written.wait();
    }
}

pub(crate) fn runtime() -> io::Result<Runtime> {
    runtime::Builder::new_current_thread().enable_all().build()
}

/// Where a worker takes connections.
struct Desk {
    sockets: mpsc::UnboundedSender<Arrival>,
    live: Arc<AtomicUsize>,
}

struct Arrival {
    socket: TcpStream,
    peer: IpAddr,
    place: Place,
}

/// One of the connections that may be open at a time. A tunnel keeps it.
pub(crate) struct Place {
    live: Arc<AtomicUsize>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.live.fetch_sub(1, Relaxed);
    }
}

async fn accept(listener: TcpListener, desks: Vec<Desk>, most: usize, mut stopped: oneshot::Receiver<()>) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listener that does not block");
    let places = Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)));
    loop {
        // Beyond the most, connections wait in the system's queue.
        let next = async {
            let permit = Arc::clone(&places).acquire_owned().await.expect("it is never closed");
            Ok::<_, io::Error>((listener.accept().await?, permit))
        };
        let accepted = tokio::select! {
            accepted = next => accepted.and_then(|((socket, peer), permit)| Ok((socket.into_std()?, peer, permit))),
            _ = &mut stopped => return,
        };
        let Ok((socket, peer, _permit)) = accepted else {
            // Out of file descriptors, most likely: others have to be closed first.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        // A worker that is gone would look like the least busy one.
        let there = desks.iter().filter(|desk| !desk.sockets.is_closed());
        let Some(desk) = there.min_by_key(|desk| desk.live.load(Relaxed)) else { return };
        desk.live.fetch_add(1, Relaxed);
        let place = Place { live: Arc::clone(&desk.live), _permit };
        let _ = desk.sockets.send(Arrival { socket, peer: peer.ip(), place });
    }
}

async fn work(
    mut arrivals: mpsc::UnboundedReceiver<Arrival>,
    proxy: Arc<Proxy>,
    alive: watch::Sender<()>,
    server: &Server,
) {
    let http = protocols(server);
    let graceful = GracefulShutdown::new();
    while let Some(Arrival { socket, peer, place }) = arrivals.recv().await {
        let _ = socket.set_nodelay(true);
        let Ok(socket) = tokio::net::TcpStream::from_std(socket) else { continue };
        let address = HeaderValue::from_str(&peer.to_canonical().to_string()).expect("an address is a header value");
        let peer = Peer { address, key: pick::Peer(peer), trusted: server.trusts(peer) };
        let guest = Arc::new((Arc::clone(&proxy), peer, Arc::new(place)));
        let socket = TokioIo::new(Greeting::new(server.header_timeout, server.stall, socket));
        let (http, watcher) = (http.clone(), graceful.watcher());
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let guest = Arc::clone(&guest);
                async move {
                    let (proxy, peer, place) = &*guest;
                    Ok::<_, Infallible>(proxy.answer(peer, place, request).await)
                }
            });
            // Clients leave as they please: an error here is theirs, or in the middle of a body, and they see it.
            let _ = watcher.watch(http.serve_connection_with_upgrades(socket, service)).await;
        });
    }
    let finish = async {
        graceful.shutdown().await;
        drop(proxy);
        alive.closed().await;
    };
    let _ = timeout(server.grace, finish).await;
}

fn protocols(server: &Server) -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(server.header_timeout)
        .max_buf_size(server.max_header_bytes.max(8 * 1024));
    if let Some(most) = server.max_headers {
        http.http1().max_headers(most);
    }
    http.http2()
        .timer(TokioTimer::new())
        .adaptive_window(true)
        .keep_alive_interval(server.header_timeout)
        .max_concurrent_streams(server.max_streams)
        .max_header_list_size(u32::try_from(server.max_header_bytes).unwrap_or(u32::MAX));
    http
}
