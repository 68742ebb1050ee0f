//! The scripts on the server do what the replicas do.

use std::time::Duration;

use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use tower_fleet::{
    Backend, Fleet,
    fleet::BackendName,
    replicas::{Exchange, Link, News, Override, Report, Reports, Stamp, ValkeyStore},
};

use crate::{replica::SECOND, server::Server};

fn name(name: &str) -> BackendName {
    Fleet::plain().backend(Backend::new(name, ())).build().unwrap().snapshot()[0].name.clone()
}

/// A link, and its news, which are polled meanwhile.
async fn connect(server: &Server) -> (impl Link, impl futures::Stream<Item = News> + Unpin) {
    ValkeyStore::new(server.url()).unwrap().connect("search").await.unwrap()
}

/// Waits for an answer. The news drive the connection.
async fn answer<T>(news: &mut (impl futures::Stream<Item = News> + Unpin), request: impl Future<Output = T>) -> T {
    answer_and_news(news, request).await.0
}

/// Waits for an answer, and returns the news that came meanwhile.
async fn answer_and_news<T>(
    news: &mut (impl futures::Stream<Item = News> + Unpin),
    request: impl Future<Output = T>,
) -> (T, Vec<News>) {
    let (mut request, mut told) = (std::pin::pin!(request), Vec::new());
    loop {
        tokio::select! {
            answer = &mut request => return (answer, told),
            news = news.next() => told.push(news.expect("the connection is not lost")),
        }
    }
}

// C55, C69: on the server as in memory, whatever is in the keys.
#[tokio::test]
async fn the_server_merges_as_the_replicas_do() {
    let Some(server) = Server::start(&[]) else { return };
    let (link, mut news) = connect(&server).await;
    let Reports { now, .. } = answer(&mut news, link.read(Vec::new())).await.unwrap();
    let a = name("a");
    for garbage in ["SET K garbage", "LPUSH K 1", "SET K \"1 2 3 4\"", "SET K \"99999999999999999999999 1 1 1 1\""] {
        server.run("FLUSHALL");
        server.run(&garbage.replace('K', "tower-fleet:1:{search}:report:a"));
        let read = answer(&mut news, link.read(vec![a.clone()])).await.unwrap();
        assert_eq!(read.reports, [], "{garbage}");
        let mut report = Report::new(a.clone());
        report.epoch = 1;
        let merged = answer(&mut news, link.merge(vec![report.clone()])).await.unwrap();
        assert_eq!(merged.reports, [report], "{garbage}");
    }
    server.run("FLUSHALL");
    let mut random = fastrand::Rng::with_seed(7);
    let mut known = Report::new(a.clone());
    for _ in 0..300 {
        let mut report = Report::new(a.clone());
        let mut stamp = || now.after(Duration::from_millis(1000 * random.u64(0..8)));
        (report.open_until, report.cool_until) = (stamp(), stamp());
        let at = Stamp::from_millis(now.as_millis() - random.u64(0..8));
        report.operator = Override::from_code(at, random.u64(0..9)).unwrap();
        report.epoch = random.u64(0..4);
        let is_changed = known.merge(&report);
        let (merged, mut told) = answer_and_news(&mut news, link.merge(vec![report.clone(), report])).await;
        assert_eq!(merged.unwrap().reports, [known.clone(), known.clone()]);
        // A message comes before the answer of the script that published it, but may be read after it.
        told.extend(news.next().now_or_never().flatten());
        let changed: Vec<_> =
            told.into_iter().map(|news| if let News::Changed(it) = news { it.reports } else { vec![] }).collect();
        let expected = if is_changed { vec![vec![known.clone()]] } else { vec![] };
        assert_eq!(changed, expected);
    }
    // What no replica can mean is cut off.
    let mut absurd = Report::new(a.clone());
    (absurd.open_until, absurd.cool_until) = (Stamp::from_millis(u64::MAX), Stamp::from_millis(u64::MAX));
    absurd.operator = Override::from_code(Stamp::from_millis(u64::MAX), 1).unwrap();
    absurd.epoch = u64::MAX;
    let merged = answer(&mut news, link.merge(vec![absurd])).await.unwrap();
    let report = &merged.reports[0];
    assert!(report.open_until.since(merged.now) <= Report::HORIZON && report.open_until > merged.now);
    assert!(report.cool_until.since(merged.now) <= Report::HORIZON);
    assert!(report.operator.at().since(merged.now) <= SECOND);
}

// C55: one permit per backend, which ends with its lease.
#[tokio::test]
async fn one_replica_holds_the_permit() {
    let Some(server) = Server::start(&[]) else { return };
    let ((one, mut of_one), (two, mut of_two)) = (connect(&server).await, connect(&server).await);
    let [a, b] = ["a", "b"].map(name);
    let lease = 300 * Duration::from_millis(1);
    let both = vec![a.clone(), b.clone()];
    let none = [Duration::ZERO; 2];
    assert_eq!(answer(&mut of_one, one.take_permits(both.clone(), lease)).await.unwrap(), none);
    assert_eq!(answer(&mut of_one, one.take_permits(both.clone(), lease)).await.unwrap(), none, "it has them already");
    let held = answer(&mut of_two, two.take_permits(both.clone(), lease)).await.unwrap();
    assert!(held.iter().all(|time| !time.is_zero() && *time <= lease), "{held:?}");
    answer(&mut of_two, two.return_permits(both.clone())).await.unwrap();
    let held = answer(&mut of_two, two.take_permits(vec![a.clone()], lease)).await.unwrap();
    assert!(!held[0].is_zero(), "another replica cannot return it");
    answer(&mut of_one, one.return_permits(vec![a.clone()])).await.unwrap();
    assert_eq!(answer(&mut of_two, two.take_permits(vec![a], lease)).await.unwrap(), none[..1]);
    tokio::time::sleep(2 * lease).await;
    assert_eq!(answer(&mut of_two, two.take_permits(vec![b.clone()], lease)).await.unwrap(), none[..1]);
    // What is no permit is overwritten, and what has no expiry gets one.
    server.run("DEL tower-fleet:1:{search}:permit:b");
    server.run("LPUSH tower-fleet:1:{search}:permit:b 1");
    assert_eq!(answer(&mut of_two, two.take_permits(vec![b.clone()], lease)).await.unwrap(), none[..1]);
    server.run("SET tower-fleet:1:{search}:permit:b forever");
    let held = answer(&mut of_two, two.take_permits(vec![b.clone()], lease)).await.unwrap();
    assert_eq!(held, [lease]);
    tokio::time::sleep(2 * lease).await;
    assert_eq!(answer(&mut of_two, two.take_permits(vec![b], lease)).await.unwrap(), none[..1]);
}

// C55: requests may be dropped at any time, and many may run.
#[tokio::test]
async fn requests_may_be_dropped() {
    let Some(server) = Server::start(&[]) else { return };
    let (link, mut news) = connect(&server).await;
    let a = name("a");
    for _ in 0..100 {
        let _ = link.read(vec![a.clone()]).now_or_never();
    }
    let mut many: FuturesUnordered<_> = (0..100).map(|_| link.read(vec![a.clone()])).collect();
    for _ in 0..100 {
        assert!(answer(&mut news, many.next()).await.unwrap().is_ok());
    }
    assert!(answer(&mut news, link.ping()).await.is_ok());
}
