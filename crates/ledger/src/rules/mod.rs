//! The rules: what a transaction may do at a state, and what it writes. One file a subject; this one owns what all share:
//! who may speak, in which order, and what happens at the edges of a block.
//!
//! Every transaction but a redemption is signed by a member with some right left and carries its next nonce: 0 for the
//! first after the redemption, which itself carries 0 and uses none. A refused transaction writes nothing; a block with
//! one is invalid, so proposers leave it out.

mod anchor;
pub(crate) mod beacon;
mod dispute;
mod election;
mod endorse;
mod evidence;
mod grading;
mod grant;
mod model;
mod opening;
mod pool;
mod reward;
mod round;
mod settling;
pub(crate) mod stake;
mod transfer;
mod upgrade;
mod verdict;

pub(crate) use dispute::may_vote;
pub(crate) use endorse::{check as check_counts, figures, may_grade, score};
pub use endorse::{commitment, counted};
pub use opening::asked;
pub(crate) use opening::judge;
pub use reward::{TOLERANCE_PPM, agreed};
pub use round::{round_commitment, round_job};
pub use settling::conduct;
pub(crate) use settling::{outcome, score_after};

use zero2ai_proto::{
    AccountId, ModelName, NodeId, PoolId, Signed, TxId, VerifyError,
    state::{Event, EventKind, Member, Model, Rights, SignerSet, Signers, key},
    tx::{Tx, TxBody},
};

use crate::{
    draft::{Draft, broken},
    error::TxError,
    past::PastSigners,
};

/// Handles one account may claim: names are scarce, and claims cost nothing yet.
pub const HANDLES: u32 = 16;

/// Nonces ahead of the next one that admission accepts: how many transactions an account may have waiting. More are
/// refused until earlier ones are final.
pub const NONCE_WINDOW: u64 = 64;

/// Rights that these rules know.
const KNOWN_RIGHTS: u16 = (1 << Rights::NAMES.len()) - 1;

/// The first rules with stake, seeds and rounds. Before them a version is endorsed once by whoever may, and everyone weighs 1.
pub const STAKED_RULES: u16 = 2;

/// What admission says of a transaction that is not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It applies to the state after the newest block.
    Ready,
    /// Its signature and signer are fine; transactions of the same account must come first.
    Later,
}

/// Where a transaction stands.
pub(crate) struct Context<'a> {
    /// The pool.
    pub(crate) pool: &'a PoolId,
    /// Height of the block.
    pub(crate) height: u64,
    /// Its time.
    pub(crate) time_ms: u64,
    /// Version of the rules that the pool began with.
    pub(crate) genesis_rules: u16,
    /// Version of the rules that it follows.
    pub(crate) rules: u16,
    /// Time of its parent.
    pub(crate) parent_ms: u64,
    /// Who signs it.
    pub(crate) signers: &'a SignerSet,
    /// Who signed those before.
    pub(crate) past: &'a PastSigners,
}

/// One transaction, with what its rules need to know about it.
pub(crate) struct Call<'a> {
    pub(crate) at: &'a Context<'a>,
    pub(crate) who: AccountId,
    pub(crate) rights: Rights,
    pub(crate) id: TxId,
}

impl Call<'_> {
    fn need(&self, right: Rights) -> Result<(), TxError> {
        if self.rights.has(right) { Ok(()) } else { Err(TxError::Forbidden { who: self.who, need: right }) }
    }
}

/// Begins a block: the next signers become the current ones, and so do rules whose height this is.
pub(crate) fn begin_block(draft: &mut Draft<'_>, at: &Context<'_>) -> Result<(), TxError> {
    upgrade::begin(draft, at.genesis_rules, at.height)?;
    draft.keep();
    let signers = signers(draft)?;
    if signers.current != signers.next {
        draft.write(key::SIGNERS.to_vec(), &Signers { current: signers.next.clone(), next: signers.next })?;
        draft.keep();
    }
    Ok(())
}

