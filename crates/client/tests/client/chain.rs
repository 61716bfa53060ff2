//! A one-signer chain in memory, shared by all nodes of a test.

use std::time::Duration;

use zero2ai_chunk::SealingSecret;
use zero2ai_ledger::{Ledger, TxError};
use zero2ai_proto::{
    ByteBuf, ManifestId, ModelName, NodeId, PoolId, SealingKey, SecretKey, Signed, TxId,
    block::{Block, Certificate, Vote, VoteKind},
    encode,
    manifest::{Domain, Format, Task},
    pool::{Bootstrap, Genesis, Invite, Keyring, Nonce, PoolKey, Ticket},
    proof::{SignedHeader, TrustStep},
    record::{Address, EndpointRecord},
    state::{Rights, Signer, SignerSet},
    tx::{ClaimHandle, Publish, RotateKey, SetSigners, Thresholds, Tx, TxBody},
};

/// More than any of these tests needs.
pub(crate) const LONG: Duration = Duration::from_secs(15);
pub(crate) const MODEL: &str = "lab/digits";

pub(crate) use zero2ai_clock::now_ms;

pub(crate) fn name() -> ModelName {
    MODEL.parse().unwrap()
}

pub(crate) fn manifest(version: u32) -> ManifestId {
    ManifestId([u8::try_from(version).unwrap(); 32])
}

pub(crate) struct Chain {
    pub(crate) ledger: Ledger,
    pub(crate) pool: PoolId,
    /// Of all its nodes.
    pub(crate) pool_keys: Keyring,
    pub(crate) genesis: Vec<u8>,
    pub(crate) admin: SecretKey,
    /// What is sealed to the administrator, who owns the model, is opened with this.
    pub(crate) sealing: SealingSecret,
    pub(crate) head: SignedHeader,
    pub(crate) steps: Vec<TrustStep>,
    /// What nodes hand out as endpoints.
    pub(crate) endpoints: Vec<Signed<EndpointRecord>>,
    /// Every key that may sign blocks.
    signers: Vec<SecretKey>,
}

impl Chain {
    /// A fresh pool whose administrator owns the handle `lab`, with version 1 of [`MODEL`], proved by the newest header.
    pub(crate) fn new() -> Self {
        let admin = SecretKey::generate().unwrap();
        let sealing = SealingSecret::from_bytes([9; 32]);
        let genesis = Genesis {
            version: 1,
            created_ms: now_ms() - 60_000,
            nonce: Nonce::generate().unwrap(),
            admin: admin.public(),
            admin_sealing: sealing.public().unwrap(),
            signers: SignerSet::new(vec![Signer { key: admin.public(), power: 1 }]).unwrap(),
            rules_version: 1,
        };
        let genesis = encode(&genesis).unwrap();
        let ledger = Ledger::genesis(&genesis).unwrap();
        let certificate =
            Certificate { height: 0, round: 0, block: zero2ai_proto::BlockId([0; 32]), signatures: Vec::new() };
        let mut chain = Self {
            pool: ledger.pool(),
            ledger,
            pool_keys: PoolKey::generate().unwrap().into(),
            genesis,
            signers: vec![admin.clone()],
            admin,
            sealing,
            head: SignedHeader { header: ByteBuf::new(), certificate },
            steps: Vec::new(),
            endpoints: Vec::new(),
        };
        chain.admin_does(TxBody::ClaimHandle(ClaimHandle { handle: "lab".into() }));
        chain.publish(1);
        chain
    }

    /// Publishes the next version; the newest header proves it.
    pub(crate) fn publish(&mut self, version: u32) {
        self.admin_does(TxBody::Publish(Publish {
            name: name(),
            version,
            manifest: manifest(version),
            format: Format::Onnx,
            task: Task::Tensors,
            domain: Domain::Pool,
            bytes: 20_000,
            chunks: 3,
            base: None,
            thresholds: Thresholds::default(),
        }));
        self.block(&[]).unwrap();
    }

    /// The ledger has another pool key, and the nodes too; the one before is over.
    pub(crate) fn rotate(&mut self) {
        let key = self.pool_keys.current().next().unwrap();
        self.admin_does(TxBody::RotateKey(RotateKey { epoch: key.epoch, id: key.id(), grace_ms: 0 }));
        self.block(&[]).unwrap();
        self.pool_keys.renew(key, 0);
    }

