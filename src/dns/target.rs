//! What is looked up: a host with a port, or a service.

use std::net::{IpAddr, SocketAddr};

use hickory_resolver::proto::rr::Name;

use crate::setting::InvalidSetting;

/// What is looked up.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Target {
    /// Not looked up.
    Literal(SocketAddr),
    Host(HostName, u16),
    Service(HostName),
}

/// A name of at most 253 ASCII letters, digits, `-`, `_` and `.`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct HostName {
    /// In lower case, without a final dot.
    pub(super) text: String,
    /// It had a final dot, so no search domain is appended.
    pub(super) is_absolute: bool,
}

const NOT_AN_ADDRESS: &str = "must be a name or an IP address with a port, such as api.internal:8080 or [::1]:8080";

impl Target {
    /// Parses a host and a port.
    pub(super) fn host(address: &str) -> Result<Self, InvalidSetting> {
        let refuse = |reason| refused("address", address, reason);
        if let Ok(literal) = address.parse::<SocketAddr>() {
            return match literal.port() {
                0 => Err(refuse("must have a port from 1 to 65535")),
                _ => Ok(Self::Literal(SocketAddr::new(literal.ip().to_canonical(), literal.port()))),
            };
        }
        let (host, port) = address.rsplit_once(':').ok_or_else(|| refuse(NOT_AN_ADDRESS))?;
        let host = HostName::new(host).map_err(|reason| match host.contains(':') || host.is_empty() {
            true => refuse(NOT_AN_ADDRESS),
            false => refuse(reason),
        })?;
        let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        match port.parse() {
            Ok(port) if is_number && port > 0 => Ok(Self::Host(host, port)),
            _ => Err(refuse("must have a port from 1 to 65535")),
        }
    }

    /// Parses the name of a service.
    pub(super) fn service(name: &str) -> Result<Self, InvalidSetting> {
        let refuse = |reason| refused("service", name, reason);
        if name.contains(':') {
            return Err(refuse("must be a name without a port: the SRV records have ports"));
        }
        HostName::new(name).map(Self::Service).map_err(refuse)
    }

    /// Returns the name without a port.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Literal(address) => address.ip().to_string(),
            Self::Host(host, _) | Self::Service(host) => host.text.clone(),
        }
    }
}

/// A URL may hold a password, so its value is not shown.
fn refused(field: &'static str, value: &str, reason: &'static str) -> InvalidSetting {
    if value.contains(['@', '/', '?', '#']) {
        return InvalidSetting::without_value("dns", field, "must be a name without scheme, user, path and query");
    }
    InvalidSetting::of("dns", field, value, reason)
}

