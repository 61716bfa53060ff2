//! Outcomes: what was true of a call that this account made, signed and sealed to the model's owner. The client keeps nothing: an
//! outcome whose owner is away is sent again by its caller, or by a node (`zero2ai outcome`).

use std::time::Duration;

use tokio::time::Instant;
use zero2ai_chunk::{Sealed, seal_to};
use zero2ai_clock::now_ms;
use zero2ai_proto::{
    NodeId, Signed,
    calls::{OutcomeCall, TellOutcome},
    encode,
    kept::KeptCall,
    limits::OUTCOME_BYTES,
    outcome::{Outcome, OutcomeInfo, OutcomeReport, Shown, Truth},
    state::{Member, Model, Rights, key},
};
use zero2ai_rpc::CallError;

use crate::{
    client::{Client, left},
    error::ClientError,
};

/// An outcome that its owner has on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutcomeSent {
    /// The model's owner.
    pub owner: NodeId,
    /// False if the owner had the same one before: it counts once.
    pub fresh: bool,
}

impl Client {
    /// Tells the owner of a model what was true of a call that this account made: a class for each row, whether each row was right, or one
    /// word on the whole. Beside [`Truth::Class`] the answer goes along, and with `with_input` what was asked, too, for the owner to train on;
    /// nobody else can read any of it. Telling it again is harmless. `patience` is for the owner's part; what the ledger knows of it is
    /// asked before.
    ///
    /// # Errors
    /// The call does not hold or is another account's, the truths do not fit it, it is larger than [`OUTCOME_BYTES`], the model or its
    /// owner is gone, the owner cannot be reached ([`crate::ErrorKind::Unreachable`] or `Timeout`: try again later), or refuses.
    pub async fn tell_outcome(
        &self,
        call: KeptCall,
        truths: Vec<Truth>,
        with_input: bool,
        patience: Duration,
    ) -> Result<OutcomeSent, ClientError> {
        let unfit = |why: &dyn std::fmt::Display| ClientError::Outcome(why.to_string());
        let (account, request, _) = call.check(&self.pool()).map_err(|e| unfit(&e))?;
        if account != self.id() {
            return Err(unfit(&"another account made this call, and only it can say what was true of it"));
        }
        let report = self.report(call, truths, with_input)?;
        let bytes = encode(&report)?;
        if bytes.len() > OUTCOME_BYTES {
            let size = bytes.len();
            let why = format!("it takes {size} bytes and {OUTCOME_BYTES} are possible: send it without its input");
            return Err(unfit(&why));
        }
        let model: Option<Model> = self.entry(&key::model(&request.name)).await?;
        let owner = model.ok_or_else(|| unfit(&format!("there is no model {} on the ledger", request.name)))?.owner;
        let member: Option<Member> = self.entry(&key::member(&owner)).await?;
        let member = member.filter(|member| member.rights != Rights::default());
        let member = member.ok_or_else(|| unfit(&"the model's owner is no member of the pool any more"))?;
        let info = encode(&OutcomeInfo::new(self.pool(), account, owner))?;
        let Sealed { encapsulated, ciphertext } =
            seal_to(&bytes, &member.sealing_key, &info).map_err(|e| unfit(&format!("it cannot be sealed: {e}")))?;
        let fresh = self.tell(owner, &OutcomeCall { encapsulated, ciphertext }, patience).await?;
        Ok(OutcomeSent { owner, fresh })
    }

    /// Signs it, and looks whether its owner would take it.
    fn report(&self, call: KeptCall, truths: Vec<Truth>, with_input: bool) -> Result<OutcomeReport, ClientError> {
        let unfit = |why: &dyn std::fmt::Display| ClientError::Outcome(why.to_string());
        let receipt = call.receipt.clone();
        let shown = Shown::of(call, &truths, with_input).map_err(|e| unfit(&e))?;
        let outcome = Outcome { receipt: receipt.id()?, truths, time_ms: now_ms() };
        let outcome = Signed::sign(&outcome, &self.pool(), &self.inner.key)?;
        let report = OutcomeReport::new(outcome, receipt, shown);
        report.check(&self.pool()).map_err(|e| unfit(&e))?;
        Ok(report)
    }

    /// At an address of the owner's that is known; else by way of another node, which finds it in the swarm.
    async fn tell(&self, owner: NodeId, call: &OutcomeCall, patience: Duration) -> Result<bool, ClientError> {
        let deadline = Instant::now().checked_add(patience);
        let addresses = self.inner.nodes.addresses(&owner);
        let peer = self.dial(owner, &addresses, deadline).await.map_err(CallError::from)?;
        Ok(peer.call::<TellOutcome>(call, left(deadline)).await?.fresh)
    }
}
