//! An address that a lookup has found.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use crate::fleet::Backend;

/// An address of a service, found by a lookup.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Endpoint {
    /// The name of its backend: that of the source and the address, such as `api.internal/10.0.0.1:8080`.
    ///
    /// Stable while the address is, safe to show, and different from those of other sources.
    pub name: Arc<str>,
    /// The address and port.
    pub address: SocketAddr,
    /// The name of the host, in lower case and without a final dot: the target of an SRV record, or the name that was
    /// looked up. For the server name in TLS.
    pub target: Arc<str>,
    /// The weight of the SRV record, at least 1. 1 without SRV.
    pub weight: u32,
    /// The negated priority of the SRV record, so that its lowest one is the highest tier. 0 without SRV.
    pub priority: i32,
}

impl Endpoint {
    /// Returns a backend of its name, weight and priority, with the address as its key.
    ///
    /// For [`Fleet::follow_lists`](crate::Fleet::follow_lists) and [`reconcile`](crate::Fleet::reconcile): as long as the
    /// address stays, the backend keeps its service.
    pub fn backend(&self) -> Backend<SocketAddr> {
        Backend::new(Arc::clone(&self.name), self.address).weight(self.weight).priority(self.priority)
    }
}

/// The address of an endpoint, before duplicates are dropped.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) ip: IpAddr,
    pub(super) port: u16,
    pub(super) target: Arc<str>,
    pub(super) srv_priority: u16,
    pub(super) srv_weight: u16,
}

/// Makes the set of the endpoints that were found: highest tier first, then by address, one for each address.
///
/// Of two targets with the same address, the one of the higher tier counts, then the one of the larger weight.
pub(super) fn endpoints(source: &str, found: impl IntoIterator<Item = Found>) -> Vec<Endpoint> {
    let mut by_address = BTreeMap::<SocketAddr, Found>::new();
    let rank = |found: &Found| (found.srv_priority, Reverse(found.srv_weight), Arc::clone(&found.target));
    for found in found {
        let address = SocketAddr::new(found.ip.to_canonical(), found.port);
        if is_usable(address.ip()) && by_address.get(&address).is_none_or(|other| rank(&found) < rank(other)) {
            by_address.insert(address, found);
        }
    }
    let endpoint = |(address, found): (SocketAddr, Found)| Endpoint {
        name: format!("{source}/{address}").into(),
        address,
        target: found.target,
        weight: u32::from(found.srv_weight).max(1),
        priority: -i32::from(found.srv_priority),
    };
    let mut endpoints: Vec<_> = by_address.into_iter().map(endpoint).collect();
    // Stable, so that the addresses of a tier stay in order.
    endpoints.sort_by_key(|endpoint| Reverse(endpoint.priority));
    endpoints
}

/// Returns whether a connection to an address leads to one other host. `0.0.0.0`, which filtering name servers return,
/// leads to this one.
fn is_usable(ip: IpAddr) -> bool {
    let is_broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    !ip.is_unspecified() && !ip.is_multicast() && !is_broadcast
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(ip: &str, port: u16, target: &str, srv_priority: u16, srv_weight: u16) -> Found {
        Found { ip: ip.parse().expect("an address"), port, target: target.into(), srv_priority, srv_weight }
    }

    fn names(endpoints: &[Endpoint]) -> Vec<&str> {
        endpoints.iter().map(|endpoint| &*endpoint.name).collect()
    }

    // C56
    #[test]
    fn the_order_of_the_records_does_not_matter() {
        let one = found("10.0.0.2", 80, "a", 0, 0);
        let two = found("10.0.0.1", 80, "a", 0, 0);
        let six = found("2001:db8::1", 80, "a", 0, 0);
        let set = endpoints("api", [one.clone(), six.clone(), two.clone()]);
        assert_eq!(names(&set), ["api/10.0.0.1:80", "api/10.0.0.2:80", "api/[2001:db8::1]:80"]);
        assert_eq!(endpoints("api", [two.clone(), one.clone(), six, one, two]), set, "each address is there once");
    }

    // C56
    #[test]
    fn the_lowest_srv_priority_is_the_highest_tier_and_weight_zero_is_one() {
        let set = endpoints(
            "s",
            [
                found("10.0.0.1", 1, "c", 20, 0),
                found("10.0.0.2", 2, "b", 0, 65_535),
                found("10.0.0.3", 3, "a", 65_535, 7),
            ],
        );
        let facts: Vec<_> = set.iter().map(|it| (it.address.port(), it.priority, it.weight)).collect();
        assert_eq!(facts, [(2, 0, 65_535), (1, -20, 1), (3, -65_535, 7)]);
    }

    // C56
    #[test]
    fn of_two_targets_with_one_address_the_higher_tier_and_weight_count() {
        let (low, high) = (found("10.0.0.1", 80, "low", 5, 9), found("10.0.0.1", 80, "high", 1, 1));
        let heavy = found("::ffff:10.0.0.1", 80, "heavy", 1, 3);
        for order in [[&low, &high, &heavy], [&heavy, &high, &low], [&high, &heavy, &low]] {
            let set = endpoints("s", order.map(Found::clone));
            assert_eq!((set.len(), &*set[0].target, set[0].weight), (1, "heavy", 3));
        }
        let ports = [found("10.0.0.1", 80, "a", 0, 0), found("10.0.0.1", 81, "a", 0, 0)];
        assert_eq!(endpoints("s", ports).len(), 2, "two ports are two endpoints");
    }

    // C70
    #[test]
    fn addresses_that_lead_to_no_host_are_left_out() {
        let bad = ["0.0.0.0", "::", "255.255.255.255", "224.0.0.1", "ff02::1", "::ffff:0.0.0.0"];
        assert_eq!(endpoints("s", bad.map(|ip| found(ip, 80, "a", 0, 0))), []);
    }

    // C60
    #[test]
    fn a_backend_of_an_endpoint_is_valid() {
        let longest = "a".repeat(80);
        let set = endpoints(&longest, [found("2001:db8:1111:2222:3333:4444:5555:6666", 65_535, "a", 0, 0)]);
        assert!(set[0].backend().checked().is_ok(), "{}", set[0].name);
    }
}
