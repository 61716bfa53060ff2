//! Gossipsub for one pool: three topics and no others, signed messages, our validation before anything is handed on,
//! and scores that forget an accident and shut out a forger.
//!
//! What is kept: messages of six seconds; ids of two minutes, so that nothing is handed on twice; 256 messages waiting for
//! each peer (one more is dropped, and counts against a peer that is too slow); scores of peers for ten minutes after they
//! went. Topics are the three here: subscriptions to others are ignored.
//!
//! Most of what an idle pool sends is said here, so what one message costs is kept small: it is offered three times and not six, by an
//! id of 16 bytes and not of some 70, and announcements have a narrower mesh. Votes need none of it: a node gives its own messages to
//! all its peers at once, and a mesh is repaired within a second.

use std::{collections::HashSet, time::Duration};

use libp2p::{
    gossipsub::{
        Behaviour, Config, ConfigBuilder, IdentTopic, IdentityTransform, Message, MessageAuthenticity, MessageId,
        PeerScoreParams, PeerScoreThresholds, TopicHash, TopicScoreParams, ValidationMode, WhitelistSubscriptionFilter,
    },
    identity::Keypair,
};
use zero2ai_proto::{ids::tagged_hash, limits::GOSSIP_BYTES};

use crate::{config::GOSSIP_OVERHEAD, error::NetError, judge::Topic};

pub(crate) type Gossip = Behaviour<IdentityTransform, WhitelistSubscriptionFilter>;

/// The topics of one pool.
#[derive(Clone, Debug)]
pub(crate) struct Topics([(Topic, IdentTopic); 3]);

impl Topics {
    pub(crate) fn new(pool: &str) -> Self {
        Self(Topic::ALL.map(|topic| (topic, IdentTopic::new(format!("zero2ai/{pool}/{}", topic.name())))))
    }

    pub(crate) fn hash(&self, topic: Topic) -> Option<TopicHash> {
        self.0.iter().find(|(t, _)| *t == topic).map(|(_, ident)| ident.hash())
    }

    pub(crate) fn topic(&self, hash: &TopicHash) -> Option<Topic> {
        self.0.iter().find(|(_, ident)| ident.hash() == *hash).map(|(topic, _)| *topic)
    }
}

/// Bytes of a message's id. Two messages of one id would be taken for one: of a hash of 16 bytes nobody finds any that is not his own.
const ID_BYTES: usize = 16;

/// A message's id: a hash of its author and of the number that its author gave it. All nodes of a pool must make the same one.
fn id(message: &Message) -> MessageId {
    let author = message.source.map(|peer| peer.to_bytes()).unwrap_or_default();
    let number = message.sequence_number.unwrap_or_default().to_be_bytes();
    let hash = tagged_hash("zero2ai gossip id v1", &[author.as_slice(), &number].concat());
    MessageId::new(hash.first_chunk::<ID_BYTES>().unwrap_or(&[0; ID_BYTES]))
}

/// Gossipsub, subscribed to every topic.
pub(crate) fn behaviour(keys: &Keypair, pool: &str, topics: &Topics) -> Result<Gossip, NetError> {
    let setup = |reason: String| NetError::Setup { part: "gossip", reason };
    let config = config(pool, topics).map_err(setup)?;
    let filter = WhitelistSubscriptionFilter(topics.0.iter().map(|(_, t)| t.hash()).collect::<HashSet<_>>());
    let mut gossip = Gossip::new_with_subscription_filter(MessageAuthenticity::Signed(keys.clone()), config, filter)
        .map_err(|e| setup(e.to_owned()))?;
    gossip.with_peer_score(scores(topics), thresholds()).map_err(setup)?;
    for (_, topic) in &topics.0 {
        gossip.subscribe(topic).map_err(|e| setup(e.to_string()))?;
    }
    Ok(gossip)
}

