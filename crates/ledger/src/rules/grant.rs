//! Grants: which members may open a model's private versions. The ledger says who may; keys travel between nodes, which ask
//! it first.

use zero2ai_proto::{
    ModelName, NodeId,
    state::{GrantState, Member, Rights, key},
    tx::{Grant, Revoke},
};

use super::{Call, model};
use crate::{draft::Draft, error::TxError};

/// Lets a member that may run models open a model's private versions, those of before included.
pub(super) fn grant(draft: &mut Draft<'_>, call: &Call<'_>, body: &Grant) -> Result<(), TxError> {
    model::owned(draft, call, &body.name)?;
    let member: Member = draft.read(&key::member(&body.member))?.ok_or(TxError::NotMember(body.member))?;
    if !member.rights.has(Rights::PROVIDER) && !member.rights.has(Rights::VALIDATOR) {
        let why = "the member may not run models: it needs the right 'provider' or 'validator'".to_owned();
        return Err(TxError::Invalid { what: "grant", why });
    }
    change(draft, call, &body.name, &body.member, true)
}

/// Takes a grant back. The member keeps what it was given before; nobody gives it a key from here on.
pub(super) fn revoke(draft: &mut Draft<'_>, call: &Call<'_>, body: &Revoke) -> Result<(), TxError> {
    model::owned(draft, call, &body.name)?;
    change(draft, call, &body.name, &body.member, false)
}

fn change(
    draft: &mut Draft<'_>,
    call: &Call<'_>,
    name: &ModelName,
    member: &NodeId,
    granted: bool,
) -> Result<(), TxError> {
    let key = key::grant(name, member);
    let before = draft.read::<GrantState>(&key)?.is_some_and(|g| g.granted);
    let what = || format!("the grant of {name} to {member}");
    match (before, granted) {
        (true, true) => Err(TxError::Exists(what())),
        (false, false) => Err(TxError::Missing(what())),
        _ => draft.write(key, &GrantState { granted, height: call.at.height, tx: call.id }),
    }
}
