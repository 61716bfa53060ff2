//! Evidence: a signer that signed two different things at one step is recorded, for everyone to see. It takes no right and no power
//! away: an administrator removes the signer with `SetSigners`. Where the rules know stake, what the signer has at stake is convicted.

use zero2ai_proto::{
    evidence::Evidence,
    limits::EVIDENCE_HEIGHTS,
    state::{Equivocation, Offence, key},
};

use super::{Call, Context, STAKED_RULES, stake};
use crate::{draft::Draft, error::TxError};

/// Records a contradiction, once for each signer and height: however often it was repeated there, one proof says all, and
/// nobody can fill the state with more. Any member may submit it; the two signatures speak for themselves.
pub(super) fn record(draft: &mut Draft<'_>, call: &Call<'_>, body: &Evidence) -> Result<(), TxError> {
    let Context { pool, height: now, time_ms, signers, past, .. } = *call.at;
    let (height, round, step) = body.place();
    let invalid = |why: String| TxError::Invalid { what: "evidence", why };
    if height == 0 || height >= now {
        return Err(invalid(format!("height {height} is not final before this block, {now}")));
    }
    if now - height > EVIDENCE_HEIGHTS {
        return Err(invalid(format!("height {height} is more than {EVIDENCE_HEIGHTS} heights ago")));
    }
    let key = key::evidence(&body.signer, height);
    if draft.get(&key).is_some() {
        return Err(TxError::Exists(format!("evidence against {} at height {height}", body.signer)));
    }
    let power = past.at(height).unwrap_or(signers).power_of(&body.signer);
    let power = power.ok_or_else(|| invalid(format!("{} was no signer at height {height}", body.signer)))?;
    body.check(pool)?;
    let equivocation = Equivocation {
        round,
        step,
        blocks: (body.first.statement.block(), body.second.statement.block()),
        power,
        reporter: call.who,
        tx: call.id,
        recorded: now,
        time_ms,
    };
    draft.write(key, &equivocation)?;
    if call.at.rules >= STAKED_RULES {
        stake::convict(draft, call, &body.signer, Offence::Equivocation)?;
    }
    Ok(())
}