impl HostName {
    /// Checks a name. The error is what it must be.
    fn new(name: &str) -> Result<Self, &'static str> {
        let (text, is_absolute) = name.strip_suffix('.').map_or((name, false), |text| (text, true));
        let is_label = |label: &str| {
            let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
            (1..=63).contains(&label.len()) && label.bytes().all(is_safe)
        };
        let last = text.rsplit('.').next().unwrap_or_default();
        if !text.is_ascii() {
            Err("must be ASCII: write an international name in its form with xn--")
        } else if text.len() > 253 || !text.split('.').all(is_label) {
            Err("must be a name of at most 253 letters, digits, - and _, in labels of 1 to 63")
        } else if text.parse::<IpAddr>().is_ok() || last.bytes().all(|byte| byte.is_ascii_digit()) {
            Err("must be a name, or a valid IP address with a port")
        } else {
            Ok(Self { text: text.to_ascii_lowercase(), is_absolute })
        }
    }

    /// Returns a name of an answer as text, without a final dot. `None` if it is not the name of a host.
    pub(super) fn of_answer(name: &Name) -> Option<String> {
        Self::new(&name.to_ascii()).ok().map(|name| name.text)
    }

    /// Returns the names to be looked up, one after the other until one exists: as glibc does.
    pub(super) fn candidates(&self, search: &[Name], ndots: usize) -> Vec<Name> {
        let Ok(mut name) = Name::from_ascii(&self.text) else { return Vec::new() };
        let domains = if self.is_absolute { &[] } else { search };
        let appended = domains.iter().filter_map(|domain| name.clone().append_domain(domain).ok());
        let mut candidates: Vec<_> = appended.collect();
        name.set_fqdn(true);
        let has_dots = self.text.matches('.').count() >= ndots;
        candidates.insert(if has_dots { 0 } else { candidates.len() }, name);
        candidates.iter_mut().for_each(|name| name.set_fqdn(true));
        candidates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // C58, C63
    #[test]
    fn what_is_no_name_with_a_port_is_refused() {
        let long = format!("{}:80", ["a"; 127].join("."));
        assert!(Target::host(&long).is_ok());
        let longer = format!("a.{long}");
        let label = format!("{}.internal:80", "a".repeat(64));
        for bad in [
            "",
            ":",
            ":80",
            "api",
            "api:",
            "api:0",
            "api:65536",
            "api:+80",
            "api:-1",
            "api:80x",
            "::1",
            "[::1]",
            "[::1]:0",
            "10.0.0.1",
            "10.0.0.1:0",
            "10.0.0.256:80",
            "10.0.0:80",
            "a b:80",
            "a..b:80",
            ".a:80",
            "..:80",
            ".:80",
            "*.a:80",
            "bücher.example:80",
            "a\u{0}b:80",
            "a\n:80",
            "fe80::1%eth0:80",
            &longer,
            &label,
        ] {
            let error = Target::host(bad).expect_err(bad);
            assert_eq!(error.field(), "address", "{bad}: {error}");
            assert!(error.to_string().starts_with("dns: address "), "{error}");
        }
        for bad in ["", ".", "_grpc._tcp.api:8080", "a b", "10.0.0.1"] {
            assert_eq!(Target::service(bad).expect_err(bad).field(), "service");
        }
    }

    // C59
    #[test]
    fn a_refused_url_does_not_show_its_password() {
        for url in ["http://user:hunter2@api:80", "user:hunter2@api:80", "dns://x/?token=hunter2", "x:hunter2@:1"] {
            for error in [Target::host(url).expect_err(url), Target::service(&url.replace(':', "")).expect_err(url)] {
                assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
            }
        }
    }

    // C56
    #[test]
    fn addresses_need_no_lookup_and_names_are_in_lower_case() {
        let literal = |text: &str| match Target::host(text) {
            Ok(Target::Literal(address)) => address.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(literal("10.0.0.1:80"), "10.0.0.1:80");
        assert_eq!(literal("[::1]:443"), "[::1]:443");
        assert_eq!(literal("[::ffff:10.0.0.1]:80"), "10.0.0.1:80");
        let Ok(Target::Host(host, 8080)) = Target::host("API.Internal.:8080") else { panic!("a host") };
        assert_eq!((host.text.as_str(), host.is_absolute), ("api.internal", true));
    }

    // C56
    #[test]
    fn search_domains_are_appended_as_the_system_does() {
        let search =
            ["ns.svc.cluster.local.", "svc.cluster.local."].map(|name| Name::from_ascii(name).expect("a name"));
        let names = |name: &str, ndots| {
            let Ok(Target::Service(host)) = Target::service(name) else { panic!("{name}") };
            host.candidates(&search, ndots).iter().map(Name::to_ascii).collect::<Vec<_>>()
        };
        assert_eq!(names("api", 1), ["api.ns.svc.cluster.local.", "api.svc.cluster.local.", "api."]);
        assert_eq!(names("a.b", 1), ["a.b.", "a.b.ns.svc.cluster.local.", "a.b.svc.cluster.local."]);
        assert_eq!(names("a.b", 5)[2], "a.b.");
        assert_eq!(names("a.b.", 5), ["a.b."], "a final dot ends the search");
    }
}
