//! A probe by the gRPC health protocol.

use std::{fmt, pin::pin, sync::Arc};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::future::poll_fn;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, Version, header};
use http_body::Body;
use tower::BoxError;
use tower_service::Service;

use super::{
    check::Probe,
    error::ProbeError,
    http::{AGENT, OriginOf, send, uri},
    message::{self, Reply},
};
use crate::{name::BackendName, setting::InvalidSetting};

/// A probe by the [gRPC health protocol](https://grpc.io/docs/guides/health-checking/): it calls
/// `grpc.health.v1.Health/Check` through the backend's own client, and expects `SERVING`.
///
/// A server that answers `UNIMPLEMENTED` counts as well, as gRPC clients hold it (gRFC A17): it works, and has no health
/// service to tell more. All other statuses are failures, also `NOT_FOUND` for a service that the server does not know.
///
/// `B` is the request body that the client takes, made of the bytes of the message.
///
/// ```
/// # use bytes::Bytes;
/// use http_body_util::Full;
/// use tower_fleet::probe::{GrpcProbe, Probes};
///
/// // Of the whole server, for a client that takes `Full<Bytes>`:
/// let probes = Probes::new(GrpcProbe::<Full<Bytes>>::new());
/// // Of one service, for a client of tonic:
/// let probe = GrpcProbe::with_body(|message| tonic::body::Body::new(Full::new(message))).service("shop.v1.Cart")?;
/// # let _ = Probes::new(probe);
/// # Ok::<_, tower_fleet::InvalidSetting>(())
/// ```
pub struct GrpcProbe<B> {
    message: Bytes,
    service: String,
    origin: Option<OriginOf>,
    body: fn(Bytes) -> B,
}

const PATH: &str = "/grpc.health.v1.Health/Check";
const UNIMPLEMENTED: i32 = 12;
const UNKNOWN: i32 = 2;
/// Longer names of a service are typing errors.
const MAX_NAME: usize = 1024;
/// A message is seven bytes long. More than this is not the answer of a health service.
const MAX_MESSAGE: usize = 4 * 1024;

impl<B: From<Bytes>> GrpcProbe<B> {
    /// Creates a probe of the whole server, whose name is empty.
    pub fn new() -> Self {
        Self::with_body(B::from)
    }
}

impl<B: From<Bytes>> Default for GrpcProbe<B> {
    fn default() -> Self {
        Self::new()
    }
}

impl<B> GrpcProbe<B> {
    /// Creates a probe that makes its body with this function, from the bytes of the message.
    pub fn with_body(body: fn(Bytes) -> B) -> Self {
        Self { message: message::request(""), service: String::new(), origin: None, body }
    }

    /// Sets the service whose health counts, such as `shop.v1.Cart`. Default that of the whole server.
    ///
    /// # Errors
    ///
    /// A name of more than 1,024 bytes.
    pub fn service(mut self, name: &str) -> Result<Self, InvalidSetting> {
        if name.len() > MAX_NAME {
            return Err(InvalidSetting::of("probe", "service", name, "must have at most 1024 bytes"));
        }
        (self.message, self.service) = (message::request(name), name.to_owned());
        Ok(self)
    }

    /// Sets the origin of each backend, such as `http://10.0.0.7:50051`, for clients that require absolute URIs. Where
    /// the closure returns `None`, the URI has a path only.
    pub fn origin(mut self, origin: impl Fn(&BackendName) -> Option<Uri> + Send + Sync + 'static) -> Self {
        self.origin = Some(Arc::new(origin));
        self
    }

    fn request(&self, backend: &BackendName) -> Request<B> {
        let mut request = Request::new((self.body)(self.message.clone()));
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        let origin = self.origin.as_deref().and_then(|origin| origin(backend));
        *request.uri_mut() = uri(&Uri::from_static(PATH), origin);
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        // Required by the protocol, to detect proxies that lose trailers.
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(AGENT));
        request
    }
}

impl<S, B, R> Probe<S> for GrpcProbe<B>
where
    S: Service<Request<B>, Response = Response<R>, Error: Into<BoxError> + Send, Future: Send> + Send,
    B: Send + 'static,
    R: Body<Data: Send, Error: Into<BoxError>> + Send,
{
    fn probe(&self, backend: &BackendName, mut service: S) -> impl Future<Output = Result<(), ProbeError>> + Send {
        let request = self.request(backend);
        async move {
            let (head, body) = send(&mut service, request).await?.into_parts();
            if head.status != http::StatusCode::OK {
                return Err(ProbeError::status(head.status.as_u16()));
            }
            if !is_grpc(&head.headers) {
                return Err(ProbeError::text("the response is not gRPC"));
            }
            // A response without a message has its status in the head ("trailers-only").
            if let Some(code) = status(&head.headers) {
                return judge(code, &[]);
            }
            let (message, trailers) = read(body).await?;
            match trailers.as_ref().and_then(status) {
                Some(code) => judge(code, &message),
                None => Err(ProbeError::text("the response has no grpc-status")),
            }
        }
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map_or(&[][..], HeaderValue::as_bytes);
    let (start, rest) = kind.split_at_checked(b"application/grpc".len()).unwrap_or_default();
    start.eq_ignore_ascii_case(b"application/grpc") && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
}

/// Returns the `grpc-status`. An unreadable one is `UNKNOWN`, as for every gRPC client.
fn status(headers: &HeaderMap) -> Option<i32> {
    let code = headers.get("grpc-status")?;
    Some(code.to_str().ok().and_then(|code| code.trim().parse().ok()).unwrap_or(UNKNOWN))
}

fn judge(code: i32, message: &[u8]) -> Result<(), ProbeError> {
    match code {
        0 => match message::reply(message) {
            Reply::Serving => Ok(()),
            Reply::NotServing => Err(ProbeError::text("the service is not serving")),
            Reply::Malformed => Err(ProbeError::text("the response is malformed")),
        },
        UNIMPLEMENTED => Ok(()),
        code => Err(ProbeError::grpc(code)),
    }
}

/// Reads the message and the trailers, within a bound.
async fn read<R: Body<Error: Into<BoxError>>>(body: R) -> Result<(Bytes, Option<HeaderMap>), ProbeError> {
    let (mut body, mut message, mut frames) = (pin!(body), BytesMut::new(), 0);
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        let frame = match frame.map_err(ProbeError::new)?.into_data() {
            Ok(data) => data,
            Err(frame) => return Ok((message.freeze(), frame.into_trailers().ok())),
        };
        frames += 1;
        if message.len().saturating_add(frame.remaining()) > MAX_MESSAGE || frames > MAX_MESSAGE {
            return Err(ProbeError::text("the response is too long"));
        }
        message.put(frame);
    }
    Ok((message.freeze(), None))
}

impl<B> Clone for GrpcProbe<B> {
    fn clone(&self) -> Self {
        let Self { message, service, origin, body } = self;
        Self { message: message.clone(), service: service.clone(), origin: origin.clone(), body: *body }
    }
}

impl<B> fmt::Debug for GrpcProbe<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcProbe").field("service", &self.service).finish_non_exhaustive()
    }
}
