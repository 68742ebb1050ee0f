//! Runs code of the crate's users whose panic must not cost the caller a result: wakers, destructors, subscribers.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use futures::{FutureExt, future::BoxFuture};

/// Runs a user's code. A panic ends here, after the panic hook has reported it.
///
/// For code that runs between the result of an operation and its return to the caller. The result is not that code's to
/// lose, and the caller may be unwinding already, so that a second panic would abort the process.
pub(crate) fn run(code: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(code))
        && let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(panic)))
    {
        // The payload of the first panic has panicked in its destructor.
        std::mem::forget(panic);
    }
}

/// Drops a user's values. Each on its own: a second panic in the destructor of one collection would abort the process.
pub(crate) fn discard<T>(values: impl IntoIterator<Item = T>) {
    values.into_iter().for_each(|value| run(|| drop(value)));
}

/// A future of a user, whose panics end here: while it is polled, and while it is dropped. After one, its output is
/// `None`.
pub(crate) struct Guarded<T>(Option<BoxFuture<'static, T>>);

impl<T> Guarded<T> {
    pub(crate) fn new(future: impl Future<Output = T> + Send + 'static) -> Self {
        Self(Some(future.boxed()))
    }
}

impl<T> Future for Guarded<T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let Some(future) = &mut self.0 else { return Poll::Pending };
        let mut polled = None;
        run(|| polled = Some(future.as_mut().poll(cx)));
        let output = match polled {
            Some(Poll::Pending) => return Poll::Pending,
            Some(Poll::Ready(output)) => Some(output),
            None => None,
        };
        discard(self.0.take());
        Poll::Ready(output)
    }
}

impl<T> Drop for Guarded<T> {
    fn drop(&mut self) {
        discard(self.0.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bomb<'a>(&'a std::cell::Cell<u32>);

    impl Drop for Bomb<'_> {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
            panic!("in a drop");
        }
    }

    // C58
    #[test]
    fn every_value_is_dropped_though_each_panics() {
        let dropped = std::cell::Cell::new(0);
        discard((0..3).map(|_| Bomb(&dropped)).collect::<Vec<_>>());
        assert_eq!(dropped.get(), 3);
    }

    // C58
    #[test]
    fn a_panic_whose_payload_panics_too_ends_here() {
        struct Payload;
        impl Drop for Payload {
            fn drop(&mut self) {
                panic!("in the payload");
            }
        }
        run(|| std::panic::panic_any(Payload));
    }
}
