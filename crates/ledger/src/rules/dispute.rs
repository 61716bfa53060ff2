//! Disputes over what a model really said: a validator disputes a leaf that another opened, a jury that a later block's seed draws runs
//! the model again and votes, and whoever stands by the side that lost may go to a larger one. `zero2ai_trust::dispute` has the instances,
//! the count and the division of deposits; here they meet the state. What becomes of one that is over is `verdict`'s.
//!
//! What a dispute can cost is what was laid down for it, and standing: never more of a stake, and nobody is convicted. All that seats bind
//! is no more than who called the jury laid down. The sample itself is not on the ledger, only its salted digest: who opened the leaf shows
//! it to the jury, and a juror to whom nothing is shown cannot find that the model says so. Ballots are open, so that a late juror sees
//! the earlier ones.

use zero2ai_proto::{
    NodeId, decode,
    manifest::Task,
    state::{Backer, BallotState, DisputeState, Due, Halt, Member, Rights, RoundState, Tally, key},
    tx::{Ballot, Dispute, Disputed},
};
use zero2ai_trust::{
    Reputation, committee,
    dispute::{Instance, seat},
    slash,
};

use super::{
    Call, Context, beacon,
    grading::grading,
    model,
    opening::{asked, judge},
    round::{candidates, free_height, load, load_entry, round_job, seat_of},
    stake, verdict,
};
use crate::{
    draft::{Draft, VALUE_BYTES, broken},
    error::TxError,
};

fn invalid(why: impl Into<String>) -> TxError {
    TxError::Invalid { what: "dispute", why: why.into() }
}

/// The instance that a state's number stands for.
const fn instance(number: u8) -> Instance {
    match number {
        0 | 1 => Instance::First,
        2 => Instance::Second,
        _ => Instance::Last,
    }
}

pub(super) fn find(draft: &Draft<'_>, which: &Disputed) -> Result<DisputeState, TxError> {
    let found = draft.read(&key::dispute(which))?;
    found.ok_or_else(|| TxError::Missing(format!("a dispute over {which}")))
}

/// The round of a leaf that can be disputed now, and what the disputed commitment bound.
fn disputable(draft: &Draft<'_>, call: &Call<'_>, body: &Dispute) -> Result<(RoundState, u64), TxError> {
    let Dispute { name, version, round, validator, leaf } = body;
    if matches!(model::version(draft, name, *version)?.task, Task::Embed { .. }) {
        return Err(invalid("what a query finds depends on all of the data: no jury can ask for one sample again"));
    }
    let (state, entry) =
        (load(draft, name, *version, *round)?, load_entry(draft, (name, *version, *round), validator)?);
    let Some(found) = entry.found.as_ref().filter(|_| entry.opened.is_some()) else {
        return Err(invalid("this validator opened no leaves in that round"));
    };
    if entry.contradicted.is_some() || entry.refuted.is_some() {
        return Err(invalid("its part in that round is known to be wrong already"));
    }
    // The settlement waits for what is open by then: no verdict comes too late for the score.
    if call.at.height > state.end() {
        return Err(invalid(format!("leaves of that round were to be disputed up to height {}", state.end())));
    }
    let places = asked(&state, &round_job(name, *version, *round), validator, found.counts.samples).unwrap_or_default();
    if !places.contains(&leaf.index) {
        return Err(invalid(format!("the leaves that were opened are {places:?}")));
    }
    judge(found, std::slice::from_ref(leaf)).map_err(|why| TxError::Invalid { what: "leaf", why })?;
    Ok((state, entry.bond))
}

/// Opens a dispute over a leaf, once. Both sides lay down what the disputed commitment bound; who opened the leaf as far as nothing else
/// binds what it is liable with, so that nobody escapes a dispute by that.
pub(super) fn open(draft: &mut Draft<'_>, call: &Call<'_>, body: &Dispute) -> Result<(), TxError> {
    call.need(Rights::VALIDATOR)?;
    let (which, height) = (body.disputed(), call.at.height);
    if which.validator == call.who {
        return Err(invalid("nobody disputes what he opened himself"));
    }
    if draft.get(&key::dispute(&which)).is_some() {
        return Err(TxError::Exists(format!("a dispute over {which}")));
    }
    let (round, first) = disputable(draft, call, body)?;
    stake::dispute(draft, call.at, &call.who)?;
    let deposit = lay_down(draft, call, first)?;
    let opposed = stake::bind(draft, call.at, &which.validator, first)?;
    let draws = free_height(draft, height.saturating_add(grading(draft)?.delay));
    draft.write(key::due_of(draws, &which), &Due::Jury)?;
    let dispute = DisputeState {
        leaf: body.leaf.clone(),
        appellant: call.who,
        tx: call.id,
        height,
        instance: 1,
        draws,
        // As long as a run takes, and then as long as it takes to be heard.
        vote: round.commit,
        appeal: round.reveal,
        first,
        backers: vec![
            Backer { who: call.who, refutes: true, amount: deposit },
            Backer { who: which.validator, refutes: false, amount: opposed },
        ],
        votes: Tally::default(),
        tally: None,
        earlier: None,
        settled: None,
    };
    draft.write(key::dispute(&which), &dispute)?;
    let disputes = round.disputes.saturating_add(1);
    draft.write(key::round(&which.name, which.version, which.round), &RoundState { disputes, ..round })
}

