//! A pool made in this process by the ledger itself, its blocks certified by the keys of its signers: what the other parts measure
//! on, and what a node can be given as its past.

use anyhow::{Context, Result, ensure};
use zero2ai_ledger::Ledger;
use zero2ai_proto::{
    ByteBuf, ManifestId, NodeId, PoolId, SealingKey, SecretKey, Signed,
    block::{Block, Certificate, Vote, VoteKind},
    calls::SealedBlock,
    encode,
    pool::{Genesis, Nonce, Ticket},
    proof::{SignedHeader, TrustStep},
    receipt::{Receipt, Request, Response, Status, commit, request_hash},
    state::{Rights, Signer, SignerSet},
    tx::{Redeem, SetRights, SetSigners, Tx, TxBody},
};

/// When the pool was made, milliseconds since 1970 UTC.
const MADE: u64 = 1_700_000_000_000;
/// Everything that may be done.
pub(crate) const ALL: Rights = Rights((1 << Rights::NAMES.len()) - 1);

/// Key number `n`, the same in every run.
pub(crate) fn key(n: u32) -> SecretKey {
    let mut seed = [0; 32];
    seed[..4].copy_from_slice(&n.to_le_bytes());
    SecretKey::from_bytes(&seed)
}

/// See the module.
pub(crate) struct Made {
    pub(crate) ledger: Ledger,
    /// Everybody who may sign a block.
    signers: Vec<SecretKey>,
    /// Makes tickets, rights and signers.
    admin: SecretKey,
    admin_nonce: u64,
    /// Every change of the signers.
    pub(crate) steps: Vec<TrustStep>,
    /// The newest two headers, the older one first.
    pub(crate) headers: Vec<SignedHeader>,
}

impl Made {
    /// A pool of these signers; key 0 is the administrator's, the signers' are the ones behind it.
    pub(crate) fn new(signers: u32) -> Result<Self> {
        let keys: Vec<SecretKey> = (1..=signers).map(key).collect();
        let genesis = Genesis {
            version: 1,
            created_ms: MADE,
            nonce: Nonce([7; 16]),
            admin: key(0).public(),
            admin_sealing: SealingKey([1; 32]),
            signers: set(&keys)?,
            rules_version: 1,
        };
        Self::with(&encode(&genesis)?, key(0), keys)
    }

    /// A pool that exists already, at its genesis, whose signers' keys are known here.
    pub(crate) fn with(genesis: &[u8], admin: SecretKey, mut signers: Vec<SecretKey>) -> Result<Self> {
        signers.sort_by_key(SecretKey::public);
        let ledger = Ledger::genesis(genesis)?;
        Ok(Self { ledger, signers, admin, admin_nonce: 0, steps: Vec::new(), headers: Vec::new() })
    }

    pub(crate) fn pool(&self) -> PoolId {
        self.ledger.pool()
    }

    /// Applies a block that another one certified, so that more can be made behind it.
    pub(crate) fn follow(&mut self, sealed: &SealedBlock) -> Result<()> {
        self.ledger.apply(&Block::read(&sealed.block)?)?;
        self.admin_nonce = self.ledger.member(&self.admin.public()).map_or(0, |m| m.nonce);
        Ok(())
    }

    /// Builds the next block of all of `txs`, certifies it with every signer there is, and applies it.
    pub(crate) fn commit(&mut self, txs: &[Signed<Tx>]) -> Result<SealedBlock> {
        let sets = self.ledger.signers_state().clone();
        let proposer = sets.current.as_slice().first().context("no signer")?.key;
        let (block, refused) = self.ledger.build_block(proposer, self.ledger.head_time_ms() + 1, txs)?;
        ensure!(refused.is_empty() && block.txs.len() == txs.len(), "{} of {} fit", block.txs.len(), txs.len());
        let applied = self.ledger.apply(&block)?;
        let height = applied.header.height;
        let vote = Vote { height, round: 0, kind: VoteKind::Precommit, block: Some(applied.id) };
        let bytes = vote.sign_bytes(&self.pool())?;
        let signing = self.signers.iter().filter(|k| sets.current.power_of(&k.public()).is_some());
        let signatures = signing.map(|k| (k.public(), k.sign(&bytes))).collect();
        let certificate = Certificate { height, round: 0, block: applied.id, signatures };
        let header = SignedHeader { header: block.header.clone(), certificate: certificate.clone() };
        if sets.next != sets.current {
            self.steps.push(TrustStep { header: header.clone(), next_signers: sets.next });
        }
        self.headers.push(header);
        if self.headers.len() > 2 {
            self.headers.remove(0);
        }
        Ok(SealedBlock { block: ByteBuf::from(encode(&block)?), certificate })
    }

