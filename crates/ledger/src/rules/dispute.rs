//! Disputes over what a model really said: a validator disputes a leaf that another opened, a jury that a later block's seed draws runs
//! the model again and votes, and who lost may go to a larger one. `zero2ai_trust::dispute` has the instances, the count and the division
//! of deposits; here they meet the state.
//!
//! What a dispute can cost is what was laid down for it, and standing: never more of a stake, and nobody is convicted. The sample itself is not
//! on the ledger, only its salted digest: who opened the leaf shows it to the jury, and a juror to whom nothing is shown cannot find
//! that the model says so. Ballots are open, so that a late juror sees the earlier ones.

use zero2ai_proto::{
    NodeId, decode,
    state::{BallotState, DisputeState, Due, EventKind, Halt, Member, Rights, Tally, key},
    tx::{Ballot, Dispute, Disputed},
};
use zero2ai_trust::{
    Reputation, committee,
    dispute::{self, Instance, refuted},
    slash,
};

use super::{
    Call, Context, beacon,
    grading::grading,
    opening::{self, asked, judge},
    round::{candidates, free_height, load, load_entry, round_job},
    stake,
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

fn find(draft: &Draft<'_>, which: &Disputed) -> Result<DisputeState, TxError> {
    let found = draft.read(&key::dispute(which))?;
    found.ok_or_else(|| TxError::Missing(format!("a dispute over {which}")))
}

/// Opens a dispute over a leaf, once. Both sides lay down what the disputed commitment bound; who opened the leaf as far as nothing else
/// binds its stake, so that nobody escapes a dispute by that.
pub(super) fn open(draft: &mut Draft<'_>, call: &Call<'_>, body: &Dispute) -> Result<(), TxError> {
    call.need(Rights::VALIDATOR)?;
    let (which, height) = (body.disputed(), call.at.height);
    let Dispute { name, version, round, validator, leaf } = body;
    if *validator == call.who {
        return Err(invalid("nobody disputes what he opened himself"));
    }
    if draft.get(&key::dispute(&which)).is_some() {
        return Err(TxError::Exists(format!("a dispute over {which}")));
    }
    let (state, entry) =
        (load(draft, name, *version, *round)?, load_entry(draft, (name, *version, *round), validator)?);
    let Some(found) = entry.found.as_ref().filter(|_| entry.opened.is_some()) else {
        return Err(invalid("this validator opened no leaves in that round"));
    };
    if entry.contradicted.is_some() || entry.refuted.is_some() {
        return Err(invalid("its part in that round is known to be wrong already"));
    }
    let last = state.end().saturating_add(state.commit);
    if height > last {
        return Err(invalid(format!("leaves of that round were to be disputed up to height {last}")));
    }
    let places = asked(&state, &round_job(name, *version, *round), validator, found.counts.samples).unwrap_or_default();
    if !places.contains(&leaf.index) {
        return Err(invalid(format!("the leaves that were opened are {places:?}")));
    }
    judge(found, std::slice::from_ref(leaf)).map_err(|why| TxError::Invalid { what: "leaf", why })?;
    let first = entry.bond;
    let deposit = lay_down(draft, call, first)?;
    let opposed = stake::bind(draft, call.at, validator, first)?;
    let draws = free_height(draft, height.saturating_add(grading(draft)?.delay));
    draft.write(key::due_of(draws, &which), &Due::Jury)?;
    let state = DisputeState {
        leaf: leaf.clone(),
        appellant: call.who,
        tx: call.id,
        height,
        instance: 1,
        draws,
        // As long as a run takes, and then as long as it takes to be heard.
        vote: state.commit,
        appeal: state.reveal,
        first,
        deposit,
        opposed,
        tally: None,
        settled: None,
    };
    draft.write(key::dispute(&which), &state)
}

/// Binds the whole of a deposit of the signer's stake.
fn lay_down(draft: &mut Draft<'_>, call: &Call<'_>, amount: u64) -> Result<u64, TxError> {
    let bound = stake::bind(draft, call.at, &call.who, amount)?;
    if bound < amount {
        return Err(invalid(format!("the deposit is {amount} of a stake, of which nothing else binds {bound}")));
    }
    Ok(bound)
}

/// Draws the jury of an instance, at the end of the block whose seed it waits for. A seat binds what a commitment in the round does.
pub(super) fn summon(draft: &mut Draft<'_>, at: &Context<'_>, which: &Disputed) -> Result<(), TxError> {
    let (dispute, round) = (find(draft, which)?, load(draft, &which.name, which.version, which.round)?);
    let mut candidates = candidates(draft, at, &which.name, which.version, round.staked)?;
    candidates.retain(|(who, _)| *who != which.validator && *who != dispute.appellant);
    let (seed, job) = (beacon::seed(draft, at.pool)?, format!("{which}/{}", dispute.instance));
    let seats = instance(dispute.instance).seats().unwrap_or(committee::SEATS);
    for juror in committee::draw(&seed, job.as_bytes(), &candidates, seats) {
        let held = stake::held(draft, at, &juror)?;
        let (bond, weighs) =
            if round.staked { (slash::slash(held.staked, round.bond_ppm), held.staked) } else { (0, 1) };
        let weight = Reputation { good: held.good, bad: held.bad }.weight(weighs);
        let bond = stake::bind(draft, at, &juror, bond)?;
        let ballot = BallotState { weight: u64::try_from(weight).unwrap_or(u64::MAX), bond, refuted: None };
        draft.write(key::ballot(which, dispute.instance, &juror), &ballot)?;
    }
    draft.write(key::due_of(dispute.vote_end(), which), &Due::Count)
}

/// Takes a juror's vote, once.
pub(super) fn vote(draft: &mut Draft<'_>, call: &Call<'_>, body: &Ballot) -> Result<(), TxError> {
    let (which, dispute) = (&body.disputed, find(draft, &body.disputed)?);
    let (first, last) = (dispute.draws.saturating_add(1), dispute.vote_end());
    if !(first..=last).contains(&call.at.height) {
        return Err(invalid(format!(
            "ballots of instance {} are taken from height {first} to {last}",
            dispute.instance
        )));
    }
    let key = key::ballot(which, dispute.instance, &call.who);
    let ballot: Option<BallotState> = draft.read(&key)?;
    let ballot = ballot.ok_or_else(|| invalid(format!("{} does not sit over {which}", call.who)))?;
    if ballot.refuted.is_some() {
        return Err(TxError::Exists(format!("a ballot of {} over {which}", call.who)));
    }
    call.need(Rights::VALIDATOR)?;
    draft.write(key, &BallotState { refuted: Some(body.refuted), ..ballot })
}

/// The ballots of an instance, and what they come to.
fn ballots(draft: &Draft<'_>, which: &Disputed, instance: u8) -> Result<(Vec<(NodeId, BallotState)>, Tally), TxError> {
    let mut ballots: Vec<(NodeId, BallotState)> = Vec::new();
    for (key, value) in draft.scan(&key::ballots(which, instance)) {
        ballots.push((super::last_part(key)?, decode(value, VALUE_BYTES).map_err(|e| broken(key, &e))?));
    }
    let cast = |b: &BallotState| b.refuted.map(|refuted| dispute::Ballot { weight: b.weight.into(), refuted });
    let cast: Vec<dispute::Ballot> = ballots.iter().filter_map(|(_, ballot)| cast(ballot)).collect();
    let number = |of: usize| u32::try_from(of).unwrap_or(u32::MAX);
    let tally = Tally { refuted: refuted(&cast), cast: number(cast.len()), jurors: number(ballots.len()) };
    Ok((ballots, tally))
}

/// Counts the ballots of an instance; where nobody voted, the verdict of the one before it stands, or who lost it would gain by its
/// jurors' silence. Who sat and was silent loses what the seat bound, unless the chain stood still; who voted
/// with the few loses nothing.
pub(super) fn count(draft: &mut Draft<'_>, at: &Context<'_>, which: &Disputed) -> Result<(), TxError> {
    let mut dispute = find(draft, which)?;
    let halted = draft.read::<Halt>(key::HALT)?.is_some_and(|halt| halt.height > dispute.draws);
    let (ballots, mut tally) = self::ballots(draft, which, dispute.instance)?;
    for earlier in (1..dispute.instance).rev() {
        if tally.cast == 0 {
            tally = self::ballots(draft, which, earlier)?.1;
        }
    }
    for (juror, ballot) in &ballots {
        // Who was let go meanwhile could not vote, as in a round that could not be revealed.
        let member: Option<Member> = draft.read(&key::member(juror))?;
        let dismissed = !member.is_some_and(|m| m.rights.has(Rights::VALIDATOR));
        if ballot.refuted.is_some() || halted || dismissed {
            stake::release(draft, at, juror, ballot.bond)?;
        } else {
            stake::forfeit(draft, at, juror, ballot.bond)?;
        }
    }
    dispute.tally = Some(tally);
    let last = instance(dispute.instance).next().is_none();
    if !last {
        draft.write(key::due_of(dispute.appeal_end(), which), &Due::Close)?;
    }
    draft.write(key::dispute(which), &dispute)?;
    if last { close(draft, at, which) } else { Ok(()) }
}

/// Takes a dispute to the next instance: for who lost this one.
pub(super) fn appeal(draft: &mut Draft<'_>, call: &Call<'_>, which: &Disputed) -> Result<(), TxError> {
    let mut dispute = find(draft, which)?;
    let Some(tally) = dispute.tally.filter(|_| dispute.settled.is_none()) else {
        return Err(invalid("there is no verdict that could be appealed against"));
    };
    let loser = if tally.refuted { which.validator } else { dispute.appellant };
    if call.who != loser {
        return Err(invalid(format!("{loser} lost this instance, and may appeal")));
    }
    // The last instance is settled as its ballots are counted.
    let next = instance(dispute.instance).next().ok_or_else(|| invalid("there is no further instance"))?;
    let deposit = lay_down(draft, call, next.deposit(dispute.first))?;
    let side = if tally.refuted { &mut dispute.opposed } else { &mut dispute.deposit };
    *side = side.saturating_add(deposit);
    draft.remove(key::due_of(dispute.appeal_end(), which));
    dispute.instance = dispute.instance.saturating_add(1);
    dispute.draws = free_height(draft, call.at.height.saturating_add(grading(draft)?.delay));
    dispute.tally = None;
    draft.write(key::due_of(dispute.draws, which), &Due::Jury)?;
    draft.write(key::dispute(which), &dispute)
}

/// Settles a dispute by the verdict that stands. Where nobody voted nobody was right: both sides have their deposits back.
pub(super) fn close(draft: &mut Draft<'_>, at: &Context<'_>, which: &Disputed) -> Result<(), TxError> {
    let mut dispute = find(draft, which)?;
    let tally = dispute.tally.unwrap_or(Tally { refuted: false, cast: 0, jurors: 0 });
    dispute.settled = Some(at.height);
    draft.write(key::dispute(which), &dispute)?;
    let (challenger, endorser) = ((dispute.appellant, dispute.deposit), (which.validator, dispute.opposed));
    let (right, wrong) = if tally.refuted { (challenger, endorser) } else { (endorser, challenger) };
    stake::release(draft, at, &right.0, right.1)?;
    if tally.cast == 0 {
        return stake::release(draft, at, &wrong.0, wrong.1);
    }
    let taken = stake::forfeit(draft, at, &wrong.0, wrong.1)?;
    let prize = dispute::settle(right.1, taken).winner.saturating_sub(right.1);
    if prize > 0 {
        stake::unburn(draft, prize)?;
        stake::credit(draft, at, &right.0, prize)?;
    }
    if !tally.refuted {
        return stake::judge(draft, at, &dispute.appellant, 0, 1);
    }
    let round = (&which.name, which.version, which.round);
    let mut entry = load_entry(draft, round, &which.validator)?;
    if entry.contradicted.is_some() || entry.refuted.is_some() {
        return Ok(());
    }
    entry.refuted = Some(at.height);
    let by = Call { at, who: which.validator, rights: Rights(0), id: dispute.tx };
    opening::strike(draft, &by, round, &which.validator, entry, EventKind::Refuted)
}
