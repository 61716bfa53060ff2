//! The ledger's state machine, authenticated state, receipt logs, proofs and light-client verification.
//!
//! Pure: the same genesis and blocks give the same roots on every machine. This crate knows nothing of consensus (who
//! proposes, who votes, when), gossip, disks, clocks or randomness: callers pass blocks, times and certificates in.
//!
//! | module | owns |
//! |---|---|
//! | [`ledger`] | [`Ledger`]: the state after every final block, and typed reads of it |
//! | [`block`] | building, checking and applying blocks |
//! | [`rules`] | what each transaction may do, and what it writes |
//! | [`receipt_log`] | RFC 6962 logs of receipts: roots, inclusion and consistency proofs |
//! | [`light`] | what a client checks that holds only the genesis: headers, state proofs, name records |
//! | [`snapshot`] | the whole state at one height, proved by the headers there |
//! | [`grades`] | typed reads of stakes, seeds, rounds and convictions |
//! | [`audit`] | building an audit export, and checking one offline |
//! | [`error`] | what is refused, and why |

pub mod audit;
pub mod block;
pub mod error;
pub mod grades;
pub mod ledger;
pub mod light;
pub mod receipt_log;
pub mod rules;
pub mod snapshot;

mod draft;
mod past;
mod signatures;
mod tree;

pub use audit::{AuditError, AuditReport, verify_audit};
pub use block::{Applied, EMPTY_PAUSE_MS};
pub use error::{BlockError, LedgerError, TicketError, TxError};
pub use ledger::Ledger;
pub use light::{LightError, TrustedChain, verify_name_record, verify_path, verify_state};
pub use receipt_log::ReceiptLog;
pub use rules::{Admission, STAKED_RULES, agreed, asked, commitment, conduct, counted, round_commitment, round_job};

/// The newest rules that this program knows; a header that carries newer ones is refused with a clear word.
pub const RULES_VERSION: u16 = 2;