fn config(pool: &str, topics: &Topics) -> Result<Config, String> {
    let mut config = ConfigBuilder::default();
    config
        .protocol_id_prefix(format!("/zero2ai/{pool}/gossip"))
        .validation_mode(ValidationMode::Strict)
        .validate_messages()
        .message_id_fn(id)
        .max_transmit_size(GOSSIP_BYTES.saturating_add(GOSSIP_OVERHEAD))
        // Own messages go to every peer at once: a vote reaches the other signers in one hop, mesh or not.
        .flood_publish(true)
        // Four nodes form a full mesh; from a dozen on, each keeps about six.
        .mesh_n(6)
        .mesh_n_low(3)
        .mesh_n_high(12)
        .mesh_outbound_min(1)
        .heartbeat_initial_delay(Duration::from_millis(100))
        // Repairs meshes and offers what was said. A peer that came is taken into a mesh that lacks peers without it.
        .heartbeat_interval(Duration::from_secs(1))
        // In heartbeats: six seconds of messages can be asked for, three are offered.
        .history_length(6)
        .history_gossip(3)
        .duplicate_cache_time(Duration::from_secs(120))
        // Per peer, in messages; the default of 5,000 could pin gigabytes. A peer slower than this loses messages.
        .connection_handler_queue_len(256);
    if let Some(heads) = topics.hash(Topic::Head) {
        // An announcement that is missed is followed by another. Each peer more is one copy more of every member's.
        config
            .mesh_n_for_topic(4, heads.clone())
            .mesh_n_low_for_topic(3, heads.clone())
            .mesh_n_high_for_topic(6, heads.clone())
            .mesh_outbound_min_for_topic(1, heads);
    }
    config.build().map_err(|e| e.to_string())
}

/// Scores. An honest peer of a quiet pool stays at or above zero.
fn scores(topics: &Topics) -> PeerScoreParams {
    let topic = TopicScoreParams {
        topic_weight: 1.0,
        // Being there is worth little: at most 3.
        time_in_mesh_weight: 0.01,
        time_in_mesh_quantum: Duration::from_secs(1),
        time_in_mesh_cap: 300.0,
        // Being first with good messages: at most 5.
        first_message_deliveries_weight: 0.1,
        first_message_deliveries_decay: 0.9,
        first_message_deliveries_cap: 50.0,
        // No quota of deliveries: topics may be silent for hours, and silence is no offence.
        mesh_message_deliveries_weight: 0.0,
        mesh_failure_penalty_weight: 0.0,
        // Squared: one rejected message costs 20, three cost 180 and shut the peer out for some seconds, ten for two
        // minutes after the last.
        invalid_message_deliveries_weight: -20.0,
        invalid_message_deliveries_decay: 0.99,
        ..TopicScoreParams::default()
    };
    PeerScoreParams {
        topics: topics.0.iter().map(|(_, t)| (t.hash(), topic.clone())).collect(),
        topic_score_cap: 24.0,
        app_specific_weight: 0.0,
        // Every peer is an admitted identity: a second one costs a ticket, not an address. And whole pools live behind
        // one address, or on one machine.
        ip_colocation_factor_weight: 0.0,
        behaviour_penalty_weight: -5.0,
        behaviour_penalty_threshold: 6.0,
        behaviour_penalty_decay: 0.9,
        // A machine under load may drop some messages before it counts.
        slow_peer_weight: -0.2,
        slow_peer_threshold: 20.0,
        slow_peer_decay: 0.9,
        decay_interval: Duration::from_secs(1),
        decay_to_zero: 0.01,
        retain_score: Duration::from_secs(600),
        ..PeerScoreParams::default()
    }
}

fn thresholds() -> PeerScoreThresholds {
    PeerScoreThresholds {
        gossip_threshold: -40.0,
        publish_threshold: -80.0,
        graylist_threshold: -160.0,
        accept_px_threshold: 100.0,
        opportunistic_graft_threshold: 1.0,
    }
}

#[cfg(test)]
mod tests {
    use libp2p::PeerId;

    use super::*;

    #[test]
    fn an_id_is_short_and_is_the_authors_and_his_numbers() {
        let topic = IdentTopic::new("t").hash();
        let says = |source, sequence_number, data: &[u8]| {
            id(&Message { source: Some(source), data: data.to_vec(), sequence_number, topic: topic.clone() })
        };
        let [one, two] = [PeerId::random(), PeerId::random()];
        assert_eq!(says(one, Some(1), b"a").0.len(), ID_BYTES);
        assert_eq!(says(one, Some(1), b"a"), says(one, Some(1), b"b"), "the number is what is signed with it");
        assert_ne!(says(one, Some(1), b"a"), says(one, Some(2), b"a"));
        assert_ne!(says(one, Some(1), b"a"), says(two, Some(1), b"a"));
    }
}
