//! Many backends, one dependable [`tower::Service`].
#![forbid(unsafe_code)]
#![warn(missing_docs)]
