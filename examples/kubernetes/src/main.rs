//! The ready endpoints of a Kubernetes service as the backends of a fleet.
//!
//! ```text
//! cargo run -- NAMESPACE SERVICE PORT-NAME
//! ```
//!
//! A service has one or more `EndpointSlice`s. Each change of one of them gives the whole set of endpoints, which
//! [`Fleet::reconcile`] compares with the fleet: pods that stay keep their connections, their health and their position.
//! While the API server cannot be reached, the fleet keeps the last set.

use std::{collections::HashMap, error::Error, net::SocketAddr, time::Duration};

use futures::{StreamExt, TryStreamExt};
use http_body_util::Full;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{
    Api,
    runtime::{WatchStreamExt, watcher, watcher::Event},
};
use tower::Layer;
use tower_fleet::{Backend, BalanceLayer, CircuitPolicy, Fleet, Upstream, UpstreamLayer};

type HttpClient = Client<HttpConnector, Full<&'static [u8]>>;

/// What the service of a backend is made of: if it stays the same, so does the service.
type Address = SocketAddr;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(namespace), Some(service), Some(port)) = (arguments.next(), arguments.next(), arguments.next()) else {
        return Err("usage: NAMESPACE SERVICE PORT-NAME".into());
    };
    let client = Client::builder(TokioExecutor::new()).build_http();
    let fleet = Fleet::builder().name("pods").circuit_breaker(CircuitPolicy::new()).build()?;
    // For requests: `door.clone().oneshot(request)`.
    let _door = BalanceLayer::peak_ewma().layer(fleet.clone());
    follow(&fleet, kube::Client::try_default().await?, &namespace, &service, &port, &client).await
}

async fn follow(
    fleet: &Fleet<Upstream<HttpClient>>,
    kubernetes: kube::Client,
    namespace: &str,
    service: &str,
    port: &str,
    client: &HttpClient,
) -> Result<(), Box<dyn Error>> {
    let slices = Api::<EndpointSlice>::namespaced(kubernetes, namespace);
    let of_service = watcher::Config::default().labels(&format!("kubernetes.io/service-name={service}"));
    let mut events = watcher(slices, of_service).default_backoff().boxed();
    let (mut known, mut listed) = (HashMap::new(), HashMap::new());
    loop {
        match events.try_next().await {
            // A list begins, after the start or a lost connection.
            Ok(Some(Event::Init)) => listed = HashMap::new(),
            Ok(Some(Event::InitApply(slice))) => {
                listed.insert(slice.metadata.name.clone(), slice);
                continue;
            }
            Ok(Some(Event::InitDone)) => known = std::mem::take(&mut listed),
            Ok(Some(Event::Apply(slice))) => drop(known.insert(slice.metadata.name.clone(), slice)),
            Ok(Some(Event::Delete(slice))) => drop(known.remove(&slice.metadata.name)),
            Ok(None) => return Ok(()),
            Err(error) => {
                eprintln!("the fleet keeps its backends: {error}");
                continue;
            }
        }
        let wanted: HashMap<_, _> =
            known.values().flat_map(|slice| backends(slice, port)).map(|it| (*it.service(), it)).collect();
        // A service without ready pods: the last ones are better than none, and circuits know which of them fail.
        if wanted.is_empty() {
            continue;
        }
        let changed = fleet.reconcile(wanted.into_values(), |backend| {
            let origin = format!("http://{}", backend.service());
            UpstreamLayer::new().origin(&origin).expect("an address is an origin").layer(client.clone())
        });
        match changed {
            Ok(changed) => println!("{changed:?}"),
            Err(error) => eprintln!("the fleet keeps its backends: {error}"),
        }
    }
}

/// The ready endpoints of a slice. Of an endpoint the first address counts, as Kubernetes defines it.
fn backends(slice: &EndpointSlice, port: &str) -> Vec<Backend<Address>> {
    let named = slice.ports.iter().flatten().find(|it| it.name.as_deref().unwrap_or_default() == port);
    let Some(port) = named.and_then(|it| u16::try_from(it.port?).ok()) else { return Vec::new() };
    let endpoint = |endpoint: &k8s_openapi::api::discovery::v1::Endpoint| {
        let conditions = endpoint.conditions.clone().unwrap_or_default();
        let address = SocketAddr::new(endpoint.addresses.first()?.parse().ok()?, port);
        // Unknown means ready.
        let is_ready = conditions.ready.unwrap_or(true) && !conditions.terminating.unwrap_or(false);
        is_ready.then(|| Backend::new(address.to_string(), address).timeout(Duration::from_secs(10)))
    };
    slice.endpoints.iter().flatten().filter_map(endpoint).collect()
}
