//! Many backends, one dependable [`tower::Service`].
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod attempt;
pub mod balance;
pub mod fleet;
mod health;
pub mod pick;
mod telemetry;

#[doc(inline)]
pub use crate::{
    balance::{Balance, BalanceLayer},
    fleet::{Backend, Fleet},
    health::Status,
};
