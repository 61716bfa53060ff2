//! What an epoch's work earns: shares of a pot that an administrator fills, by agreement beyond chance. `zero2ai_trust::reward` has the
//! formulas; here they meet the state. An epoch is the window of heights in which convictions are gathered, too (`pool grading
//! --window`), and what came of it stands under `reward/END/KEY`.
//!
//! Where nothing was ever allotted there is no pot: such a pool goes by reputation alone.

use zero2ai_proto::{
    NodeId, decode,
    limits::{REWARDED, STAKE_TOTAL},
    state::{Paid, PotState, RewardState, Rights, StakeTotal, key},
    tx::SetPot,
};
use zero2ai_trust::{
    Reputation,
    reward::{Shared, Split, agreement, claim, split},
};

use super::{Call, Context, stake};
use crate::{
    draft::{Draft, VALUE_BYTES, broken},
    error::TxError,
};

/// How far two findings may be apart before they are not alike at all, millionths: the spread of honest samples of some hundreds. Wider,
/// and agreement says little; narrower, and chance alone costs honest validators theirs. The simulated figures are of this value.
pub const TOLERANCE_PPM: u32 = 50_000;

/// What the pot holds.
pub(super) fn pot(draft: &Draft<'_>) -> Result<PotState, TxError> {
    Ok(draft.read(key::POT)?.unwrap_or_default())
}

/// Sets what it holds.
pub(super) fn set_pot(draft: &mut Draft<'_>, call: &Call<'_>, body: &SetPot) -> Result<(), TxError> {
    call.need(Rights::ADMIN)?;
    let invalid = |why: String| TxError::Invalid { what: "pot", why };
    let Some(StakeTotal { held, .. }) = draft.read(key::STAKES)? else {
        return Err(invalid(
            "nothing was ever allotted here: validators have a reputation and no units to be paid in".into(),
        ));
    };
    if held.checked_add(body.amount).is_none_or(|all| all > STAKE_TOTAL) {
        return Err(invalid(format!("members have {held}, and with the pot there may be {STAKE_TOTAL} at most")));
    }
    draft.write(key::POT.to_vec(), &PotState { amount: body.amount })
}

/// Takes what a validator shared in a round that is settled at `height`, with `stake` behind it.
pub(super) fn note(
    draft: &mut Draft<'_>,
    height: u64,
    who: &NodeId,
    shared: Shared,
    stake: u64,
) -> Result<(), TxError> {
    let key = key::reward(stake::window_end(draft, height)?, who);
    let before: Option<RewardState> = draft.read(&key)?;
    // What was staked for a part of the epoch earns for none of it.
    let stake = before.as_ref().filter(|reward| !reward.shared.is_empty()).map_or(stake, |r| r.stake.min(stake));
    let mut reward = RewardState { stake, ..before.unwrap_or_default() };
    if reward.shared.len() < REWARDED {
        reward.shared.push((shared.found_ppm, shared.score_ppm));
    }
    draft.write(key, &reward)
}

/// Makes the epoch of `height` earn a validator nothing.
pub(super) fn void(draft: &mut Draft<'_>, height: u64, who: &NodeId) -> Result<(), TxError> {
    if !stake::weighs(draft) {
        return Ok(());
    }
    let key = key::reward(stake::window_end(draft, height)?, who);
    let reward: RewardState = draft.read(&key)?.unwrap_or_default();
    draft.write(key, &RewardState { void: true, ..reward })
}

/// Divides the pot among those who shared something in the epoch that ends with this block. What is left by rounding, or all of it if nobody
/// agreed beyond chance, stays in the pot.
pub(super) fn pay(draft: &mut Draft<'_>, at: &Context<'_>) -> Result<(), TxError> {
    let mut rewards: Vec<(NodeId, RewardState)> = Vec::new();
    for (key, value) in draft.scan(&key::rewards(at.height)) {
        rewards.push((super::last_part(key)?, decode(value, VALUE_BYTES).map_err(|e| broken(key, &e))?));
    }
    if rewards.is_empty() {
        return Ok(());
    }
    let (mut weights, mut claims) = (Vec::new(), Vec::new());
    for (who, reward) in &rewards {
        let held = stake::held(draft, at, who)?;
        let weight = Reputation { good: held.good, bad: held.bad }.weight(reward.stake.min(held.staked));
        let weight = u64::try_from(weight).unwrap_or(u64::MAX);
        weights.push(weight);
        claims.push(claim(weight.into(), agreed(reward), reward.void));
    }
    let Split { shares, rest } = split(pot(draft)?.amount, &claims);
    draft.write(key::POT.to_vec(), &PotState { amount: rest })?;
    for (((who, reward), weight), amount) in rewards.into_iter().zip(weights).zip(shares) {
        stake::credit(draft, at, &who, amount)?;
        draft.write(key::reward(at.height, &who), &RewardState { paid: Some(Paid { weight, amount }), ..reward })?;
    }
    Ok(())
}

/// Agreement beyond chance in an epoch, millionths, from −1 to 1; see [`agreement`].
#[must_use]
pub fn agreed(reward: &RewardState) -> i64 {
    let shared = |(found_ppm, score_ppm): &(u32, u32)| Shared { found_ppm: *found_ppm, score_ppm: *score_ppm };
    agreement(&reward.shared.iter().map(shared).collect::<Vec<_>>(), TOLERANCE_PPM)
}
