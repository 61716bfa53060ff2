//! The ledger as others reach it: transactions that members sign, blocks, snapshots, headers with the steps of trust before them.
//! Signatures stand in the way of random bytes, so a target signs what it reads, or puts it under a header that fits.

use std::sync::OnceLock;

use serde::{Serialize, de::DeserializeOwned};
use zero2ai_ledger::{EMPTY_PAUSE_MS, Ledger, ReceiptLog, TrustedChain, commitment, receipt_log::root_of};
use zero2ai_proto::{
    BlockId, ByteBuf, CodecError, Digest, ManifestId, NodeId, SealingKey, SecretKey, Signed,
    block::{Block, Certificate, Header, Vote, VoteKind},
    decode, encode,
    evidence::{Evidence, SignedStatement, Statement},
    limits::{FRAME_BYTES, SIGNED_BYTES},
    manifest::{Domain, Format, Task},
    pool::{Genesis, Nonce, Ticket},
    proof::{SignedHeader, Snapshot, TrustStep},
    state::{Rights, Signer, SignerSet},
    tx::{
        Accept, Anchor, ClaimHandle, ClassCounts, Commit, Endorse, Grant, Offer, Publish, Redeem, Reveal, Revoke,
        RotateKey, SetChannel, SetRights, SetRules, SetSigners, Thresholds, Tx, TxBody, Withdraw,
    },
};

mod rounds;

/// When the pool was made, milliseconds since 1970 UTC.
const MADE: u64 = 1_700_000_000_000;
/// Members beside the administrator, who is number 0. Whoever has a higher number is a stranger.
const MEMBERS: u8 = 4;
/// Transactions of one input at most.
const TXS: usize = 16;

fn secret(n: u8) -> SecretKey {
    SecretKey::from_bytes(&[n.wrapping_add(1); 32])
}

fn id(n: u8) -> NodeId {
    secret(n).public()
}

fn signers(of: &[u8]) -> Vec<Signer> {
    of.iter().map(|n| Signer { key: id(*n), power: 1 }).collect()
}

fn canonical<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let value = decode::<T>(bytes, FRAME_BYTES).ok()?;
    assert_eq!(encode(&value).as_deref(), Ok(bytes), "a second spelling of a value");
    Some(value)
}

fn genesis() -> Vec<u8> {
    let signers = SignerSet::new(signers(&[0])).expect("one signer");
    let (nonce, admin_sealing) = (Nonce([3; 16]), SealingKey([9; 32]));
    let genesis =
        Genesis { version: 1, created_ms: MADE, nonce, admin: id(0), admin_sealing, signers, rules_version: 1 };
    encode(&genesis).expect("a genesis")
}

fn ticket(ledger: &Ledger, nonce: u8) -> Signed<Ticket> {
    let ticket = Ticket { nonce: Nonce([nonce; 16]), expires_ms: u64::MAX, uses: 8, rights: Rights::MEMBER };
    Signed::sign(&ticket, &ledger.pool(), &secret(0)).expect("a ticket")
}

fn sign(ledger: &Ledger, who: u8, nonce: u64, body: TxBody) -> Signed<Tx> {
    Signed::sign(&Tx { nonce, body }, &ledger.pool(), &secret(who)).expect("a transaction")
}

/// The proposer of the next block, and what its rules ask it to begin with before `txs`.
fn begins(ledger: &Ledger, txs: &[Signed<Tx>]) -> (NodeId, Vec<Signed<Tx>>) {
    let proposer = ledger.signers().as_slice()[0].key;
    let key = (0..=MEMBERS).map(secret).find(|key| key.public() == proposer).expect("members sign");
    let beacon = ledger.beacon(&key).expect("an output");
    (proposer, beacon.into_iter().chain(txs.iter().cloned()).collect())
}

/// The next block of those of `txs` that apply.
fn build(ledger: &Ledger, txs: &[Signed<Tx>]) -> Block {
    let (proposer, txs) = begins(ledger, txs);
    ledger.build_block(proposer, ledger.head_time_ms() + 1, &txs).expect("a signer builds").0
}

