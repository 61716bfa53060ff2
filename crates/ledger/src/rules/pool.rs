//! Who belongs to the pool and who signs its blocks: redemptions, rights, signer sets.

use zero2ai_proto::{
    AccountId,
    limits::{KEY_GRACE_MS, SIGNER_POWER, SIGNERS},
    state::{Member, PoolEpoch, Rights, SignerSet, Signers, TicketUse, key},
    tx::{Redeem, RotateKey, SetRights, SetSigners},
};

use super::{Call, Context, KNOWN_RIGHTS, signers};
use crate::{
    draft::{Draft, broken},
    error::{TicketError, TxError},
};

/// Admits `who` by a ticket that an administrator signed. Rights include administration only if the ticket says so, and
/// its signer, being an administrator, could grant that anyway. A revoked identity stays revoked: its ticket may have uses
/// left, and must not undo the revocation.
pub(super) fn redeem(
    draft: &mut Draft<'_>,
    at: &Context<'_>,
    who: AccountId,
    nonce: u64,
    body: &Redeem,
) -> Result<(), TxError> {
    if nonce != 0 {
        return Err(TxError::Invalid { what: "nonce", why: format!("a redemption carries 0, not {nonce}") });
    }
    match draft.read::<Member>(&key::member(&who))? {
        Some(member) if member.rights == Rights::default() => return Err(TxError::Revoked(who)),
        Some(_) => return Err(TxError::AlreadyMember(who)),
        None => {}
    }
    let ticket = body.ticket.verify(at.pool).map_err(|e| TxError::Ticket(e.into()))?;
    let issuer = body.ticket.signer();
    let admin = draft.read::<Member>(&key::member(&issuer))?.is_some_and(|m| m.rights.has(Rights::ADMIN));
    if !admin {
        return Err(TxError::Ticket(TicketError::NotAdmin(issuer)));
    }
    if at.time_ms > ticket.expires_ms {
        let (expired_ms, now_ms) = (ticket.expires_ms, at.time_ms);
        return Err(TxError::Ticket(TicketError::Expired { expired_ms, now_ms }));
    }
    if ticket.rights == Rights::default() || ticket.rights.0 & !KNOWN_RIGHTS != 0 {
        return Err(TxError::Ticket(TicketError::Rights(ticket.rights.0)));
    }
    let use_key = key::ticket(&ticket.nonce);
    let used = draft.read::<TicketUse>(&use_key)?.map_or(0, |u| u.used);
    if used >= ticket.uses {
        return Err(TxError::Ticket(TicketError::UsedUp(ticket.uses)));
    }
    draft.write(use_key, &TicketUse { used: used.saturating_add(1) })?;
    let member = Member { rights: ticket.rights, sealing_key: body.sealing_key, admitted: at.height, nonce: 0 };
    draft.write(key::member(&who), &member)
}

/// Sets a member's rights. Refuses to leave the pool without an administrator, and to take the right to sign from a
/// member that signs one of the next two blocks: the signer set changes first.
pub(super) fn set_rights(draft: &mut Draft<'_>, call: &Call<'_>, body: &SetRights) -> Result<(), TxError> {
    call.need(Rights::ADMIN)?;
    let (key, what) = (key::member(&body.member), "rights");
    let mut member: Member = draft.read(&key)?.ok_or(TxError::NotMember(body.member))?;
    if body.rights.0 & !KNOWN_RIGHTS != 0 {
        let why = format!("{:#b} holds bits that no right stands for", body.rights.0);
        return Err(TxError::Invalid { what, why });
    }
    let sets = signers(draft)?;
    let signs = |set: &SignerSet| set.power_of(&body.member).is_some();
    if !body.rights.has(Rights::SIGNER) && (signs(&sets.current) || signs(&sets.next)) {
        let why = format!("{} still signs blocks: set signers without it, and try again two blocks later", body.member);
        return Err(TxError::Invalid { what, why });
    }
    if member.rights.has(Rights::ADMIN) && !body.rights.has(Rights::ADMIN) && !has_other_admin(draft, &key)? {
        let why = format!("{} is the last administrator: make another one first", body.member);
        return Err(TxError::Invalid { what, why });
    }
    member.rights = body.rights;
    draft.write(key, &member)
}

fn has_other_admin(draft: &Draft<'_>, but: &[u8]) -> Result<bool, TxError> {
    for (key, value) in draft.scan(b"member/") {
        let member: Member = zero2ai_proto::decode(value, crate::draft::VALUE_BYTES).map_err(|e| broken(key, &e))?;
        if key != but && member.rights.has(Rights::ADMIN) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Replaces the signer set from the height after next on. Of several in one block the last one counts.
pub(super) fn set_signers(draft: &mut Draft<'_>, call: &Call<'_>, body: &SetSigners) -> Result<(), TxError> {
    call.need(Rights::ADMIN)?;
    let invalid = |why: String| TxError::Invalid { what: "signer set", why };
    let next = SignerSet::new(body.signers.clone()).ok_or_else(|| {
        invalid(format!("it needs 1 to {SIGNERS} different signers with powers from 1 to {SIGNER_POWER}"))
    })?;
    if (2..=3).contains(&next.as_slice().len()) && !body.force {
        let why = "two or three signers stop when one dies: use one, or four and more, or force it";
        return Err(invalid(why.to_owned()));
    }
    for signer in next.as_slice() {
        let member: Member = draft.read(&key::member(&signer.key))?.ok_or(TxError::NotMember(signer.key))?;
        if !member.rights.has(Rights::SIGNER) {
            return Err(TxError::Forbidden { who: signer.key, need: Rights::SIGNER });
        }
    }
    let current = signers(draft)?.current;
    draft.write(key::SIGNERS.to_vec(), &Signers { current, next })
}

/// Makes another pool key the newest one.
pub(super) fn rotate_key(draft: &mut Draft<'_>, call: &Call<'_>, body: &RotateKey) -> Result<(), TxError> {
    call.need(Rights::ADMIN)?;
    let invalid = |why: String| TxError::Invalid { what: "pool key", why };
    let before = draft.read::<PoolEpoch>(key::POOL_EPOCH)?.map_or(0, |e| e.epoch);
    if before.checked_add(1) != Some(body.epoch) {
        return Err(invalid(format!("its epoch is {}, and the newest key's {before}", body.epoch)));
    }
    if body.grace_ms > KEY_GRACE_MS {
        return Err(invalid(format!("{} ms of grace; {KEY_GRACE_MS} are the most", body.grace_ms)));
    }
    let Context { height, time_ms, .. } = *call.at;
    let grace_until_ms = time_ms.saturating_add(body.grace_ms);
    let epoch = PoolEpoch { epoch: body.epoch, id: body.id, height, grace_until_ms };
    draft.write(key::POOL_EPOCH.to_vec(), &epoch)
}
