//! Backends behind TLS.

use std::sync::Arc;

use http::{Response, Version};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer},
};

use crate::{
    backend::Server,
    client::{Client, VERSIONS},
    process::{Setup, TempFile},
    text,
};

/// A server with a certificate of its own, and the certificate. It speaks what `protocols` says.
async fn secure(name: &'static str, protocols: &[&str]) -> (Server, TempFile) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let mut config = config.with_single_cert(vec![cert.der().clone()], key).unwrap();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let tls = TlsAcceptor::from(Arc::new(config));
    let server = Server::start_with(name, Some(tls), move |request| async move {
        Ok(Response::new(text(format!("{name} {:?}", request.version()))))
    });
    (server.await, TempFile::new("pem", &cert.pem()))
}

fn origin(server: &Server) -> String {
    format!("https://localhost:{}", server.address.port())
}

#[tokio::test]
async fn the_version_is_agreed_on_with_a_backend_that_is_trusted() {
    for (protocols, spoken) in [(&["h2", "http/1.1"][..], "HTTP/2.0"), (&["http/1.1"], "HTTP/1.1"), (&[], "HTTP/1.1")] {
        let (red, certificate) = secure("red", protocols).await;
        let trust = format!("ca = \"{}\"", certificate.path());
        let gateway = Setup::new().with("upstreams", &trust).origin("red", &origin(&red), "").start().await;
        for version in VERSIONS {
            let answer = Client::new(version).get(&gateway, "/").await;
            assert_eq!((answer.status().as_u16(), answer.body().as_ref()), (200, format!("red {spoken}").as_bytes()));
        }
    }
}

#[tokio::test]
async fn a_backend_that_is_not_trusted_is_not_asked() {
    let (red, _) = secure("red", &["h2", "http/1.1"]).await;
    let (_, other) = secure("other", &[]).await;
    let trust = format!("ca = \"{}\"", other.path());
    let gateway = Setup::new().with("upstreams", &trust).origin("red", &origin(&red), "").start().await;
    let answer = Client::new(Version::HTTP_11).get(&gateway, "/").await;
    assert_eq!(answer.status(), 502);
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    assert_eq!(red.connections(), 1, "it was tried");
}

// C27
#[tokio::test]
async fn a_backend_that_is_not_trusted_is_replaced_by_one_that_is() {
    let (red, _) = secure("red", &["h2"]).await;
    let (blue, certificate) = secure("blue", &["h2"]).await;
    let trust = format!("ca = \"{}\"", certificate.path());
    let setup = Setup::new().with("upstreams", &trust).origin("red", &origin(&red), "");
    let gateway = setup.origin("blue", &origin(&blue), "").start().await;
    let answer = Client::new(Version::HTTP_2).get(&gateway, "/").await;
    assert_eq!((answer.status().as_u16(), answer.body().as_ref()), (200, &b"blue HTTP/2.0"[..]));
}

// A name that the certificate is not for: trusted by the right hand, asked for by the wrong one.
#[tokio::test]
async fn a_certificate_is_for_the_name_that_was_asked_for() {
    let (red, certificate) = secure("red", &[]).await;
    let trust = format!("ca = \"{}\"", certificate.path());
    let wrong = format!("https://127.0.0.1:{}", red.address.port());
    let gateway = Setup::new().with("upstreams", &trust).origin("red", &wrong, "").start().await;
    assert_eq!(Client::new(Version::HTTP_11).get(&gateway, "/").await.status(), 502);
}
