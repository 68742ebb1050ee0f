//! What one backend is told, no other backend and no client comes to know.

use std::sync::{Arc, Mutex};

use http::{HeaderMap, Response, Version};

use crate::{
    backend::Server,
    client::{Client, VERSIONS, get},
    process::Setup,
    text,
};

type Heads = Arc<Mutex<Vec<HeaderMap>>>;

/// Keeps the heads of its requests.
async fn notary(name: &'static str, status: u16) -> (Server, Heads) {
    let heads = Heads::default();
    let kept = Arc::clone(&heads);
    let server = Server::start(name, move |request| {
        kept.lock().unwrap().push(request.headers().clone());
        async move { Ok(Response::builder().status(status).header("from", name).body(text(name))?) }
    });
    (server.await, heads)
}

fn seen(heads: &Heads) -> String {
    // `Debug` hides what is marked as a secret, so it is asked of each value.
    let heads = heads.lock().unwrap();
    assert_eq!(heads.len(), 1);
    heads[0].iter().map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap())).collect()
}

// C24, C25, C59
#[tokio::test]
async fn credentials_go_to_their_backend_only() {
    for version in VERSIONS {
        let ((red, at_red), (green, at_green), (blue, at_blue)) =
            (notary("red", 503).await, notary("green", 429).await, notary("blue", 200).await);
        let gateway = Setup::new()
            .with("server", "explain = true")
            .with("failover", "mode = \"sequential\"")
            .backend_with(&red, "bearer = \"env:RED_KEY\"")
            .backend_with(&green, "secrets = { \"api-key\" = \"env:GREEN_KEY\" }\nwithout = [\"authorization\"]")
            .backend_with(&blue, "headers = { x-tenant = \"blues\" }")
            .env("RED_KEY", "hush-red")
            .env("GREEN_KEY", "hush-green")
            .start()
            .await;
        let request =
            get(&gateway, "/").header("authorization", "Bearer the-clients").header("x-tenant", "the-clients");
        let answer = Client::new(version).ask(request.body(text("")).unwrap()).await;
        assert_eq!((answer.status().as_u16(), answer.body().as_ref()), (200, &b"blue"[..]));

        let (at_red, at_green, at_blue) = (seen(&at_red), seen(&at_green), seen(&at_blue));
        assert!(at_red.contains("authorization: Bearer hush-red\n"), "{at_red}");
        assert!(!at_red.contains("hush-green") && !at_red.contains("api-key"), "{at_red}");
        assert!(at_red.contains("x-tenant: the-clients\n") && !at_red.contains("Bearer the-clients"), "{at_red}");
        assert!(at_green.contains("api-key: hush-green\n"), "{at_green}");
        assert!(!at_green.contains("hush-red") && !at_green.contains("authorization"), "{at_green}");
        assert!(at_blue.contains("authorization: Bearer the-clients\n") && !at_blue.contains("hush"), "{at_blue}");
        assert!(at_blue.contains("x-tenant: blues\n"), "{at_blue}");
        assert_eq!(answer.headers().get_all("from").iter().collect::<Vec<_>>(), ["blue"], "C25");

        let told = format!("{answer:?}");
        gateway.terminate();
        let (_, said) = gateway.end().await;
        assert!(!told.contains("hush") && !said.contains("hush"), "C59: {told} {said}");
    }
}

// C59
#[tokio::test]
async fn nothing_secret_is_in_a_problem() {
    let dead = crate::backend::closed_port().await;
    let gateway = Setup::new()
        .with("server", "explain = true")
        .origin("red", &format!("http://{dead}/hush-path"), "bearer = \"env:RED_KEY\"")
        .env("RED_KEY", "hush-red")
        .start()
        .await;
    let request = get(&gateway, "/?key=hush-query").header("cookie", "hush-cookie").body(text("")).unwrap();
    let answer = Client::new(Version::HTTP_11).ask(request).await;
    assert_eq!(answer.status(), 502);
    let told = format!("{answer:?}");
    assert!(!told.contains("hush") && !told.contains(&dead.port().to_string()), "{told}");
    gateway.terminate();
    let (_, said) = gateway.end().await;
    assert!(!said.contains("hush"), "{said}");
}
