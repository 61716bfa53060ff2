//! Keeps enough copies of held versions in the pool: when nodes leave, those that are left ask others to hold what they hold.
//!
//! Nobody is in charge. Every holder looks by itself who else holds a version and is up. If these are too few for a while,
//! the holders act one after the other, in an order that all of them compute alike, each only if the ones before did not
//! help; and all of them ask the same nodes. So the death of one node is not answered by everybody at once.

mod decide;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{StreamExt as _, stream};
use tokio_util::sync::CancellationToken;
use zero2ai_chunk::ChunkSet;
use zero2ai_clock::now_ms;
use zero2ai_proto::{
    ManifestId, NodeId,
    calls::{Have, ManifestCall, Replicate, ReplicateCall},
    limits::COPIES,
    state::Rights,
};

use crate::{config::SwarmSettings, core::Core, jobs::store::stored_manifest, models::Held};
use decide::{Decision, Pace, View, decide, in_turn};

/// How often held versions are looked at, at most so seldom.
const LOOK: Duration = Duration::from_secs(20);
/// Versions looked at each time; the others have their turn later.
const VERSIONS: usize = 8;
/// Patience with one peer that is asked what it holds.
const ANSWER: Duration = Duration::from_secs(5);
/// Peers asked at once what they hold, and in all for one version.
const ASKED: usize = 8;
/// As above.
const ASKED_IN_ALL: usize = 64;
/// How long one other node may take to fetch a whole copy.
const REPLICA: Duration = Duration::from_secs(600);
/// Copies being made at this node's asking at once.
const REPAIRS: usize = 2;
/// Milliseconds for which a node that refused a version, or failed to fetch it, is not asked for it again.
const REFUSED_MS: u64 = 15 * 60 * 1000;
/// Refusals remembered; beyond that all are forgotten.
const REFUSALS: usize = 4_096;

/// What is remembered between two looks.
#[derive(Default)]
struct Memory {
    /// Since when copies are too few.
    short_since: BTreeMap<ManifestId, u64>,
    /// Until when a node is not asked for a version.
    refused: BTreeMap<(ManifestId, NodeId), u64>,
    /// Where the next look begins in the list of held versions.
    next: usize,
}

/// Looks now and then whether enough others hold what this node holds, until `stop`.
pub(crate) async fn keep_copies(core: Arc<Core>, settings: SwarmSettings, stop: CancellationToken) {
    let mut memory = Memory::default();
    let mut tick = tokio::time::interval(look_every(settings));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = look(&core, settings, &mut memory) => {}
        }
    }
}

/// Not seldom against the time for which copies must be too few.
fn look_every(settings: SwarmSettings) -> Duration {
    Duration::from_secs(settings.repair_after_s / 4).clamp(Duration::from_secs(1), LOOK)
}

async fn look(core: &Core, settings: SwarmSettings, memory: &mut Memory) {
    let rights = core.chain.read(|l| l.member(&core.id)).map_or(Rights(0), |m| m.rights);
    let held = core.held();
    memory.short_since.retain(|id, _| held.iter().any(|h| h.manifest == *id));
    if settings.replicas < 2 || !rights.has(Rights::PROVIDER) || held.is_empty() {
        return;
    }
    let count = held.len();
    let turn: Vec<Held> = held.into_iter().cycle().skip(memory.next % count).take(VERSIONS.min(count)).collect();
    memory.next = (memory.next + turn.len()) % count;
    for held in turn {
        look_at(core, settings, memory, &held).await;
    }
}

