//! Samples of the ledger: pool, transactions, blocks, state, proofs, records.

mod grading;

use zero2ai_proto::{
    BlockId, ByteBuf, Signed, TxId,
    block::{Block, Certificate, Header, Proposal, Vote, VoteKind},
    consensus::{
        ConsensusGossip, ConsensusMessage, HeadGossip, Polka, RoundProof, RoundReason, RoundVote, SignedProposal,
        SignedVote, TxGossip,
    },
    encode,
    evidence::{Evidence, SignedStatement, Statement, Step},
    local::NamedModel,
    manifest::{Domain, Format, Task},
    pool::{Bootstrap, Genesis, Invite, PoolKey, Ticket},
    proof::{LogProof, SignedHeader, Snapshot, StateProof, TrustStep},
    record::{Address, DhtValue, EndpointRecord, NameRecord, NodeAnnouncement},
    state::{
        AnchorState, CommitState, Committed, Endorsement, Equivocation, Event, EventKind, GrantState, Handle, Member,
        Model, OfferState, PoolEpoch, Rights, Rules, Score, Signer, SignerSet, Signers, TicketUse, Verdict, Version,
    },
    tx,
    tx::{ClassCounts, Thresholds, Tx, TxBody},
    vrf,
};

use super::{Vectors, bytes, digest, key, manifest, name, nonce, pool, sealing, sign};

pub(crate) fn signers() -> SignerSet {
    let signer = |n, power| Signer { key: key(n).public(), power };
    SignerSet::new(vec![signer(1, 1), signer(2, 1), signer(3, 2), signer(4, 300)]).unwrap()
}

pub(crate) fn genesis() -> Genesis {
    Genesis {
        version: 1,
        created_ms: 1_700_000_000_000,
        nonce: nonce(),
        admin: key(1).public(),
        admin_sealing: sealing(),
        signers: SignerSet::new(vec![Signer { key: key(1).public(), power: 1 }]).unwrap(),
        rules_version: 1,
    }
}

pub(crate) fn header() -> Header {
    Header {
        version: 1,
        rules_version: 1,
        pool: pool(),
        height: 7,
        time_ms: 1_700_000_001_000,
        parent: BlockId([0xb0; 32]),
        txs_root: digest(0xb1),
        app_hash: digest(0xb2),
        signers_hash: digest(0xb3),
        next_signers_hash: digest(0xb4),
        proposer: key(1).public(),
    }
}

pub(crate) fn pool_key() -> PoolKey {
    // The field is private on purpose; its wire form is the way in.
    let cbor = [&[0xa2, 0x00, 0x05, 0x01, 0x58, 0x20][..], &[0xc0; 32]].concat();
    zero2ai_proto::decode(&cbor, cbor.len()).unwrap()
}

pub(crate) fn certificate() -> Certificate {
    let block = BlockId::of(&encode(&header()).unwrap());
    let vote = Vote { height: 7, round: 0, kind: VoteKind::Precommit, block: Some(block) }.sign_bytes(&pool()).unwrap();
    let mut signatures: Vec<_> = [1, 2, 3, 4].map(|n| (key(n).public(), key(n).sign(&vote))).into();
    signatures.sort_by_key(|s| s.0);
    let certificate = Certificate { height: 7, round: 0, block, signatures };
    certificate.verify(&pool(), &signers()).unwrap();
    certificate
}

pub(crate) fn signed_header() -> SignedHeader {
    SignedHeader { header: ByteBuf::from(encode(&header()).unwrap()), certificate: certificate() }
}

pub(crate) fn state_proof() -> StateProof {
    StateProof {
        key: ByteBuf::from(b"model/acme/digits".to_vec()),
        value: Some(bytes(0xd0, 3)),
        leaf: Some((digest(0xd1), digest(0xd2))),
        siblings: vec![digest(0xd3), digest(0xd4)],
    }
}

pub(crate) fn ticket() -> Signed<Ticket> {
    let rights = Rights::MEMBER;
    sign(&Ticket { nonce: nonce(), expires_ms: 1_700_000_900_000, uses: 3, rights }, 1)
}

pub(crate) fn endorse() -> tx::Endorse {
    tx::Endorse {
        name: name(),
        version: 1,
        classes: vec![ClassCounts { tp: 5, fp: 1, fn_: 0 }, ClassCounts { tp: 4, fp: 0, fn_: 1 }],
        samples: 10,
        correct: 9,
        p50_us: 250,
        dataset_root: digest(0xe0),
        predictions_root: digest(0xe1),
    }
}

pub(crate) fn endorsement() -> Endorsement {
    Endorsement {
        counts: endorse(),
        precision_ppm: 916_666,
        recall_ppm: 900_000,
        f1_ppm: 898_989,
        quality_ppm: 898_989,
        verdict: Verdict::Abstain,
        height: 6,
        tx: TxId([0xe2; 32]),
        committed: Some(Committed { height: 5, index: 1 }),
    }
}

