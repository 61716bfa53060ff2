//! What a hostile signer does with its key and its links: says two things (as two copies of one node with one key),
//! withholds, repeats what others said, breaks signatures, votes for anything, proposes blocks that are wrong.

use zero2ai_ledger::Ledger;
use zero2ai_proto::{
    BlockId, ByteBuf, SecretKey,
    block::{Block, Proposal, Vote, VoteKind},
    consensus::{ConsensusGossip, ConsensusMessage, SignedProposal, SignedVote},
    encode,
};

use super::rng::Rng;
use crate::ChainTopic;

/// Messages remembered to be said again.
const HEARD: usize = 64;

/// One hostile signer's memory.
#[derive(Debug, Default)]
pub(super) struct Mischief {
    heard: Vec<(ChainTopic, Vec<u8>)>,
    blocks: Vec<BlockId>,
    said: u32,
}

impl Mischief {
    /// Remembers what it heard.
    pub(super) fn hear(&mut self, topic: ChainTopic, data: &[u8], rng: &mut Rng) {
        if let Ok(ConsensusGossip { message: ConsensusMessage::Proposal(p), .. }) = ConsensusGossip::read(data) {
            self.blocks.push(p.proposal.block);
            if self.blocks.len() > 8 {
                self.blocks.remove(0);
            }
        }
        if self.heard.len() < HEARD {
            self.heard.push((topic, data.to_vec()));
        } else {
            let nth = rng.index(HEARD);
            self.heard[nth] = (topic, data.to_vec());
        }
    }

    /// What it adds to a message of its own.
    pub(super) fn add(
        &mut self,
        data: &[u8],
        key: &SecretKey,
        ledger: &Ledger,
        wall: u64,
        rng: &mut Rng,
    ) -> Vec<(ChainTopic, Vec<u8>)> {
        let mut out = Vec::new();
        match rng.below(10) {
            0 if !self.heard.is_empty() => {
                let nth = rng.index(self.heard.len());
                out.push(self.heard[nth].clone());
            }
            1 => {
                let mut broken = data.to_vec();
                let nth = rng.index(broken.len());
                if let Some(byte) = broken.get_mut(nth) {
                    *byte ^= 1 << rng.below(8);
                }
                out.push((ChainTopic::Consensus, broken));
            }
            2 | 3 => out.extend(self.vote(key, ledger, rng)),
            4 => out.extend(self.proposal(key, ledger, wall, rng)),
            _ => {}
        }
        out
    }

    fn gossip(&mut self, message: ConsensusMessage) -> Option<(ChainTopic, Vec<u8>)> {
        self.said = self.said.wrapping_add(1);
        let data = encode(&ConsensusGossip { repeat: 1_000_000_u32.wrapping_add(self.said), message }).ok()?;
        Some((ChainTopic::Consensus, data))
    }

    /// A vote for anything, rightly signed.
    fn vote(&mut self, key: &SecretKey, ledger: &Ledger, rng: &mut Rng) -> Option<(ChainTopic, Vec<u8>)> {
        let height = ledger.height().saturating_add(rng.below(3));
        let kind = if rng.chance(50) { VoteKind::Prevote } else { VoteKind::Precommit };
        let block = match rng.below(3) {
            0 => None,
            1 => Some(BlockId([u8::try_from(rng.below(256)).unwrap_or(0); 32])),
            _ if self.blocks.is_empty() => None,
            _ => Some(self.blocks[rng.index(self.blocks.len())]),
        };
        let vote = Vote { height, round: u32::try_from(rng.below(3)).unwrap_or(0), kind, block };
        let signature = key.sign(&vote.sign_bytes(&ledger.pool()).ok()?);
        self.gossip(ConsensusMessage::Vote(SignedVote { voter: key.public(), vote, signature }))
    }

    /// A proposal of a block that is wrong in one way, or right and beside another one.
    fn proposal(
        &mut self,
        key: &SecretKey,
        ledger: &Ledger,
        wall: u64,
        rng: &mut Rng,
    ) -> Option<(ChainTopic, Vec<u8>)> {
        let time = wall.max(ledger.head_time_ms().saturating_add(1)).saturating_add(rng.below(50));
        let (mut block, _) = ledger.build_block(key.public(), time, &[]).ok()?;
        let mut header = block.read_header().ok()?;
        match rng.below(5) {
            0 => header.app_hash.0[0] ^= 1,
            1 => header.time_ms = header.time_ms.saturating_add(3_600_000),
            2 => header.parent.0[0] ^= 1,
            3 => header.txs_root.0[0] ^= 1,
            _ => {}
        }
        block.header = ByteBuf::from(encode(&header).ok()?);
        let round = u32::try_from(rng.below(4)).unwrap_or(0);
        let proposal = Proposal { height: header.height, round, pol_round: None, block: block.id() };
        let signature = key.sign(&proposal.sign_bytes(&ledger.pool()).ok()?);
        let block = ByteBuf::from(encode::<Block>(&block).ok()?);
        self.gossip(ConsensusMessage::Proposal(SignedProposal { proposer: key.public(), proposal, signature, block }))
    }
}