/// Binds the whole of a deposit of the signer's stake.
fn lay_down(draft: &mut Draft<'_>, call: &Call<'_>, amount: u64) -> Result<u64, TxError> {
    let bound = stake::bind(draft, call.at, &call.who, amount)?;
    if bound < amount {
        return Err(invalid(format!("the deposit is {amount} of a stake, of which nothing else binds {bound}")));
    }
    Ok(bound)
}

/// Draws the jury of an instance, at the end of the block whose seed it waits for. A seat binds what a commitment in the round does, or its part
/// of the deposit for this instance if that is less. For the last instance nobody is drawn: everyone may vote.
pub(super) fn summon(draft: &mut Draft<'_>, at: &Context<'_>, which: &Disputed) -> Result<(), TxError> {
    let (mut dispute, round) = (find(draft, which)?, load(draft, &which.name, which.version, which.round)?);
    let called = instance(dispute.instance);
    if let Some(seats) = called.seats() {
        let mut candidates = candidates(draft, at, &which.name, which.version, round.staked)?;
        candidates.retain(|(who, _)| !is_party(&dispute, who));
        let (seed, job) = (beacon::seed(draft, at.pool)?, format!("{which}/{}", dispute.instance));
        let jury = committee::draw(&seed, job.as_bytes(), &candidates, seats);
        for juror in &jury {
            let held = stake::held(draft, at, juror)?;
            let (bond, weighs) =
                if round.staked { (slash::slash(held.staked, round.bond_ppm), held.staked) } else { (0, 1) };
            let weight = weight(Reputation { good: held.good, bad: held.bad }, weighs);
            let bond = stake::bind(draft, at, juror, seat(bond, called.deposit(dispute.first), jury.len()))?;
            let ballot = BallotState { weight, bond, refuted: None };
            draft.write(key::ballot(which, dispute.instance, juror), &ballot)?;
        }
        dispute.votes.jurors = u32::try_from(jury.len()).unwrap_or(u32::MAX);
        draft.write(key::dispute(which), &dispute)?;
    }
    draft.write(key::due_of(dispute.vote_end(), which), &Due::Count)
}

/// Who laid something down sits over it no more.
fn is_party(dispute: &DisputeState, who: &NodeId) -> bool {
    dispute.backers.iter().any(|backer| backer.who == *who)
}

fn weight(record: Reputation, stake: u64) -> u64 {
    u64::try_from(record.weight(stake)).unwrap_or(u64::MAX)
}

/// Takes a juror's vote, once; its seat binds nothing any more then. Votes are added up as they come.
pub(super) fn vote(draft: &mut Draft<'_>, call: &Call<'_>, body: &Ballot) -> Result<(), TxError> {
    let (which, mut dispute) = (&body.disputed, find(draft, &body.disputed)?);
    let ballot = seat_at(draft, call.at, which, &dispute, &call.who)?;
    if ballot.refuted.is_some() {
        return Err(TxError::Exists(format!("a ballot of {} over {which}", call.who)));
    }
    call.need(Rights::VALIDATOR)?;
    stake::release(draft, call.at, &call.who, ballot.bond)?;
    let side = if body.refuted { &mut dispute.votes.refuting } else { &mut dispute.votes.standing };
    *side = side.saturating_add(ballot.weight);
    dispute.votes.cast = dispute.votes.cast.saturating_add(1);
    draft.write(key::dispute(which), &dispute)?;
    let key = key::ballot(which, dispute.instance, &call.who);
    draft.write(key, &BallotState { bond: 0, refuted: Some(body.refuted), ..ballot })
}

/// True if a ballot of `who` would be taken in a block at this height.
pub(crate) fn may_vote(draft: &Draft<'_>, at: &Context<'_>, which: &Disputed, who: &NodeId) -> Result<bool, TxError> {
    let dispute = find(draft, which)?;
    let member: Option<Member> = draft.read(&key::member(who))?;
    let has_right = member.is_some_and(|member| member.rights.has(Rights::VALIDATOR));
    Ok(has_right && seat_at(draft, at, which, &dispute, who).is_ok_and(|ballot| ballot.refuted.is_none()))
}

/// The seat of `who` in the vote that is open at this height, voted or not.
fn seat_at(
    draft: &Draft<'_>,
    at: &Context<'_>,
    which: &Disputed,
    dispute: &DisputeState,
    who: &NodeId,
) -> Result<BallotState, TxError> {
    let (first, last) = (dispute.draws.saturating_add(1), dispute.vote_end());
    if !(first..=last).contains(&at.height) {
        return Err(invalid(format!(
            "ballots of instance {} are taken from height {first} to {last}",
            dispute.instance
        )));
    }
    match draft.read(&key::ballot(which, dispute.instance, who))? {
        Some(ballot) => Ok(ballot),
        None => own_seat(draft, at, which, dispute, who),
    }
}

