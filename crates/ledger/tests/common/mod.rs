//! A pool to test with: fixed keys, a ledger, and certificates by whoever signs the next block.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]

pub mod any;
pub mod rounds;

use zero2ai_ledger::{BlockError, Ledger, ReceiptLog, TxError};
use zero2ai_proto::{
    ByteBuf, Digest, ManifestId, ModelName, NodeId, SealingKey, SecretKey, Signed,
    block::{Block, Certificate, Vote, VoteKind},
    encode,
    manifest::{Domain, Format, Task},
    pool::{Genesis, Nonce, Ticket},
    proof::{SignedHeader, TrustStep},
    receipt::{AuditExport, ProvenReceipt, ProviderReceipts, Receipt, Request, Response, Status, commit, request_hash},
    state::{Rights, Signer, SignerSet, key},
    tx::{Anchor, ClaimHandle, ClassCounts, Endorse, Publish, Redeem, SetSigners, Thresholds, Tx, TxBody},
};

pub const START_MS: u64 = 1_700_000_000_000;

/// Key number `n`; 0 is the administrator.
pub fn secret(n: u8) -> SecretKey {
    SecretKey::from_bytes(&[n.wrapping_add(1); 32])
}

pub fn id(n: u8) -> NodeId {
    secret(n).public()
}

pub fn name(text: &str) -> ModelName {
    text.parse().unwrap()
}

pub fn signers(of: &[u8]) -> Vec<Signer> {
    of.iter().map(|n| Signer { key: id(*n), power: 1 }).collect()
}

pub fn genesis_bytes(seed: u8) -> Vec<u8> {
    let genesis = Genesis {
        version: 1,
        created_ms: START_MS,
        nonce: Nonce([seed; 16]),
        admin: id(0),
        admin_sealing: SealingKey([9; 32]),
        signers: SignerSet::new(signers(&[0])).unwrap(),
        rules_version: 1,
    };
    encode(&genesis).unwrap()
}

pub struct Pool {
    pub ledger: Ledger,
    /// Every block with its certified header.
    pub blocks: Vec<(Block, SignedHeader)>,
    pub steps: Vec<TrustStep>,
    nonces: [u64; 256],
}

impl Pool {
    pub fn new() -> Self {
        let ledger = Ledger::genesis(&genesis_bytes(1)).unwrap();
        Self { ledger, blocks: Vec::new(), steps: Vec::new(), nonces: [0; 256] }
    }

    /// A pool with members 1 to `n`, each with `Rights::MEMBER`.
    pub fn with_members(n: u8) -> Self {
        let mut pool = Self::new();
        let ticket = pool.ticket(1, u32::from(n), Rights::MEMBER);
        let txs: Vec<_> = (1..=n).map(|m| pool.redeem(m, &ticket)).collect();
        pool.commit(&txs);
        pool
    }

    pub fn ticket(&self, nonce: u8, uses: u32, rights: Rights) -> Signed<Ticket> {
        self.ticket_by(0, Ticket { nonce: Nonce([nonce; 16]), expires_ms: START_MS + 1_000_000, uses, rights })
    }

    pub fn ticket_by(&self, who: u8, ticket: Ticket) -> Signed<Ticket> {
        Signed::sign(&ticket, &self.ledger.pool(), &secret(who)).unwrap()
    }

    /// Signs `body` with the next nonce of `who`, as if all earlier ones were accepted.
    pub fn tx(&mut self, who: u8, body: TxBody) -> Signed<Tx> {
        let nonce = self.nonces[usize::from(who)];
        self.nonces[usize::from(who)] += 1;
        self.tx_at(who, nonce, body)
    }

    pub fn tx_at(&self, who: u8, nonce: u64, body: TxBody) -> Signed<Tx> {
        Signed::sign(&Tx { nonce, body }, &self.ledger.pool(), &secret(who)).unwrap()
    }

