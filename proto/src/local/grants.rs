//! Local methods about who may open this node's private models.

use serde::{Deserialize, Serialize};

use super::Progress;
use crate::{keys::NodeId, methods, name::ModelName, state::GrantState};

methods! {
    /// Grants a member a private model, on the ledger.
    GrantModel = 117: GrantModelCall => GrantModelReply;
    /// Revokes a grant and, if asked, seals every live version of the model anew; progress, then the result.
    RevokeModel = 118: RevokeModelCall => RevokeItem;
    /// Who was ever granted a model, one item each.
    ModelGrants = 119: ModelGrantsCall => MemberGrant;
}

/// Request of [`GrantModel`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantModelCall {
    /// The model.
    pub name: ModelName,
    /// Who may open it.
    pub member: NodeId,
}

/// Answer to [`GrantModel`], once it is final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantModelReply {
    /// Height of the transaction.
    pub height: u64,
}

/// Request of [`RevokeModel`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokeModelCall {
    /// The model.
    pub name: ModelName,
    /// Who may not open it any more.
    pub member: NodeId,
    /// Publish every version that was not withdrawn again, sealed under a new secret, and withdraw the old ones.
    pub reseal: bool,
}

/// One item of the answer to [`RevokeModel`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RevokeItem {
    /// What is being done.
    Step(Progress),
    /// The result.
    Done(RevokeReport),
}

/// Result of [`RevokeModel`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokeReport {
    /// Height of the revocation; none if an earlier call had made it.
    pub height: Option<u64>,
    /// Versions that were sealed anew: the old number, then the new one.
    pub resealed: Vec<(u32, u32)>,
}

/// Request of [`ModelGrants`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelGrantsCall {
    /// The model.
    pub name: ModelName,
}

/// One item of the answer to [`ModelGrants`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberGrant {
    /// The member.
    pub member: NodeId,
    /// The ledger's word.
    pub grant: GrantState,
}
