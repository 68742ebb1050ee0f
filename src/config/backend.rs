//! The entries of `[[backend]]`.

use std::collections::{BTreeMap, HashMap, HashSet};

use http::{
    HeaderName,
    header::{AUTHORIZATION, COOKIE, HOST, PROXY_AUTHORIZATION},
};
use serde::Deserialize;

use super::{
    Fault, Invalid,
    error::safe,
    units::Span,
    weight::{self, Weight},
};
use crate::{
    fleet::Backend,
    health::Status,
    setting::Field,
    shape::{InvalidShape, ShapeLayer},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    name: String,
    origin: Option<String>,
    #[serde(default)]
    weight: Weight,
    #[serde(default)]
    priority: i32,
    timeout: Option<Span>,
    #[serde(default)]
    status: Status,
    bearer: Option<String>,
    #[serde(default)]
    secrets: BTreeMap<String, String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    host: Option<String>,
    #[serde(default)]
    without: Vec<String>,
}

/// Looks a secret up by its name.
pub(super) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The backends of a fleet, each with the shape of its requests.
pub(super) fn backends(entries: Vec<Entry>, lookup: Lookup<'_>) -> Result<Vec<Backend<ShapeLayer>>, Invalid> {
    let weights: Vec<_> = entries.iter().map(|entry| entry.weight).collect();
    let mut names = HashMap::new();
    let mut backends = Vec::new();
    for ((index, entry), weight) in entries.into_iter().enumerate().zip(weight::whole(&weights)) {
        let backend = entry.backend(index, weight, lookup)?;
        if let Some(first) = names.insert(backend.name().to_owned(), index) {
            let fault =
                Fault::new(format_args!("`{}`", backend.name()), format_args!("is the name of backend[{first}]"));
            return Err(fault.at(format!("backend[{index}].name"), None));
        }
        backends.push(backend);
    }
    Ok(backends)
}

impl Entry {
    fn backend(self, index: usize, weight: u32, lookup: Lookup<'_>) -> Result<Backend<ShapeLayer>, Invalid> {
        let shape = self.shape(index, lookup)?;
        let mut backend =
            Backend::new(self.name.as_str(), shape).weight(weight).priority(self.priority).status(self.status);
        if let Some(Span(timeout)) = self.timeout {
            backend = backend.timeout(timeout);
        }
        match backend.checked() {
            Ok(_) => Ok(backend),
            Err(refused) if refused.field == Field::Timeout => {
                let fault = Fault::new(&refused.value, refused.reason());
                Err(fault.at(format!("backend[{index}].timeout"), Some(&self.name)))
            }
            // Weights are at least 1 by now, so it is the name.
            Err(refused) => {
                let fault = Fault::new(format_args!("`{}`", refused.value), refused.reason());
                Err(fault.at(format!("backend[{index}].name"), None))
            }
        }
    }

    fn shape(&self, index: usize, lookup: Lookup<'_>) -> Result<ShapeLayer, Invalid> {
        let at = |key: &str| {
            let path = format!("backend[{index}].{key}");
            move |fault: Fault| fault.at(path, Some(&self.name))
        };
        let mut shape = ShapeLayer::new();
        let mut set = Once::default();
        if let Some(origin) = &self.origin {
            shape = shape.origin(origin).map_err(unsendable).map_err(at("origin"))?;
        }
        if let Some(host) = &self.host {
            set.claim(HOST).map_err(at("host"))?;
            shape = shape.host(host).map_err(unsendable).map_err(at("host"))?;
        }
        if let Some(reference) = &self.bearer {
            set.claim(AUTHORIZATION).map_err(at("bearer"))?;
            let secret = Secret::find(reference, lookup).map_err(at("bearer"))?;
            shape = shape.bearer(&secret.value).map_err(|error| secret.unsendable(error)).map_err(at("bearer"))?;
        }
        for (name, reference) in &self.secrets {
            let at = || at(&format!("secrets.{}", safe(name)));
            set.claim(header(name).map_err(at())?).map_err(at())?;
            let secret = Secret::find(reference, lookup).map_err(at())?;
            shape = shape.secret(name, &secret.value).map_err(|error| secret.unsendable(error)).map_err(at())?;
        }
        for (name, value) in &self.headers {
            let at = || at(&format!("headers.{}", safe(name)));
            let header = header(name).map_err(at())?;
            // A file is copied, sent and committed, and these headers hold nothing but secrets.
            let keys = ["api-key", "x-api-key", "x-goog-api-key", "x-auth-token"];
            if matches!(header, AUTHORIZATION | PROXY_AUTHORIZATION | COOKIE) || keys.contains(&header.as_str()) {
                return Err(at()(Fault::nameless("is a secret: it belongs to `secrets`, as \"env:NAME\"")));
            }
            set.claim(header).map_err(at())?;
            shape = shape.header(name, value).map_err(unsendable).map_err(at())?;
        }
        for (index, name) in self.without.iter().enumerate() {
            let named =
                |error| Fault::new(format_args!("\"{}\"", safe(name)), "must be the name of a header").because(error);
            shape = shape.without(name).map_err(named).map_err(at(&format!("without[{index}]")))?;
        }
        Ok(shape)
    }
}

/// The headers that are set so far, whatever the key.
#[derive(Default)]
struct Once(HashSet<HeaderName>);

impl Once {
    fn claim(&mut self, header: HeaderName) -> Result<(), Fault> {
        let fault = Fault::nameless(format_args!("the header {header} is set twice"));
        if self.0.insert(header) { Ok(()) } else { Err(fault) }
    }
}

fn header(name: &str) -> Result<HeaderName, Fault> {
    HeaderName::try_from(name).map_err(|error| Fault::nameless("must have the name of a header").because(error))
}

/// The value is not shown: it may be a secret, if only by mistake.
fn unsendable(error: InvalidShape) -> Fault {
    Fault::nameless(format_args!("must be {}", error.needed)).because(error)
}

/// A secret, and where it came from.
struct Secret<'a> {
    variable: &'a str,
    value: String,
}

impl<'a> Secret<'a> {
    /// What `env:NAME` stands for. Anything else may be a secret itself, and is not shown.
    fn find(reference: &'a str, lookup: Lookup<'_>) -> Result<Self, Fault> {
        let variable = reference.trim().strip_prefix("env:").filter(|name| is_variable(name));
        let variable =
            variable.ok_or_else(|| Fault::nameless("must be a reference to a secret, such as \"env:API_KEY\""))?;
        match lookup(variable) {
            Some(value) if !value.is_empty() => Ok(Self { variable, value }),
            Some(_) => Err(Fault::nameless(format_args!("environment variable {variable} is empty"))),
            None => Err(Fault::nameless(format_args!("environment variable {variable} is not set"))),
        }
    }

    fn unsendable(&self, error: InvalidShape) -> Fault {
        Fault::nameless(format_args!("environment variable {} must be {}", self.variable, error.needed)).because(error)
    }
}

/// Most keys have letters that no name of a variable has: one that was put in its place is not shown.
fn is_variable(name: &str) -> bool {
    let fits = |letter: u8| letter.is_ascii_alphanumeric() || letter == b'_';
    name.len() <= 128 && name.bytes().all(fits) && name.bytes().next().is_some_and(|first| !first.is_ascii_digit())
}
