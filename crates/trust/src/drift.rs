//! Has a model become worse since it was graded? Two detectors over what users say of its answers, kept by whoever collects that.
//! They are local and may use floats: an alarm is an opinion that calls for a new validation, never a fact on the ledger.
#![allow(clippy::float_arithmetic)]

mod adwin;
mod ddm;
mod watch;

pub use adwin::Adwin;
pub use ddm::Ddm;
pub use watch::{Alarm, ENOUGH, Teller, Told, Watch};

/// What a detector says after an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Drift {
    /// Nothing.
    Steady,
    /// It may be about to change: keep more outcomes.
    Warning,
    /// It has changed: validate anew.
    Changed,
}
