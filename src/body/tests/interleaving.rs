//! In any interleaving, each reader gets the whole body or an error.

use std::{sync::mpsc, time::Duration};

use fastrand::Rng;
use http_body_util::{BodyExt, StreamBody};

use super::*;

/// The items of a source, and what they add up to.
struct Script {
    items: Vec<Item>,
    bytes: Vec<u8>,
    trailers: bool,
    fails: bool,
}

/// A frame: mostly a small one, sometimes one of a size at which frames are kept in another way, and all of its buffer or
/// a slice of it.
fn data(random: &mut Rng) -> Bytes {
    let around = |size: usize, random: &mut Rng| size + random.usize(0..3) - 1;
    let len = match random.usize(0..20) {
        0..2 => 0,
        2..4 => 1,
        4 => around(4 * 1024, random),
        5 => around(2 * 1024, random),
        6 if random.bool() => around(64 * 1024, random),
        _ => random.usize(0..40),
    };
    let start = if random.bool() { 0 } else { random.usize(0..100) };
    let mut buffer = vec![0; start + len];
    random.fill(&mut buffer);
    Bytes::from(buffer).slice(start..)
}

impl Script {
    fn random(random: &mut Rng) -> Self {
        let mut script = Self { items: Vec::new(), bytes: Vec::new(), trailers: false, fails: false };
        for _ in 0..random.usize(0..12) {
            let frame = data(random);
            script.bytes.extend_from_slice(&frame);
            script.items.push(Ok(Frame::data(frame)));
        }
        match random.usize(0..4) {
            0 => {
                script.fails = true;
                script.items.push(Err("reset"));
            }
            1 | 2 => {
                script.trailers = true;
                script.items.push(Ok(Frame::trailers(trailers())));
            }
            _ => {}
        }
        script
    }

    /// Checks that a reader got a prefix of the body, and all of it unless it was dropped or got an error.
    fn check(&self, seed: u64, read: &Read) {
        assert!(self.bytes.starts_with(&read.bytes), "seed {seed}: {read:?}");
        if read.ended {
            assert!(!self.fails, "seed {seed}: a clean end of a body that failed");
            assert_eq!(read.bytes, self.bytes, "seed {seed}");
            assert_eq!(read.trailers.is_some(), self.trailers, "seed {seed}");
            assert!(read.error.is_none(), "seed {seed}");
        }
        if let Some(ReplayError::Source(_)) = read.error {
            assert!(self.fails, "seed {seed}");
            assert_eq!(read.bytes, self.bytes, "seed {seed}: the source fails after its last frame");
        }
    }
}

/// A reader with its waker, and what it has read.
struct Runner {
    body: ReplayBody<TestBody>,
    wakes: Arc<WakeCount>,
    read: Read,
    woken: bool,
    /// The size hint before the first poll.
    hint: SizeHint,
    /// Never polled again, even if it is woken.
    stuck: bool,
}

impl Runner {
    fn new(body: ReplayBody<TestBody>) -> Self {
        let (hint, wakes) = (body.size_hint(), Arc::default());
        Self { body, wakes, read: Read::default(), woken: true, hint, stuck: false }
    }

    fn is_over(&self) -> bool {
        self.read.ended || self.read.error.is_some()
    }

    /// Polls the reader if it was woken, as an executor does. Returns whether it was polled.
    fn step(&mut self) -> bool {
        self.woken |= self.wakes.take() > 0;
        if !self.woken || self.stuck || self.is_over() {
            return false;
        }
        let ends = self.body.is_end_stream();
        match poll_with(&mut self.body, &self.wakes) {
            Poll::Pending => self.woken = false,
            Poll::Ready(item) => {
                assert!(!ends || item.is_none(), "a frame after `is_end_stream`");
                self.read.take(item);
                self.check_hint();
            }
        }
        true
    }

    fn check_hint(&self) {
        let (now, read) = (self.body.size_hint(), self.read.bytes.len() as u64);
        if self.read.ended {
            assert_eq!(now.exact(), Some(0));
            assert!(self.hint.lower() <= read && self.hint.upper().is_none_or(|upper| read <= upper));
        } else if let (Some(whole), Some(rest)) = (self.hint.exact(), now.exact()) {
            assert_eq!(whole, read + rest, "read and remaining bytes add up to the length");
        }
    }
}

/// A limit and a memory, each of them large or small.
fn bounds(random: &mut Rng) -> (usize, ReplayMemory) {
    let mut bound = |small, large| match random.usize(0..4) {
        0 => random.usize(0..small),
        1 => random.usize(0..large),
        _ => ROOMY,
    };
    (bound(300, 10_000), ReplayMemory::new(bound(1_500, 20_000)))
}

