//! Anchors: a provider's receipt log may only grow, and the ledger holds its newest root.

use zero2ai_proto::{
    Digest,
    state::{AnchorState, Rights, key},
    tx::Anchor,
};

use super::Call;
use crate::{draft::Draft, error::TxError, receipt_log::verify_consistency};

/// Records the next root of the signer's own log, if it is proved to continue the last.
pub(super) fn anchor(draft: &mut Draft<'_>, call: &Call<'_>, body: &Anchor) -> Result<(), TxError> {
    call.need(Rights::PROVIDER)?;
    let key = key::anchor(&call.who);
    let last: Option<AnchorState> = draft.read(&key)?;
    let (seq, size, root) = last.map_or((0, 0, Digest([0; 32])), |a| (a.seq, a.size, a.root));
    if Some(body.seq) != seq.checked_add(1) {
        return Err(TxError::Invalid { what: "anchor", why: format!("number {} does not follow {seq}", body.seq) });
    }
    if body.size <= size {
        let why = format!("{} leaves are not more than the {size} anchored last", body.size);
        return Err(TxError::Invalid { what: "anchor", why });
    }
    verify_consistency((size, &root), (body.size, &body.root), &body.consistency)?;
    draft.write(key, &AnchorState { seq: body.seq, size: body.size, root: body.root, height: call.at.height })
}
