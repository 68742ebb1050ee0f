//! Outliers: backends that fail more, or respond more slowly, than the others of their tier.

mod judge;
mod reason;
mod settings;
mod standing;
mod tally;

pub(crate) use self::{
    judge::{Host, Verdict, judge},
    standing::Standing,
    tally::{Counts, Tally},
};
pub use self::{
    reason::{OutlierChange, OutlierReason},
    settings::Outliers,
};

#[cfg(feature = "file-state")]
pub(crate) use self::standing::SavedStanding;

#[cfg(all(test, not(fleet_loom)))]
mod tests;
