//! Who may grade a model: everyone, those with the most stake behind them, or those whom its owner names, which its rounds then say.
//! Votes are stake: one voice per unit, and where nothing was ever allotted one each.

use std::collections::BTreeSet;

use zero2ai_proto::{
    NodeId, decode,
    limits::SEATS,
    state::{GradersState, Member, Rights, VoteState, key},
    tx::{Authorise, Elect, Graders},
};
use zero2ai_trust::election;

use super::{Call, Context, model, stake};
use crate::{
    draft::{Draft, VALUE_BYTES, broken},
    error::TxError,
};

/// Puts the signer's stake behind a validator, instead of one before; or takes that back.
pub(super) fn elect(draft: &mut Draft<'_>, call: &Call<'_>, body: &Elect) -> Result<(), TxError> {
    if let Some(candidate) = body.candidate {
        need_validator(draft, &candidate)?;
    }
    draft.write(key::vote(&call.who), &VoteState { candidate: body.candidate, height: call.at.height })
}

fn need_validator(draft: &Draft<'_>, who: &NodeId) -> Result<(), TxError> {
    let member: Member = draft.read(&key::member(who))?.ok_or(TxError::NotMember(*who))?;
    let may = member.rights.has(Rights::VALIDATOR);
    if may { Ok(()) } else { Err(TxError::Forbidden { who: *who, need: Rights::VALIDATOR }) }
}

/// Says who may grade a model that the signer owns.
pub(super) fn authorise(draft: &mut Draft<'_>, call: &Call<'_>, body: &Authorise) -> Result<(), TxError> {
    model::owned(draft, call, &body.name)?;
    if let Graders::Named(named) = &body.graders {
        if named.is_empty() || named.len() > usize::from(SEATS) || !named.is_sorted_by(|a, b| a < b) {
            let why = format!("{} are named; 1 to {SEATS} different ones are possible, ascending", named.len());
            return Err(TxError::Invalid { what: "graders", why });
        }
        named.iter().try_for_each(|who| need_validator(draft, who))?;
    }
    let state = GradersState { graders: body.graders.clone(), height: call.at.height };
    draft.write(key::graders(&body.name), &state)
}

/// Elects up to `seats` of the candidates, by the stake of whoever voted for them.
pub(super) fn elected(
    draft: &Draft<'_>,
    at: &Context<'_>,
    candidates: &[(NodeId, u64)],
    seats: u16,
) -> Result<Vec<NodeId>, TxError> {
    let staked = stake::weighs(draft);
    let known: BTreeSet<&NodeId> = candidates.iter().map(|(who, _)| who).collect();
    let mut votes = Vec::new();
    for (key, value) in draft.scan(b"vote/") {
        let vote: VoteState = decode(value, VALUE_BYTES).map_err(|e| broken(key, &e))?;
        let voter = super::last_part(key)?;
        let Some(candidate) = vote.candidate.filter(|who| known.contains(who)) else { continue };
        // Who was revoked can take no vote back.
        if draft.read::<Member>(&key::member(&voter))?.is_none_or(|member| member.rights == Rights(0)) {
            continue;
        }
        votes.push((candidate, if staked { stake::held(draft, at, &voter)?.staked } else { 1 }));
    }
    Ok(election::elect(&votes, usize::from(seats)).into_iter().map(|(who, _)| who).collect())
}