    pub fn redeem(&self, who: u8, ticket: &Signed<Ticket>) -> Signed<Tx> {
        let body = Redeem { ticket: ticket.clone(), sealing_key: SealingKey([who; 32]) };
        self.tx_at(who, 0, TxBody::Redeem(body))
    }

    /// Why `body` by `who` is refused now.
    pub fn refusal(&self, who: u8, body: TxBody) -> TxError {
        let nonce = self.ledger.member(&id(who)).map_or(0, |m| m.nonce);
        let tx = self.tx_at(who, nonce, body);
        self.ledger.check_tx(&tx, self.ledger.head_time_ms() + 1).unwrap_err()
    }

    pub fn proposer(&self) -> NodeId {
        self.ledger.signers().as_slice()[0].key
    }

    pub fn build(&self, txs: &[Signed<Tx>]) -> (Block, Vec<TxError>) {
        self.build_at(self.ledger.head_time_ms() + 100, txs)
    }

    pub fn build_at(&self, time_ms: u64, txs: &[Signed<Tx>]) -> (Block, Vec<TxError>) {
        let all: Vec<_> = self.beacon().into_iter().chain(txs.iter().cloned()).collect();
        let (block, out) = self.ledger.build_block(self.proposer(), time_ms, &all).unwrap();
        (block, out.into_iter().map(|(_, why)| why).collect())
    }

    /// What the next block begins with under its rules.
    pub fn beacon(&self) -> Option<Signed<Tx>> {
        let proposer = (0..=255).map(secret).find(|key| key.public() == self.proposer()).unwrap();
        self.ledger.beacon(&proposer).unwrap()
    }

    /// Commits a block of all of `txs`, which must all apply.
    pub fn commit(&mut self, txs: &[Signed<Tx>]) -> Block {
        let (block, refused) = self.build(txs);
        assert_eq!(refused, Vec::new());
        assert_eq!(block.txs.len(), txs.len() + usize::from(self.beacon().is_some()), "none was left out");
        self.apply(&block).unwrap();
        block
    }

    /// Certifies and applies `block`.
    pub fn apply(&mut self, block: &Block) -> Result<(), BlockError> {
        let set = self.ledger.signers_state().clone();
        let applied = self.ledger.apply(block)?;
        let header = certify(&self.ledger, block, &set.current, set.current.as_slice().len());
        if set.next != set.current {
            self.steps.push(TrustStep { header: header.clone(), next_signers: set.next });
        }
        assert_eq!(applied.id, block.id());
        self.blocks.push((block.clone(), header));
        Ok(())
    }

    pub fn head(&self) -> SignedHeader {
        self.blocks.last().unwrap().1.clone()
    }

    /// Grows the signers; the change is in force when this returns.
    pub fn set_signers(&mut self, of: &[u8]) {
        let body = TxBody::SetSigners(SetSigners { signers: signers(of), force: true });
        let tx = self.tx(0, body);
        self.commit(&[tx]);
        self.commit(&[]);
    }
}

/// A certificate by the first `count` of `set`.
pub fn certify(ledger: &Ledger, block: &Block, set: &SignerSet, count: usize) -> SignedHeader {
    let height = block.read_header().unwrap().height;
    let vote = Vote { height, round: 0, kind: VoteKind::Precommit, block: Some(block.id()) };
    let bytes = vote.sign_bytes(&ledger.pool()).unwrap();
    let by_key = |key| (0..=255).map(secret).find(|s| s.public() == key).unwrap();
    let keys = set.as_slice().iter().take(count).map(|s| s.key);
    let signatures = keys.map(|key| (key, by_key(key).sign(&bytes))).collect();
    let certificate = Certificate { height, round: 0, block: block.id(), signatures };
    SignedHeader { header: block.header.clone(), certificate }
}

pub fn publish(model: &str, version: u32) -> TxBody {
    TxBody::Publish(Publish {
        name: name(model),
        version,
        manifest: ManifestId([version as u8; 32]),
        format: Format::Onnx,
        task: Task::Classify { classes: 2 },
        domain: Domain::Pool,
        bytes: 20_000,
        chunks: 3,
        base: version.checked_sub(1).filter(|v| *v > 0),
        thresholds: Thresholds::default(),
    })
}