/// The pool that all targets begin with, and its blocks so far with the signers of each: four sign, and four are members.
struct Begun {
    ledger: Ledger,
    headers: Vec<SignedHeader>,
    steps: Vec<TrustStep>,
}

impl Begun {
    fn new() -> Self {
        let ledger = Ledger::genesis(&genesis()).expect("a genesis");
        let mut begun = Self { ledger, headers: Vec::new(), steps: Vec::new() };
        let ticket = ticket(&begun.ledger, 1);
        let redeem = TxBody::Redeem(Redeem { ticket, sealing_key: SealingKey([2; 32]) });
        let joined: Vec<_> = (1..=MEMBERS).map(|n| sign(&begun.ledger, n, 0, redeem.clone())).collect();
        begun.commit(&joined);
        let set = TxBody::SetSigners(SetSigners { signers: signers(&[0, 1, 2, 3]), force: false });
        begun.commit(&[sign(&begun.ledger, 0, 0, set)]);
        begun.commit(&[]);
        // Something that was committed to, to be revealed.
        let claim = sign(&begun.ledger, 4, 0, TxBody::ClaimHandle(ClaimHandle { handle: "kept".into() }));
        let publish = sign(&begun.ledger, 4, 1, publish("kept/m", 1));
        let commit = sign(&begun.ledger, 3, 0, commit(&begun.ledger, 3, &endorse("kept/m", 3)));
        begun.commit(&[claim, publish, commit]);
        begun.commit(&[]);
        begun
    }

    fn commit(&mut self, txs: &[Signed<Tx>]) {
        let (block, sets) = (build(&self.ledger, txs), self.ledger.signers_state().clone());
        assert_eq!(block.txs.len(), begins(&self.ledger, txs).1.len());
        let applied = self.ledger.apply(&block).expect("what was built applies");
        let height = applied.header.height;
        let vote = Vote { height, round: 0, kind: VoteKind::Precommit, block: Some(applied.id) };
        let bytes = vote.sign_bytes(&self.ledger.pool()).expect("a vote");
        let keys = (0..=MEMBERS).map(secret).filter(|k| sets.current.power_of(&k.public()).is_some());
        let mut signatures: Vec<_> = keys.map(|k| (k.public(), k.sign(&bytes))).collect();
        signatures.sort_by_key(|(key, _)| *key);
        let certificate = Certificate { height, round: 0, block: applied.id, signatures };
        let header = SignedHeader { header: block.header, certificate };
        if sets.next != sets.current {
            self.steps.push(TrustStep { header: header.clone(), next_signers: sets.next });
        }
        self.headers.push(header);
    }

    fn snapshot(&self) -> Snapshot {
        let [.., header, next] = self.headers.as_slice() else { unreachable!("four blocks") };
        self.ledger.snapshot(header.clone(), next.clone(), self.steps.clone()).expect("the newest headers")
    }
}

fn begun() -> &'static Begun {
    static BEGUN: OnceLock<Begun> = OnceLock::new();
    BEGUN.get_or_init(Begun::new)
}

/// The same pool under rules 2, in a block where every step of a round can be taken: of one model or another.
fn staked() -> &'static Begun {
    static STAKED: OnceLock<Begun> = OnceLock::new();
    STAKED.get_or_init(rounds::begun)
}

/// What one input of [`ledger`] says: pieces of who signs (one byte, 128 more for the nonce as it stands), length (two bytes, the
/// low one first), and the encoded transaction.
fn pieces(mut bytes: &[u8]) -> Vec<(u8, Tx)> {
    let mut found = Vec::new();
    while let Some(([who, low, high], rest)) = bytes.split_first_chunk::<3>() {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (piece, rest) = rest.split_at(length);
        bytes = rest;
        if let Some(tx) = canonical::<Tx>(piece).filter(|_| found.len() < TXS) {
            found.push((*who, tx));
        }
    }
    found
}

/// Transactions as members and strangers sign them. What a proposer makes of them every voter accepts, and nothing of what
/// was refused is in it.
pub fn ledger(bytes: &[u8]) {
    for begun in [begun(), staked()] {
        ledger_of(&begun.ledger, bytes);
    }
}

