//! Keeps in touch: dials the members of earlier at the start, writes down whom the node hears, ends what is forwarded for who is no
//! member any more, and says once when it begins or ceases to wait for something. A node without a block asks those that it begins with for
//! their head.

use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;
use tokio_util::sync::CancellationToken;
use zero2ai_chain::ChainTopic;
use zero2ai_clock::now_ms;
use zero2ai_proto::{
    NodeId,
    block::Certificate,
    calls::{Empty, Head},
    consensus::HeadGossip,
    encode,
    pool::Bootstrap,
    proof::SignedHeader,
    record::Address,
    state::Rights,
};

use crate::{
    core::Core,
    remembered::{self, REMEMBERED},
    serve::errors::internal,
    status,
};

/// How often it is looked what the node waits for.
const LOOK: Duration = Duration::from_secs(2);
/// Looks between two writings (ten seconds); a node that stops in order writes once more.
const LOOKS_PER_WRITING: u32 = 5;
/// Dials under way at once at the start.
const DIALS: usize = 8;
/// How often a node without a block asks for a head.
const ASK: Duration = Duration::from_secs(1);
/// Patience with one answer.
const HEAD: Duration = Duration::from_secs(5);

/// Runs until `stop`.
pub(crate) async fn keep_peers(core: Arc<Core>, known: Vec<Bootstrap>, stop: CancellationToken) {
    let mut written = known.clone();
    let dialling = dial(&core, &known);
    let looking = look(&core, &mut written);
    tokio::select! {
        () = stop.cancelled() => {}
        ((), (), ()) = async { tokio::join!(dialling, begin(&core), looking) } => {}
    }
    write_down(&core, &mut written).await;
}

/// One dial of each: the swarm then goes on by itself, for as long as it remembers them.
async fn dial(core: &Core, known: &[Bootstrap]) {
    let mut places: Vec<(NodeId, String)> = Vec::new();
    for member in known.iter().filter(|member| member.node != core.id) {
        let swarm = member.addresses.iter().filter(|a| matches!(a, Address::Swarm(_)));
        places.extend(swarm.map(|place| (member.node, place.to_string())));
    }
    let dials = places.into_iter().map(|(node, place)| async move {
        if let Err(error) = core.net.dial(node, &place).await {
            tracing::debug!(node = %node.short(), %error, "a peer of earlier is not where it was");
        }
    });
    futures::stream::iter(dials).for_each_concurrent(DIALS, |dial| dial).await;
}

/// Asks those that this node begins with for their head until it has a block. Before that it knows no other members, whose word it could take,
/// and in a large pool the few that it knows seldom speak by themselves.
async fn begin(core: &Core) {
    while core.chain.read(zero2ai_ledger::Ledger::height) == 0 {
        for node in core.directory.known() {
            match core.roads.call::<Head>(&node, &Empty {}, HEAD).await {
                // A hint like any head, which the blocks have to prove.
                Ok(SignedHeader { certificate: Certificate { height, block, .. }, .. }) => {
                    if let Ok(told) = encode(&HeadGossip { repeat: 0, height, block }) {
                        core.chain.deliver(ChainTopic::Head, node, told);
                        break;
                    }
                }
                Err(error) => tracing::debug!(node = %node.short(), %error, "it does not say its head"),
            }
        }
        tokio::time::sleep(ASK).await;
    }
}

/// Never ends by itself.
async fn look(core: &Core, written: &mut Vec<Bootstrap>) {
    let (mut said, mut looks) = (None, 0_u32);
    let mut tick = tokio::time::interval(LOOK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        looks = looks.wrapping_add(1);
        expel(core);
        let waiting = status::waiting(core);
        if waiting != said {
            match &waiting {
                Some(what) => tracing::info!("waiting for {what}"),
                None => tracing::info!("nothing is waited for any more"),
            }
            said = waiting;
        }
        if looks.is_multiple_of(LOOKS_PER_WRITING) {
            write_down(core, written).await;
        }
    }
}

/// Ends what this node forwards for those who were revoked. Before it has a ledger it knows nobody.
fn expel(core: &Core) {
    let member = |node: &NodeId| core.chain.read(|l| l.member(node)).is_some_and(|m| m.rights != Rights(0));
    if core.chain.read(zero2ai_ledger::Ledger::height) > 0 {
        core.roads.forwards.expel(member);
    }
}

/// Writes if it is news. Members that were not heard of since the start stay behind those that were.
async fn write_down(core: &Core, written: &mut Vec<Bootstrap>) {
    let mut members = core.directory.heard_lately(now_ms(), REMEMBERED);
    members.retain(|m| m.node != core.id);
    for old in written.iter() {
        if members.len() < REMEMBERED && members.iter().all(|m| m.node != old.node) {
            members.push(old.clone());
        }
    }
    let mut sorted = (members.clone(), written.clone());
    sorted.0.sort_by_key(|m| m.node);
    sorted.1.sort_by_key(|m| m.node);
    if sorted.0 == sorted.1 {
        return;
    }
    let (home, list) = (core.home.clone(), members.clone());
    match core.blocking(move || remembered::write(&home, &list).map_err(internal)).await {
        Ok(()) => *written = members,
        Err(error) => tracing::warn!(%error, "the peers are not written down"),
    }
}