    /// A second signer joins the set: from here on a client needs a step.
    pub(crate) fn grow_signers(&mut self) {
        let second = SecretKey::generate().unwrap();
        let invite = self.invite(Rights::MEMBER);
        let body =
            TxBody::Redeem(zero2ai_proto::tx::Redeem { ticket: invite.ticket, sealing_key: SealingKey([3; 32]) });
        let redeem = Signed::sign(&Tx { nonce: 0, body }, &self.pool, &second).unwrap();
        self.block(&[redeem]).unwrap();
        let signers = [&self.admin, &second].map(|k| Signer { key: k.public(), power: 1 }).to_vec();
        self.signers.push(second);
        self.admin_does(TxBody::SetSigners(SetSigners { signers, force: true }));
        for _ in 0..3 {
            self.block(&[]).unwrap();
        }
        assert_eq!(self.steps.len(), 1);
    }

    pub(crate) fn admin_does(&mut self, body: TxBody) {
        let nonce = self.ledger.member(&self.admin.public()).unwrap().nonce;
        let tx = Signed::sign(&Tx { nonce, body }, &self.pool, &self.admin).unwrap();
        self.block(&[tx]).unwrap();
    }

    /// Makes a final block of `txs`.
    pub(crate) fn block(&mut self, txs: &[Signed<Tx>]) -> Result<u64, (TxId, TxError)> {
        let proposer = self.ledger.signers().as_slice()[0].key;
        let time_ms = now_ms().max(self.ledger.head_time_ms() + 1);
        let (block, refused) = self.ledger.build_block(proposer, time_ms, txs).unwrap();
        if let Some(refused) = refused.into_iter().next() {
            return Err(refused);
        }
        let set = self.ledger.signers_state().clone();
        let applied = self.ledger.apply(&block).unwrap();
        self.head = self.certify(&block, &set.current);
        if set.next != set.current {
            self.steps.push(TrustStep { header: self.head.clone(), next_signers: set.next });
        }
        Ok(applied.header.height)
    }

    fn certify(&self, block: &Block, set: &SignerSet) -> SignedHeader {
        let height = block.read_header().unwrap().height;
        let vote = Vote { height, round: 0, kind: VoteKind::Precommit, block: Some(block.id()) };
        let bytes = vote.sign_bytes(&self.pool).unwrap();
        let key = |id: NodeId| self.signers.iter().find(|s| s.public() == id).unwrap();
        let signatures = set.as_slice().iter().map(|s| (s.key, key(s.key).sign(&bytes))).collect();
        let certificate = Certificate { height, round: 0, block: block.id(), signatures };
        SignedHeader { header: block.header.clone(), certificate }
    }

    /// An invite of this pool, without anywhere to knock.
    pub(crate) fn invite(&self, rights: Rights) -> Invite {
        let nonce = Nonce::generate().unwrap();
        let ticket = Ticket { nonce, expires_ms: now_ms() + 3_600_000, uses: 1, rights };
        Invite {
            version: 1,
            pool: self.pool,
            key: self.pool_keys.current(),
            ticket: Signed::sign(&ticket, &self.pool, &self.admin).unwrap(),
            bootstrap: vec![Bootstrap { node: self.admin.public(), addresses: vec![] }],
        }
    }

    /// `key`'s word that it serves a version at `address`.
    pub(crate) fn endpoint(&self, key: &SecretKey, version: u32, address: &Address) -> Signed<EndpointRecord> {
        self.offer(key, version, address, (None, None))
    }

    /// The same, with where it stands and what it asks.
    pub(crate) fn offer(
        &self,
        key: &SecretKey,
        version: u32,
        address: &Address,
        (region, price): (Option<&str>, Option<u64>),
    ) -> Signed<EndpointRecord> {
        let record = EndpointRecord {
            name: name(),
            version,
            manifest: manifest(version),
            addresses: vec![address.clone()],
            seq: 1,
            expires_ms: now_ms() + 600_000,
            region: region.map(str::to_owned),
            price,
        };
        Signed::sign(&record, &self.pool, key).unwrap()
    }
}