fn ledger_of(ledger: &Ledger, bytes: &[u8]) {
    let mut next = [0; MEMBERS as usize + 2];
    let sign = |(who, tx): (u8, Tx)| {
        let place = usize::from(who & 0x7f) % next.len();
        let by = place as u8;
        let nonce = ledger.member(&id(by)).map_or(0, |m| m.nonce) + next[place];
        let redeems = matches!(tx.body, TxBody::Redeem(_));
        next[place] += u64::from(!redeems);
        sign(ledger, by, if who & 0x80 == 0 && !redeems { nonce } else { tx.nonce }, tx.body)
    };
    let txs: Vec<Signed<Tx>> = pieces(bytes).into_iter().map(sign).collect();
    let (proposer, txs) = begins(ledger, &txs);
    let (block, refused) =
        ledger.build_block(proposer, ledger.head_time_ms() + EMPTY_PAUSE_MS, &txs).expect("a signer builds");
    let ids: Vec<_> = block.txs.iter().map(|tx| tx.tx_id().expect("it was signed here")).collect();
    assert!(refused.iter().all(|(id, _)| !ids.contains(id)) && ids.len() + refused.len() <= txs.len());
    // Another block in the one place for a block that was looked at: else this one would not be executed again.
    build(ledger, &[]);
    ledger.check_block(&block).expect("what a proposer builds, every voter accepts");
}

/// A block: as it stands, and its transactions under a header that fits.
pub fn block(bytes: &[u8]) {
    let Some(block) = canonical::<Block>(bytes) else { return };
    for begun in [begun(), staked()] {
        block_of(&begun.ledger, block.clone());
    }
}

fn block_of(ledger: &Ledger, block: Block) {
    let judge = |block: &Block| {
        let Ok(header) = ledger.check_block(block) else { return };
        assert_eq!((header.height, header.parent), (ledger.height() + 1, ledger.head_id()));
        let signed = block.txs.iter().all(|tx| tx.signature_is_valid(&ledger.pool()));
        assert!(signed, "an unsigned transaction was accepted");
    };
    judge(&block);
    let header = build(ledger, &[]).read_header().expect("it was built here");
    let leaves = block.txs.iter().map(|tx| encode(tx).expect("it was decoded"));
    let header = Header { txs_root: root_of(leaves), ..header };
    judge(&Block { header: ByteBuf::from(encode(&header).expect("a header")), txs: block.txs });
}

/// A snapshot of the state: what is accepted is under the root that its second header carries.
pub fn snapshot(bytes: &[u8]) {
    let Some(snapshot) = canonical::<Snapshot>(bytes) else { return };
    let Ok(ledger) = Ledger::restore(&genesis(), &snapshot) else { return };
    let header: Header = decode(&snapshot.next.header, SIGNED_BYTES).expect("it was accepted");
    assert_eq!((ledger.root(), ledger.head_id()), (header.app_hash, header.parent));
}

/// Steps of trust and a header behind them: what is accepted, the set that was found signed.
pub fn light(bytes: &[u8]) {
    let Some((steps, signed)) = canonical::<(Vec<TrustStep>, SignedHeader)>(bytes) else { return };
    let Ok(chain) = TrustedChain::with_steps(&genesis(), &steps) else { return };
    if let Ok(header) = chain.verify_header(&signed) {
        let set = chain.signers_at(header.height);
        assert!(signed.certificate.verify(&chain.pool(), set).is_ok());
        assert_eq!(set.hash().expect("a set"), header.signers_hash);
    }
}

fn publish(name: &str, version: u32) -> TxBody {
    TxBody::Publish(Publish {
        name: name.parse().expect("a name"),
        version,
        manifest: ManifestId([version as u8; 32]),
        format: Format::Onnx,
        task: Task::Classify { classes: 2 },
        domain: Domain::Private,
        bytes: 20_000,
        chunks: 3,
        base: version.checked_sub(1).filter(|base| *base > 0),
        thresholds: Thresholds::default(),
    })
}

