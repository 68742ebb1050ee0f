//! The section `[probe]`, and the probes that are made of it.

use bytes::Bytes;
use http::Method;
use serde::Deserialize;

use super::{
    ConfigError, ValueError,
    units::{Share, Span},
};
use crate::{
    fleet::BackendName,
    outcome::Statuses,
    probe::{GrpcProbe, HttpProbe, OnSuccess, Probe, ProbeError, Probes, Scope},
    setting::InvalidSetting,
};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Section {
    http: Option<String>,
    grpc: Option<String>,
    #[serde(default)]
    method: ProbeMethod,
    statuses: Option<Statuses>,
    interval: Option<Span>,
    jitter: Option<Share>,
    timeout: Option<Span>,
    unhealthy_after: Option<u32>,
    healthy_after: Option<u32>,
    max_concurrent: Option<usize>,
    #[serde(default)]
    scope: ProbeScope,
    #[serde(default)]
    on_success: Success,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
enum ProbeMethod {
    #[default]
    #[serde(rename = "GET")]
    Get,
    #[serde(rename = "HEAD")]
    Head,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ProbeScope {
    #[default]
    Out,
    All,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Success {
    #[default]
    HalfOpen,
    Close,
}

/// The probe of a file: an HTTP request, or the health protocol of gRPC.
///
/// Made by [`Config::probes`](super::Config::probes).
#[derive(Debug)]
pub struct FileProbe<B>(Kind<B>);

#[derive(Debug)]
enum Kind<B> {
    // Boxed, since it is much larger.
    Http(Box<HttpProbe<B>>),
    Grpc(GrpcProbe<B>),
}

impl<S, B> Probe<S> for FileProbe<B>
where
    S: Send,
    B: 'static,
    HttpProbe<B>: Probe<S>,
    GrpcProbe<B>: Probe<S>,
{
    async fn probe(&self, backend: &BackendName, service: S) -> Result<(), ProbeError> {
        match &self.0 {
            Kind::Http(probe) => probe.probe(backend, service).await,
            Kind::Grpc(probe) => probe.probe(backend, service).await,
        }
    }
}

impl Section {
    /// Checks the values.
    pub(super) fn checked(self) -> Result<Self, ConfigError> {
        match (&self.http, &self.grpc) {
            (None, None) => {
                return Err(ValueError::hidden("is missing: write http = \"/health\" or grpc = \"\"").at("probe", None));
            }
            (Some(_), Some(_)) => return Err(ValueError::hidden("must not stand beside `http`").at("probe.grpc", None)),
            _ => {}
        }
        self.probes::<Bytes>().and_then(|probes| probes.check()).map_err(at)?;
        Ok(self)
    }

    /// Makes the probes.
    pub(super) fn probes<B: From<Bytes> + 'static>(&self) -> Result<Probes<FileProbe<B>>, InvalidSetting> {
        let kind = match (&self.http, &self.grpc) {
            (Some(path), _) => {
                let method = match self.method {
                    ProbeMethod::Get => Method::GET,
                    ProbeMethod::Head => Method::HEAD,
                };
                let probe = HttpProbe::with_body(method, path, || B::from(Bytes::new()))?;
                Kind::Http(Box::new(match self.statuses {
                    Some(statuses) => probe.expect(statuses)?,
                    None => probe,
                }))
            }
            (None, service) => Kind::Grpc(GrpcProbe::new().service(service.as_deref().unwrap_or_default())?),
        };
        let mut probes = Probes::new(FileProbe(kind));
        if let Some(Span(interval)) = self.interval {
            probes = probes.interval(interval);
        }
        if let Some(Share(jitter)) = self.jitter {
            probes = probes.jitter(jitter);
        }
        if let Some(Span(timeout)) = self.timeout {
            probes = probes.timeout(timeout);
        }
        if let Some(failures) = self.unhealthy_after {
            probes = probes.unhealthy_after(failures);
        }
        if let Some(successes) = self.healthy_after {
            probes = probes.healthy_after(successes);
        }
        if let Some(probe_count) = self.max_concurrent {
            probes = probes.max_concurrent(probe_count);
        }
        probes = probes.scope(match self.scope {
            ProbeScope::Out => Scope::Out,
            ProbeScope::All => Scope::All,
        });
        Ok(probes.on_success(match self.on_success {
            Success::HalfOpen => OnSuccess::HalfOpen,
            Success::Close => OnSuccess::Close,
        }))
    }
}

fn at(refused: InvalidSetting) -> ConfigError {
    let key = match refused.field() {
        "uri" => "http",
        "expect" => "statuses",
        "service" => "grpc",
        field => field,
    };
    ValueError::new(refused.value(), refused.reason()).at(format!("probe.{key}"), None)
}
