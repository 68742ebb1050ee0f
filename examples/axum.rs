//! An axum application in front of three HTTP backends, one of which is taken out while it serves.
//!
//! `cargo run --example axum` starts everything, sends itself a few requests, and says who answered.

use axum::{Router, body::Body, error_handling::HandleErrorLayer, extract::Request, http::StatusCode, routing::get};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::net::TcpListener;
use tower::{BoxError, Service, ServiceBuilder, ServiceExt, util::BoxCloneSyncService};
use tower_fleet::{Backend, BalanceLayer, Fleet, Status};

type Upstream = BoxCloneSyncService<Request, hyper::Response<hyper::body::Incoming>, hyper_util::client::legacy::Error>;

/// A client that sends every request to one address.
fn upstream(address: String) -> Upstream {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let client = client.map_request(move |mut request: Request| {
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        *request.uri_mut() = format!("http://{address}{path}").parse().expect("an address and a path make a URI");
        request
    });
    BoxCloneSyncService::new(client)
}

/// Serves on a free port and returns its address.
async fn serve(app: Router) -> std::io::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(address)
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let fleet = Fleet::new();
    for name in ["red", "green", "blue"] {
        let address = serve(Router::new().route("/", get(move || async move { name }))).await?;
        fleet.insert(Backend::new(name, upstream(address)))?;
    }

    // The door is Clone, so the router takes it as it is.
    let balanced = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(|error| async move { (StatusCode::BAD_GATEWAY, format!("{error}\n")) }))
        .layer(BalanceLayer::round_robin())
        .service(fleet.clone());
    let front = serve(Router::new().fallback_service(balanced)).await?;

    let mut client = upstream(front);
    for out in [None, Some("green")] {
        if let Some(name) = out {
            fleet.set_status(name, Status::Degraded);
            println!("without {name}:");
        }
        for _ in 0..4 {
            let response = client.ready().await?.call(Request::new(Body::empty())).await?;
            let body = axum::body::to_bytes(Body::new(response.into_body()), 1024).await?;
            println!("  {}", String::from_utf8_lossy(&body));
        }
    }
    Ok(())
}
