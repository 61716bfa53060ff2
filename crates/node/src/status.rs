//! What this node is, knows and does: gathered for `zero2ai status`.

use zero2ai_net::Path;
use zero2ai_proto::{
    local::{NodeStatusReply, Placed, Reach},
    state::Rights,
};

use crate::{clock::now_ms, core::Core};

/// Proofs against signers that are shown: the newest.
const CONTRADICTED: usize = 64;

/// See the module.
pub(crate) fn status(core: &Core) -> NodeStatusReply {
    let chain = *core.chain.watch().borrow();
    let (rights, anchored, contradicted) = core.chain.read(|l| {
        let rights = l.member(&core.id).map_or(Rights(0), |m| m.rights);
        let mut proved: Vec<_> = l.equivocations().into_iter().map(|(signer, height, _)| (signer, height)).collect();
        proved.sort_by_key(|(_, height)| std::cmp::Reverse(*height));
        proved.truncate(CONTRADICTED);
        (rights, l.anchor(&core.id).map_or(0, |a| a.size), proved)
    });
    let stats = core.store.stats();
    NodeStatusReply {
        node: core.id,
        pool: core.pool,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        rights,
        addresses: core.addresses(),
        height: chain.height,
        head_age_ms: now_ms().saturating_sub(chain.head_time_ms),
        halted: chain.halted,
        mempool: u32::try_from(chain.mempool).unwrap_or(u32::MAX),
        peers: core.net.peers(),
        models: core.models.list(),
        chunks: stats.chunks,
        store_bytes: stats.bytes,
        receipts: core.receipts.size(),
        anchored,
        contradicted,
        placed: placed(core),
    }
}

/// What the swarm knows of how this node is reached.
fn placed(core: &Core) -> Placed {
    let relayed = core.net.paths().into_iter().filter(|(_, path)| *path == Path::Relayed);
    Placed {
        reach: match core.net.reach() {
            zero2ai_net::Reach::Unknown => Reach::Unknown,
            zero2ai_net::Reach::Open => Reach::Open,
            zero2ai_net::Reach::Behind => Reach::Behind,
        },
        external: core.net.external_addresses(),
        relays: core.net.relays(),
        relaying: core.net.is_relay(),
        relayed: relayed.map(|(node, _)| node).collect(),
    }
}
