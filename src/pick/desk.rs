use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;

use super::{Pick, Rng};
use crate::fleet::{BackendId, Member, Roster, Shared, Subscriber, Tier};

/// Where the doors of one layer get their backends: a fleet, and one strategy for all clones of a door.
pub(crate) struct Desk<S, P> {
    fleet: Arc<Shared<S>>,
    plan: ArcSwap<Plan<S, P>>,
}

/// What a request needs to be given a backend: the view of the fleet, and the strategy made for it.
pub(crate) struct Plan<S, P> {
    roster: Arc<Roster<S>>,
    dealer: Arc<Dealer<P>>,
    retired: AtomicBool,
}

/// A strategy and the candidates it was made for. A change elsewhere in the fleet leaves it as it is, so that its
/// rotation goes on undisturbed.
struct Dealer<P> {
    tier: Tier,
    pick: P,
}

impl<P: Pick> Dealer<P> {
    fn next(self: &Arc<Self>, tier: Tier) -> Arc<Self> {
        let facts = |tier: &Tier| tier.iter().map(|one| (one.id(), one.weight(), one.position())).collect::<Vec<_>>();
        // With nobody to choose from, what was learnt waits for the next who comes.
        if tier.is_empty() || facts(&self.tier) == facts(&tier) {
            return Arc::clone(self);
        }
        Arc::new(Self { pick: self.pick.renew(&self.tier, &tier), tier })
    }
}

impl<S: Send + Sync + 'static, P: Pick> Desk<S, P> {
    pub(crate) fn open(fleet: &Arc<Shared<S>>, pick: P) -> Arc<Self> {
        fleet.subscribe(|roster| {
            let nobody = Arc::new(Dealer { tier: Tier::default(), pick });
            let dealer = nobody.next(roster.first_tier());
            let plan = ArcSwap::from_pointee(Plan { roster, dealer, retired: AtomicBool::new(false) });
            Self { fleet: Arc::clone(fleet), plan }
        })
    }
}

impl<S, P> Desk<S, P> {
    pub(crate) fn fleet(&self) -> &Shared<S> {
        &self.fleet
    }

    pub(crate) fn plan(&self) -> Arc<Plan<S, P>> {
        self.plan.load_full()
    }
}

impl<S: Send + Sync + 'static, P: Pick> Subscriber<S> for Desk<S, P> {
    fn publish(&self, roster: &Arc<Roster<S>>) {
        let dealer = self.plan.load().dealer.next(roster.first_tier());
        let plan = Plan { roster: Arc::clone(roster), dealer, retired: AtomicBool::new(false) };
        // In this order: who sees the old plan retired finds the new one in its place.
        self.plan.swap(Arc::new(plan)).retired.store(true, Ordering::Release);
    }
}

impl<S, P> Plan<S, P> {
    /// Is there a newer one? An unchanged flag costs a door next to nothing to read.
    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    pub(crate) fn roster(&self) -> &Roster<S> {
        &self.roster
    }
}

impl<S, P: Pick> Plan<S, P> {
    /// The strategy's choice for the next request; none when nobody is eligible.
    #[inline]
    pub(crate) fn choose(&self, rng: &mut Rng) -> Option<Arc<Member<S>>> {
        self.roster.member(self.index(rng)?)
    }

    fn index(&self, rng: &mut Rng) -> Option<usize> {
        let tier = self.roster.tier().len();
        if tier == 0 {
            return None;
        }
        let index = self.dealer.pick.pick(&self.dealer.tier, rng);
        Some(if index < tier { index } else { rng.below(tier) })
    }

    /// The candidates of the tier and their places.
    pub(crate) fn ids(&self) -> impl Iterator<Item = (BackendId, usize)> + '_ {
        (0..).zip(self.roster.tier()).map(|(index, candidate)| (candidate.id(), index))
    }

    /// All of `left`, each once, from a random one on, so that what some cannot take does not all fall on their
    /// neighbour.
    pub(crate) fn order<'a>(
        &'a self,
        mut left: HashMap<BackendId, usize>,
        rng: &mut Rng,
    ) -> impl Iterator<Item = Arc<Member<S>>> + use<'a, S, P> {
        let tier = self.roster.tier();
        let all = (0..tier.len()).cycle().skip(rng.below(tier.len())).take(tier.len());
        let fresh = all.filter(move |index| left.remove(&tier[*index].id()).is_some());
        fresh.filter_map(|index| self.roster.member(index))
    }
}

/// How often the strategy is asked for somebody else before the rest is taken as it comes.
pub(crate) const DEALT: usize = 8;

/// Whether a request may ask this backend, for all that it knows.
pub(crate) type MayAsk<'a> = dyn Fn(BackendId) -> bool + 'a;

/// Where further attempts of a request get their backends, whatever the strategy.
pub(crate) trait Source<S>: Send + Sync {
    /// The fleet.
    fn fleet(&self) -> &Shared<S>;

    /// Somebody eligible who may be asked: as the strategy says within the first tier, then in the order of the fleet,
    /// and at last one whose circuit wants a probe.
    fn next(&self, may: &MayAsk<'_>, rng: &mut Rng) -> Option<Arc<Member<S>>>;

    /// This one once more, if it is eligible.
    fn again(&self, id: BackendId) -> Option<Arc<Member<S>>>;

    /// Would [`next`](Self::next) find somebody? Asks no strategy.
    fn has_next(&self, may: &MayAsk<'_>) -> bool;

    /// Why there is nobody: how many backends there are, and after how long one may be eligible.
    fn absence(&self) -> (usize, Option<Duration>);
}

impl<S: Send + Sync + 'static, P: Pick> Source<S> for Desk<S, P> {
    fn fleet(&self) -> &Shared<S> {
        &self.fleet
    }

    fn next(&self, may: &MayAsk<'_>, rng: &mut Rng) -> Option<Arc<Member<S>>> {
        let plan = self.plan.load();
        let roster = plan.roster();
        let fresh = |index: &usize| roster.candidates().get(*index).is_some_and(|one| may(one.id()));
        let dealt = (0..DEALT).filter_map(|_| plan.index(rng)).find(fresh);
        let in_order = || (0..roster.candidates().len()).filter(fresh).find_map(|index| roster.member(index));
        let on_trial = || {
            let due = roster.is_trial_due();
            due.then(|| roster.trials().find(|member| may(member.facts.id))).flatten()
        };
        dealt.and_then(|index| roster.member(index)).or_else(in_order).or_else(on_trial)
    }

    fn again(&self, id: BackendId) -> Option<Arc<Member<S>>> {
        let plan = self.plan.load();
        let index = plan.roster().candidates().iter().position(|one| one.id() == id)?;
        plan.roster().member(index)
    }

    fn has_next(&self, may: &MayAsk<'_>) -> bool {
        let plan = self.plan.load();
        let roster = plan.roster();
        roster.candidates().iter().any(|one| may(one.id()))
            || (roster.is_trial_due() && roster.trials().any(|member| may(member.facts.id)))
    }

    fn absence(&self) -> (usize, Option<Duration>) {
        let plan = self.plan.load();
        (plan.roster().backends(), plan.roster().retry_after())
    }
}
