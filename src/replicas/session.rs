//! One connection to the exchange: what is sent to it, and what it delivers.

use std::{
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll},
    time::Duration,
};

use futures::{
    future::poll_fn,
    stream::{Stream, StreamExt},
};
use tokio::time::{Sleep, sleep_until};

use super::{
    exchange::{ExchangeError, Link, News, Reports},
    local::{Ended, Local, yield_once},
    permits::Ask,
    requests::{Answer, Kind, Requests},
};
use crate::{
    fleet::{Change, FleetCore},
    foreign,
    name::BackendName,
    telemetry,
    time::{Clock, Moment},
};

/// One connection to the exchange.
pub(super) struct Session<'a, L, N> {
    link: Arc<L>,
    news: N,
    core: &'a Weak<FleetCore>,
    clock: Clock,
    local: &'a mut Local,
    name: &'a str,
    requests: Requests,
    /// The questions of the prober.
    asks: Vec<Ask>,
    /// Whether the time of the exchange is known.
    is_begun: bool,
    resync_at: Moment,
    ping_at: Moment,
    /// When refused hints are tried again, since something changed.
    retry_at: Option<Moment>,
    timer: Pin<Box<Sleep>>,
}

/// What happens next.
enum Event {
    Change(Change),
    Answer(Answer),
    News(News),
    Due,
}

/// The most backends of one request.
const BATCH: usize = 128;

/// How long changes are collected before refused hints are tried again.
const RETRY: Duration = Duration::from_millis(250);

/// After how many events the other tasks of the thread have their turn. An exchange may be ready at all times.
const TURNS: usize = 64;

impl<'a, L: Link, N: Stream<Item = News> + Unpin> Session<'a, L, N> {
    pub(super) fn new(
        link: L,
        news: N,
        core: &'a Weak<FleetCore>,
        clock: Clock,
        local: &'a mut Local,
        name: &'a str,
    ) -> Self {
        let requests = Requests::new(local.book.settings.timeout);
        let timer = Box::pin(sleep_until(clock.instant(Moment::NEVER)));
        Self {
            link: Arc::new(link),
            news,
            core,
            clock,
            local,
            name,
            requests,
            asks: Vec::new(),
            is_begun: false,
            resync_at: Moment::NEVER,
            ping_at: Moment::NEVER,
            retry_at: None,
            timer,
        }
    }

    /// Shares until the connection is lost. `answered` is called when the exchange has answered for some time.
    pub(super) async fn run(mut self, mut answered: impl FnMut()) -> Result<ExchangeError, Ended> {
        // Of no backend: for the time of the exchange.
        self.start_read(Vec::new());
        let lost = self.share(&mut answered).await;
        foreign::discard([self.news]);
        lost
    }

    async fn share(&mut self, answered: &mut impl FnMut()) -> Result<ExchangeError, Ended> {
        for turn in 1_usize.. {
            if turn.is_multiple_of(TURNS) {
                yield_once().await;
            }
            let event = poll_fn(|cx| self.poll_event(cx)).await?;
            let core = self.core.upgrade().ok_or(Ended)?;
            let now = self.clock.now();
            match event {
                Err(error) => return Ok(error),
                Ok(Event::Change(change)) => self.note(&core, &change, now),
                Ok(Event::Due) => self.process_due(&core, now),
                Ok(Event::Answer(Answer::Read(_, read))) if !self.is_begun => self.begin(&core, &read, now),
                Ok(Event::Answer(answer)) => {
                    if matches!(answer, Answer::Ponged) {
                        answered();
                    }
                    self.take(&core, answer, now);
                }
                // All reports are read after this.
                Ok(Event::News(_)) if !self.is_begun => {}
                Ok(Event::News(news)) => self.receive(&core, news, now),
            }
            if self.is_begun {
                self.start_requests(&core, now);
            }
        }
        Ok(ExchangeError::CLOSED)
    }

    fn begin(&mut self, core: &FleetCore, read: &Reports, now: Moment) {
        let settings = self.local.book.settings;
        self.is_begun = true;
        self.local.book.connected(core, read.now, now);
        // The replicas that have lost the exchange together do not repeat everything together.
        self.resync_at = now.after(settings.resync_every.mul_f64(0.5 + 0.5 * fastrand::f64()));
        self.ping_at = now.after(settings.timeout);
    }

    /// Starts the requests that there is something to ask for.
    fn start_requests(&mut self, core: &FleetCore, now: Moment) {
        if self.requests.is_idle(Kind::Merge) && !self.local.book.unreported.is_empty() {
            let (link, reports) = (Arc::clone(&self.link), self.local.book.take_unreported(BATCH));
            self.requests.start(Kind::Merge, async move { link.merge(reports).await.map(Answer::Merged) });
        }
        if self.requests.is_idle(Kind::Read) && !self.local.book.unread.is_empty() {
            let backends = self.local.book.take_unread(BATCH);
            self.start_read(backends);
        }
        if self.requests.is_idle(Kind::Return) && !self.local.book.returned.is_empty() {
            let (link, backends) = (Arc::clone(&self.link), self.local.book.take_returned(BATCH));
            self.requests
                .start(Kind::Return, async move { link.return_permits(backends).await.map(|()| Answer::Returned) });
        }
        if self.requests.is_idle(Kind::Ask) {
            self.asks.retain(Ask::is_waiting);
            // Half of a batch, so that many probes do not keep the circuits of requests waiting.
            let asks: Vec<_> = self.asks.drain(..self.asks.len().min(BATCH / 2)).collect();
            let mut backends: Vec<_> = asks.iter().map(|ask| ask.backend.clone()).collect();
            backends.extend(self.local.book.take_due(core, BATCH - asks.len(), now));
            if !backends.is_empty() {
                let (link, lease) = (Arc::clone(&self.link), self.local.book.settings.lease);
                self.requests.start(Kind::Ask, async move {
                    let times = link.take_permits(backends.clone(), lease).await?;
                    Ok(Answer::Permits(backends, times, asks))
                });
            }
        }
        if self.requests.is_idle(Kind::Ping) && now.reached(self.ping_at) {
            self.ping_at = now.after(self.local.book.settings.timeout);
            let link = Arc::clone(&self.link);
            self.requests.start(Kind::Ping, async move { link.ping().await.map(|()| Answer::Ponged) });
        }
    }

