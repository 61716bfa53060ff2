//! Local methods about outcomes: sending one, and showing those that came.

use serde::{Deserialize, Serialize};

use crate::{
    ids::Digest,
    kept::CallInput,
    keys::{AccountId, NodeId},
    methods,
    name::ModelName,
    outcome::{Shown, Truth},
    receipt::Receipt,
};

methods! {
    /// Signs what was true of a call of this node's account, and sends it to the model's owner; kept and tried again while that is away.
    OutcomeSend = 138: OutcomeSendCall => OutcomeSent;
    /// A page of the outcomes of a model that this node owns: one item a version, then one an outcome, in the order in which they came,
    /// at last where the page ends: after [`crate::limits::OUTCOMES_PAGE`] of them, or once [`crate::limits::OUTCOMES_PAGE_BYTES`] were read.
    OutcomesShow = 139: OutcomesCall => OutcomesItem;
}

/// Request of [`OutcomeSend`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeSendCall {
    /// The call.
    pub receipt: Receipt,
    /// What was true, one for each row.
    pub truths: Vec<Truth>,
    /// What of the call goes along.
    pub shown: Shown,
}

/// Answer to [`OutcomeSend`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeSent {
    /// The model's owner.
    pub owner: NodeId,
    /// Whether it was new to the owner; none while it is kept here, to be sent again.
    pub fresh: Option<bool>,
    /// Why it is still here, in words.
    pub why: Option<String>,
    /// Outcomes that wait here.
    pub waiting: u32,
}

/// Request of [`OutcomesShow`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomesCall {
    /// The model.
    pub name: ModelName,
    /// Also give the inputs that came along.
    pub inputs: bool,
    /// Where to go on: 0, then what the page before ended with. The versions come with the first page alone.
    pub from: u64,
}

/// One item of the answer to [`OutcomesShow`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutcomesItem {
    /// What they come to for one version.
    Version(VersionOutcomes),
    /// One of them.
    Outcome(Box<ToldOutcome>),
    /// The last item of a page.
    End(OutcomesEnd),
}

/// Where a page ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomesEnd {
    /// Ask again from here for what is behind it; none if this was all.
    pub next: Option<u64>,
    /// Outcomes of this page whose input could not be read: they are shown without it.
    pub damaged: u32,
}

/// What the outcomes of one version come to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionOutcomes {
    /// The version.
    pub version: u32,
    /// Outcomes kept.
    pub outcomes: u32,
    /// Their rows.
    pub rows: u64,
    /// Rows that were answered wrongly.
    pub wrong: u64,
    /// The share of wrong answers of late, in ADWIN's window, millionths.
    pub late_ppm: u32,
    /// Rows in that window.
    pub window: u64,
    /// True if DDM warns.
    pub warned: bool,
    /// The alarms, oldest first.
    pub alarms: Vec<Alarm>,
}

/// A detector's word that a version answers worse than it did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    /// The version.
    pub version: u32,
    /// When, milliseconds since 1970 UTC.
    pub time_ms: u64,
    /// The ledger's height then.
    pub height: u64,
    /// `adwin`, `ddm` or `adwin, ddm`.
    pub detector: String,
    /// Rows that the detectors had heard of.
    pub rows: u64,
    /// The share of wrong answers in ADWIN's window before the row that gave the alarm, millionths.
    pub before_ppm: u32,
    /// The same after it.
    pub after_ppm: u32,
    /// The round of grading that answers it; none yet, or none under rules without rounds.
    pub round: Option<u64>,
    /// Accounts whose word it rests on, 3 for as many or more. One that others do not bear out raises none while others speak, and 1 is
    /// an account that was the only one of a week.
    pub accounts: u32,
    /// Accounts that it takes to open a round by itself: 3, or as many callers as the pool has.
    pub needed: u32,
}

/// One outcome, as its owner keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldOutcome {
    /// The call's receipt.
    pub receipt: Digest,
    /// Who called.
    pub account: AccountId,
    /// Who answered.
    pub provider: NodeId,
    /// The version.
    pub version: u32,
    /// When it was answered, milliseconds since 1970 UTC.
    pub answered_ms: u64,
    /// When the outcome came.
    pub told_ms: u64,
    /// What was true of each row.
    pub truths: Vec<Truth>,
    /// The class that was answered on each row, where that is known, and whether it was right.
    pub rows: Vec<(Option<u16>, bool)>,
    /// True if the input came along.
    pub has_input: bool,
    /// The input, if it was asked for.
    pub input: Option<CallInput>,
}
