//! What an epoch's work earns: shares of a pot that an administrator fills, by agreement beyond chance. `zero2ai_trust::reward` has the
//! formulas; here they meet the state. An epoch is the window of heights in which convictions are gathered, too (`pool grading
//! --window`); what is claimed of it stands under `reward/END/KEY` and `epoch/END` until it is paid.
//!
//! Claims are computed as findings come, and paid a bounded number in a block, so that the end of an epoch delays no block. Rounds whose
//! graders the model's owner chose, by naming them or by whom he grants a private model, earn nothing: he could pay himself.
//!
//! Where nothing was ever allotted there is no pot: such a pool goes by reputation alone.

use zero2ai_proto::{
    NodeId, decode,
    limits::{REWARDED, STAKE_TOTAL},
    manifest::Domain,
    state::{EpochState, PotState, RewardState, Rights, RoundState, Selection, StakeTotal, Version, key},
    tx::SetPot,
};
use zero2ai_trust::{
    PPM, Reputation,
    reward::{Shared, Sums, claim, share},
};

use super::{Call, Context, stake};
use crate::{
    draft::{Draft, VALUE_BYTES, broken},
    error::TxError,
};

/// How far two findings may be apart before they are not alike at all, millionths: the spread of honest samples of some hundreds. Wider,
/// and agreement says little; narrower, and chance alone costs honest validators theirs. The simulated figures are of this value.
pub const TOLERANCE_PPM: u32 = 50_000;

/// Validators paid at the end of one block at most: some milliseconds of work. The rest follow in the next blocks.
const PAYMENTS: usize = 128;

/// What the pot holds, and what of ended epochs is not paid yet: it will be somebody's.
pub(super) fn held(draft: &Draft<'_>) -> Result<u64, TxError> {
    let unpaid = epochs(draft)?.into_iter().fold(0, |sum, (_, epoch)| u64::saturating_add(sum, epoch.left));
    Ok(pot(draft)?.saturating_add(unpaid))
}

fn pot(draft: &Draft<'_>) -> Result<u64, TxError> {
    Ok(draft.read::<PotState>(key::POT)?.unwrap_or_default().amount)
}

/// The epochs of which something is claimed and not paid, in order of key.
fn epochs(draft: &Draft<'_>) -> Result<Vec<(u64, EpochState)>, TxError> {
    let mut epochs = Vec::new();
    for (key, value) in draft.scan(key::EPOCHS) {
        let end = std::str::from_utf8(&key[key::EPOCHS.len()..]).ok().and_then(|end| end.parse().ok());
        let end = end.ok_or_else(|| broken(key, &"it names no height"))?;
        epochs.push((end, decode(value, VALUE_BYTES).map_err(|e| broken(key, &e))?));
    }
    Ok(epochs)
}

/// Sets what the pot holds.
pub(super) fn set_pot(draft: &mut Draft<'_>, call: &Call<'_>, body: &SetPot) -> Result<(), TxError> {
    call.need(Rights::ADMIN)?;
    let invalid = |why: String| TxError::Invalid { what: "pot", why };
    let Some(StakeTotal { held: members, .. }) = draft.read(key::STAKES)? else {
        return Err(invalid(
            "nothing was ever allotted here: validators have a reputation and no units to be paid in".into(),
        ));
    };
    let others = members.saturating_add(held(draft)?.saturating_sub(pot(draft)?));
    if others.checked_add(body.amount).is_none_or(|all| all > STAKE_TOTAL) {
        return Err(invalid(format!("members have {others}, and with the pot there may be {STAKE_TOTAL} at most")));
    }
    draft.write(key::POT.to_vec(), &PotState { amount: body.amount })
}

/// True if what was found in a round earns something: by stake, before graders whom the model's owner did not choose. Whom he lets open
/// a private model he chose, too.
pub(super) fn earns(round: &RoundState, version: &Version) -> bool {
    let drawn = matches!(round.selection, Some(Selection::Everyone | Selection::Random));
    round.staked && drawn && version.domain != Domain::Private
}

/// Takes what a validator shared in a round that is settled at `height`, with `stake` behind it and `record` after it.
pub(super) fn note(
    draft: &mut Draft<'_>,
    height: u64,
    who: &NodeId,
    shared: Shared,
    (stake, record): (u64, Reputation),
) -> Result<(), TxError> {
    let end = stake::window_end(draft, height)?;
    let before: RewardState = draft.read(&key::reward(end, who))?.unwrap_or_default();
    let mut reward = before.clone();
    // What was staked for a part of the epoch earns for none of it.
    reward.stake = if before.shared.is_empty() { stake } else { before.stake.min(stake) };
    if reward.shared.len() < REWARDED {
        let findings: Vec<Shared> =
            before.shared.iter().map(|(f, s)| Shared { found_ppm: *f, score_ppm: *s }).collect();
        let Sums { same, all } = sums(&before).with(&findings, shared, TOLERANCE_PPM);
        (reward.same, reward.all) = (same, all);
        reward.shared.push((shared.found_ppm, shared.score_ppm));
    }
    let claim = claim(record.weight(reward.stake), agreed(&reward), reward.void) / u128::from(PPM);
    reward.claim = u64::try_from(claim).unwrap_or(u64::MAX);
    write(draft, end, who, before.claim, &reward)
}

/// Makes the epoch of `height` earn a validator nothing.
pub(super) fn void(draft: &mut Draft<'_>, height: u64, who: &NodeId) -> Result<(), TxError> {
    if !stake::weighs(draft) {
        return Ok(());
    }
    let end = stake::window_end(draft, height)?;
    let reward: RewardState = draft.read(&key::reward(end, who))?.unwrap_or_default();
    write(draft, end, who, reward.claim, &RewardState { void: true, claim: 0, ..reward })
}