pub(crate) fn score() -> Score {
    Score { score_ppm: Some(898_989), verdicts: [1, 0, 2], datasets: 3, samples: 900, height: 6 }
}

pub(crate) fn member() -> Member {
    Member { rights: Rights::MEMBER, sealing_key: sealing(), admitted: 2, nonce: 4 }
}

pub(crate) fn endpoint() -> EndpointRecord {
    EndpointRecord {
        name: name(),
        version: 1,
        manifest: manifest(),
        addresses: vec![
            Address::Rpc("127.0.0.1:4242".into()),
            Address::Swarm("/ip4/127.0.0.1/udp/4243/quic-v1".into()),
        ],
        seq: 9,
        expires_ms: 1_700_000_900_000,
        region: Some("eu-west".into()),
        price: Some(12),
    }
}

pub(crate) fn name_record() -> NameRecord {
    NameRecord { version: 1, model: state_proof(), latest: state_proof(), header: signed_header() }
}

fn bodies() -> [(&'static str, TxBody); 34] {
    let thresholds = Thresholds::default();
    let publish = tx::Publish {
        name: name(),
        version: 2,
        manifest: manifest(),
        format: Format::Onnx,
        task: Task::Classify { classes: 10 },
        domain: Domain::Pool,
        bytes: 20_480,
        chunks: 7,
        base: Some(1),
        thresholds,
    };
    let signers = signers().as_slice().to_vec();
    let consistency = vec![digest(0xe4)];
    [
        ("redeem", TxBody::Redeem(tx::Redeem { ticket: ticket(), sealing_key: sealing() })),
        ("set_rights", TxBody::SetRights(tx::SetRights { member: key(2).public(), rights: Rights::USER })),
        ("set_signers", TxBody::SetSigners(tx::SetSigners { signers, force: false })),
        ("claim_handle", TxBody::ClaimHandle(tx::ClaimHandle { handle: "acme".into() })),
        ("publish", TxBody::Publish(publish)),
        ("set_channel", TxBody::SetChannel(tx::SetChannel { name: name(), channel: "stable".into(), version: 2 })),
        ("endorse", TxBody::Endorse(endorse())),
        ("anchor", TxBody::Anchor(tx::Anchor { seq: 2, size: 40, root: digest(0xe3), consistency })),
        ("withdraw", TxBody::Withdraw(tx::Withdraw { name: name(), version: 1 })),
        ("grant", TxBody::Grant(tx::Grant { name: name(), member: key(2).public() })),
        ("revoke", TxBody::Revoke(tx::Revoke { name: name(), member: key(2).public() })),
        ("evidence", TxBody::Evidence(evidence(VoteKind::Prevote))),
        ("rotate_key", TxBody::RotateKey(tx::RotateKey { epoch: 4, id: pool_key().id(), grace_ms: 600_000 })),
        ("set_rules", TxBody::SetRules(tx::SetRules { version: 2, height: 1_000 })),
        ("offer", TxBody::Offer(tx::Offer { name: name(), to: Some(key(2).public()) })),
        ("accept", TxBody::Accept(tx::Accept { name: name() })),
        ("commit", TxBody::Commit(tx::Commit { name: name(), version: 1, commitment: digest(0xc1) })),
        ("reveal", TxBody::Reveal(tx::Reveal { endorse: endorse(), salt: bytes(0x5a, 32) })),
        ("allot", TxBody::Allot(tx::Allot { member: key(2).public(), amount: 1_000 })),
        ("stake", TxBody::Stake(tx::Stake { amount: 1_000 })),
        ("unstake", TxBody::Unstake(tx::Unstake { amount: 1_000 })),
        ("beacon", TxBody::Beacon(tx::Beacon { proof: vrf::prove(&key(1), b"input").unwrap().to_vec().into() })),
        ("set_grading", TxBody::SetGrading(tx::Grading::default())),
        ("open_round", TxBody::OpenRound(tx::OpenRound { name: name(), version: 1 })),
        ("commit_round", {
            let commitment = digest(0xc1);
            TxBody::CommitRound(tx::CommitRound { name: name(), version: 1, round: 2, commitment })
        }),
        ("reveal_round", {
            let (endorse, salt) = (endorse(), bytes(0x5a, 32));
            TxBody::RevealRound(tx::RevealRound { endorse, round: 2, salt })
        }),
        ("open_leaves", {
            let leaves = vec![leaf()];
            TxBody::OpenLeaves(tx::OpenLeaves { name: name(), version: 1, round: 2, leaves })
        }),
        ("contradict", {
            let (validator, leaves) = (key(3).public(), vec![leaf()]);
            TxBody::Contradict(tx::Contradict { name: name(), version: 1, round: 2, validator, leaves })
        }),
        ("elect", TxBody::Elect(tx::Elect { candidate: Some(key(3).public()) })),
        ("authorise", {
            let graders = tx::Graders::Named(vec![key(2).public()]);
            TxBody::Authorise(tx::Authorise { name: name(), graders })
        }),
        ("set_pot", TxBody::SetPot(tx::SetPot { amount: 500 })),
        ("dispute", {
            let (validator, leaf) = (key(3).public(), leaf());
            TxBody::Dispute(tx::Dispute { name: name(), version: 1, round: 2, validator, leaf })
        }),
        ("ballot", TxBody::Ballot(tx::Ballot { disputed: disputed(), refuted: true })),
        ("appeal", TxBody::Appeal(disputed())),
    ]
}

pub(crate) fn disputed() -> tx::Disputed {
    tx::Disputed { name: name(), version: 1, round: 2, validator: key(3).public(), leaf: 3 }
}

fn leaf() -> tx::OpenedLeaf {
    tx::OpenedLeaf { index: 3, label: 0, answer: 1, sample: digest(0xe5), siblings: vec![digest(0xe6), digest(0xe7)] }
}

/// A signer that voted for a block and against every block in one round.
fn evidence(kind: VoteKind) -> Evidence {
    let said = |block| {
        let statement = Statement::Vote(Vote { height: 7, round: 1, kind, block });
        SignedStatement { statement, signature: key(3).sign(&statement.sign_bytes(&pool()).unwrap()) }
    };
    let evidence = Evidence::new(key(3).public(), said(Some(BlockId([0xb0; 32]))), said(None));
    evidence.check(&pool()).unwrap();
    evidence
}

/// A signer that proposed two blocks in one round.
fn double_proposal() -> Evidence {
    let said = |block| {
        let statement =
            Statement::Proposal(Proposal { height: 7, round: 1, pol_round: None, block: BlockId([block; 32]) });
        SignedStatement { statement, signature: key(3).sign(&statement.sign_bytes(&pool()).unwrap()) }
    };
    Evidence::new(key(3).public(), said(0xb0), said(0xb1))
}

pub(crate) fn signed_tx() -> Signed<Tx> {
    sign(&Tx { nonce: 1, body: TxBody::ClaimHandle(tx::ClaimHandle { handle: "acme".into() }) }, 1)
}

pub(crate) fn block() -> Block {
    Block { header: ByteBuf::from(encode(&header()).unwrap()), txs: vec![signed_tx()] }
}

pub(crate) fn add(v: &mut Vectors) {
    v.add("pool/genesis", &genesis());
    v.add("pool/key", &pool_key());
    v.raw("derived/pool_key_id", pool_key().id().0);
    v.add("pool/ticket", &ticket().verify(&pool()).unwrap());
    v.add("pool/signed_ticket", &ticket());
    v.add("pool/invite", &invite());
    for (nonce, (name, body)) in bodies().into_iter().enumerate() {
        v.add(&format!("tx/{name}"), &Tx { nonce: nonce as u64, body });
    }
    v.add("tx/signed", &signed_tx());
    v.add("block/header", &header());
    v.add("block/block", &block());
    v.add("block/vote_nil", &Vote { height: 7, round: 1, kind: VoteKind::Prevote, block: None });
    v.add("block/vote", &Vote { height: 7, round: 1, kind: VoteKind::Precommit, block: Some(BlockId([0xb0; 32])) });
    v.add("block/proposal", &Proposal { height: 7, round: 1, pol_round: Some(0), block: BlockId([0xb0; 32]) });
    v.add("block/evidence_proposals", &double_proposal());
    v.add("block/certificate", &certificate());
    add_state(v);
    grading::add(v);
    add_gossip(v);
    v.add("proof/state", &state_proof());
    let absent = StateProof { value: None, leaf: None, ..state_proof() };
    v.add("proof/state_absent", &absent);
    v.add("proof/log", &LogProof { index: 3, size: 40, siblings: vec![digest(0xd5)] });
    v.add("proof/signed_header", &signed_header());
    let snapshot = Snapshot {
        version: 1,
        header: signed_header(),
        next: signed_header(),
        steps: vec![TrustStep { header: signed_header(), next_signers: signers() }],
        entries: vec![(bytes(0x61, 2), bytes(0x62, 3))],
    };
    v.add("proof/snapshot", &snapshot);
    v.add("proof/trust_step", &TrustStep { header: signed_header(), next_signers: signers() });
    v.add("record/name", &name_record());
    v.add("record/endpoint", &endpoint());
    v.add("record/dht_name", &DhtValue::Name(Box::new(name_record())));
    v.add("record/dht_endpoint", &DhtValue::Endpoint(sign(&endpoint(), 2)));
}

pub(crate) fn invite() -> Invite {
    let bootstrap = vec![Bootstrap { node: key(1).public(), addresses: vec![Address::Rpc("127.0.0.1:4242".into())] }];
    Invite { version: 1, pool: pool(), key: pool_key(), ticket: ticket(), bootstrap }
}

fn model() -> Model {
    let channels = vec![("beta".into(), 2), ("stable".into(), 1)];
    Model { owner: key(1).public(), latest: 2, channels, events: 5 }
}

fn version() -> Version {
    Version {
        manifest: manifest(),
        publisher: key(1).public(),
        format: Format::Gguf,
        task: Task::Generate { context: 2048 },
        domain: Domain::Private,
        bytes: 98_362_432,
        chunks: 300,
        base: None,
        thresholds: Thresholds::default(),
        height: 4,
        time_ms: 1_700_000_000_500,
        withdrawn: false,
    }
}

pub(crate) fn named() -> NamedModel {
    NamedModel { name: name(), model: model(), version: version(), score: None, round: Some(1) }
}

fn add_state(v: &mut Vectors) {
    v.add("state/signers", &Signers { current: genesis().signers, next: signers() });
    v.add("state/rules", &Rules { version: 1, next: Some((2, 1_000)) });
    let epoch = PoolEpoch { epoch: 3, id: pool_key().id(), height: 9, grace_until_ms: 1_800_000_600_000 };
    v.add("state/pool_epoch", &epoch);
    v.add("state/member", &member());
    v.add("state/ticket_use", &TicketUse { used: 2 });
    v.add("state/handle", &Handle { owner: key(1).public(), claimed: 3 });
    v.add("state/model", &model());
    v.add("state/version", &version());
    let place = Committed { height: 5, index: 1 };
    v.add("state/commit", &CommitState { commitment: digest(0xc1), place });
    v.add("state/endorsement_open", &Endorsement { committed: None, ..endorsement() });
    v.add("state/offer", &OfferState { to: Some(key(2).public()), height: 5 });
    v.add("state/grant", &GrantState { granted: true, height: 5, tx: TxId([0xe2; 32]) });
    let equivocation = Equivocation {
        round: 1,
        step: Step::Prevote,
        blocks: (None, Some(BlockId([0xb0; 32]))),
        power: 2,
        reporter: key(2).public(),
        tx: TxId([0xe2; 32]),
        recorded: 8,
        time_ms: 1_700_000_001_900,
    };
    v.add("state/evidence", &equivocation);
    v.add("state/endorsement", &endorsement());
    v.add("state/score", &score());
    v.add("state/score_none", &Score { score_ppm: None, ..score() });
    v.add("state/anchor", &AnchorState { seq: 2, size: 40, root: digest(0xe3), height: 6 });
    let kind = EventKind::Endorsed;
    let event = Event {
        kind,
        version: 1,
        account: key(2).public(),
        tx: TxId([0xe2; 32]),
        height: 6,
        time_ms: 1_700_000_000_900,
    };
    v.add("state/event", &event);
}

fn add_gossip(v: &mut Vectors) {
    let (height, round, block) = (7, 1, BlockId([0xb0; 32]));
    let vote = Vote { height, round, kind: VoteKind::Precommit, block: Some(block) };
    let signature = key(1).sign(&vote.sign_bytes(&pool()).unwrap());
    let voter = key(1).public();
    let gossip = |message| ConsensusGossip { repeat: 2, message };
    v.add("gossip/vote", &gossip(ConsensusMessage::Vote(SignedVote { voter, vote, signature })));
    let proposal = Proposal { height, round, pol_round: None, block };
    let bytes = ByteBuf::from(encode(&self::block()).unwrap());
    let signed = SignedProposal {
        proposer: voter,
        proposal,
        signature: key(1).sign(&proposal.sign_bytes(&pool()).unwrap()),
        block: bytes,
    };
    v.add("gossip/proposal", &gossip(ConsensusMessage::Proposal(signed)));
    let polka = Polka { height, round, block, signatures: vec![(voter, signature)] };
    v.add("gossip/polka", &gossip(ConsensusMessage::Polka(polka)));
    let votes = vec![RoundVote { voter, kind: VoteKind::Precommit, block: Some(block), signature }];
    let reason = RoundReason::Precommit;
    v.add("gossip/round", &gossip(ConsensusMessage::Round(RoundProof { height, round, reason, votes })));
    v.add("gossip/tx", &TxGossip { repeat: 0, tx: signed_tx() });
    let head = HeadGossip { repeat: 0, height, block };
    v.add("gossip/head", &head);
    let head = ByteBuf::from(encode(&head).unwrap());
    let addresses = vec![Address::Rpc("127.0.0.1:4242".into())];
    v.add("gossip/announcement", &NodeAnnouncement { version: 1, addresses, head });
}
