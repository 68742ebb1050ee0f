use std::time::Duration;

use super::{
    Timed::{Cooling, Failing, Hinted, Outlier},
    *,
};

// C2
#[test]
fn a_new_backend_is_healthy() {
    let health = Health::new(None);
    assert_eq!(health.status(), AdminStatus::Healthy);
    assert!(health.is_eligible());
}

// C2, C11
#[test]
fn only_a_healthy_backend_is_eligible() {
    let health = Health::new(None);
    for status in [AdminStatus::Degraded, AdminStatus::Draining] {
        assert!(health.apply(Signal::Status(status)));
        assert_eq!(health.status(), status);
        assert!(!health.is_eligible());
    }
    assert!(health.apply(Signal::Status(AdminStatus::Healthy)));
    assert!(health.is_eligible());
    assert!(health.apply(Signal::Removed));
    assert!(!health.is_eligible());
}

// C41: one writer never overrides another.
#[test]
fn a_writer_ends_its_own_opinion_only() {
    let health = Health::new(None);
    let until = Moment::since_epoch(Duration::from_secs(9));
    assert!(health.apply(Signal::Status(AdminStatus::Draining)) && health.apply(Signal::Until(Cooling, until)));
    assert!(health.apply(Signal::Over(Cooling)));
    assert!(!health.is_eligible() && health.status() == AdminStatus::Draining);
    assert!(health.apply(Signal::Until(Cooling, until)) && health.apply(Signal::Status(AdminStatus::Healthy)));
    assert!(!health.is_eligible());
    assert_eq!((health.until(Cooling), health.due()), (Some(until), Some(until)));
}

// C67: one opinion of several, with a deadline of its own.
#[test]
fn an_outlier_is_ejected_until_it_returns() {
    let health = Health::new(None);
    let at = |seconds| Moment::since_epoch(Duration::from_secs(seconds));
    assert!(health.apply(Signal::Until(Outlier, at(9))) && !health.is_eligible() && health.is_counted());
    assert_eq!((health.until(Outlier), health.due(), health.serves_at()), (Some(at(9)), Some(at(9)), Some(at(9))));
    assert!(health.apply(Signal::Until(Cooling, at(5))) && !health.is_counted());
    assert_eq!((health.due(), health.serves_at()), (Some(at(5)), Some(at(9))));
    assert!(health.apply(Signal::Exempt(true)) && !health.is_eligible(), "exempt is the circuit alone");
    assert!(health.apply(Signal::Over(Cooling)) && health.apply(Signal::Over(Outlier)) && health.is_eligible());
    assert_eq!((health.until(Outlier), health.due()), (None, None));
}

// C71: the longer deadline wins.
#[test]
fn a_shorter_cool_down_does_not_shorten_a_longer_one() {
    let health = Health::new(None);
    let at = |seconds| Moment::since_epoch(Duration::from_secs(seconds));
    assert!(health.apply(Signal::Until(Cooling, at(9))));
    assert!(!health.apply(Signal::Until(Cooling, at(5))));
    assert_eq!(health.until(Cooling), Some(at(9)));
    assert!(health.apply(Signal::Until(Cooling, at(12))));
    assert_eq!(health.until(Cooling), Some(at(12)));
}

// C42, C43: an exemption suspends failing probes and an open circuit, and nothing else.
#[test]
fn failing_probes_keep_a_backend_out_unless_it_is_exempt() {
    let health = Health::new(None);
    let at = |seconds| Moment::since_epoch(Duration::from_secs(seconds));
    assert!(health.apply(Signal::Until(Failing, at(9))) && !health.is_eligible());
    assert!(health.is_down() && health.is_counted());
    assert!(health.apply(Signal::Exempt(true)) && health.is_eligible());
    assert!(health.apply(Signal::Until(Hinted, at(5))) && !health.is_eligible() && !health.is_down());
    assert!(health.apply(Signal::Over(Hinted)) && health.apply(Signal::Status(AdminStatus::Draining)));
    assert!(!health.is_eligible() && !health.is_counted() && !health.is_down());
}

// C69: the longest deadline, and the note on probation lasts as long as the hint.
#[test]
fn a_hint_ends_with_its_note() {
    let health = Health::new(None);
    let at = |seconds| Moment::since_epoch(Duration::from_secs(seconds));
    assert!(health.apply(Signal::Until(Hinted, at(9))) && health.apply(Signal::Probation));
    assert!(!health.apply(Signal::Until(Hinted, at(3))));
    assert_eq!((health.until(Hinted), health.serves_at()), (Some(at(9)), Some(at(9))));
    assert_eq!(health.lapsed(at(8)).count(), 0);
    assert_eq!(health.lapsed(at(9)).collect::<Vec<_>>(), [Hinted]);
    assert!(health.is_probed_after_hint() && health.apply(Signal::Over(Hinted)));
    assert!(health.is_unmarked());
}