    fn start_read(&mut self, backends: Vec<BackendName>) {
        let link = Arc::clone(&self.link);
        self.requests.start(Kind::Read, async move {
            let reports = link.read(backends.clone()).await?;
            Ok(Answer::Read(backends, reports))
        });
    }

    /// News come last: a flood of them must not keep what the fleet itself changes from being reported.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Result<Event, ExchangeError>, Ended>> {
        if let Poll::Ready(answer) = self.requests.poll_answer(cx) {
            return Poll::Ready(Ok(answer.map(Event::Answer)));
        }
        if let Poll::Ready(change) = self.local.changes.poll_next_unpin(cx) {
            return Poll::Ready(change.map(|change| Ok(Event::Change(change))).ok_or(Ended));
        }
        // The others wait in their channel until these are asked.
        while self.asks.len() < BATCH
            && let Poll::Ready(Some(ask)) = self.local.asks.poll_recv(cx)
        {
            self.asks.push(ask);
            if self.requests.is_idle(Kind::Ask) {
                return Poll::Ready(Ok(Ok(Event::Due)));
            }
        }
        let due = self.due();
        if self.timer.deadline() != self.clock.instant(due) {
            self.timer.as_mut().reset(self.clock.instant(due));
        }
        if self.timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(Ok(Event::Due)));
        }
        let mut news = Poll::Ready(Err(ExchangeError::PANICKED));
        foreign::run(|| news = self.news.poll_next_unpin(cx).map(|news| news.ok_or(ExchangeError::CLOSED)));
        news.map(|news| Ok(news.map(Event::News)))
    }

    /// Returns when there is something to be done next.
    fn due(&self) -> Moment {
        if !self.is_begun {
            return Moment::NEVER;
        }
        // A request that is under way ends first.
        let ask = self.local.book.next_ask().filter(|_| self.requests.is_idle(Kind::Ask));
        let ping = Some(self.ping_at).filter(|_| self.requests.is_idle(Kind::Ping));
        [ask, ping, self.retry_at].into_iter().flatten().fold(self.resync_at, Moment::min)
    }

    fn process_due(&mut self, core: &FleetCore, now: Moment) {
        if self.retry_at.is_some_and(|at| now.reached(at)) {
            self.retry_at = None;
            self.local.book.retry(core, now);
        }
        if now.reached(self.resync_at) {
            self.resync_at = now.after(self.local.book.settings.resync_every);
            self.local.book.resync(core, now);
        }
    }

    fn note(&mut self, core: &FleetCore, change: &Change, now: Moment) {
        self.local.book.note(core, change, now);
        if !self.local.book.refused.is_empty() && self.retry_at.is_none() {
            self.retry_at = Some(now.after(RETRY));
        }
    }

    fn receive(&mut self, core: &FleetCore, news: News, now: Moment) {
        match news {
            News::Changed(reports) => {
                self.local.book.advance_clock(reports.now, now);
                self.local.book.apply_all(core, &reports.reports, now);
            }
            News::Missed => self.local.book.resync(core, now),
            News::Garbled if !self.local.has_garbled => {
                self.local.has_garbled = true;
                telemetry::report_garbled(self.name);
            }
            News::Garbled => {}
        }
    }

    fn take(&mut self, core: &FleetCore, answer: Answer, now: Moment) {
        match answer {
            Answer::Merged(reports) => {
                self.local.book.set_clock(reports.now, now);
                reports.reports.iter().for_each(|report| self.local.book.apply(core, report, now));
            }
            Answer::Read(backends, reports) => {
                self.local.book.set_clock(reports.now, now);
                self.local.book.apply_all(core, &reports.reports, now);
                self.local.book.restore(backends, &reports.reports);
            }
            Answer::Permits(backends, times, asks) => self.take_permits(core, &backends, &times, asks, now),
            Answer::Returned | Answer::Ponged => {}
        }
    }

    fn take_permits(
        &mut self,
        core: &FleetCore,
        backends: &[BackendName],
        times: &[Duration],
        asks: Vec<Ask>,
        now: Moment,
    ) {
        let of_prober = asks.len();
        // Without a time for it, each replica decides alone.
        let times = || times.iter().copied().chain(std::iter::repeat(Duration::ZERO));
        asks.into_iter().zip(times()).for_each(|(ask, time)| ask.answer(time.is_zero()));
        for (at, (backend, time)) in backends.iter().zip(times()).enumerate() {
            if time.is_zero() {
                self.local.book.note_permit(core, backend, now);
            } else if at >= of_prober {
                self.local.book.note_denial(core, backend, time, now);
            }
        }
    }
}