/// Writes what a validator shared, and what all claim together.
fn write(draft: &mut Draft<'_>, end: u64, who: &NodeId, claimed: u64, reward: &RewardState) -> Result<(), TxError> {
    let epoch: EpochState = draft.read(&key::epoch(end))?.unwrap_or_default();
    // All stakes times millionths fit 64 bits.
    let claims = epoch.claims.saturating_sub(claimed).saturating_add(reward.claim);
    draft.write(key::epoch(end), &EpochState { claims, ..epoch })?;
    draft.write(key::reward(end, who), reward)
}

/// Sets aside the pot for who shared something in the epoch that ends with this block, and pays some of those to whom something is set
/// aside. What is left by rounding, or all of it if nobody agreed beyond chance, comes back to the pot.
pub(super) fn pay(draft: &mut Draft<'_>, at: &Context<'_>) -> Result<(), TxError> {
    if let Some(epoch) = draft.read::<EpochState>(&key::epoch(at.height))? {
        let amount = pot(draft)?;
        draft.write(key::epoch(at.height), &EpochState { amount: Some(amount), left: amount, ..epoch })?;
        add_to_pot(draft, amount, 0)?;
    }
    let mut room = PAYMENTS;
    for (end, epoch) in epochs(draft)? {
        if let Some(amount) = epoch.amount {
            room = pay_some(draft, at, (end, epoch, amount), room)?;
        }
    }
    Ok(())
}

/// Takes some out of the pot and puts some in.
fn add_to_pot(draft: &mut Draft<'_>, out: u64, into: u64) -> Result<(), TxError> {
    if out == into {
        return Ok(());
    }
    let amount = pot(draft)?.saturating_sub(out).saturating_add(into);
    draft.write(key::POT.to_vec(), &PotState { amount })
}

/// Pays up to `room` validators of an ended epoch, and forgets what they shared; gives the room that is left.
fn pay_some(
    draft: &mut Draft<'_>,
    at: &Context<'_>,
    (end, mut epoch, amount): (u64, EpochState, u64),
    room: usize,
) -> Result<usize, TxError> {
    let mut claims: Vec<(NodeId, u64)> = Vec::new();
    let prefix = key::rewards(end);
    let all = draft.scan(&prefix);
    let more = all.len() > room;
    for (key, value) in all.into_iter().take(room) {
        let reward: RewardState = decode(value, VALUE_BYTES).map_err(|e| broken(key, &e))?;
        claims.push((super::last_part(key)?, reward.claim));
    }
    for (who, claim) in &claims {
        let share = share(amount, *claim, epoch.claims).min(epoch.left);
        epoch.left -= share;
        if share > 0 {
            stake::credit(draft, at, who, share)?;
        }
        draft.remove(key::reward(end, who));
    }
    if more {
        draft.write(key::epoch(end), &epoch)?;
    } else {
        draft.remove(key::epoch(end));
        add_to_pot(draft, 0, epoch.left)?;
    }
    Ok(room - claims.len())
}

const fn sums(reward: &RewardState) -> Sums {
    Sums { same: reward.same, all: reward.all }
}

/// Agreement beyond chance in an epoch, millionths, from −1 to 1; see [`zero2ai_trust::reward::agreement`].
#[must_use]
pub fn agreed(reward: &RewardState) -> i64 {
    sums(reward).agreement(reward.shared.len())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use zero2ai_proto::{
        PoolId, SecretKey,
        state::{Signer, SignerSet, StakeState},
    };

    use super::*;
    use crate::{draft::Entries, past::PastSigners};

    /// An epoch with more validators than one block pays: nobody is paid twice or left out, later epochs wait their turn, and nothing of it
    /// stays in the state.
    #[test]
    fn a_long_list_is_paid_over_several_blocks_and_leaves_the_state() {
        let (base, handles) = (Entries::new(), BTreeMap::new());
        let mut draft = Draft::new(&base, &handles);
        let who = |n: u16| SecretKey::from_bytes(&[n.to_le_bytes(); 16].concat().try_into().unwrap()).public();
        let signers = SignerSet::new(vec![Signer { key: who(0), power: 1 }]).unwrap();
        let past = PastSigners::default();
        draft.write(key::STAKES.to_vec(), &StakeTotal::default()).unwrap();
        draft.write(key::POT.to_vec(), &PotState { amount: 10_007 }).unwrap();
        for n in 0..300u16 {
            let reward = RewardState { claim: u64::from(n), ..RewardState::default() };
            write(&mut draft, 7, &who(n), 0, &reward).unwrap();
        }
        write(&mut draft, 8, &who(5), 0, &RewardState { claim: 1, ..RewardState::default() }).unwrap();
        let sum = 299 * 300 / 2;
        for (height, unpaid) in [(6, 301), (7, 173), (8, 45), (9, 0)] {
            let at = Context {
                pool: &PoolId([0; 32]),
                height,
                time_ms: 0,
                genesis_rules: 2,
                rules: 2,
                parent_ms: 0,
                signers: &signers,
                past: &past,
            };
            pay(&mut draft, &at).unwrap();
            assert_eq!(draft.scan(b"reward/").len(), unpaid, "{height}");
            let total: StakeTotal = draft.read(key::STAKES).unwrap().unwrap();
            assert_eq!(total.held + held(&draft).unwrap(), 10_007, "nothing is made or lost");
        }
        assert!(draft.scan(key::EPOCHS).is_empty());
        for n in 0..300u16 {
            let stake: StakeState = draft.read(&key::stake(&who(n))).unwrap().unwrap_or_else(stake::none);
            assert_eq!(stake.own, 10_007 * u64::from(n) / sum, "{n}");
        }
    }
}