fn endorse(name: &str, root: u8) -> Endorse {
    let class = ClassCounts { tp: 49, fp: 1, fn_: 1 };
    Endorse {
        name: name.parse().expect("a name"),
        version: 1,
        classes: vec![class, class],
        samples: 100,
        correct: 98,
        p50_us: 300,
        dataset_root: Digest([root; 32]),
        predictions_root: Digest([2; 32]),
    }
}

fn commit(ledger: &Ledger, who: u8, endorse: &Endorse) -> TxBody {
    let commitment = commitment(&ledger.pool(), &id(who), endorse, &[5; 32]).expect("it encodes");
    TxBody::Commit(Commit { name: endorse.name.clone(), version: endorse.version, commitment })
}

/// One transaction of each kind, in an order in which all of them apply, and who signs it.
fn deeds(ledger: &Ledger) -> Vec<(u8, TxBody)> {
    let name = || "lab/m".parse().expect("a name");
    let mut log = ReceiptLog::new();
    log.push(b"receipt");
    let say = |block| {
        let statement = Statement::Vote(Vote { height: 4, round: 0, kind: VoteKind::Prevote, block });
        let bytes = statement.sign_bytes(&ledger.pool()).expect("a vote");
        SignedStatement { statement, signature: secret(3).sign(&bytes) }
    };
    vec![
        (MEMBERS + 1, TxBody::Redeem(Redeem { ticket: ticket(ledger, 2), sealing_key: SealingKey([4; 32]) })),
        (1, TxBody::ClaimHandle(ClaimHandle { handle: "lab".into() })),
        (1, publish("lab/m", 1)),
        (1, publish("lab/m", 2)),
        (1, TxBody::SetChannel(SetChannel { name: name(), channel: "stable".into(), version: 2 })),
        (1, TxBody::Grant(Grant { name: name(), member: id(2) })),
        (1, TxBody::Revoke(Revoke { name: name(), member: id(2) })),
        (2, TxBody::Endorse(endorse("lab/m", 1))),
        (3, commit(ledger, 3, &endorse("lab/m", 3))),
        (3, TxBody::Reveal(Reveal { endorse: endorse("kept/m", 3), salt: ByteBuf::from(vec![5; 32]) })),
        (2, TxBody::Anchor(Anchor { seq: 1, size: 1, root: log.root(), consistency: Vec::new() })),
        (2, TxBody::Evidence(Evidence::new(id(3), say(None), say(Some(BlockId([7; 32])))))),
        (1, TxBody::Offer(Offer { name: name(), to: Some(id(4)) })),
        (4, TxBody::Accept(Accept { name: name() })),
        (4, TxBody::Withdraw(Withdraw { name: name(), version: 2 })),
        (0, TxBody::SetSigners(SetSigners { signers: signers(&[0, 1, 2, 4]), force: false })),
        (0, TxBody::SetRights(SetRights { member: id(3), rights: Rights::MEMBER })),
        (0, TxBody::RotateKey(RotateKey { epoch: 1, id: Digest([7; 32]), grace_ms: 600_000 })),
        (0, TxBody::SetRules(SetRules { version: 2, height: 1_000 })),
    ]
}

/// The block of these deeds, all of which apply.
fn full(ledger: &Ledger, deeds: Vec<(u8, TxBody)>) -> Block {
    let mut next = [0; MEMBERS as usize + 2];
    let signed = deeds.into_iter().map(|(who, body)| {
        let (place, redeems) = (usize::from(who), matches!(body, TxBody::Redeem(_)));
        let nonce = ledger.member(&id(who)).map_or(0, |m| m.nonce) + next[place];
        next[place] += u64::from(!redeems);
        sign(ledger, who, nonce, body)
    });
    let signed: Vec<_> = signed.collect();
    let (block, wanted) = (build(ledger, &signed), begins(ledger, &signed).1.len());
    assert_eq!(block.txs.len(), wanted, "a deed does not apply");
    block
}

fn piece(who: u8, body: TxBody) -> Vec<u8> {
    let tx = encode(&Tx { nonce: 0, body }).expect("a transaction");
    [&[who][..], &(tx.len() as u16).to_le_bytes(), &tx].concat()
}

/// Whether a transaction is of a kind.
type Kind = fn(&TxBody) -> bool;

