//! The end of a dispute: where deposits go, what becomes of the disputed entry, and what leaves the state.

use std::collections::BTreeSet;

use zero2ai_proto::{
    state::{Backer, DisputeState, Due, EventKind, Rights, key},
    tx::Disputed,
};
use zero2ai_trust::{dispute, reward::split};

use super::{
    Call, Context,
    dispute::find,
    opening,
    round::{load, load_entry},
    stake,
};
use crate::{draft::Draft, error::TxError};

/// Settles a dispute by the verdict that stands. Where nobody voted nobody was right: both sides have their deposits back.
pub(super) fn close(draft: &mut Draft<'_>, at: &Context<'_>, which: &Disputed) -> Result<(), TxError> {
    let mut dispute = find(draft, which)?;
    dispute.settled = Some(at.height);
    draft.write(key::dispute(which), &dispute)?;
    stake::settled(draft, at, &dispute.appellant)?;
    draft.write(key::due_of(at.height.saturating_add(1), which), &Due::Sweep)?;
    count_off(draft, at, which)?;
    let tally = dispute.tally.unwrap_or_default();
    if tally.cast == 0 {
        return dispute.backers.iter().try_for_each(|b| stake::release(draft, at, &b.who, b.amount));
    }
    divide(draft, at, &dispute, tally.refuted())?;
    // Who stood by the side that was wrong; what that costs who opened the leaf comes with the entry.
    let wrong = dispute.backers.iter().filter(|b| b.refutes != tally.refuted() && b.who != which.validator);
    for who in wrong.map(|b| b.who).collect::<BTreeSet<_>>() {
        stake::judge(draft, at, &who, 0, 1)?;
    }
    if tally.refuted() { refute(draft, at, which, &dispute) } else { Ok(()) }
}

/// Counts it off its round. If the settlement waited for this one alone, the next block settles the round.
fn count_off(draft: &mut Draft<'_>, at: &Context<'_>, which: &Disputed) -> Result<(), TxError> {
    let (name, number, round) = (&which.name, which.version, which.round);
    let mut state = load(draft, name, number, round)?;
    state.disputes = state.disputes.saturating_sub(1);
    draft.write(key::round(name, number, round), &state)?;
    if state.disputes == 0 && at.height >= state.end() {
        draft.write(key::due(at.height.saturating_add(1), name, number, round), &Due::Settle)?;
    }
    Ok(())
}

/// Burns what the wrong side laid down, but for half, which the other side gets, each as it laid down, with its own.
fn divide(draft: &mut Draft<'_>, at: &Context<'_>, dispute: &DisputeState, refuted: bool) -> Result<(), TxError> {
    let (right, wrong): (Vec<Backer>, Vec<Backer>) = dispute.backers.iter().partition(|b| b.refutes == refuted);
    let mut taken = 0u64;
    for backer in &wrong {
        taken = taken.saturating_add(stake::forfeit(draft, at, &backer.who, backer.amount)?);
    }
    let laid = dispute.laid(refuted);
    let prize = dispute::settle(laid, taken).winner.saturating_sub(laid);
    // Who had nothing left to lay down is right all the same.
    let claims: Vec<u128> = right.iter().map(|b| b.amount.max(1).into()).collect();
    for (backer, share) in right.iter().zip(split(prize, &claims).shares) {
        stake::release(draft, at, &backer.who, backer.amount)?;
        if share > 0 {
            stake::unburn(draft, share)?;
            stake::credit(draft, at, &backer.who, share)?;
        }
    }
    Ok(())
}

fn refute(draft: &mut Draft<'_>, at: &Context<'_>, which: &Disputed, dispute: &DisputeState) -> Result<(), TxError> {
    let round = (&which.name, which.version, which.round);
    let mut entry = load_entry(draft, round, &which.validator)?;
    if entry.contradicted.is_some() || entry.refuted.is_some() {
        return Ok(());
    }
    entry.refuted = Some(at.height);
    let by = Call { at, who: which.validator, rights: Rights(0), id: dispute.tx };
    opening::strike(draft, &by, round, &which.validator, entry, EventKind::Refuted)
}

/// Takes up to `room` ballots of a dispute that is over out of the state, and leaves the rest to the next block; gives the room that is
/// left. Nothing is bound by them any more, and the blocks still have them.
pub(super) fn sweep(draft: &mut Draft<'_>, at: &Context<'_>, which: &Disputed, room: usize) -> Result<usize, TxError> {
    let ballots: Vec<Vec<u8>> = draft.scan(&key::seats(which)).into_keys().map(<[u8]>::to_vec).collect();
    let gone = ballots.len().min(room);
    if gone < ballots.len() {
        draft.write(key::due_of(at.height.saturating_add(1), which), &Due::Sweep)?;
    }
    ballots.into_iter().take(gone).for_each(|key| draft.remove(key));
    Ok(room - gone)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use zero2ai_proto::{
        PoolId, SecretKey,
        state::{BallotState, Signer, SignerSet},
    };

    use super::*;
    use crate::{draft::Entries, past::PastSigners};

    #[test]
    fn many_ballots_leave_the_state_some_in_each_block() {
        let (base, handles) = (Entries::new(), BTreeMap::new());
        let mut draft = Draft::new(&base, &handles);
        let who = |n: u8| SecretKey::from_bytes(&[n; 32]).public();
        let (signers, past) = (SignerSet::new(vec![Signer { key: who(0), power: 1 }]).unwrap(), PastSigners::default());
        let which = Disputed { name: "a/m".parse().unwrap(), version: 1, round: 1, validator: who(1), leaf: 2 };
        let other = Disputed { leaf: 21, ..which.clone() };
        let ballot = BallotState { weight: 1, bond: 0, refuted: Some(true) };
        for n in 0..10 {
            draft.write(key::ballot(&which, 1 + n % 3, &who(n)), &ballot).unwrap();
            draft.write(key::ballot(&other, 1, &who(n)), &ballot).unwrap();
        }
        for (height, room, left, gone) in [(5, 4, 0, 4), (6, 0, 0, 4), (7, 8, 2, 10)] {
            let (genesis_rules, rules) = (2, 2);
            let pool = &PoolId([0; 32]);
            let (signers, past) = (&signers, &past);
            let at = Context { pool, height, time_ms: 0, genesis_rules, rules, parent_ms: 0, signers, past };
            assert_eq!(sweep(&mut draft, &at, &which, room).unwrap(), left);
            assert_eq!(draft.scan(&key::seats(&which)).len(), 10 - gone);
            let next: Option<Due> = draft.read(&key::due_of(height + 1, &which)).unwrap();
            assert_eq!(next, Some(Due::Sweep).filter(|_| gone < 10));
        }
        assert_eq!(draft.scan(&key::seats(&other)).len(), 10, "of another dispute");
    }
}
