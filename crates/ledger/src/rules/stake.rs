//! What members have at stake. There is no currency: an administrator sets what a member has, as he sets its rights, in units that
//! mean nothing outside of the pool. A pool in which nothing was ever allotted goes by reputation alone: every validator weighs one.
//!
//! What is held together changes by an allotment, a share of a pot, a burned bond or a conviction, and by nothing else. What leaves a stake weighs
//! nothing from then on, and stays liable until neither evidence nor a dispute of its time can be brought any more; what a deposit binds
//! of it does not leave before that is over. An allotment changes what was allotted alone, never what was earned.

use zero2ai_proto::{
    NodeId, decode,
    limits::{DISPUTES, LEAVING, LIABLE_HEIGHTS, STAKE_TOTAL, WINDOW_HEIGHTS},
    state::{Conviction, Member, Offence, Rights, StakeState, StakeTotal, key},
    tx::{Allot, Stake, Unstake},
};
use zero2ai_trust::{Reputation, slash::charges};

use super::{Call, Context, grading::grading, reward};
use crate::{
    draft::{Draft, VALUE_BYTES, broken},
    error::TxError,
};

const PREFIX: &[u8] = b"stake/";

fn invalid(why: String) -> TxError {
    TxError::Invalid { what: "stake", why }
}

/// What a member has that never had anything.
pub(crate) fn none() -> StakeState {
    let Reputation { good, bad } = Reputation::default();
    StakeState { free: 0, staked: 0, bonds: 0, leaving: Vec::new(), good, bad, own: 0, earned: 0, disputes: 0 }
}

/// As it is at `height`: what was liable until then is the member's own, but for what is bound. Bonds bind the stake first, then what
/// leaves last.
pub(crate) fn thawed(mut stake: StakeState, height: u64) -> StakeState {
    let mut bound = stake.bonds.saturating_sub(stake.staked);
    let mut leaving = Vec::with_capacity(stake.leaving.len());
    for (amount, until) in stake.leaving.into_iter().rev() {
        let stays = if until > height { amount } else { amount.min(bound) };
        bound = bound.saturating_sub(stays);
        stake.own = stake.own.saturating_add(amount - stays);
        if stays > 0 {
            leaving.push((stays, until));
        }
    }
    leaving.reverse();
    stake.leaving = leaving;
    stake
}

/// What a conviction can reach.
pub(crate) fn liable(stake: &StakeState) -> u64 {
    stake.leaving.iter().fold(stake.staked, |sum, (amount, _)| sum.saturating_add(*amount))
}

/// What `who` has, as of this block.
pub(super) fn held(draft: &Draft<'_>, at: &Context<'_>, who: &NodeId) -> Result<StakeState, TxError> {
    Ok(thawed(draft.read(&key::stake(who))?.unwrap_or_else(none), at.height))
}

pub(super) fn write(draft: &mut Draft<'_>, who: &NodeId, stake: &StakeState) -> Result<(), TxError> {
    draft.write(key::stake(who), stake)
}

/// True once anything was allotted in this pool.
pub(super) fn weighs(draft: &Draft<'_>) -> bool {
    draft.get(key::STAKES).is_some()
}

/// Sets what a member has that was allotted to it and never staked. What it earned is its own, and so is what it took out of its stake.
pub(super) fn allot(draft: &mut Draft<'_>, call: &Call<'_>, body: &Allot) -> Result<(), TxError> {
    call.need(Rights::ADMIN)?;
    if draft.read::<Member>(&key::member(&body.member))?.is_none() {
        return Err(TxError::NotMember(body.member));
    }
    let mut stake = held(draft, call.at, &body.member)?;
    let mut total: StakeTotal = draft.read(key::STAKES)?.unwrap_or_default();
    // What the pot holds will be somebody's.
    let (others, pot) = (total.held.saturating_sub(stake.free), reward::held(draft)?);
    let fits = |held: &u64| held.checked_add(pot).is_some_and(|all| all <= STAKE_TOTAL);
    total.held = others.checked_add(body.amount).filter(fits).ok_or_else(|| {
        invalid(format!(
            "beside it there are {others} and in the pot {pot}, and all together may have {STAKE_TOTAL}: allot smaller units"
        ))
    })?;
    stake.free = body.amount;
    draft.write(key::STAKES.to_vec(), &total)?;
    write(draft, &body.member, &stake)
}

/// Stakes some of what the signer has: what was allotted to it first.
pub(super) fn stake(draft: &mut Draft<'_>, call: &Call<'_>, body: &Stake) -> Result<(), TxError> {
    let mut stake = held(draft, call.at, &call.who)?;
    let has = stake.free.saturating_add(stake.own);
    if body.amount == 0 || body.amount > has {
        return Err(invalid(format!(
            "{} of {has} that are free; an administrator sets what a member has",
            body.amount
        )));
    }
    let allotted = body.amount.min(stake.free);
    stake.free -= allotted;
    stake.own -= body.amount - allotted;
    stake.staked = stake.staked.saturating_add(body.amount);
    write(draft, &call.who, &stake)
}