    pub(crate) fn sign(&self, who: &SecretKey, nonce: u64, body: TxBody) -> Result<Signed<Tx>> {
        Ok(Signed::sign(&Tx { nonce, body }, &self.pool(), who)?)
    }

    /// Signs with the administrator's next nonce.
    pub(crate) fn admin(&mut self, body: TxBody) -> Result<Signed<Tx>> {
        let signed = self.sign(&self.admin, self.admin_nonce, body)?;
        self.admin_nonce += 1;
        Ok(signed)
    }

    /// The smallest transaction that can be made without end: the administrator has the rights that he has.
    pub(crate) fn idle(&mut self) -> Result<Signed<Tx>> {
        let member = self.admin.public();
        self.admin(TxBody::SetRights(SetRights { member, rights: ALL }))
    }

    /// Makes members of the holders of these keys, as many a block as fit.
    pub(crate) fn admit(&mut self, keys: &[SecretKey]) -> Result<()> {
        for (nth, some) in (0u8..).zip(keys.chunks(500)) {
            let ticket = Ticket { nonce: Nonce([nth; 16]), expires_ms: u64::MAX, uses: 500, rights: Rights::MEMBER };
            let ticket = Signed::sign(&ticket, &self.pool(), &self.admin)?;
            let redeem = |k| {
                self.sign(k, 0, TxBody::Redeem(Redeem { ticket: ticket.clone(), sealing_key: SealingKey([2; 32]) }))
            };
            let txs = some.iter().map(redeem).collect::<Result<Vec<_>>>()?;
            self.commit(&txs)?;
        }
        Ok(())
    }

    /// Lets others sign from the height after next on, of whom this pool's keys must be members.
    pub(crate) fn change_signers(&mut self, keys: Vec<SecretKey>) -> Result<()> {
        let signers = set(&keys)?.as_slice().to_vec();
        let tx = self.admin(TxBody::SetSigners(SetSigners { signers, force: true }))?;
        for key in keys {
            if !self.signers.iter().any(|k| k.public() == key.public()) {
                self.signers.push(key);
            }
        }
        self.signers.sort_by_key(SecretKey::public);
        self.commit(&[tx])?;
        self.commit(&[])?;
        Ok(())
    }
}

fn set(keys: &[SecretKey]) -> Result<SignerSet> {
    let signers = keys.iter().map(|k| Signer { key: k.public(), power: 1 }).collect();
    SignerSet::new(signers).context("no such signers")
}

/// A receipt of a small prediction.
pub(crate) fn receipt(pool: &PoolId, user: &SecretKey, provider: &SecretKey, n: u64) -> Result<Receipt> {
    let mut nonce = [0; 16];
    nonce[..8].copy_from_slice(&n.to_le_bytes());
    let request = Request {
        provider: provider.public(),
        name: "bench/digits".parse()?,
        version: 1,
        manifest: ManifestId([1; 32]),
        commitment: commit(&[3; 32], b"input"),
        nonce: Nonce(nonce),
        time_ms: MADE,
        deadline_ms: MADE + 1_000,
        price_cap: 0,
        parent: None,
    };
    let request = Signed::sign(&request, pool, user)?;
    let response = Response {
        request: request_hash(&request)?,
        commitment: commit(&[3; 32], b"output"),
        units: 1,
        status: Status::Complete,
        time_ms: MADE + 5,
    };
    Ok(Receipt { request, response: Signed::sign(&response, pool, provider)? })
}

/// Who is asked: key number `n` of those that are no signers.
pub(crate) fn member(n: u32) -> SecretKey {
    key(10_000 + n)
}

/// The same, as the ledger knows it.
pub(crate) fn member_id(n: u32) -> NodeId {
    member(n).public()
}
