//! The swarm's questions, answered from the ledger: who may connect, which records are valid, which gossip is passed on.

use std::sync::{Arc, Mutex, PoisonError};

use zero2ai_chain::{ChainHandle, ChainTopic};
use zero2ai_ledger::light::TrustedChain;
use zero2ai_names::{HeaderTrust, check_value};
use zero2ai_net::{Judge, RecordFacts, Topic, Verdict};
use zero2ai_proto::{
    NodeId, PoolId,
    block::Header,
    decode,
    limits::{ADDRESSES, SIGNED_BYTES},
    proof::SignedHeader,
    record::{DhtValue, NodeAnnouncement},
    state::Rights,
};

use zero2ai_clock::now_ms;

/// Trust in headers out of the node's own chain.
pub(crate) struct ChainTrust {
    chain: ChainHandle,
    /// For headers above our own head: extended as the signers change, never rebuilt.
    ahead: Mutex<Option<TrustedChain>>,
}

impl ChainTrust {
    pub(crate) fn new(chain: ChainHandle) -> Self {
        Self { chain, ahead: Mutex::default() }
    }
}

impl HeaderTrust for ChainTrust {
    fn verify_header(&self, header: &SignedHeader) -> Result<Header, String> {
        let content: Header = decode(&header.header, SIGNED_BYTES).map_err(|e| e.to_string())?;
        // Up to our own head there is nothing to verify: a final header is the one we have, or it is a lie.
        if let Some(own) = self.chain.signed_header(content.height) {
            if own == *header {
                return Ok(content);
            }
            if own.header != header.header {
                return Err(format!("it contradicts the final header of height {}", content.height));
            }
            // The same header under other signatures: they are checked like anyone's, or a record with none would be
            // believed here and by no client.
        }
        let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        if ahead.is_none() {
            let genesis = self.chain.read(|ledger| ledger.genesis_bytes().to_vec());
            *ahead = Some(TrustedChain::new(&genesis).map_err(|e| e.to_string())?);
        }
        let trusted = ahead.as_mut().ok_or("no trusted chain")?;
        trusted.extend(&self.chain.trust_steps()).map_err(|e| e.to_string())?;
        trusted.verify_header(header).map_err(|e| e.to_string())
    }
}

/// See the module.
pub(crate) struct LedgerJudge {
    pub(crate) pool: PoolId,
    pub(crate) chain: ChainHandle,
    pub(crate) trust: Arc<ChainTrust>,
    /// Nodes of the invite: believed while the ledger is still empty, since somebody must be asked for it.
    pub(crate) bootstrap: Vec<NodeId>,
}

impl LedgerJudge {
    fn rights(&self, node: &NodeId) -> Rights {
        self.chain.read(|ledger| ledger.member(node)).map_or(Rights(0), |m| m.rights)
    }

    /// True for those who sign this height or the next.
    fn signs(&self, node: &NodeId) -> bool {
        self.chain.read(|ledger| {
            let signers = ledger.signers_state();
            [&signers.current, &signers.next].iter().any(|set| set.power_of(node).is_some())
        })
    }
}

impl Judge for LedgerJudge {
    fn admitted(&self, node: &NodeId) -> bool {
        self.rights(node) != Rights(0)
            || (self.bootstrap.contains(node) && self.chain.read(zero2ai_ledger::Ledger::height) == 0)
    }

    fn record(&self, key: &[u8; 32], value: &[u8]) -> Result<RecordFacts, String> {
        let facts = check_value(key, value, &self.pool, self.trust.as_ref(), now_ms()).map_err(|e| e.to_string())?;
        if let Ok(DhtValue::Endpoint(signed)) = decode::<DhtValue>(value, zero2ai_proto::limits::RECORD_BYTES) {
            // The name must be one that the ledger knows, so that nobody fills the store with invented ones.
            let record = signed.read_unverified().map_err(|e| e.to_string())?;
            if !self.rights(&signed.signer()).has(Rights::PROVIDER) {
                return Err("its node has no right to provide".to_owned());
            }
            let version = self.chain.read(|ledger| ledger.version(&record.name, record.version));
            if version.is_none_or(|v| v.manifest != record.manifest) {
                return Err("it names a version that the ledger does not know".to_owned());
            }
        }
        Ok(RecordFacts { seq: facts.seq, expires_ms: facts.expires_ms })
    }

    fn provider(&self, _key: &[u8; 32], node: &NodeId) -> bool {
        self.rights(node).has(Rights::PROVIDER)
    }

    fn gossip(&self, topic: Topic, author: &NodeId, data: &[u8]) -> Verdict {
        if !self.admitted(author) {
            // Perhaps admitted in a block we have not seen: not passed on, not held against the relay.
            return Verdict::Ignore;
        }
        let fine = match topic {
            // Only signers have a voice in consensus: anyone else's messages are not passed on, however well-formed.
            Topic::Consensus if !self.signs(author) => return Verdict::Ignore,
            Topic::Consensus => self.chain.check_gossip(ChainTopic::Consensus, data),
            Topic::Tx => self.chain.check_gossip(ChainTopic::Tx, data),
            // A newer program's words are not for us, and no fault of whoever passes them on.
            Topic::Head if decode::<NodeAnnouncement>(data, SIGNED_BYTES).is_ok_and(|a| a.version != 1) => {
                return Verdict::Ignore;
            }
            Topic::Head => decode::<NodeAnnouncement>(data, SIGNED_BYTES).is_ok_and(|a| {
                a.addresses.len() <= ADDRESSES
                    && a.addresses.iter().all(zero2ai_proto::record::Address::is_valid)
                    && self.chain.check_gossip(ChainTopic::Head, &a.head)
            }),
        };
        if fine { Verdict::Accept } else { Verdict::Reject }
    }
}
