//! Who waits is woken, and only then.

use std::time::Duration;

use http_body_util::{BodyExt, StreamBody};

use super::*;

/// A source that does whatever a test wants while it is polled.
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
type Place = Arc<Mutex<Option<ReplayBody<Hooked>>>>;

fn hooked(hook: impl FnMut(&mut Context<'_>) -> Poll<Option<Item>> + Send + 'static) -> ReplayBody<Hooked> {
    ReplayBody::new(Hooked(Box::new(hook)))
}

// C33
#[tokio::test(start_paused = true)]
async fn two_tasks_read_as_it_arrives() {
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
fn all_who_wait_are_woken_by_the_source() {
    let fed = Fed::default();
    let original = ReplayBody::new(fed.body());
    let mut readers = [(); 4].map(|()| (original.again().unwrap(), Arc::new(Flag::default())));
    for (reader, flag) in &mut readers {
        assert!(poll_with(reader, flag).is_pending());
    }
    assert!(readers.iter().all(|(_, flag)| flag.take() == 0), "nobody wakes itself");
    fed.data("a");
    // The first three are slow: they do not move although they were woken.
    assert!(readers.iter().all(|(_, flag)| flag.take() == 1));
    let (last, _) = &mut readers[3];
    assert_eq!(data(last), "a");
    assert!(poll(last).is_pending());
    fed.end();
    assert!(matches!(poll(last), Poll::Ready(None)));
}

// C33
#[test]
fn one_who_waits_need_not_be_the_one_that_polled_last() {
    let fed = Fed::default();
    let original = ReplayBody::new(fed.body());
    let (mut stays, mut goes) = (original.again().unwrap(), original.again().unwrap());
    let flag = Arc::new(Flag::default());
    assert!(poll_with(&mut stays, &flag).is_pending());
    assert!(poll(&mut goes).is_pending());
    drop(goes);
    fed.data("a");
    assert_eq!(flag.take(), 1);
    assert_eq!(data(&mut stays), "a");
}

// C20
#[test]
fn a_reader_that_goes_leaves_no_waker_behind() {
    let fed = Fed::default();
    let original = ReplayBody::new(fed.body());
    let (mut first, mut second) = (original.again().unwrap(), original.again().unwrap());
    let flags = [Arc::new(Flag::default()), Arc::new(Flag::default())];
    assert!(poll_with(&mut first, &flags[0]).is_pending());
    assert!(poll_with(&mut second, &flags[1]).is_pending());
    drop((second, first));
    assert_eq!(flags.map(|flag| Arc::strong_count(&flag)), [1, 1]);
}

// C33
#[test]
fn a_frame_pulled_by_one_wakes_the_others() {
    let fed = Fed::default();
    let original = ReplayBody::new(fed.body());
    let (mut waits, mut pulls) = (original.again().unwrap(), original.again().unwrap());
    let flags = [Arc::new(Flag::default()), Arc::new(Flag::default())];
    assert!(poll_with(&mut waits, &flags[0]).is_pending());
    // The source has a frame, and its wake-up is still on the way.
    fed.inner.lock().unwrap().items.push_back(Ok(Frame::data(Bytes::from("a"))));
    assert!(poll_with(&mut pulls, &flags[1]).is_ready());
    assert_eq!((flags[0].take(), flags[1].take()), (1, 0), "the others, not itself");
    assert_eq!(data(&mut waits), "a");
}

// C33
#[test]
fn a_waker_that_changed_is_the_one_that_is_woken() {
    let fed = Fed::default();
    let original = ReplayBody::new(fed.body());
    let mut reader = original.again().unwrap();
    let (old, new) = (Arc::new(Flag::default()), Arc::new(Flag::default()));
    assert!(poll_with(&mut reader, &old).is_pending());
    assert!(poll_with(&mut reader, &new).is_pending());
    fed.data("a");
    assert_eq!((old.take(), new.take()), (0, 1));
}

// C33
#[test]
fn one_who_comes_during_a_poll_waits_and_is_woken() {
    for early in [false, true] {
        let place = Place::default();
        let flag = Arc::new(Flag::default());
        let mut polls = 0;
        let original = hooked({
            let (place, flag) = (place.clone(), flag.clone());
            move |cx| {
                polls += 1;
                if polls > 2 {
                    return Poll::Ready(Some(Ok(Frame::data(Bytes::from("a")))));
                }
                if polls == 2 {
                    // As when another thread polls the second reader now: before the wake-up, or
                    // right after it.
                    if early {
                        cx.waker().wake_by_ref();
                    }
                    let mut second = place.lock().unwrap().take().unwrap();
                    assert!(poll_with(&mut second, &flag).is_pending());
                    *place.lock().unwrap() = Some(second);
                    if !early {
                        cx.waker().wake_by_ref();
                    }
                }
                Poll::Pending
            }
        });
        let mut first = original.again().unwrap();
        *place.lock().unwrap() = Some(original.again().unwrap());
        assert!(poll(&mut first).is_pending());
        assert_eq!(flag.take(), 1, "although the first reader never polls again");
        assert_eq!(data(place.lock().unwrap().as_mut().unwrap()), "a");
    }
}

// C33
#[test]
fn without_a_wake_up_from_the_source_nobody_is_woken() {
    let place = Place::default();
    let flag = Arc::new(Flag::default());
    let original = hooked({
        let (place, flag) = (place.clone(), flag.clone());
        move |_| {
            if let Some(mut second) = place.lock().unwrap().take() {
                assert!(poll_with(&mut second, &flag).is_pending());
            }
            Poll::Pending
        }
    });
    let mut first = original.again().unwrap();
    *place.lock().unwrap() = Some(original.again().unwrap());
    let own = Arc::new(Flag::default());
    assert!(poll_with(&mut first, &own).is_pending());
    assert_eq!((own.take(), flag.take()), (0, 0));
}

// C58
#[test]
fn a_source_may_drop_readers_while_it_is_polled() {
    let place = Place::default();
    let memory = ReplayMemory::new(ROOMY);
    let source = Hooked(Box::new({
        let place = place.clone();
        move |_| {
            drop(place.lock().unwrap().take());
            Poll::Ready(Some(Ok(Frame::data(Bytes::from("a")))))
        }
    }));
    let original = ReplayBody::bounded(source, ROOMY, &memory);
    let mut first = original.again().unwrap();
    *place.lock().unwrap() = Some(original);
    assert_eq!(data(&mut first), "a");
    assert_eq!(memory.used(), 0, "nobody is left to keep it for");
    assert_eq!(first.again().unwrap_err(), Unreplayable::Begun);
    assert_eq!(data(&mut first), "a", "alone now");
}

/// A waker that, like that of a task, owns a reader.
struct Owner(#[allow(dead_code, reason = "it is dropped")] ReplayBody<FedBody>);

impl Wake for Owner {
    fn wake(self: Arc<Self>) {}
}

// C58
#[test]
fn a_waker_may_drop_a_reader() {
    let fed = Fed::default();
    let original = ReplayBody::new(fed.body());
    let mut reader = original.again().unwrap();
    for _ in 0..2 {
        let waker = Waker::from(Arc::new(Owner(original.again().unwrap())));
        let polled = Pin::new(&mut reader).poll_frame(&mut Context::from_waker(&waker));
        assert!(polled.is_pending(), "the second replaces the first, which drops a reader");
    }
    fed.data("a");
    assert_eq!(data(&mut reader), "a");
}
