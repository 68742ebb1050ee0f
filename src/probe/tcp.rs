//! A probe that opens a TCP connection.

use std::fmt;

use tokio::net::{TcpStream, ToSocketAddrs};

use super::{check::Probe, error::ProbeError};
use crate::name::BackendName;

/// A probe that opens a TCP connection to a backend, and closes it.
///
/// It tells that a process listens, and no more: a process that hangs still listens. Prefer a request where the protocol
/// has one.
///
/// The service of the backend is not used, so its address is given by a closure. `None` fails the probe.
///
/// ```
/// use tower_fleet::probe::{Probes, TcpProbe};
///
/// // Where the names of the backends are their addresses, such as `10.0.0.7:6379`:
/// let probes = Probes::new(TcpProbe::new(|backend| Some(backend.to_string())));
/// ```
#[derive(Clone, Copy)]
pub struct TcpProbe<F>(F);

impl<F, A> TcpProbe<F>
where
    F: Fn(&BackendName) -> Option<A> + Send + Sync + 'static,
    A: ToSocketAddrs + Send,
{
    /// Creates a probe that connects to the address that the closure returns for a backend: a `SocketAddr`, or a text
    /// with host and port.
    pub fn new(address: F) -> Self {
        Self(address)
    }
}

impl<S: Send, F, A> Probe<S> for TcpProbe<F>
where
    F: Fn(&BackendName) -> Option<A> + Send + Sync + 'static,
    A: ToSocketAddrs + Send,
{
    fn probe(&self, backend: &BackendName, _service: S) -> impl Future<Output = Result<(), ProbeError>> + Send {
        let address = (self.0)(backend);
        async move {
            let Some(address) = address else { return Err(ProbeError::text("no address")) };
            TcpStream::connect(address).await.map(drop).map_err(ProbeError::new)
        }
    }
}

impl<F> fmt::Debug for TcpProbe<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpProbe").finish_non_exhaustive()
    }
}