fn simulate(seed: u64) -> Tally {
    let random = &mut Rng::with_seed(seed);
    let mut script = Script::random(random);
    let (limit, memory) = bounds(random);
    let source = TestSource::default();
    let mut body = source.body();
    if random.bool() {
        body = body.with_length(script.bytes.len() as u64);
    }
    let mut original = Some(ReplayBody::bounded(body, limit, &memory));
    let mut runners: Vec<Runner> = Vec::new();
    let mut coming: VecDeque<Item> = script.items.drain(..).collect();
    let mut done: Vec<Read> = Vec::new();

    for _ in 0..200 {
        match random.usize(0..12) {
            0 => coming.pop_front().map_or_else(|| source.end(), |item| source.item(item)),
            1 => {
                if let Some(body) = &original {
                    match body.again() {
                        Ok(body) => runners.push(Runner::new(body)),
                        Err(reason) => assert_eq!(body.unreplayable(), Some(reason), "seed {seed}"),
                    }
                }
            }
            2 if random.usize(0..8) == 0 => runners.extend(original.take().map(Runner::new)),
            2 if random.usize(0..30) == 0 => original = None,
            3 if !runners.is_empty() && random.usize(0..6) == 0 => {
                let dropped = runners.swap_remove(random.usize(0..runners.len()));
                done.push(dropped.read);
            }
            4 if !runners.is_empty() && random.usize(0..8) == 0 => {
                let at = random.usize(0..runners.len());
                runners[at].stuck = true;
            }
            _ if !runners.is_empty() => {
                let at = random.usize(0..runners.len());
                runners[at].step();
            }
            _ => {}
        }
        assert!(memory.used() <= memory.limit());
    }
    // The source gets the rest of its items. All readers that are not stuck come to an end by wake-ups alone.
    runners.extend(original.take().map(Runner::new));
    for item in coming {
        source.item(item);
    }
    source.end();
    while runners.iter_mut().any(Runner::step) {}
    for runner in &runners {
        assert!(runner.stuck || runner.is_over(), "seed {seed}: a lost wake-up");
    }
    done.extend(runners.into_iter().map(|runner| runner.read));
    let mut tally = Tally::default();
    for read in &done {
        script.check(seed, read);
        let is_outgrown = matches!(read.error, Some(ReplayError::NotKept(_)));
        assert!(!is_outgrown || limit < ROOMY || memory.limit() < ROOMY, "seed {seed}: no bound was reached");
        tally.whole += usize::from(read.ended);
        tally.outgrown += usize::from(is_outgrown);
        tally.failed += usize::from(matches!(read.error, Some(ReplayError::Source(_))));
    }
    assert_eq!(memory.used(), 0, "seed {seed}");
    assert!(source.is_dropped(), "seed {seed}");
    tally
}

/// How many readers ended in which way. A test is of use only if all ways occur.
#[derive(Default)]
struct Tally {
    whole: usize,
    outgrown: usize,
    failed: usize,
}

// C33
#[test]
fn every_reader_of_a_random_schedule_gets_the_body_or_an_error() {
    let mut all = Tally::default();
    for seed in 0..4_000 {
        let tally = simulate(seed);
        all.whole += tally.whole;
        all.outgrown += tally.outgrown;
        all.failed += tally.failed;
    }
    assert!(all.whole > 1_000 && all.outgrown > 500 && all.failed > 500);
}

/// A body that yields the thread in every poll, so that polls of several readers overlap.
struct Yielding<B>(B);

impl<B: Body + Unpin> Body for Yielding<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        std::thread::yield_now();
        let polled = Pin::new(&mut self.0).poll_frame(cx);
        std::thread::yield_now();
        polled
    }
}

/// Reads a body on several threads. Returns what each reader has read.
fn read_on_threads(seed: u64, script: &mut Script, memory: &ReplayMemory, limit: usize) -> Vec<Read> {
    let mut random = Rng::with_seed(seed);
    let (mut sender, receiver) = futures::channel::mpsc::channel::<Item>(1);
    let original = ReplayBody::bounded(Yielding(StreamBody::new(receiver)), limit, memory);
    let (reads, results) = mpsc::channel();
    let count = random.usize(1..4);
    let mut bodies: Vec<_> = (0..count).map_while(|_| original.again().ok()).collect();
    bodies.push(original);
    let expected = bodies.len();
    for (index, mut body) in bodies.into_iter().enumerate() {
        let mut random = Rng::with_seed(seed.wrapping_mul(31).wrapping_add(index as u64));
        let reads = reads.clone();
        std::thread::spawn(move || {
            let dropped_after = (random.usize(0..4) == 0).then(|| random.usize(0..6));
            let read = futures::executor::block_on(async {
                let mut read = Read::default();
                let mut frames = 0;
                while dropped_after != Some(frames) && read.take(body.frame().await) {
                    frames += 1;
                    if random.bool() {
                        std::thread::yield_now();
                    }
                }
                read
            });
            drop(body);
            reads.send(read).unwrap();
        });
    }
    let items: Vec<Item> = script.items.drain(..).collect();
    std::thread::spawn(move || {
        futures::executor::block_on(async {
            use futures::SinkExt;
            for item in items {
                if random.bool() {
                    std::thread::yield_now();
                }
                // All readers may have been dropped.
                let _ = sender.send(item).await;
            }
        });
    });
    let wait = || results.recv_timeout(Duration::from_secs(60)).expect("every reader ends");
    (0..expected).map(|_| wait()).collect()
}

// C33
#[test]
fn every_reader_on_its_own_thread_gets_the_body_or_an_error() {
    for seed in 0..300 {
        let mut random = Rng::with_seed(seed);
        let mut script = Script::random(&mut random);
        let (limit, memory) = bounds(&mut random);
        for read in read_on_threads(seed, &mut script, &memory, limit) {
            script.check(seed, &read);
        }
        assert_eq!(memory.used(), 0, "seed {seed}");
    }
}
