//! An exchange on a server of Valkey or Redis.

mod bounded;
mod connect;
mod link;
mod script;
mod store;
mod wire;

pub use self::{
    link::{ValkeyLink, ValkeyNews},
    store::ValkeyStore,
};