/// One version: who has it, and what is to be done about it.
async fn look_at(core: &Core, settings: SwarmSettings, memory: &mut Memory, held: &Held) {
    let copies = held.copies.unwrap_or(settings.replicas);
    if copies < 2 {
        return;
    }
    let current = core.chain.read(|l| l.version(&held.name, held.version));
    let wanted_still = current.is_some_and(|v| !v.withdrawn && v.manifest == held.manifest);
    let Some(chunks) = whole(core, held).await.filter(|_| wanted_still) else {
        memory.short_since.remove(&held.manifest);
        return;
    };
    let providers = core.providers_up();
    let (holders, others) = ask_around(core, held, chunks, providers, copies).await;
    let now = now_ms();
    memory.refused.retain(|_, until| *until > now);
    if memory.refused.len() > REFUSALS {
        memory.refused.clear();
    }
    let candidates = others.into_iter().filter(|n| !memory.refused.contains_key(&(held.manifest, *n))).collect();
    let enough = holders.len() >= copies as usize;
    let short_since_ms = if enough {
        memory.short_since.remove(&held.manifest);
        now
    } else {
        *memory.short_since.entry(held.manifest).or_insert(now)
    };
    let view = View { me: core.id, manifest: held.manifest, wanted: copies, holders, candidates };
    let pace = Pace::after(Duration::from_secs(settings.repair_after_s));
    match decide(&view, pace, short_since_ms, now) {
        Decision::Enough | Decision::Wait => {}
        Decision::Nobody => {
            tracing::info!(name = %held.name, version = held.version, "too few copies, and nobody is up who could hold one");
        }
        Decision::Ask(nodes) => repair(core, memory, held, nodes).await,
    }
}

/// The number of chunks of a version, if all are here.
async fn whole(core: &Core, held: &Held) -> Option<usize> {
    let (store, id) = (core.store.clone(), held.manifest);
    let look = move || {
        let Ok(sealed) = stored_manifest(&store, &id) else { return Ok(None) };
        let here = zero2ai_swarm::bitfield(&store, &sealed).ok();
        let here = here.and_then(|bits| ChunkSet::from_bytes(&bits, sealed.chunks.len()).ok());
        Ok(here.filter(ChunkSet::is_full).map(|_| sealed.chunks.len()))
    };
    core.blocking(look).await.ok().flatten()
}

/// Asks providers what they hold, those first who should by their hash, until as many copies are found as are wanted. Gives
/// the holders, this node among them, and those that do not hold it all.
async fn ask_around(
    core: &Core,
    held: &Held,
    chunks: usize,
    providers: Vec<NodeId>,
    wanted: u32,
) -> (Vec<NodeId>, Vec<NodeId>) {
    let (mut holders, mut others) = (vec![core.id], Vec::new());
    let ask = |node: NodeId| async move {
        let answer = core.roads.call::<Have>(&node, &ManifestCall { manifest: held.manifest }, ANSWER).await;
        let full = answer.is_ok_and(|a| ChunkSet::from_bytes(&a.bits, chunks).is_ok_and(|s| s.is_full()));
        (node, full)
    };
    let order = in_turn(&held.manifest, providers);
    let mut answers = stream::iter(order.into_iter().take(ASKED_IN_ALL)).map(ask).buffered(ASKED);
    while let Some((node, full)) = answers.next().await {
        if full {
            holders.push(node)
        } else {
            others.push(node)
        }
        if holders.len() >= wanted as usize {
            break;
        }
    }
    (holders, others)
}

/// Asks `nodes` to hold a version too, a few at a time.
async fn repair(core: &Core, memory: &mut Memory, held: &Held, nodes: Vec<NodeId>) {
    tracing::info!(name = %held.name, version = held.version, copies = nodes.len(), "too few copies: asking other nodes");
    let ask = |node: NodeId| async move {
        let (name, copies) = (held.name.clone(), held.copies.unwrap_or(0).min(COPIES));
        let call = ReplicateCall { name, version: held.version, serve: false, from: core.id, copies };
        (node, core.roads.call::<Replicate>(&node, &call, REPLICA).await)
    };
    let mut answers = stream::iter(nodes).map(ask).buffer_unordered(REPAIRS);
    while let Some((node, answer)) = answers.next().await {
        match answer {
            Ok(_) => {
                tracing::info!(name = %held.name, version = held.version, node = %node.short(), "holds a copy now")
            }
            Err(why) => {
                tracing::info!(name = %held.name, version = held.version, node = %node.short(), %why, "holds no copy");
                memory.refused.insert((held.manifest, node), now_ms().saturating_add(REFUSED_MS));
            }
        }
    }
}

impl Core {
    /// Other members that are up and may hold models.
    fn providers_up(&self) -> Vec<NodeId> {
        let others = self.others();
        let may = |n: &NodeId| self.chain.read(|l| l.member(n)).is_some_and(|m| m.rights.has(Rights::PROVIDER));
        others.into_iter().filter(may).collect()
    }
}
