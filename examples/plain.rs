//! A service that is not HTTP: a key-value store that speaks lines over TCP, on two replicas.
//!
//! `cargo run --example plain` puts a failover on both of them, and then a breaker around one alone.
//!
//! Requests are `Clone` and errors are failures: that is all that the `plain` constructors need.

use std::{collections::HashMap, io, net::SocketAddr};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream, ToSocketAddrs},
    task::JoinHandle,
};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_fleet::{
    Backend, CircuitBreakerLayer, CircuitPolicy, CircuitState, FailoverLayer, Fleet, Mode, breaker::CircuitOpen,
};

#[derive(Clone)]
enum Command {
    Get(&'static str),
    Put(&'static str, &'static str),
}

use Command::{Get, Put};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let (near, near_server) = start("127.0.0.1:0").await?;
    let (far, _far_server) = start("127.0.0.1:0").await?;
    for address in [near, far] {
        client(address).oneshot(Put("sky", "blue")).await?;
    }

    let policy = CircuitPolicy::new().consecutive(2);
    let fleet = Fleet::plain()
        .backend(Backend::new("near", client(near)).priority(10))
        .backend(Backend::new("far", client(far)))
        .circuit_breaker(policy.clone())
        .build()?;
    let failover = FailoverLayer::plain().mode(Mode::Sequential).build()?;
    let store = ServiceBuilder::new().layer(failover).service(fleet.clone());
    println!("sky is {}", store.clone().oneshot(Get("sky")).await?);

    near_server.abort();
    let _ = near_server.await;
    for _ in 0..2 {
        println!("sky is {}, although near is down", store.clone().oneshot(Get("sky")).await?);
    }
    for backend in fleet.snapshot() {
        println!("{} is {}", backend.name, backend.state);
    }

    // Alone around any service: after two failures calls are rejected at once.
    let breaker = CircuitBreakerLayer::plain(policy)?.name("near")?;
    let guarded = ServiceBuilder::new().layer(breaker).service(client(near));
    let switch = guarded.switch();
    for tried in [true, true, false] {
        let error = BoxError::from(guarded.clone().oneshot(Get("sky")).await.expect_err("nothing listens there"));
        println!("alone: {error}");
        if error.is::<CircuitOpen>() == tried {
            return Err("the breaker is not where it should be".into());
        }
    }

    let (_, _near_server) = start(near).await?;
    switch.probe_now(); // Without this it is probed after 30 seconds.
    println!("alone, {}: {}", switch.state(), guarded.oneshot(Put("sky", "grey")).await?);
    println!("alone, {}", switch.state());
    if switch.state() == CircuitState::Closed { Ok(()) } else { Err("a good probe closes it".into()) }
}

/// The client: any service will do.
fn client(
    address: SocketAddr,
) -> impl Service<Command, Response = String, Error = io::Error, Future: Send> + Clone + Send + Sync + 'static {
    service_fn(move |command| async move {
        let mut stream = BufReader::new(TcpStream::connect(address).await?);
        let line = match command {
            Get(key) => format!("GET {key}\n"),
            Put(key, value) => format!("PUT {key} {value}\n"),
        };
        stream.write_all(line.as_bytes()).await?;
        stream.lines().next_line().await?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    })
}

/// The server: one command per connection.
async fn start(address: impl ToSocketAddrs) -> io::Result<(SocketAddr, JoinHandle<io::Result<()>>)> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let server = async move {
        let mut store = HashMap::new();
        loop {
            let mut stream = BufReader::new(listener.accept().await?.0);
            let mut line = String::new();
            stream.read_line(&mut line).await?;
            let reply = match line.split_whitespace().collect::<Vec<_>>()[..] {
                ["GET", key] => store.get(key).cloned().unwrap_or_else(|| "unknown".to_owned()),
                ["PUT", key, value] => store.insert(key.to_owned(), value.to_owned()).unwrap_or("new".to_owned()),
                _ => "what?".to_owned(),
            };
            stream.write_all(format!("{reply}\n").as_bytes()).await?;
        }
    };
    Ok((address, tokio::spawn(server)))
}
