//! Derived bytes: ids, sign-bytes, proofs and keys that another program has to compute alike.

use zero2ai_proto::{
    BlockId, Cid, ManifestId, PoolId,
    block::{Proposal, Vote, VoteKind},
    encode,
    pool::{ProofInput, Role, TransportLabel},
    receipt::{commit, output_salt, request_hash},
    record::dht_key,
    state::key as state_key,
};

use super::{Vectors, key, ledger, models, name, nonce, pool};

pub(crate) fn add(v: &mut Vectors) {
    v.raw("derived/pool_id", PoolId::of(&encode(&ledger::genesis()).unwrap()).0);
    v.raw("derived/cid_of_abc", Cid::of(b"abc").0);
    v.raw("derived/manifest_id_of_abc", ManifestId::of(b"abc").0);
    v.raw("derived/block_id", BlockId::of(&encode(&ledger::header()).unwrap()).0);
    v.raw("derived/tx_id", ledger::signed_tx().tx_id().unwrap().0);
    v.raw("derived/signers_hash", ledger::signers().hash().unwrap().0);
    v.raw("derived/request_hash", request_hash(&models::request()).unwrap().0);
    v.raw("derived/receipt_id", models::receipt().id().unwrap().0);
    v.raw("derived/commitment", commit(&models::SALT, b"abc").0);
    v.raw("derived/output_salt", output_salt(&models::SALT));
    v.raw("derived/public_key_of_1", key(1).public().0);
    let block = Some(BlockId([0xb0; 32]));
    let vote = Vote { height: 7, round: 1, kind: VoteKind::Precommit, block };
    v.raw("derived/vote_sign_bytes", vote.sign_bytes(&pool()).unwrap());
    let proposal = Proposal { height: 7, round: 1, pol_round: Some(0), block: BlockId([0xb0; 32]) };
    v.raw("derived/proposal_sign_bytes", proposal.sign_bytes(&pool()).unwrap());
    v.raw("derived/invite_line", ledger::invite().to_line().unwrap());
    let (dialer, listener) = (key(1).public(), key(2).public());
    for (word, transport) in [("swarm", TransportLabel::Swarm), ("rpc", TransportLabel::Rpc)] {
        for (who, role) in [("dialer", Role::Dialer), ("listener", Role::Listener)] {
            let input = ProofInput {
                pool: &pool(),
                transport,
                role,
                dialer: &dialer,
                listener: &listener,
                dialer_nonce: &[0x11; 32],
                listener_nonce: &[0x12; 32],
            };
            v.raw(&format!("derived/pool_proof_{word}_{who}"), ledger::pool_key().proof(&input));
        }
    }
    v.raw("derived/dht_name", dht_key::name(&pool(), &name()));
    v.raw("derived/dht_providers", dht_key::providers(&pool(), &name()));
    v.raw("derived/dht_endpoint", dht_key::endpoint(&pool(), &name(), &key(2).public()));
    let [_, second, third] = dht_key::places(&dht_key::name(&pool(), &name()));
    v.raw("derived/dht_second_place", second);
    v.raw("derived/dht_third_place", third);
    let node = key(2).public();
    let keys = [
        state_key::SIGNERS.to_vec(),
        state_key::member(&node),
        state_key::ticket(&nonce()),
        state_key::handle("acme"),
        state_key::model(&name()),
        state_key::version(&name(), 2),
        state_key::endorsement(&name(), 2, &node),
        state_key::score(&name(), 2),
        state_key::anchor(&node),
        state_key::event(&name(), 12),
    ];
    v.raw("derived/state_keys", keys.join(&b'\n'));
}
