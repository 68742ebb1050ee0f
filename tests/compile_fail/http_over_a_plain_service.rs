//! A fleet and a failover for HTTP, over services that are not HTTP.

use tower::{BoxError, Layer, service_fn};
use tower_fleet::{Backend, BalanceLayer, FailoverLayer, Fleet};

async fn balanced() -> Result<(), BoxError> {
    let client = service_fn(|_: u32| async { Ok::<_, BoxError>("response") });
    let fleet = Fleet::builder().backend(Backend::new("a", client)).build()?;
    BalanceLayer::round_robin().layer(fleet).oneshot(1).await?;
    Ok(())
}

async fn failed_over() -> Result<(), BoxError> {
    let client = service_fn(|_: u32| async { Ok::<_, BoxError>("response") });
    let fleet = Fleet::plain().backend(Backend::new("a", client)).build()?;
    FailoverLayer::new().layer(fleet).oneshot(1).await?;
    Ok(())
}

fn main() {
    let _ = (balanced, failed_over);
}