/// Takes some of the signer's stake back.
pub(super) fn unstake(draft: &mut Draft<'_>, call: &Call<'_>, body: &Unstake) -> Result<(), TxError> {
    let mut stake = held(draft, call.at, &call.who)?;
    let unbound = stake.staked.saturating_sub(stake.bonds);
    if body.amount == 0 || body.amount > unbound {
        let bound = stake.bonds;
        return Err(invalid(format!("{} of {unbound} that no commitment binds ({bound} are bound)", body.amount)));
    }
    if stake.leaving.len() >= LEAVING {
        return Err(invalid(format!("{LEAVING} parts of it are leaving already: wait until one is free")));
    }
    stake.staked = stake.staked.saturating_sub(body.amount);
    // A round that it was committed to ends so much later, evidence of that comes later still, and is charged at the end of a window,
    // however long windows are then.
    let liable = LIABLE_HEIGHTS.saturating_add(WINDOW_HEIGHTS).saturating_add(1);
    stake.leaving.push((body.amount, call.at.height.saturating_add(liable)));
    write(draft, &call.who, &stake)
}

/// Takes `amount` of a stake for good: of what is staked first, then of what is leaving; never more than there is.
pub(super) fn burn(draft: &mut Draft<'_>, who: &NodeId, stake: &mut StakeState, amount: u64) -> Result<u64, TxError> {
    let mut left = amount;
    let mut take = |part: &mut u64| {
        let taken = left.min(*part);
        *part -= taken;
        left -= taken;
    };
    take(&mut stake.staked);
    stake.leaving.iter_mut().for_each(|(part, _)| take(part));
    stake.leaving.retain(|(part, _)| *part > 0);
    stake.bonds = stake.bonds.min(liable(stake));
    let burned = amount - left;
    let mut total: StakeTotal = draft.read(key::STAKES)?.unwrap_or_default();
    total.held = total.held.saturating_sub(burned);
    total.burned = total.burned.saturating_add(burned);
    if burned > 0 {
        draft.write(key::STAKES.to_vec(), &total)?;
    }
    write(draft, who, stake)?;
    Ok(burned)
}

/// Binds a deposit, of the stake first and then of what is leaving it, until it is released or forfeited: all of it, or as much as nothing
/// else binds if that is less; gives what was bound.
pub(super) fn bind(draft: &mut Draft<'_>, at: &Context<'_>, who: &NodeId, amount: u64) -> Result<u64, TxError> {
    let mut stake = held(draft, at, who)?;
    let bound = amount.min(liable(&stake).saturating_sub(stake.bonds));
    stake.bonds = stake.bonds.saturating_add(bound);
    write(draft, who, &stake)?;
    Ok(bound)
}

/// Gives a deposit back.
pub(super) fn release(draft: &mut Draft<'_>, at: &Context<'_>, who: &NodeId, bound: u64) -> Result<(), TxError> {
    let mut stake = held(draft, at, who)?;
    stake.bonds = stake.bonds.saturating_sub(bound);
    write(draft, who, &stake)
}

/// Burns a deposit, as far as no conviction took it meanwhile; gives what was burned.
pub(super) fn forfeit(draft: &mut Draft<'_>, at: &Context<'_>, who: &NodeId, bound: u64) -> Result<u64, TxError> {
    let mut stake = held(draft, at, who)?;
    // What a conviction took of it is gone: what is staked since then does not answer for it.
    let amount = bound.min(stake.bonds).min(liable(&stake));
    stake.bonds = stake.bonds.saturating_sub(bound);
    burn(draft, who, &mut stake, amount)
}

/// Gives `who` what it earned: a part of the pot, or of what was just burned. It is its own, and not staked.
pub(super) fn credit(draft: &mut Draft<'_>, at: &Context<'_>, who: &NodeId, amount: u64) -> Result<(), TxError> {
    let mut stake = held(draft, at, who)?;
    let mut total: StakeTotal = draft.read(key::STAKES)?.unwrap_or_default();
    stake.own = stake.own.saturating_add(amount);
    stake.earned = stake.earned.saturating_add(amount);
    total.held = total.held.saturating_add(amount);
    draft.write(key::STAKES.to_vec(), &total)?;
    write(draft, who, &stake)
}

/// Takes back what was just burned, for who is given it.
pub(super) fn unburn(draft: &mut Draft<'_>, amount: u64) -> Result<(), TxError> {
    let mut total: StakeTotal = draft.read(key::STAKES)?.unwrap_or_default();
    total.burned = total.burned.saturating_sub(amount);
    draft.write(key::STAKES.to_vec(), &total)
}

