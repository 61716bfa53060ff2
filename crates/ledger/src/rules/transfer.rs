//! Models change hands: the owner offers, the other accepts, so that nobody becomes the owner of what he does not want. A handle
//! stays with who claimed it: the new owner publishes further versions of the model, and begins no others under that handle.

use zero2ai_proto::{
    ModelName, NodeId,
    state::{EventKind, Member, OfferState, Rights, RoundCount, key},
    tx::{Accept, Offer},
};

use super::{Call, model, record};
use crate::{draft::Draft, error::TxError};

/// Offers a model to a member who may publish, instead of an earlier offer; or takes that back.
pub(super) fn offer(draft: &mut Draft<'_>, call: &Call<'_>, body: &Offer) -> Result<(), TxError> {
    model::owned(draft, call, &body.name)?;
    let key = key::offer(&body.name);
    let open = draft.read::<OfferState>(&key)?.is_some_and(|offer| offer.to.is_some());
    match body.to {
        None if !open => return Err(TxError::Missing(format!("an offer of {}", body.name))),
        None => {}
        Some(to) if to == call.who => {
            let why = format!("{} has this owner already", body.name);
            return Err(TxError::Invalid { what: "offer", why });
        }
        Some(to) => {
            let member: Member = draft.read(&key::member(&to))?.ok_or(TxError::NotMember(to))?;
            if !member.rights.has(Rights::PUBLISHER) {
                return Err(TxError::Forbidden { who: to, need: Rights::PUBLISHER });
            }
        }
    }
    draft.write(key, &OfferState { to: body.to, height: call.at.height })
}

/// Makes the signer, to whom it was offered, a model's owner. What it published stays the earlier owner's publication, and who
/// was granted it still is.
pub(super) fn accept(draft: &mut Draft<'_>, call: &Call<'_>, body: &Accept) -> Result<(), TxError> {
    call.need(Rights::PUBLISHER)?;
    let mut model = model::model(draft, &body.name)?;
    let key = key::offer(&body.name);
    if draft.read::<OfferState>(&key)?.and_then(|offer| offer.to) != Some(call.who) {
        return Err(TxError::Missing(format!("an offer of {} to this account", body.name)));
    }
    // Else somebody could grade first what becomes his own.
    if (1..=model.latest).any(|version| graded(draft, &body.name, version, &call.who)) {
        let why = format!("who endorsed a version of {} cannot become its owner", body.name);
        return Err(TxError::Invalid { what: "offer", why });
    }
    draft.write(key, &OfferState { to: None, height: call.at.height })?;
    model.owner = call.who;
    let latest = model.latest;
    record(draft, call, &body.name, model, EventKind::Transferred, latest)
}

/// True if `who` endorsed a version, found something of it in a round, or takes part in its newest one.
fn graded(draft: &Draft<'_>, name: &ModelName, version: u32, who: &NodeId) -> bool {
    let newest = draft.read::<RoundCount>(&key::rounds(name, version)).ok().flatten().map_or(0, |count| count.newest);
    let keys = [
        key::endorsement(name, version, who),
        key::finding(name, version, who),
        key::entry(name, version, newest, who),
    ];
    keys.iter().any(|key| draft.get(key).is_some())
}
