//! The keys of requests, for strategies that send equal keys to one backend.
//!
//! A [`KeySource`] says where the key of a request is. The classifier of a fleet knows the type of the requests, so it
//! reads the key: [`Classify::key`](crate::outcome::Classify::key). A key is a hash of 64 bits, the same in all replicas
//! and builds: [`hash_key`].

#[cfg(feature = "http")]
mod http;
mod source;
mod xxh64;

pub use self::source::KeySource;
#[cfg(feature = "http")]
pub use self::source::{Head, Peer};

/// Hashes a key: with XXH64, seed 0, which has the same value in every process and on every machine.
///
/// For keys that a closure or a [classifier](crate::outcome::keyed) makes. All bytes count, however many they are.
///
/// ```
/// # use tower_fleet::pick::hash_key;
/// assert_eq!(hash_key(b"user-17"), hash_key("user-17".as_bytes()));
/// assert_eq!(hash_key(b"abc"), 0x44BC_2CF5_AD77_0999);
/// ```
pub fn hash_key(key: &[u8]) -> u64 {
    xxh64::xxh64(key)
}
