use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll},
    time::Duration,
};

use futures::task::AtomicWaker;
use tokio::time::Sleep;
use tower_service::Service;

use super::Attempt;
use crate::{
    fleet::{BackendId, BackendName, Member, Shared},
    pick::{DEALT, Desk, Pick, Plan, Rng},
};

/// Looks for a backend that is ready now.
///
/// The strategy's choice is asked first. While it is pending the others of its tier are asked too, and the first that
/// is ready is taken; those that were asked keep their place in their queues until then.
pub(crate) struct Seek<S, P> {
    desk: Arc<Desk<S, P>>,
    plan: Arc<Plan<S, P>>,
    waiting: Waiting<S>,
    /// The one that was found last is to probe an open circuit, in this generation of it.
    probing: Option<u64>,
    rng: Rng,
}

/// What a request that found nobody ready keeps until somebody is.
struct Waiting<S> {
    asked: Vec<Asked<S>>,
    /// Rings when the fleet changes.
    bell: Option<Arc<AtomicWaker>>,
    /// Until an open circuit may be probed. Boxed, since a service is not pinned, and only who has to wait gets here.
    time: Option<Pin<Box<Sleep>>>,
}

/// An instance that was asked and is not ready yet. It does not count as in flight.
struct Asked<S> {
    id: BackendId,
    member: Weak<Member<S>>,
    service: S,
    trial: bool,
}

/// The very instance that was found ready.
pub(crate) struct Held<S> {
    member: Arc<Member<S>>,
    service: S,
}

/// What the search came to.
pub(crate) type Found<S, E> = Result<Held<S>, Box<Unready<E>>>;

/// Why nobody is ready, and waiting would not help. Handed out boxed, since every answer carries the room for it.
pub(crate) enum Unready<E> {
    /// The fleet is empty.
    NoBackends,
    /// Nobody is eligible among so many, and after so long somebody may be.
    NoneAvailable(usize, Option<Duration>),
    /// Everybody eligible said it will never be ready; this one last.
    Refused(BackendName, E),
}

impl<S> Held<S> {
    /// The backend and its ready instance, for whoever makes the call otherwise.
    pub(crate) fn into_parts(self) -> (Arc<Member<S>>, S) {
        (self.member, self.service)
    }

    pub(crate) fn call<Req>(mut self, request: Req) -> Attempt<S::Future, S>
    where
        S: Service<Req>,
    {
        Attempt::new(self.service.call(request), self.member)
    }
}

impl<S, P> Seek<S, P> {
    pub(crate) fn new(desk: Arc<Desk<S, P>>) -> Self {
        let plan = desk.plan();
        Self { desk, plan, waiting: Waiting::new(), probing: None, rng: Rng::new() }
    }

    pub(crate) fn fleet(&self) -> &Shared<S> {
        self.desk.fleet()
    }

    /// May a request that begins now still go to the one that was held for it?
    pub(crate) fn confirms(&self, held: &Held<S>) -> bool {
        !self.plan.is_retired() || {
            let health = &held.member.facts.health;
            // A probe is for the generation that it was admitted in.
            self.probing.map_or_else(
                || health.eligible(),
                |generation| health.is_healthy() && health.generation() == generation,
            )
        }
    }

    fn plan(&mut self) -> Arc<Plan<S, P>> {
        self.renew();
        Arc::clone(&self.plan)
    }

    fn renew(&mut self) {
        if self.plan.is_retired() {
            self.plan = self.desk.plan();
        }
    }
}

/// Looks anew: readiness is not carried over.
impl<S, P> Clone for Seek<S, P> {
    fn clone(&self) -> Self {
        let plan = if self.plan.is_retired() { self.desk.plan() } else { Arc::clone(&self.plan) };
        Self { desk: Arc::clone(&self.desk), plan, waiting: Waiting::new(), probing: None, rng: Rng::new() }
    }
}

