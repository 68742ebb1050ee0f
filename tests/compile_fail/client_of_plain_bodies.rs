//! A client of `Full<Bytes>` instead of `ReplayBody<Full<Bytes>>`.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower::{BoxError, Layer, Service, util::BoxCloneSyncService};
use tower_fleet::{Backend, FailoverLayer, Fleet};

type Client = BoxCloneSyncService<Request<Full<Bytes>>, Response<Full<Bytes>>, BoxError>;

async fn ask(client: Client) -> Result<(), BoxError> {
    let fleet = Fleet::builder().backend(Backend::new("a", client)).build()?;
    let door = FailoverLayer::new().layer(fleet);
    door.clone().oneshot(Request::new(Full::<Bytes>::default())).await?;
    serve(door);
    Ok(())
}

/// As `axum::Router::fallback_service` and others do.
fn serve(_: impl Service<Request<Full<Bytes>>>) {}

fn main() {
    let _ = ask;
}
