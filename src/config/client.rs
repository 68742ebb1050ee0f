//! What a file puts around the client of each backend.

use std::net::SocketAddr;

use http::Uri;
use tower_layer::Layer;

use crate::upstream::{
    Upstream, UpstreamLayer,
    json::{JsonEdit, JsonEditLayer},
};

/// The service of a backend that a file configures: the client `S`, and around it what the file sets for its requests.
///
/// ```
/// # use tower_fleet::{Failover, Fleet, config::Client};
/// # struct HttpClient;
/// /// The state of an application that serves by a file.
/// struct App {
///     door: Failover<Client<HttpClient>>,
///     fleet: Fleet<Client<HttpClient>>,
/// }
/// ```
pub type Client<S> = JsonEdit<Upstream<S>>;

/// The [`Layer`] that makes a [`Client`]: how the requests of one backend are rewritten and edited.
///
/// [`Config::fleet`](super::Config::fleet) puts it around each client. For a backend that is inserted later, it is made of an
/// [`UpstreamLayer`]:
///
/// ```
/// # use tower_fleet::{Backend, InvalidSetting, UpstreamLayer, config::ClientLayer};
/// # fn backend<S>(client: S) -> Result<Backend<tower_fleet::config::Client<S>>, InvalidSetting> {
/// let upstream = UpstreamLayer::new().origin("https://api.example.com")?;
/// let backend = Backend::new("spare", client).layer(ClientLayer::from(upstream));
/// # Ok(backend)
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use = "a layer does nothing until it is given a service"]
pub struct ClientLayer {
    upstream: UpstreamLayer,
    json: JsonEditLayer,
}

impl ClientLayer {
    /// Sets the edits of JSON bodies. Default none.
    pub fn json(mut self, edit: JsonEditLayer) -> Self {
        self.json = edit;
        self
    }

    /// Returns what rewrites the head of a request.
    pub fn upstream(&self) -> &UpstreamLayer {
        &self.upstream
    }

    /// Returns what edits the JSON body of a request.
    pub fn json_edit(&self) -> &JsonEditLayer {
        &self.json
    }

    /// Returns the URI that requests are sent to: [`UpstreamLayer::target`].
    pub fn target(&self) -> Option<Uri> {
        self.upstream.target()
    }

    /// Returns the address at which the origin is reached, if one is set: [`UpstreamLayer::endpoint`].
    pub fn endpoint(&self) -> Option<SocketAddr> {
        self.upstream.endpoint()
    }

    /// The same layer with another one for the heads of requests.
    #[cfg(feature = "dns")]
    pub(super) fn map_upstream(mut self, change: impl FnOnce(UpstreamLayer) -> UpstreamLayer) -> Self {
        self.upstream = change(self.upstream);
        self
    }
}

impl From<UpstreamLayer> for ClientLayer {
    fn from(upstream: UpstreamLayer) -> Self {
        Self { upstream, json: JsonEditLayer::new() }
    }
}

impl<S> Layer<S> for ClientLayer {
    type Service = Client<S>;

    fn layer(&self, inner: S) -> Client<S> {
        self.json.layer(self.upstream.layer(inner))
    }
}
