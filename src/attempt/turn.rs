//! The turn of a search that waits for a slot.

use std::{sync::Arc, task::Context, time::Duration};

use tower::BoxError;
use tower_service::Service;

use super::{
    local::Local,
    ready::{Ready, Turn, Unready},
    scan::{AtLimit, Wanted},
    state::SearchState,
};
use crate::{
    fleet::{FleetCore, Granted, MemberInfo, Place, Progress},
    pick::Strategy,
};

/// Polls an instance of the backend that has a slot for the request, if there is one.
///
/// # Errors
///
/// The request has made room in the queue for one of a higher class.
pub(super) fn take_slot<S, C, P, X, Req>(
    turn: &mut Option<Box<Turn>>,
    state: &mut SearchState<S, C>,
    cx: &mut Context<'_>,
    local: &Local<S, C, P, X>,
    wanted: &Wanted<'_>,
) -> Result<Option<Ready<S, C>>, Unready>
where
    S: Service<Req> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    C: Clone + Send + Sync + 'static,
    P: Strategy,
    X: Clone,
{
    match turn.take().map(|turn| *turn) {
        None => Ok(None),
        Some(Turn::Waiter(mut waiter)) => {
            let found = waiter.hint().and_then(|position| state.poll_freed(cx, local, wanted, position, None));
            if found.is_none() && state.is_pending() {
                // Another task may have an instance that is ready.
                waiter.pass_on();
            }
            *turn = Some(Box::new(Turn::Waiter(waiter)));
            Ok(found)
        }
        Some(Turn::Place(place)) => match place.progress() {
            Progress::Evicted => Err(local.unready(false, true)),
            Progress::Waits => {
                *turn = Some(Box::new(Turn::Place(place)));
                Ok(None)
            }
            Progress::Served(granted) => {
                let member = granted.member().map(|member| (member.position(), member.id));
                let found = member.and_then(|(position, id)| state.poll_freed(cx, local, wanted, position, Some(id)));
                *turn = Some(Box::new(keep(granted, place, state, found.is_some())));
                Ok(found)
            }
        },
        Some(Turn::Granted(granted, place)) => {
            *turn = Some(Box::new(keep(granted, place, state, false)));
            Ok(None)
        }
    }
}

/// Keeps the slot that a request has got while its instance is ready or pending. Otherwise the slot is of no use, and
/// the request waits again, at its place.
fn keep<S, C>(granted: Granted, place: Place, state: &SearchState<S, C>, is_found: bool) -> Turn
where
    S: Clone + Send + Sync + 'static,
    C: Clone + Send + Sync + 'static,
{
    let is_of_use = |member: &Arc<MemberInfo>| member.health.is_eligible() && state.has_pending(member.id);
    if is_found || granted.member().is_some_and(is_of_use) {
        return Turn::Granted(granted, place);
    }
    granted.discard();
    place.put_back();
    Turn::Place(place)
}

/// Waits for a slot. Returns whether the search must look for one once more, and when it must look by itself. `None` if
/// the request is refused.
pub(super) fn wait_for_slot(
    turn: &mut Option<Box<Turn>>,
    at_limit: AtLimit,
    cx: &Context<'_>,
    core: &FleetCore,
) -> Option<(bool, Option<Duration>)> {
    if turn.is_none() {
        *turn = Some(Box::new(match at_limit {
            AtLimit::Queue(class) => Turn::Place(core.slots.line_up(class)?),
            AtLimit::Wait | AtLimit::Skip => Turn::Waiter(core.slots.join()),
        }));
    }
    match turn.as_deref_mut()? {
        Turn::Waiter(waiter) => Some((waiter.register(cx.waker()), Some(waiter.checks_turn_after()))),
        // It is given a slot, but for one that was of no use to another request.
        Turn::Place(place) => Some((place.register(cx.waker()), Some(CHECK))),
        // Its instance is pending.
        Turn::Granted(..) => Some((false, None)),
    }
}

/// How often a request in the queue looks for a slot by itself.
const CHECK: Duration = Duration::from_secs(1);