/// Ends a block: the scores of all versions that were endorsed in it are computed once, and what is due at its height is done. `busy`
/// if it held more than what every block must.
pub(crate) fn end_block(draft: &mut Draft<'_>, at: &Context<'_>, busy: bool) -> Result<(), TxError> {
    endorse::update_scores(draft, at)?;
    if at.rules >= STAKED_RULES {
        beacon::end(draft, at, busy)?;
        settling::end(draft, at)?;
    }
    draft.keep();
    Ok(())
}

/// Applies one transaction to `draft`: all of it, or nothing. `valid` says whether its signature is its signer's.
pub(crate) fn execute(
    draft: &mut Draft<'_>,
    at: &Context<'_>,
    signed: &Signed<Tx>,
    valid: bool,
) -> Result<TxId, TxError> {
    let done = run(draft, at, signed, valid);
    match done {
        Ok(_) => draft.keep(),
        Err(_) => draft.discard(),
    }
    done
}

/// What admission can say without the transactions before it: signature, signer, nonce.
pub(crate) fn admit(draft: &mut Draft<'_>, at: &Context<'_>, signed: &Signed<Tx>) -> Result<Admission, TxError> {
    match execute(draft, at, signed, signed.signature_is_valid(at.pool)) {
        Ok(_) => Ok(Admission::Ready),
        Err(TxError::NonceAhead { got, expected }) if got - expected < NONCE_WINDOW => Ok(Admission::Later),
        Err(e) => Err(e),
    }
}

fn run(draft: &mut Draft<'_>, at: &Context<'_>, signed: &Signed<Tx>, valid: bool) -> Result<TxId, TxError> {
    if !valid {
        return Err(VerifyError::BadSignature.into());
    }
    let tx = signed.read_unverified()?;
    let id = signed.tx_id().map_err(|e| TxError::Envelope(VerifyError::Codec(e)))?;
    let who = signed.signer();
    if let TxBody::Redeem(redeem) = &tx.body {
        pool::redeem(draft, at, who, tx.nonce, redeem)?;
        return Ok(id);
    }
    let rights = use_nonce(draft, who, tx.nonce)?;
    check_rules(&tx.body, at.rules)?;
    let call = Call { at, who, rights, id };
    match &tx.body {
        TxBody::Redeem(_) => {}
        TxBody::SetRights(body) => pool::set_rights(draft, &call, body)?,
        TxBody::SetSigners(body) => pool::set_signers(draft, &call, body)?,
        TxBody::ClaimHandle(body) => model::claim_handle(draft, &call, body)?,
        TxBody::Publish(body) => model::publish(draft, &call, body)?,
        TxBody::SetChannel(body) => model::set_channel(draft, &call, body)?,
        TxBody::Endorse(body) => endorse::endorse(draft, &call, body)?,
        TxBody::Anchor(body) => anchor::anchor(draft, &call, body)?,
        TxBody::Withdraw(body) => model::withdraw(draft, &call, body)?,
        TxBody::Grant(body) => grant::grant(draft, &call, body)?,
        TxBody::Revoke(body) => grant::revoke(draft, &call, body)?,
        TxBody::Evidence(body) => evidence::record(draft, &call, body)?,
        TxBody::RotateKey(body) => pool::rotate_key(draft, &call, body)?,
        TxBody::SetRules(body) => upgrade::set_rules(draft, &call, body)?,
        TxBody::Offer(body) => transfer::offer(draft, &call, body)?,
        TxBody::Accept(body) => transfer::accept(draft, &call, body)?,
        TxBody::Commit(body) => endorse::commit(draft, &call, body)?,
        TxBody::Reveal(body) => endorse::reveal(draft, &call, body)?,
        TxBody::Allot(body) => stake::allot(draft, &call, body)?,
        TxBody::Stake(body) => stake::stake(draft, &call, body)?,
        TxBody::Unstake(body) => stake::unstake(draft, &call, body)?,
        TxBody::Beacon(_) => {
            let why = "it is the first of its proposer's own block, and of no other place".to_owned();
            return Err(TxError::Invalid { what: "beacon", why });
        }
        TxBody::SetGrading(body) => grading::set(draft, &call, body)?,
        TxBody::OpenRound(body) => round::open_next(draft, &call, body)?,
        TxBody::CommitRound(body) => round::commit(draft, &call, body)?,
        TxBody::RevealRound(body) => round::reveal(draft, &call, body)?,
        TxBody::OpenLeaves(body) => opening::open(draft, &call, body)?,
        TxBody::Contradict(body) => opening::contradict(draft, &call, body)?,
        TxBody::Elect(body) => election::elect(draft, &call, body)?,
        TxBody::Authorise(body) => election::authorise(draft, &call, body)?,
        TxBody::SetPot(body) => reward::set_pot(draft, &call, body)?,
        TxBody::Dispute(body) => dispute::open(draft, &call, body)?,
        TxBody::Ballot(body) => dispute::vote(draft, &call, body)?,
        TxBody::Appeal(body) => dispute::appeal(draft, &call, body)?,
    }
    Ok(id)
}

