//! What this node is, knows and does: gathered for `zero2ai status` and `zero2ai top`.

use std::collections::{BTreeMap, BTreeSet};

use zero2ai_clock::now_ms;
use zero2ai_net::Path;
use zero2ai_proto::{
    NodeId,
    local::{ActivityReply, NodeStatusReply, PeerActivity, Placed, Reach, TransferActivity},
    record::Address,
    state::Rights,
};

use crate::core::Core;

/// Proofs against signers that are shown: the newest.
const CONTRADICTED: usize = 64;
/// Members that are shown: four times as many as the swarm connects to.
const PEERS: usize = 1_024;

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
        addresses: core.addresses.now(),
        height: chain.height,
        head_age_ms: now_ms().saturating_sub(chain.head_time_ms),
        halted: chain.halted,
        waiting: waiting(core),
        mempool: u32::try_from(chain.mempool).unwrap_or(u32::MAX),
        peers: core.net.peers(),
        models: core.models.list(),
        chunks: stats.chunks,
        store_bytes: stats.bytes,
        receipts: core.receipts.size(),
        anchored,
        contradicted,
        placed: placed(core),
        alarms: core.unanswered_alarms(),
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

/// What the node cannot go on without, the first of it, to be read behind "waiting for".
pub(crate) fn waiting(core: &Core) -> Option<String> {
    let chain = *core.chain.watch().borrow();
    let others = core.directory.known().into_iter().filter(|node| *node != core.id).count();
    wanting(&Needs {
        others,
        connected: core.net.peers().len(),
        height: chain.height,
        halted: chain.halted,
        newer_key: core.newer_key().is_some(),
    })
}

struct Needs {
    /// Other members whose address is known.
    others: usize,
    connected: usize,
    height: u64,
    halted: bool,
    /// The ledger names a newer pool key than is here.
    newer_key: bool,
}

fn wanting(needs: &Needs) -> Option<String> {
    if needs.connected == 0 && needs.others > 0 {
        let those = if needs.others == 1 { "the one member" } else { "one of the members" };
        let n = needs.others;
        return Some(format!("a peer: {those} known here ({n}) has not answered yet ('zero2ai doctor' says why)"));
    }
    if needs.newer_key {
        return Some("the pool's newer key, which a member with it hands on".to_owned());
    }
    if needs.height == 0 && needs.connected > 0 {
        return Some("the ledger's first block".to_owned());
    }
    needs.halted.then(|| "more than two thirds of the signers: transactions wait, no block comes".to_owned())
}

/// Whom this node knows, and what it does for whom.
pub(crate) fn activity(core: &Core) -> ActivityReply {
    let chain = *core.chain.watch().borrow();
    let now = now_ms();
    let (sent, received) = core.traffic.totals();
    ActivityReply {
        at_ms: now,
        height: chain.height,
        head_age_ms: now.saturating_sub(chain.head_time_ms),
        waiting: waiting(core),
        peers: peers(core, now),
        transfers: transfers(core),
        models: core.residents().models,
        sent,
        received,
    }
}

fn peers(core: &Core, now: u64) -> Vec<PeerActivity> {
    let swarm: BTreeMap<NodeId, Path> = core.net.paths().into_iter().collect();
    let link = |peer: &zero2ai_rpc::Peer| {
        let rtt = u64::try_from(peer.rtt().as_micros()).unwrap_or(u64::MAX);
        (peer.id(), (rtt, Address::Rpc(peer.remote_addr().to_string())))
    };
    let links: BTreeMap<NodeId, (u64, Address)> = core.roads.peers.connected().iter().map(link).collect();
    let all: BTreeSet<NodeId> = core.directory.known().into_iter().chain(swarm.keys().copied()).collect();
    let mut list: Vec<PeerActivity> = core.chain.read(|l| {
        let one = |node: NodeId| {
            let link = links.get(&node);
            let said = || core.directory.addresses(&node)?.first().cloned();
            PeerActivity {
                rights: l.member(&node).map_or(Rights(0), |m| m.rights),
                swarm: swarm.contains_key(&node),
                relayed: swarm.get(&node) == Some(&Path::Relayed),
                rtt_us: link.map(|(rtt, _)| *rtt),
                address: link.map(|(_, address)| address.clone()).or_else(said),
                heard_ms_ago: core.directory.heard_at(&node).map(|at| now.saturating_sub(at)),
                node,
            }
        };
        all.into_iter().filter(|node| *node != core.id).map(one).collect()
    });
    list.sort_by_key(|p| (!p.swarm, p.rtt_us.is_none(), p.heard_ms_ago.unwrap_or(u64::MAX), p.node));
    list.truncate(PEERS);
    list
}

fn transfers(core: &Core) -> Vec<TransferActivity> {
    let one = |(manifest, held, chunks)| {
        let model = core.turns.version_of(&manifest);
        TransferActivity { manifest, model, held, chunks }
    };
    core.board.open().into_iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_thing_that_is_missing_is_named() {
        let well = || Needs { others: 3, connected: 2, height: 9, halted: false, newer_key: false };
        assert_eq!(wanting(&well()), None);
        assert_eq!(wanting(&Needs { others: 0, connected: 0, height: 0, ..well() }), None, "a pool of one");
        let alone = wanting(&Needs { connected: 0, newer_key: true, ..well() });
        assert!(alone.is_some_and(|w| w.starts_with("a peer: one of the members known here (3)")));
        assert!(wanting(&Needs { newer_key: true, halted: true, ..well() }).is_some_and(|w| w.contains("newer key")));
        assert!(wanting(&Needs { height: 0, ..well() }).is_some_and(|w| w.contains("first block")));
        assert!(wanting(&Needs { halted: true, ..well() }).is_some_and(|w| w.contains("signers")));
    }
}
