//! A layer between the door and its fleet.

use std::time::Duration;

use tower::{BoxError, Layer, ServiceBuilder, service_fn, timeout::TimeoutLayer};
use tower_fleet::{Backend, BalanceLayer, FailoverLayer, Fleet};

fn main() -> Result<(), BoxError> {
    let client = service_fn(|_: u32| async { Ok::<_, BoxError>(()) });
    let fleet = Fleet::plain().backend(Backend::new("a", client)).build()?;
    let timeout = TimeoutLayer::new(Duration::from_secs(1));
    let _ = BalanceLayer::round_robin().layer(timeout.layer(fleet.clone()));
    let _ = ServiceBuilder::new().layer(FailoverLayer::plain().build()?).layer(timeout).service(fleet);
    Ok(())
}