/// Whether the rules in force know what is asked: models are graded in rounds or without, never both ways in one pool.
fn check_rules(body: &TxBody, rules: u16) -> Result<(), TxError> {
    let why = match body {
        TxBody::Endorse(_) | TxBody::Commit(_) | TxBody::Reveal(_) if rules >= STAKED_RULES => {
            format!("rules {rules} grade models in rounds: commit to figures in a round of the version")
        }
        TxBody::Allot(_)
        | TxBody::Stake(_)
        | TxBody::Unstake(_)
        | TxBody::Beacon(_)
        | TxBody::SetGrading(_)
        | TxBody::OpenRound(_)
        | TxBody::CommitRound(_)
        | TxBody::RevealRound(_)
        | TxBody::OpenLeaves(_)
        | TxBody::Contradict(_)
        | TxBody::Elect(_)
        | TxBody::Authorise(_)
        | TxBody::SetPot(_)
        | TxBody::Dispute(_)
        | TxBody::Ballot(_)
        | TxBody::Appeal(_)
            if rules < STAKED_RULES =>
        {
            format!(
                "rules {rules} know no stake and no rounds; an administrator names rules {STAKED_RULES} for the pool"
            )
        }
        _ => return Ok(()),
    };
    Err(TxError::Invalid { what: "transaction", why })
}

/// Checks that `who` is a member whose next nonce this is, counts it up, and says what the member may do.
fn use_nonce(draft: &mut Draft<'_>, who: AccountId, got: u64) -> Result<Rights, TxError> {
    let key = key::member(&who);
    let mut member: Member = draft.read(&key)?.ok_or(TxError::NotMember(who))?;
    if member.rights == Rights::default() {
        return Err(TxError::Revoked(who));
    }
    let expected = member.nonce;
    if got < expected {
        return Err(TxError::NonceUsed { got, expected });
    }
    if got > expected {
        return Err(TxError::NonceAhead { got, expected });
    }
    member.nonce = count_up(expected, &key)?;
    draft.write(key, &member)?;
    Ok(member.rights)
}

/// The signer sets, as this transaction sees them.
fn signers(draft: &Draft<'_>) -> Result<Signers, TxError> {
    draft.read(key::SIGNERS)?.ok_or_else(|| broken(key::SIGNERS, &"it is missing"))
}

/// Adds an entry to a model's history and writes the model back.
fn record(
    draft: &mut Draft<'_>,
    call: &Call<'_>,
    name: &ModelName,
    mut model: Model,
    kind: EventKind,
    version: u32,
) -> Result<(), TxError> {
    let Context { height, time_ms, .. } = *call.at;
    let event = Event { kind, version, account: call.who, tx: call.id, height, time_ms };
    draft.write(key::event(name, model.events), &event)?;
    let key = key::model(name);
    model.events = count_up(model.events, &key)?;
    draft.write(key, &model)
}

/// The identity at the end of `…/KEY`.
fn last_part(key: &[u8]) -> Result<NodeId, TxError> {
    let start = key.iter().rposition(|b| *b == b'/').map_or(0, |slash| slash + 1);
    let id = std::str::from_utf8(&key[start..]).ok().and_then(|text| text.parse().ok());
    id.ok_or_else(|| broken(key, &"it ends in no identity"))
}

fn count_up(counter: u64, key: &[u8]) -> Result<u64, TxError> {
    counter.checked_add(1).ok_or_else(|| broken(key, &"its counter is at its end"))
}
