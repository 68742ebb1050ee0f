//! Rejections told apart by their body: what a response with an error status means, and which backend gets the request
//! next.

mod condition;
#[cfg(feature = "serde")]
mod intern;
#[cfg(feature = "json")]
mod preset;
mod rule;
mod rules;
mod setting;
#[cfg(test)]
mod tests;

#[cfg(feature = "serde")]
pub(crate) use self::{intern::intern, rules::Refused};
pub use self::{rule::Rejection, rules::Rejections};
