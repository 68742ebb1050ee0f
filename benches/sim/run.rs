//! One run: a scene, a strategy and a seed, on a runtime of its own with paused time.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard},
};

use futures::future::poll_fn;
use tokio::{
    runtime::Builder,
    time::{sleep, sleep_until},
};
use tower::{
    Layer, Service,
    balance::p2c,
    discover::ServiceList,
    load::{CompleteOnResponse, Load, PeakEwma, PendingRequests},
    util::rng::Rng,
};
use tower_fleet::{Backend, Balance, CircuitPolicy, Fleet, outcome::ErrorsOnly};

use crate::{
    figures::Figures,
    oracle::Oracle,
    random::{Draw, draw},
    scene::Scene,
    server::{Request, Server},
    strategies::{FailoverDoor, Way, build},
    time::{Clock, Micros, micros, stretched},
};

/// How long the end of the last requests is waited for, in seconds.
const PATIENCE: f64 = 60.0;

/// What came of a request.
#[derive(Clone, Copy)]
pub(crate) struct End {
    pub(crate) arrived: Micros,
    /// `None` if it has not ended.
    pub(crate) took: Option<Micros>,
    pub(crate) ok: bool,
}

/// Runs a scene once.
///
/// # Panics
///
/// If the strategy is not valid, which the arguments were checked for.
pub(crate) fn run(scene: &Scene, strategy: &str, seed: u64) -> Figures {
    // The doors draw their seeds from the thread's generator.
    fastrand::seed(draw(seed, Draw::Door, 0, 0).u64(..));
    let way = build(strategy).expect("a strategy that was checked");
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(async {
        let clock = Clock::start();
        let servers: Vec<_> = (0..scene.servers.len()).map(|number| Server::new(scene, number, seed, clock)).collect();
        let clients = || 0..scene.clients as u64;
        let ends = match way {
            Way::Balance(strategy) => {
                let doors = clients().map(|_| Balance::new(&fleet(scene, &servers), strategy.clone())).collect();
                drive(scene, seed, clock, doors).await
            }
            Way::Failover(layer) => {
                let doors: Vec<FailoverDoor> = clients().map(|_| layer.layer(fleet(scene, &servers))).collect();
                drive(scene, seed, clock, doors).await
            }
            Way::Oracle => drive(scene, seed, clock, clients().map(|_| Oracle(servers.clone())).collect()).await,
            Way::TowerPending => {
                let load = |server| PendingRequests::new(server, CompleteOnResponse::default());
                drive(scene, seed, clock, clients().map(|client| p2c(&servers, load, seed, client)).collect()).await
            }
            Way::TowerEwma { default_rtt, decay } => {
                let decay = decay.as_nanos() as f64;
                let load = |server| PeakEwma::new(server, default_rtt, decay, CompleteOnResponse::default());
                drive(scene, seed, clock, clients().map(|client| p2c(&servers, load, seed, client)).collect()).await
            }
        };
        Figures::new(scene, ends, &servers)
    })
}

/// A fleet of its own for each client. The servers are shared.
fn fleet(scene: &Scene, servers: &[Server]) -> Fleet<Server, ErrorsOnly> {
    let backends = servers.iter().zip(&scene.servers).enumerate().map(|(number, (server, spec))| {
        // Half the speed of another server is half its weight.
        let weight = (spec.speed * 2.0).round().max(1.0) as u32;
        Backend::new(format!("server-{number}"), server.clone()).weight(weight)
    });
    let builder = Fleet::plain().backends(backends);
    let policy = CircuitPolicy::new().within(stretched(60.0)).open_for(stretched(30.0)).probe_timeout(stretched(60.0));
    let builder = if scene.circuits { builder.circuit_breaker(policy) } else { builder };
    builder.build().expect("valid settings")
}

type P2c<L> = p2c::Balance<ServiceList<Vec<L>>, Request>;

fn p2c<L>(servers: &[Server], load: impl Fn(Server) -> L, seed: u64, client: u64) -> P2c<L>
where
    L: Service<Request> + Load,
    L::Error: Into<tower::BoxError>,
{
    let services = servers.iter().cloned().map(load).collect();
    p2c::Balance::from_rng(ServiceList::new(services), Seeded(draw(seed, Draw::Door, client, 1)))
}

/// Random numbers for tower, which seeds itself otherwise.
struct Seeded(fastrand::Rng);

impl Rng for Seeded {
    fn next_u64(&mut self) -> u64 {
        self.0.u64(..)
    }
}

/// Sends each request at its time through the door of its client, whatever came of the others.
async fn drive<D>(scene: &Scene, seed: u64, clock: Clock, mut doors: Vec<D>) -> Vec<End>
where
    D: Service<Request>,
    D::Future: Send + 'static,
{
    let ends = Arc::new(Mutex::new(Vec::new()));
    let running = Arc::new(());
    for request in scene.requests(seed) {
        sleep_until(clock.instant(request.at)).await;
        lock(&ends).push(End { arrived: request.at, took: None, ok: false });
        let door = &mut doors[request.client];
        // Servers are always ready, so this does not delay the requests that follow.
        if poll_fn(|cx| door.poll_ready(cx)).await.is_err() {
            continue;
        }
        let call = door.call(request);
        let (ends, running) = (Arc::clone(&ends), Arc::clone(&running));
        tokio::spawn(async move {
            let _running = running;
            let ok = call.await.is_ok();
            let end = &mut lock(&ends)[request.number as usize];
            (end.took, end.ok) = (Some(clock.now() - request.at), ok);
        });
    }
    let last = clock.now() + micros(PATIENCE);
    while Arc::strong_count(&running) > 1 && clock.now() < last {
        sleep(stretched(0.1)).await;
    }
    mem::take(&mut *lock(&ends))
}

fn lock(ends: &Mutex<Vec<End>>) -> MutexGuard<'_, Vec<End>> {
    ends.lock().expect("one thread, and no panic while it is locked")
}