/// Counts a dispute that `who` opens, if it may have one more.
pub(super) fn dispute(draft: &mut Draft<'_>, at: &Context<'_>, who: &NodeId) -> Result<(), TxError> {
    let mut stake = held(draft, at, who)?;
    if stake.disputes >= DISPUTES {
        let why = format!("{DISPUTES} disputes that this member opened are not settled: wait until one is");
        return Err(TxError::Invalid { what: "dispute", why });
    }
    stake.disputes = stake.disputes.saturating_add(1);
    write(draft, who, &stake)
}

/// Counts it off again.
pub(super) fn settled(draft: &mut Draft<'_>, at: &Context<'_>, who: &NodeId) -> Result<(), TxError> {
    let mut stake = held(draft, at, who)?;
    stake.disputes = stake.disputes.saturating_sub(1);
    write(draft, who, &stake)
}

/// Takes an event into the record of `who`.
pub(super) fn judge(draft: &mut Draft<'_>, at: &Context<'_>, who: &NodeId, ok: u32, bad: u32) -> Result<(), TxError> {
    let mut stake = held(draft, at, who)?;
    let record = Reputation { good: stake.good, bad: stake.bad }.after(ok, bad);
    (stake.good, stake.bad) = (record.good, record.bad);
    write(draft, who, &stake)
}

/// The height at which the window of `height` ends.
pub(super) fn window_end(draft: &Draft<'_>, height: u64) -> Result<u64, TxError> {
    let window = grading(draft)?.window.max(1);
    Ok((height / window).saturating_add(1).saturating_mul(window))
}

/// Convicts `who` of an offence that `call` proves: once a window, and only who has something at stake. A further offence counts
/// where more was at stake: else a small one, confessed, would make the rest of the window free.
pub(super) fn convict(draft: &mut Draft<'_>, call: &Call<'_>, who: &NodeId, offence: Offence) -> Result<(), TxError> {
    let height = call.at.height;
    let liable = liable(&held(draft, call.at, who)?);
    let key = key::convicted(window_end(draft, height)?, who);
    let before = draft.read::<Conviction>(&key)?.map_or(0, |conviction| conviction.liable);
    if liable <= before {
        return Ok(());
    }
    draft.write(key, &Conviction { offence, liable, height, tx: call.id, charged: None })
}

/// Charges all who were convicted in the window that ends with this block, at one rate.
pub(super) fn charge(draft: &mut Draft<'_>, at: &Context<'_>) -> Result<(), TxError> {
    let prefix = key::convictions(at.height);
    let mut convicted: Vec<(NodeId, Conviction)> = Vec::new();
    for (key, value) in draft.scan(&prefix) {
        let who = super::last_part(key)?;
        convicted.push((who, decode(value, VALUE_BYTES).map_err(|e| broken(key, &e))?));
    }
    if convicted.is_empty() {
        return Ok(());
    }
    let mut total = 0u64;
    for (key, value) in draft.scan(PREFIX) {
        let stake: StakeState = decode(value, VALUE_BYTES).map_err(|e| broken(key, &e))?;
        total = total.saturating_add(liable(&thawed(stake, at.height)));
    }
    let amounts: Vec<u64> = convicted.iter().map(|(_, c)| c.liable).collect();
    for ((who, conviction), charge) in convicted.into_iter().zip(charges(&amounts, total)) {
        let mut stake = held(draft, at, &who)?;
        let charged = burn(draft, &who, &mut stake, charge)?;
        draft.write(key::convicted(at.height, &who), &Conviction { charged: Some(charged), ..conviction })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a bond needs does not leave, however long ago it was taken back; the rest does, the oldest first.
    #[test]
    fn what_is_bound_stays_until_it_is_released() {
        let leaving = vec![(40, 10), (30, 20), (20, 30)];
        let stake = StakeState { staked: 5, bonds: 35, leaving, own: 1, ..none() };
        let at = |height: u64, bonds: u64| {
            let held = thawed(StakeState { bonds, ..stake.clone() }, height);
            assert_eq!(held.own + liable(&held), 96, "nothing is made or lost");
            (held.own, held.leaving)
        };
        assert_eq!(at(9, 35), (1, vec![(40, 10), (30, 20), (20, 30)]));
        assert_eq!(at(10, 35), (41, vec![(30, 20), (20, 30)]));
        assert_eq!(at(20, 35), (61, vec![(10, 20), (20, 30)]), "30 are bound, of what leaves last");
        assert_eq!(at(99, 35), (61, vec![(10, 20), (20, 30)]));
        assert_eq!(at(99, 5), (91, vec![]), "the stake alone is enough");
    }
}