impl<S: Clone + Send + Sync + 'static, P: Pick> Seek<S, P> {
    /// Ready with an instance to call, or with the reason why there is none. Pending only while everybody eligible is.
    #[inline]
    pub(crate) fn poll<Req>(&mut self, cx: &mut Context<'_>) -> Poll<Found<S, S::Error>>
    where
        S: Service<Req>,
    {
        self.renew();
        self.probing = None;
        if !self.waiting.asked.is_empty() || self.plan.roster().is_trial_due() {
            return self.search(cx, None);
        }
        let Some(member) = self.plan.choose(&mut self.rng) else { return self.search(cx, None) };
        let mut service = member.service.clone();
        match service.poll_ready(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(Held { member, service })),
            Poll::Ready(Err(error)) => self.search(cx, Some((member, error))),
            Poll::Pending => {
                self.waiting.asked.push(Asked::new(&member, service, false));
                drop(member);
                self.search(cx, None)
            }
        }
    }

    /// The way of a request whose first choice is not ready: everybody of the tier is asked.
    #[cold]
    fn search<Req>(
        &mut self,
        cx: &mut Context<'_>,
        refused: Option<(Arc<Member<S>>, S::Error)>,
    ) -> Poll<Found<S, S::Error>>
    where
        S: Service<Req>,
    {
        let mut refusals = Refusals { of: Vec::new(), last: None, outdated: false };
        if let Some((member, error)) = refused {
            refusals.note(&member, error);
        }
        // What it brings about itself is no news to it.
        if let Some(bell) = &self.waiting.bell {
            bell.take();
        }
        if self.waiting.asked.len() <= 1
            && let Some(held) = self.deal(cx, &mut refusals)
        {
            return self.waiting.over(held);
        }
        let mut is_listening = false;
        loop {
            let plan = self.plan();
            let mut unasked: HashMap<_, _> = plan.ids().collect();
            for id in &refusals.of {
                unasked.remove(id);
            }
            // Those who left the tier are not waited for.
            self.waiting.asked.retain(|asked| unasked.remove(&asked.id).is_some() || asked.may_probe());
            let mut index = 0;
            while index < self.waiting.asked.len() {
                match self.waiting.asked[index].service.poll_ready(cx) {
                    Poll::Pending => index += 1,
                    Poll::Ready(answer) => {
                        let Asked { member, service, trial, .. } = self.waiting.asked.swap_remove(index);
                        let Some(member) = member.upgrade() else { continue };
                        match answer {
                            Ok(()) => {
                                let held = self.take(member, service, trial);
                                return self.waiting.over(held);
                            }
                            Err(error) => refusals.note(&member, error),
                        }
                    }
                }
            }
            if let Some(held) = self.probe(cx, &plan) {
                return self.waiting.over(held);
            }
            for member in plan.order(unasked, &mut self.rng) {
                let mut service = member.service.clone();
                match service.poll_ready(cx) {
                    Poll::Ready(Ok(())) => return self.waiting.over(Held { member, service }),
                    Poll::Ready(Err(error)) => refusals.note(&member, error),
                    Poll::Pending => self.waiting.asked.push(Asked::new(&member, service, false)),
                }
            }
            if self.waiting.asked.is_empty() {
                if refusals.outdated {
                    self.desk.fleet().settle();
                }
                // The view may have changed while everybody was asked.
                if plan.is_retired() {
                    continue;
                }
                return Poll::Ready(Err(Box::new(match refusals.last {
                    Some((name, error)) => Unready::Refused(name, error),
                    None if plan.roster().backends() == 0 => Unready::NoBackends,
                    None => Unready::NoneAvailable(plan.roster().backends(), plan.roster().retry_after()),
                })));
            }
            // In this order, so that a change in between is not slept through, nor a permit that came back.
            self.waiting.bell.get_or_insert_with(|| self.desk.fleet().wait()).register(cx.waker());
            let may_probe = !std::mem::replace(&mut is_listening, true) && plan.roster().is_trial_due();
            if !plan.is_retired() && !may_probe && self.waiting.sleep(cx, plan.roster().until_trial()) {
                return Poll::Pending;
            }
        }
    }

    /// Somebody who is ready, in a few tries: the whole tier need not be looked at while one of its backends is not.
    fn deal<Req>(&mut self, cx: &mut Context<'_>, refusals: &mut Refusals<S::Error>) -> Option<Held<S>>
    where
        S: Service<Req>,
    {
        let plan = self.plan();
        if let Some(held) = self.probe(cx, &plan) {
            return Some(held);
        }
        for _ in 0..DEALT {
            let member = plan.choose(&mut self.rng)?;
            let id = member.facts.id;
            if refusals.of.contains(&id) || self.waiting.asked.iter().any(|asked| asked.id == id) {
                continue;
            }
            let mut service = member.service.clone();
            match service.poll_ready(cx) {
                Poll::Ready(Ok(())) => return Some(Held { member, service }),
                Poll::Ready(Err(error)) => refusals.note(&member, error),
                Poll::Pending => self.waiting.asked.push(Asked::new(&member, service, false)),
            }
        }
        None
    }

    fn take(&mut self, member: Arc<Member<S>>, service: S, trial: bool) -> Held<S> {
        self.probing = trial.then(|| member.facts.health.generation());
        Held { member, service }
    }

    /// A backend whose circuit lets this request probe it, if one is due and ready. Whoever has no permit left says so.
    fn probe<Req>(&mut self, cx: &mut Context<'_>, plan: &Plan<S, P>) -> Option<Held<S>>
    where
        S: Service<Req>,
    {
        if !plan.roster().is_trial_due() {
            return None;
        }
        for member in plan.roster().trials() {
            if self.waiting.asked.iter().any(|asked| asked.id == member.facts.id) {
                continue;
            }
            let mut service = member.service.clone();
            match service.poll_ready(cx) {
                Poll::Ready(Ok(())) => return Some(self.take(member, service, true)),
                Poll::Ready(Err(_)) => {}
                // It keeps its permit while it is asked: giving it back at once would wake whoever waits, ourselves too.
                Poll::Pending => self.waiting.asked.push(Asked::new(&member, service, true)),
            }
        }
        None
    }
}

/// Who said that it will never be ready.
struct Refusals<E> {
    of: Vec<BackendId>,
    last: Option<(BackendName, E)>,
    /// Somebody who is not eligible any more, so that another view is on its way.
    outdated: bool,
}

impl<E> Refusals<E> {
    fn note<S>(&mut self, member: &Member<S>, error: E) {
        self.of.push(member.facts.id);
        if member.facts.health.eligible() {
            self.last = Some((member.facts.name.clone(), error));
        } else {
            self.outdated = true;
        }
    }
}

impl<S> Waiting<S> {
    fn new() -> Self {
        Self { asked: Vec::new(), bell: None, time: None }
    }

    /// False when there is nothing to sleep for: the time is up.
    fn sleep(&mut self, cx: &mut Context<'_>, until: Option<Duration>) -> bool {
        // A trial that is due and was refused is not asked again at once.
        self.time = until.map(|until| Box::pin(tokio::time::sleep(until.max(Duration::from_millis(1)))));
        self.time.as_mut().is_none_or(|time| time.as_mut().poll(cx).is_pending())
    }

    fn over<E>(&mut self, held: Held<S>) -> Poll<Found<S, E>> {
        *self = Self::new();
        Poll::Ready(Ok(held))
    }
}

impl<S> Asked<S> {
    fn new(member: &Arc<Member<S>>, service: S, trial: bool) -> Self {
        Self { id: member.facts.id, member: Arc::downgrade(member), service, trial }
    }

    /// Is it asked as a probe of a circuit that still wants one?
    fn may_probe(&self) -> bool {
        let health = self.member.upgrade().map(|member| Arc::clone(&member.facts.health));
        self.trial && health.is_some_and(|health| health.is_healthy() && health.on_trial().is_some())
    }
}