/// What the corpora of these targets hold: target, name, bytes. Made here, so that they fit the pool above.
pub fn seeds() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let Begun { ledger, headers, steps } = begun();
    let deeds = deeds(ledger);
    let all: Vec<u8> = deeds.iter().flat_map(|(who, body)| piece(*who, body.clone())).collect();
    let claims = (0..MEMBERS + 2).map(|who| (who, TxBody::ClaimHandle(ClaimHandle { handle: format!("h{who}") })));
    let claims: Vec<u8> = claims.flat_map(|(who, body)| piece(who, body)).collect();
    // Older kinds have inputs of their own from before.
    let alone: [(&str, Kind); 23] = [
        ("evidence", |body| matches!(body, TxBody::Evidence(_))),
        ("rotate_key", |body| matches!(body, TxBody::RotateKey(_))),
        ("set_rules", |body| matches!(body, TxBody::SetRules(_))),
        ("offer", |body| matches!(body, TxBody::Offer(_))),
        ("commit", |body| matches!(body, TxBody::Commit(_))),
        ("reveal", |body| matches!(body, TxBody::Reveal(_))),
        ("accept", |body| matches!(body, TxBody::Accept(_))),
        ("allot", |body| matches!(body, TxBody::Allot(_))),
        ("stake", |body| matches!(body, TxBody::Stake(_))),
        ("unstake", |body| matches!(body, TxBody::Unstake(_))),
        ("beacon", |body| matches!(body, TxBody::Beacon(_))),
        ("set_grading", |body| matches!(body, TxBody::SetGrading(_))),
        ("open_round", |body| matches!(body, TxBody::OpenRound(_))),
        ("commit_round", |body| matches!(body, TxBody::CommitRound(_))),
        ("reveal_round", |body| matches!(body, TxBody::RevealRound(_))),
        ("open_leaves", |body| matches!(body, TxBody::OpenLeaves(_))),
        ("contradict", |body| matches!(body, TxBody::Contradict(_))),
        ("elect", |body| matches!(body, TxBody::Elect(_))),
        ("authorise", |body| matches!(body, TxBody::Authorise(_))),
        ("set_pot", |body| matches!(body, TxBody::SetPot(_))),
        ("dispute", |body| matches!(body, TxBody::Dispute(_))),
        ("ballot", |body| matches!(body, TxBody::Ballot(_))),
        ("appeal", |body| matches!(body, TxBody::Appeal(_))),
    ];
    let in_steps = rounds::deeds(&staked().ledger);
    let beacon = build(&staked().ledger, &[]).txs[0].read_unverified().expect("it was signed here").body;
    let alone = alone.map(|(name, wanted)| {
        let all = deeds.iter().chain(&in_steps).map(|(_, body)| body).chain([&beacon]);
        let found = all.into_iter().find(|body| wanted(body)).expect("one of each kind");
        (name, encode(&Tx { nonce: 1, body: found.clone() }))
    });
    let in_rounds: Vec<u8> = in_steps.iter().flat_map(|(who, body)| piece(*who, body.clone())).collect();
    let (full, full_of_rounds) = (full(ledger, deeds), full(&staked().ledger, in_steps));
    let (last, first) = (headers[headers.len() - 1].clone(), headers[0].clone());
    let none: Vec<TrustStep> = Vec::new();
    let encoded = |value: Result<Vec<u8>, CodecError>| value.expect("it encodes");
    let mut seeds = vec![
        ("ledger", "all", all),
        ("ledger", "claims", claims),
        ("ledger", "rounds", in_rounds),
        ("block", "rounds", encoded(encode(&full_of_rounds))),
        ("block", "all", encoded(encode(&full))),
        ("block", "empty", encoded(encode(&build(ledger, &[])))),
        ("snapshot", "whole", encoded(encode(&begun().snapshot()))),
        ("light", "steps", encoded(encode(&(steps, last)))),
        ("light", "genesis", encoded(encode(&(none, first)))),
    ];
    seeds.extend(alone.map(|(name, tx)| ("transaction", name, encoded(tx))));
    seeds
}
