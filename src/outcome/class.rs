//! The priority class of a request, for a fleet whose backends are all full.

/// The priority class of a request: when all backends are at their limits, the requests of the highest class are served
/// first.
///
/// Only a fleet with [`WhenFull::Queue`](crate::WhenFull::Queue) reads it. Over HTTP it is an extension of the request,
/// set by a layer in front of the door:
///
/// ```
/// # use tower::{ServiceBuilder, service_fn};
/// use tower_fleet::PriorityClass;
///
/// # #[cfg(feature = "http")] {
/// # let door = service_fn(|_: http::Request<()>| async { Ok::<_, std::io::Error>(()) });
/// let door = ServiceBuilder::new()
///     .map_request(|mut request: http::Request<()>| {
///         let class = if request.uri().path() == "/health" { PriorityClass(255) } else { PriorityClass::NORMAL };
///         request.extensions_mut().insert(class);
///         request
///     })
///     .service(door);
/// # let _ = door;
/// # }
/// ```
///
/// For other requests, override [`Classify::class`](crate::outcome::Classify::class).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PriorityClass(pub u8);

impl PriorityClass {
    /// The class of a request without one: the middle, 128.
    pub const NORMAL: Self = Self(128);
}

impl Default for PriorityClass {
    fn default() -> Self {
        Self::NORMAL
    }
}
