//! Every waiting reader is woken when the source has something, and only then.

use std::time::Duration;

use http_body_util::{BodyExt, StreamBody};

use super::*;

/// A source whose poll runs a closure.
struct Hooked(Box<Hook>);

type Hook = dyn FnMut(&mut Context<'_>) -> Poll<Option<Item>> + Send;

impl Body for Hooked {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        (self.0)(cx)
    }
}

/// Where a hook finds a reader of its own body.
type ReaderSlot = Arc<Mutex<Option<ReplayBody<Hooked>>>>;

fn hooked(hook: impl FnMut(&mut Context<'_>) -> Poll<Option<Item>> + Send + 'static) -> ReplayBody<Hooked> {
    ReplayBody::new(Hooked(Box::new(hook)))
}

// C33
#[tokio::test(start_paused = true)]
async fn two_tasks_read_data_as_it_arrives() {
    let (mut sender, receiver) = futures::channel::mpsc::channel::<Item>(1);
    let original = ReplayBody::new(StreamBody::new(receiver));
    let readers = [original.again().unwrap(), original].map(|body| tokio::spawn(body.collect()));
    for bytes in ["ab", "cd", "ef"] {
        tokio::time::sleep(Duration::from_secs(1)).await;
        sender.try_send(Ok(Frame::data(Bytes::from(bytes)))).unwrap();
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(sender);
    for reader in readers {
        assert_eq!(reader.await.unwrap().unwrap().to_bytes(), "abcdef");
    }
}

// C33
#[test]
fn all_waiting_readers_are_woken_by_the_source() {
    let source = TestSource::default();
    let original = ReplayBody::new(source.body());
    let mut readers = [(); 4].map(|()| (original.again().unwrap(), Arc::new(WakeCount::default())));
    for (reader, wakes) in &mut readers {
        assert!(poll_with(reader, wakes).is_pending());
    }
    assert!(readers.iter().all(|(_, wakes)| wakes.take() == 0), "no reader wakes itself");
    source.data("a");
    // The first three are slow: they are woken, but do not poll.
    assert!(readers.iter().all(|(_, wakes)| wakes.take() == 1));
    let (last, _) = &mut readers[3];
    assert_eq!(data(last), "a");
    assert!(poll(last).is_pending());
    source.end();
    assert!(matches!(poll(last), Poll::Ready(None)));
}

// C33
#[test]
fn a_waiting_reader_is_woken_after_the_last_to_poll_was_dropped() {
    let source = TestSource::default();
    let original = ReplayBody::new(source.body());
    let (mut waiting, mut dropped) = (original.again().unwrap(), original.again().unwrap());
    let wakes = Arc::new(WakeCount::default());
    assert!(poll_with(&mut waiting, &wakes).is_pending());
    assert!(poll(&mut dropped).is_pending());
    drop(dropped);
    source.data("a");
    assert_eq!(wakes.take(), 1);
    assert_eq!(data(&mut waiting), "a");
}

// C20
#[test]
fn a_dropped_reader_leaves_no_waker_behind() {
    let source = TestSource::default();
    let original = ReplayBody::new(source.body());
    let (mut first, mut second) = (original.again().unwrap(), original.again().unwrap());
    let wakes = [Arc::new(WakeCount::default()), Arc::new(WakeCount::default())];
    assert!(poll_with(&mut first, &wakes[0]).is_pending());
    assert!(poll_with(&mut second, &wakes[1]).is_pending());
    drop((second, first));
    assert_eq!(wakes.map(|wakes| Arc::strong_count(&wakes)), [1, 1]);
}

// C33
#[test]
fn a_frame_pulled_by_one_reader_wakes_the_others() {
    let source = TestSource::default();
    let original = ReplayBody::new(source.body());
    let (mut waiting, mut pulling) = (original.again().unwrap(), original.again().unwrap());
    let wakes = [Arc::new(WakeCount::default()), Arc::new(WakeCount::default())];
    assert!(poll_with(&mut waiting, &wakes[0]).is_pending());
    // The source has a frame, but has not woken the readers yet.
    source.state.lock().unwrap().items.push_back(Ok(Frame::data(Bytes::from("a"))));
    assert!(poll_with(&mut pulling, &wakes[1]).is_ready());
    assert_eq!((wakes[0].take(), wakes[1].take()), (1, 0), "the other reader, not the one that pulled");
    assert_eq!(data(&mut waiting), "a");
}

// C33
#[test]
fn the_latest_waker_of_a_reader_is_woken() {
    let source = TestSource::default();
    let original = ReplayBody::new(source.body());
    let mut reader = original.again().unwrap();
    let (old, new) = (Arc::new(WakeCount::default()), Arc::new(WakeCount::default()));
    assert!(poll_with(&mut reader, &old).is_pending());
    assert!(poll_with(&mut reader, &new).is_pending());
    source.data("a");
    assert_eq!((old.take(), new.take()), (0, 1));
}

// C33
#[test]
fn a_reader_that_comes_during_a_poll_is_woken() {
    for early in [false, true] {
        let slot = ReaderSlot::default();
        let wakes = Arc::new(WakeCount::default());
        let mut polls = 0;
        let original = hooked({
            let (slot, wakes) = (slot.clone(), wakes.clone());
            move |cx| {
                polls += 1;
                if polls > 2 {
                    return Poll::Ready(Some(Ok(Frame::data(Bytes::from("a")))));
                }
                if polls == 2 {
                    // As if another thread polled the second reader now: after the wake-up if `early`, or before it.
                    if early {
                        cx.waker().wake_by_ref();
                    }
                    let mut second = slot.lock().unwrap().take().unwrap();
                    assert!(poll_with(&mut second, &wakes).is_pending());
                    *slot.lock().unwrap() = Some(second);
                    if !early {
                        cx.waker().wake_by_ref();
                    }
                }
                Poll::Pending
            }
        });
        let mut first = original.again().unwrap();
        *slot.lock().unwrap() = Some(original.again().unwrap());
        assert!(poll(&mut first).is_pending());
        assert_eq!(wakes.take(), 1, "woken, although the first reader never polls again");
        assert_eq!(data(slot.lock().unwrap().as_mut().unwrap()), "a");
    }
}

// C33
#[test]
fn without_a_wake_up_from_the_source_no_reader_is_woken() {
    let slot = ReaderSlot::default();
    let wakes = Arc::new(WakeCount::default());
    let original = hooked({
        let (slot, wakes) = (slot.clone(), wakes.clone());
        move |_| {
            if let Some(mut second) = slot.lock().unwrap().take() {
                assert!(poll_with(&mut second, &wakes).is_pending());
            }
            Poll::Pending
        }
    });
    let mut first = original.again().unwrap();
    *slot.lock().unwrap() = Some(original.again().unwrap());
    let own = Arc::new(WakeCount::default());
    assert!(poll_with(&mut first, &own).is_pending());
    assert_eq!((own.take(), wakes.take()), (0, 0));
}

// C58
#[test]
fn a_source_may_drop_readers_while_it_is_polled() {
    let slot = ReaderSlot::default();
    let memory = ReplayMemory::new(ROOMY);
    let source = Hooked(Box::new({
        let slot = slot.clone();
        move |_| {
            drop(slot.lock().unwrap().take());
            Poll::Ready(Some(Ok(Frame::data(Bytes::from("a")))))
        }
    }));
    let original = ReplayBody::bounded(source, ROOMY, &memory);
    let mut first = original.again().unwrap();
    *slot.lock().unwrap() = Some(original);
    assert_eq!(data(&mut first), "a");
    assert_eq!(memory.used(), 0, "no other handle needs the frame");
    assert_eq!(first.again().unwrap_err(), Unreplayable::Begun);
    assert_eq!(data(&mut first), "a", "the only handle");
}

/// A waker that owns a reader, as the waker of a task does.
struct Owner(#[allow(dead_code, reason = "it is dropped")] ReplayBody<TestBody>);

impl Wake for Owner {
    fn wake(self: Arc<Self>) {}
}

// C58
#[test]
fn a_waker_may_drop_a_reader() {
    let source = TestSource::default();
    let original = ReplayBody::new(source.body());
    let mut reader = original.again().unwrap();
    for _ in 0..2 {
        let waker = Waker::from(Arc::new(Owner(original.again().unwrap())));
        let polled = Pin::new(&mut reader).poll_frame(&mut Context::from_waker(&waker));
        assert!(polled.is_pending(), "the second waker replaces the first, which drops a reader");
    }
    source.data("a");
    assert_eq!(data(&mut reader), "a");
}
