//! What the ledger refuses, and why. Three kinds, by whose fault it is: a transaction's, a block's, or this ledger's own
//! input (genesis, height).

use zero2ai_proto::{CodecError, Digest, NodeId, TxId, VerifyError, evidence::EvidenceError, state::Rights};

/// Why a transaction is refused. A transaction that is refused now is refused by every node at this state.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TxError {
    /// Signature, envelope or body.
    #[error("the transaction cannot be accepted: {0}; sign it again with this pool's id and this program's version")]
    Envelope(#[from] VerifyError),
    /// The signer is not admitted to the pool.
    #[error("{0} is not a member of this pool: join with an invite first")]
    NotMember(NodeId),
    /// The identity is a member already; redeeming again changes nothing.
    #[error("{0} is a member already: nothing to redeem")]
    AlreadyMember(NodeId),
    /// The identity was revoked; tickets cannot bring it back.
    #[error("{0} was revoked: only an administrator can give it rights again")]
    Revoked(NodeId),
    /// A right is missing.
    #[error("{who} lacks the right '{}': ask an administrator of the pool for it", .need.names().join(","))]
    Forbidden {
        /// Who asked.
        who: NodeId,
        /// Which right is needed.
        need: Rights,
    },
    /// The nonce was used.
    #[error("nonce {got} was used already; the account's next is {expected}")]
    NonceUsed {
        /// Nonce of the transaction.
        got: u64,
        /// The account's next.
        expected: u64,
    },
    /// The nonce is too far ahead.
    #[error("nonce {got} is ahead of the account's next, {expected}: earlier transactions must be final first")]
    NonceAhead {
        /// Nonce of the transaction.
        got: u64,
        /// The account's next.
        expected: u64,
    },
    /// A ticket that admits nobody.
    #[error("the ticket admits nobody: {0}; ask for a new invite")]
    Ticket(TicketError),
    /// Something it names does not exist.
    #[error("{0} does not exist")]
    Missing(String),
    /// Something it would make exists.
    #[error("{0} exists already")]
    Exists(String),
    /// It belongs to someone else.
    #[error("{what} belongs to {owner}")]
    NotOwner {
        /// What.
        what: String,
        /// Who owns it.
        owner: NodeId,
    },
    /// A value out of its bounds, or one that contradicts another.
    #[error("invalid {what}: {why}")]
    Invalid {
        /// Which part.
        what: &'static str,
        /// What is wrong and what would be right.
        why: String,
    },
    /// The proof that an anchor extends the last one does not hold.
    #[error("the anchor does not extend the last one: {0}; a provider's log may only grow")]
    NotConsistent(#[from] crate::receipt_log::LogError),
    /// Evidence that proves nothing.
    #[error("the evidence is refused: {0}; submit the two messages as the signer signed them")]
    Evidence(#[from] EvidenceError),
    /// The state holds something that cannot be read, or a counter is at its end.
    #[error("the ledger's own entry {key} cannot be used: {why}; this is a fault of the program, report it")]
    State {
        /// The entry.
        key: String,
        /// What is wrong.
        why: String,
    },
}

/// Why a ticket admits nobody.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// Not signed, or not readable.
    #[error("{0}")]
    Envelope(#[from] VerifyError),
    /// Its signer is no administrator (any more).
    #[error("its signer {0} is not an administrator of this pool")]
    NotAdmin(NodeId),
    /// Too old.
    #[error("it expired at {expired_ms} and the time is {now_ms} (milliseconds since 1970)")]
    Expired {
        /// Its end, milliseconds since 1970 UTC.
        expired_ms: u64,
        /// The block's time, milliseconds since 1970 UTC.
        now_ms: u64,
    },
    /// Redeemed as often as it may be.
    #[error("all of its {0} uses are taken")]
    UsedUp(u32),
    /// It gives no right, or one that this program does not know.
    #[error("it gives the rights {0:#b}, of which none or not all are known here")]
    Rights(u16),
}

/// Why a block is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// The header's bytes.
    #[error("the block's header cannot be read: {0}")]
    Header(CodecError),
    /// Rules or shape of a newer program.
    #[error("the block follows {what} {got}, and this program knows {known}: update it to go on")]
    Unknown {
        /// What.
        what: &'static str,
        /// The block's.
        got: u16,
        /// Ours.
        known: u16,
    },
    /// A field of the header differs from what this ledger computes.
    #[error(
        "the header's {field} is {got}, and this ledger has {expected}: the block was altered, or belongs elsewhere"
    )]
    Field {
        /// Which field.
        field: &'static str,
        /// The header's.
        got: String,
        /// Ours.
        expected: String,
    },
    /// Not later than its parent.
    #[error("the block's time {got} is not after its parent's {parent} (milliseconds since 1970)")]
    Time {
        /// The block's time, milliseconds since 1970 UTC.
        got: u64,
        /// The parent's, milliseconds since 1970 UTC.
        parent: u64,
    },
    /// Without transactions, behind a block without transactions, and too soon.
    #[error(
        "the block is empty like its parent, and its time {got} is before {earliest} (milliseconds since 1970): empty blocks come a second apart at least"
    )]
    TooSoon {
        /// The block's time, milliseconds since 1970 UTC.
        got: u64,
        /// The earliest it may carry, milliseconds since 1970 UTC.
        earliest: u64,
    },
    /// Its proposer signs no block at this height.
    #[error("{0} is not a signer at this height and cannot propose")]
    Proposer(NodeId),
    /// The transactions are not those the header names.
    #[error("the transactions have root {got}, and the header names {expected}: a transaction was altered")]
    TxsRoot {
        /// Root over the transactions.
        got: Digest,
        /// Root in the header.
        expected: Digest,
    },
    /// Too many transactions, or too many bytes of them.
    #[error("the block holds {count} transactions of {bytes} bytes, more than a block may")]
    TooLarge {
        /// Transactions.
        count: usize,
        /// Their bytes.
        bytes: usize,
    },
    /// It does not begin with its proposer's part of the chain of seeds.
    #[error("the block does not begin with its proposer's beacon: {0}")]
    Beacon(String),
    /// A transaction of it is refused.
    #[error("transaction {index} ({id}): {source}")]
    Tx {
        /// Its place in the block.
        index: usize,
        /// Its id.
        id: TxId,
        /// Why.
        source: TxError,
    },
    /// This ledger's own failure.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Why the ledger cannot answer.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// The genesis cannot be read or contradicts itself.
    #[error("the genesis cannot be used: {0}; take it again from a member of the pool")]
    Genesis(String),
    /// No state is held for that height.
    #[error("no state of height {asked} is held; those of {base} to {head} are")]
    UnknownHeight {
        /// Height asked for.
        asked: u64,
        /// Oldest height.
        base: u64,
        /// Newest height.
        head: u64,
    },
    /// A snapshot that is not the state it should be.
    #[error("the snapshot cannot be used: {0}")]
    Snapshot(String),
    /// Something asked for does not exist at that height.
    #[error("{0} does not exist at that height")]
    Missing(String),
    /// A value could not be encoded or decoded.
    #[error("an entry of the ledger cannot be read: {0}; this is a fault of the program, report it")]
    Codec(#[from] CodecError),
    /// The state tree failed.
    #[error("the state tree failed: {0}; this is a fault of the program, report it")]
    Tree(String),
}
