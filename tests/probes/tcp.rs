//! Probes by TCP, over the loopback.

use tokio::net::TcpListener;
use tower_fleet::probe::TcpProbe;

use super::*;

// C43
#[tokio::test]
async fn a_listener_is_well_and_a_closed_port_is_not() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let probe = TcpProbe::new(move |backend| (**backend == *"a").then_some(address));
    let (fleet, [_, _]) = fleet();
    let [a, b] = [&fleet.snapshot()[0].name, &fleet.snapshot()[1].name].map(Clone::clone);
    let service = || Mock::<()>::new("unused").0;
    probe.probe(&a, service()).await.unwrap();
    assert_eq!(probe.probe(&b, service()).await.unwrap_err().to_string(), "no address");
    drop(listener);
    assert_eq!(probe.probe(&a, service()).await.unwrap_err().to_string(), "connection refused");
    // By text, as in a file.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    TcpProbe::new(move |_| Some(address.clone())).probe(&a, service()).await.unwrap();
    let nonsense = TcpProbe::new(|_| Some("not an address")).probe(&a, service()).await;
    assert_eq!(nonsense.unwrap_err().to_string(), "invalid input parameter");
}