pub fn claim(handle: &str) -> TxBody {
    TxBody::ClaimHandle(ClaimHandle { handle: handle.into() })
}

pub fn endorse(model: &str, version: u32, root: u8, wrong: u32) -> Endorse {
    let class = ClassCounts { tp: 50 - wrong, fp: wrong, fn_: wrong };
    Endorse {
        name: name(model),
        version,
        classes: vec![class, class],
        samples: 100,
        correct: 100 - 2 * wrong,
        p50_us: 300,
        dataset_root: Digest([root; 32]),
        predictions_root: Digest([root ^ 0xff; 32]),
    }
}

pub fn anchor(log: &ReceiptLog, seq: u64, from: u64) -> TxBody {
    let consistency = log.consistency(from, log.size()).unwrap();
    TxBody::Anchor(Anchor { seq, size: log.size(), root: log.root(), consistency })
}

pub fn receipt(pool: &Pool, user: u8, provider: u8, model: &str, n: u8) -> Receipt {
    let request = Request {
        provider: id(provider),
        name: name(model),
        version: 1,
        manifest: ManifestId([1; 32]),
        commitment: commit(&[n; 32], b"input"),
        nonce: Nonce([n; 16]),
        time_ms: START_MS,
        deadline_ms: START_MS + 1_000,
        price_cap: 0,
        parent: None,
    };
    let request = Signed::sign(&request, &pool.ledger.pool(), &secret(user)).unwrap();
    let response = Response {
        request: request_hash(&request).unwrap(),
        commitment: commit(&[n; 32], b"output"),
        units: 1,
        status: Status::Complete,
        time_ms: START_MS + 5,
    };
    let response = Signed::sign(&response, &pool.ledger.pool(), &secret(provider)).unwrap();
    Receipt { request, response }
}

/// A pool in which `lab/digits` was published, graded by three, and used; and the audit of it.
pub fn audited() -> (Pool, AuditExport) {
    audited_with(&[0, 1, 2, 3, 4])
}

/// The same, with a receipt of these requests in the provider's log.
pub fn audited_with(requests: &[u8]) -> (Pool, AuditExport) {
    let mut pool = Pool::with_members(5);
    pool.set_signers(&[0, 1, 2, 3]);
    let mut txs = vec![pool.tx(1, claim("lab")), pool.tx(1, publish("lab/digits", 1))];
    for n in 2..=4 {
        txs.push(pool.tx(n, TxBody::Endorse(endorse("lab/digits", 1, n, u32::from(n) - 2))));
    }
    pool.commit(&txs);
    let receipts: Vec<Receipt> = requests.iter().map(|n| receipt(&pool, 5, 3, "lab/digits", *n)).collect();
    let mut log = ReceiptLog::new();
    for receipt in &receipts {
        log.push(&encode(receipt).unwrap());
    }
    let tx = pool.tx(3, anchor(&log, 1, 0));
    pool.commit(&[tx]);
    pool.commit(&[]);
    let at = pool.ledger.height() - 1;
    let proven = receipts.into_iter().zip(0..);
    let proven = proven.map(|(receipt, i)| ProvenReceipt { receipt, proof: log.prove(i, log.size()).unwrap() });
    let used = ProviderReceipts {
        provider: id(3),
        anchor: pool.ledger.prove(&key::anchor(&id(3)), at).unwrap(),
        receipts: proven.collect(),
    };
    let export = AuditExport {
        version: 1,
        genesis: ByteBuf::from(pool.ledger.genesis_bytes()),
        name: name("lab/digits"),
        steps: pool.steps.clone(),
        header: pool.head(),
        entries: pool.ledger.audit_entries(&name("lab/digits"), at).unwrap(),
        providers: vec![used],
    };
    (pool, export)
}
