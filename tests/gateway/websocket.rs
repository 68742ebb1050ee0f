//! A change of protocol: WebSocket through the gateway.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use futures::{SinkExt, StreamExt};
use http::Response;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_tungstenite::{
    WebSocketStream, accept_async, client_async,
    tungstenite::{self, Message},
};

use crate::{
    backend::{Server, closed_port},
    in_time,
    process::{Gateway, Setup},
    text, until,
};

/// Says back what it hears, and its name before it.
struct Parrot {
    name: &'static str,
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    /// Something for each conversation that is over.
    over: mpsc::UnboundedReceiver<()>,
}

impl Parrot {
    async fn start(name: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, connections) = (listener.local_addr().unwrap(), Arc::<AtomicUsize>::default());
        let (tell, over) = mpsc::unbounded_channel();
        let taken = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                taken.fetch_add(1, SeqCst);
                let tell = tell.clone();
                tokio::spawn(async move {
                    if let Ok(socket) = accept_async(socket).await {
                        talk(name, socket).await;
                    }
                    let _ = tell.send(());
                });
            }
        });
        Self { name, address, connections, over }
    }

    fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }
}

async fn talk(name: &str, mut socket: WebSocketStream<TcpStream>) {
    while let Some(Ok(message)) = socket.next().await {
        let said = match message {
            Message::Text(text) => Message::text(format!("{name}: {text}")),
            Message::Binary(_) => message,
            _ => continue,
        };
        if socket.send(said).await.is_err() {
            return;
        }
    }
}

async fn open(gateway: &Gateway) -> Result<WebSocketStream<TcpStream>, tungstenite::Error> {
    let socket = TcpStream::connect(gateway.address).await.unwrap();
    let url = format!("ws://{}/chat", gateway.address);
    in_time(client_async(url, socket)).await.map(|(socket, _)| socket)
}

async fn ask(socket: &mut WebSocketStream<TcpStream>, question: Message) -> Message {
    socket.send(question).await.unwrap();
    in_time(socket.next()).await.expect("an answer").unwrap()
}

#[tokio::test]
async fn a_conversation_is_with_one_backend() {
    let (mut red, blue) = (Parrot::start("red").await, Parrot::start("blue").await);
    let setup = Setup::new().with("failover", "mode = { hedged = \"1ms\" }");
    let gateway = setup.origin(red.name, &red.origin(), "").origin(blue.name, &blue.origin(), "").start().await;
    let mut socket = open(&gateway).await.unwrap();
    for number in 0..100 {
        let answer = ask(&mut socket, Message::text(number.to_string())).await;
        assert_eq!(answer, Message::text(format!("red: {number}")));
    }
    let large = Message::binary((0..3_000_000_u32).map(|byte| byte as u8).collect::<Vec<_>>());
    assert!(ask(&mut socket, large.clone()).await == large, "other bytes came back");
    socket.close(None).await.unwrap();
    in_time(red.over.recv()).await.expect("the backend hears of the end");
    assert_eq!((red.connections(), blue.connections()), (1, 0));
}

#[tokio::test]
async fn a_conversation_takes_the_place_of_a_connection() {
    let red = Parrot::start("red").await;
    let setup = Setup::new().with("server", "max_connections = 1");
    let gateway = setup.origin(red.name, &red.origin(), "").start().await;
    let mut first = open(&gateway).await.unwrap();
    let mut second = Box::pin(open(&gateway));
    for _ in 0..100 {
        assert_eq!(ask(&mut first, Message::text("?")).await, Message::text("red: ?"));
        assert!(futures::poll!(&mut second).is_pending(), "a second one is let in");
    }
    first.close(None).await.unwrap();
    drop(first);
    assert_eq!(ask(&mut second.await.unwrap(), Message::text("!")).await, Message::text("red: !"));
}

#[tokio::test]
async fn the_next_backend_is_tried_when_one_refuses() {
    let unavailable = Server::start("green", |_| async { Ok(Response::builder().status(503).body(text("not now"))?) });
    let (unavailable, red, blue) = (unavailable.await, Parrot::start("red").await, Parrot::start("blue").await);
    let gateway = Setup::new()
        .origin("dead", &format!("http://{}", closed_port().await), "")
        .backend(&unavailable)
        .origin(red.name, &red.origin(), "")
        .origin(blue.name, &blue.origin(), "")
        .start()
        .await;
    let mut socket = open(&gateway).await.unwrap();
    assert_eq!(ask(&mut socket, Message::text("who?")).await, Message::text("red: who?"));
    assert_eq!((unavailable.connections(), red.connections(), blue.connections()), (1, 1, 0));
}

#[tokio::test]
async fn the_end_of_either_side_is_the_end_of_the_other() {
    let mut red = Parrot::start("red").await;
    let gateway = Setup::new().origin(red.name, &red.origin(), "").start().await;
    let mut socket = open(&gateway).await.unwrap();
    ask(&mut socket, Message::text("hello")).await;
    drop(socket);
    in_time(red.over.recv()).await.expect("the backend hears of the client's departure");

    // And the other way round: a backend that hangs up after the handshake.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let gateway = Setup::new().origin("brief", &origin, "").start().await;
    tokio::spawn(async move { drop(accept_async(listener.accept().await.unwrap().0).await) });
    let mut socket = open(&gateway).await.unwrap();
    let end = in_time(socket.next()).await;
    assert!(matches!(end, None | Some(Err(_))), "{end:?}");
}

#[tokio::test]
async fn a_conversation_is_let_finish_when_the_gateway_stops() {
    let red = Parrot::start("red").await;
    let mut gateway = Setup::new().origin(red.name, &red.origin(), "").start().await;
    let mut socket = open(&gateway).await.unwrap();
    ask(&mut socket, Message::text("hello")).await;
    gateway.terminate();
    in_time(async { while TcpStream::connect(gateway.address).await.is_ok() {} }).await;
    assert_eq!(ask(&mut socket, Message::text("still?")).await, Message::text("red: still?"));
    assert!(gateway.is_running());
    drop(socket);
    let (status, said) = gateway.end().await;
    assert!(status.success(), "{status} {said}");
}

#[tokio::test]
async fn a_backend_that_stays_with_http_is_passed_on() {
    let red = Server::start("red", |_| async { Ok(Response::builder().status(400).body(text("no WebSocket here"))?) });
    let red = red.await;
    let gateway = Setup::new().backend(&red).start().await;
    let Err(tungstenite::Error::Http(answer)) = open(&gateway).await else { panic!("no WebSocket was offered") };
    assert_eq!(answer.status(), 400);
    until("the connection's end", || red.connections() == 1).await;
}
