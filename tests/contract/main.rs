//! The suite that every door must pass, whatever its strategy.
//!
//! A door is opened over a fleet of strict mocks: they panic when they are called unready, or when readiness is carried
//! over a clone.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mock.rs"]
mod mock;
mod suite;

use std::time::Duration;

use tower::Layer;
use tower_fleet::{
    BalanceLayer, FailoverLayer, Fleet,
    failover::Mode,
    outcome::ErrorsOnly,
    pick::{Hash, Primary, RoundRobin, pick_fn},
};

/// The requests of this suite are texts.
type Mock = mock::Mock<&'static str>;

/// One module of tests per door.
macro_rules! doors {
    ($kind:ident: $($name:ident => $open:expr;)*) => {$(
        mod $name {
            use super::*;

            fn open(fleet: Fleet<Mock, ErrorsOnly>) -> impl suite::Door {
                let open = $open;
                open(fleet)
            }

            suite::tests!(open, $kind);
        }
    )*};
}

doors! { holds_an_instance:
    round_robin => |fleet| BalanceLayer::round_robin().layer(fleet);
    shuffle => |fleet| BalanceLayer::shuffle().layer(fleet);
    weighted => |fleet| BalanceLayer::weighted().layer(fleet);
    primary => |fleet| BalanceLayer::new(Primary).layer(fleet);
    named => |fleet| BalanceLayer::named("round-robin".parse().unwrap()).unwrap().layer(fleet);
    closure => |fleet| BalanceLayer::new(pick_fn(|candidates, cx| cx.random_below(candidates.len()))).layer(fleet);
    failover_race => |fleet| FailoverLayer::plain().build().unwrap().layer(fleet);
    failover_sequential => |fleet| FailoverLayer::plain().mode(Mode::Sequential).strategy(RoundRobin).build().unwrap().layer(fleet);
    failover_hedged => |fleet| FailoverLayer::plain().mode(Mode::hedged(Duration::from_secs(3600))).build().unwrap().layer(fleet);
    out_of_range => |fleet| BalanceLayer::new(pick_fn(|_, _| usize::MAX)).layer(fleet);
}

doors! { selects_in_call:
    hash => |fleet| BalanceLayer::new(Hash::by_classifier()).layer(fleet);
    failover_by_hash => |fleet| FailoverLayer::plain().strategy(Hash::by_classifier()).build().unwrap().layer(fleet);
}
