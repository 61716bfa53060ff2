//! Longer pieces of work, each a function that a call or a task runs.
//!
//! | module | owns |
//! |---|---|
//! | [`room`] | makes room in memory; idle models go for it |
//! | [`demand`] | loads what callers ask for |
//! | [`residents`] | which models are in memory, pinned there, let go: for the command line |
//! | [`load`] | manifest key → opened chunks → sealed memory → worker |
//! | [`fetch`] | sealed manifest and chunks from peers |
//! | [`open`] | chunks opened into sealed memory while they arrive |
//! | [`give`] | the plaintext of a held version, for this node's own user |
//! | [`picture`] | how a transfer stands, for people who watch it |
//! | [`keys`] | the keys that open models, asked of peers and kept wrapped |
//! | [`pool_key`] | the pool's newest key: made, told to the ledger, asked of other members |
//! | [`grants`] | who may open a private model; sealing anew after a revocation |
//! | [`repair`] | keeps enough copies of held versions in the pool |
//! | [`publish`] | file → chunks → ledger → replicas |
//! | [`validate`] | fetch → run on own samples → judge → endorse |
//! | [`rounds`] | commits in a round, and shows and opens it in time |
//! | [`shown`] | the samples of opened leaves, kept and shown to a jury |
//! | [`jury`] | where this node sits over a leaf: asks for its sample, runs the model again, votes |
//! | [`outcomes`] | what callers learn later of answers: sent, taken, watched for drift, answered with a round |
//! | [`report`] | a validation's report: intervals, attacks, the grade |
//! | [`load_test`] | a model under load, for a report |
//! | [`rerun`] | fetch → run a kept call again, for this node's own user |
//! | [`audit`] | ledger and providers → one verifiable export |
//! | [`store`] | what is held, pinned, dropped; collecting and verifying what is stored |
//! | [`records`] | the DHT's records kept over a restart |
//! | [`heights`] | how new names were, kept over a restart |
//! | [`evidence`] | puts proofs against signers on the ledger |
//! | [`peers`] | dials the members of earlier, writes down those of today, says what is waited for |
//! | [`keep`] | loads what is to be served, announces it, anchors receipts |

pub(crate) mod audit;
pub(crate) mod demand;
pub(crate) mod evidence;
pub(crate) mod fetch;
pub(crate) mod give;
pub(crate) mod grants;
pub(crate) mod heights;
pub(crate) mod jury;
pub(crate) mod keep;
pub(crate) mod keys;
pub(crate) mod load;
pub(crate) mod load_test;
pub(crate) mod open;
pub(crate) mod outcomes;
pub(crate) mod peers;
pub(crate) mod picture;
pub(crate) mod pool_key;
pub(crate) mod publish;
pub(crate) mod records;
pub(crate) mod repair;
pub(crate) mod report;
pub(crate) mod rerun;
pub(crate) mod residents;
pub(crate) mod room;
pub(crate) mod rounds;
pub(crate) mod shown;
pub(crate) mod store;
pub(crate) mod validate;

use tokio::sync::mpsc;
use zero2ai_proto::local::Progress;

/// Where a job tells how far it is. Bounded; when full a word of progress is dropped, never waited for.
pub(crate) type Tell = mpsc::Sender<Progress>;

pub(crate) fn tell(to: &Tell, what: impl Into<String>, done: u64, total: u64) {
    let _ = to.try_send(Progress { what: what.into(), done, total });
}
