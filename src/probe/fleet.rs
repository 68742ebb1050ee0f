//! `Fleet::probe`.

use std::sync::{Arc, Weak};

use futures::future::FutureExt;

use super::{check::Probe, prober::Probing, running, settings::Probes};
use crate::{
    fleet::{Fleet, FleetInner},
    name::{BackendId, BackendName},
    setting::InvalidSetting,
};

impl<S: Clone + Send + Sync + 'static, C: Clone + Send + Sync + 'static> Fleet<S, C> {
    /// Probes the backends, while the returned future is polled. See [`probe`](crate::probe).
    ///
    /// The future ends with the fleet, which it holds weakly. Nothing is probed before it is spawned.
    ///
    /// # Errors
    ///
    /// The first invalid setting.
    pub fn probe<P: Probe<S>>(&self, probes: Probes<P>) -> Result<Probing, InvalidSetting> {
        let Probes { probe, rules } = probes;
        let rules = rules.checked()?;
        let (fleet, probe) = (Arc::downgrade(self.shared()), Arc::new(probe));
        let send = move |id: BackendId, name: BackendName| -> running::Sent {
            let (fleet, probe) = (Weak::clone(&fleet), Arc::clone(&probe));
            async move {
                let service = service(&fleet, id)?;
                Some(probe.probe(&name, service).await)
            }
            .boxed()
        };
        Ok(Probing::new(&self.shared().core, rules, Arc::new(send)))
    }
}

/// Returns a copy of the service of a member, without the circuit and the limits around it. `None` if it was removed.
fn service<S, C>(fleet: &Weak<FleetInner<S, C>>, id: BackendId) -> Option<S>
where
    S: Clone + Send + Sync + 'static,
    C: Clone + Send + Sync + 'static,
{
    let member = fleet.upgrade()?.member(id)?;
    Some(member.service().clone())
}