/// The seat of who was not drawn: at the last instance everyone has one who may grade the version and is no party.
fn own_seat(
    draft: &Draft<'_>,
    at: &Context<'_>,
    which: &Disputed,
    dispute: &DisputeState,
    who: &NodeId,
) -> Result<BallotState, TxError> {
    let round = load(draft, &which.name, which.version, which.round)?;
    let of = (&which.name, which.version, round.staked);
    let open = instance(dispute.instance).seats().is_none() && !is_party(dispute, who);
    let weighs = if open { seat_of(draft, at, of, who)? } else { None };
    let weighs = weighs.ok_or_else(|| invalid(format!("{who} does not sit over {which}")))?;
    let held = stake::held(draft, at, who)?;
    let weight = weight(Reputation { good: held.good, bad: held.bad }, weighs);
    Ok(BallotState { weight, bond: 0, refuted: None })
}

/// Ends the vote of an instance; where nobody voted, the verdict of the one before it stands, or who lost it would gain by its
/// jurors' silence. Who was drawn and was silent loses what the seat bound, unless the chain stood still; who voted
/// with the few loses nothing.
pub(super) fn count(draft: &mut Draft<'_>, at: &Context<'_>, which: &Disputed) -> Result<(), TxError> {
    let mut dispute = find(draft, which)?;
    let last = instance(dispute.instance).next().is_none();
    if last {
        dispute.votes.jurors = dispute.votes.cast;
    } else {
        charge_silent(draft, at, which, &dispute)?;
        draft.write(key::due_of(dispute.appeal_end(), which), &Due::Close)?;
    }
    let nobody = dispute.votes.cast == 0;
    dispute.tally = Some(dispute.earlier.filter(|_| nobody).unwrap_or(dispute.votes));
    draft.write(key::dispute(which), &dispute)?;
    if last { verdict::close(draft, at, which) } else { Ok(()) }
}

fn charge_silent(
    draft: &mut Draft<'_>,
    at: &Context<'_>,
    which: &Disputed,
    dispute: &DisputeState,
) -> Result<(), TxError> {
    let halted = draft.read::<Halt>(key::HALT)?.is_some_and(|halt| halt.height > dispute.draws);
    // A model that nobody could run is nobody's silence: else who opens a dispute over it would have others pay.
    let unrun = dispute.votes.cast == 0 || model::version(draft, &which.name, which.version)?.withdrawn;
    let mut ballots: Vec<(NodeId, BallotState)> = Vec::new();
    for (key, value) in draft.scan(&key::ballots(which, dispute.instance)) {
        ballots.push((super::last_part(key)?, decode(value, VALUE_BYTES).map_err(|e| broken(key, &e))?));
    }
    for (juror, ballot) in ballots.into_iter().filter(|(_, ballot)| ballot.refuted.is_none()) {
        // Who was let go meanwhile could not vote, as in a round that could not be revealed.
        let member: Option<Member> = draft.read(&key::member(&juror))?;
        let dismissed = !member.is_some_and(|m| m.rights.has(Rights::VALIDATOR));
        if halted || unrun || dismissed {
            stake::release(draft, at, &juror, ballot.bond)?;
        } else {
            stake::forfeit(draft, at, &juror, ballot.bond)?;
        }
        draft.write(key::ballot(which, dispute.instance, &juror), &BallotState { bond: 0, ..ballot })?;
    }
    Ok(())
}

/// Takes a dispute to the next instance, on the side that lost: for whoever lays the deposit down. Were it for the parties alone, an
/// accomplice could dispute a leaf first and leave it at that.
pub(super) fn appeal(draft: &mut Draft<'_>, call: &Call<'_>, which: &Disputed) -> Result<(), TxError> {
    let mut dispute = find(draft, which)?;
    let Some(tally) = dispute.tally.filter(|_| dispute.settled.is_none()) else {
        return Err(invalid("there is no verdict that could be appealed against"));
    };
    if dispute.backers.iter().any(|backer| backer.who == call.who && backer.refutes == tally.refuted()) {
        return Err(invalid(format!("{} won this instance: who stands by the other side may appeal", call.who)));
    }
    if !is_party(&dispute, &call.who) {
        call.need(Rights::VALIDATOR)?;
    }
    // The last instance is settled as its ballots are counted.
    let next = instance(dispute.instance).next().ok_or_else(|| invalid("there is no further instance"))?;
    let amount = lay_down(draft, call, next.deposit(dispute.first))?;
    match dispute.backers.iter_mut().find(|backer| backer.who == call.who) {
        Some(backer) => backer.amount = backer.amount.saturating_add(amount),
        None => dispute.backers.push(Backer { who: call.who, refutes: !tally.refuted(), amount }),
    }
    draft.remove(key::due_of(dispute.appeal_end(), which));
    dispute.instance = dispute.instance.saturating_add(1);
    dispute.draws = free_height(draft, call.at.height.saturating_add(grading(draft)?.delay));
    (dispute.votes, dispute.earlier, dispute.tally) = (Tally::default(), Some(tally), None);
    draft.write(key::due_of(dispute.draws, which), &Due::Jury)?;
    draft.write(key::dispute(which), &dispute)
}
