//! `ledger ...`: what can be typed.

use std::path::PathBuf;

use clap::Subcommand;
use zero2ai_proto::TxId;

/// `ledger ...`. All of it reads the home's own files, so it needs no node, and one may be running.
#[derive(Debug, Subcommand)]
pub(crate) enum LedgerCommand {
    /// The newest final block
    #[command(after_help = "Example:\n  zero2ai ledger head --json")]
    Head,
    /// One block: its header, who signed it, its transactions
    #[command(after_help = "Example:\n  zero2ai ledger block 12")]
    Block {
        /// Its height, from 1
        height: u64,
    },
    /// One transaction: in which block it is, who signed it, what it says
    #[command(after_help = "Example:\n  zero2ai ledger tx TRANSACTION-ID --json")]
    Tx {
        /// Its id: 64 hexadecimal digits
        id: TxId,
    },
    /// Entries of the state after the newest block, as a replay of this disk makes them
    #[command(
        after_help = "Examples:\n  zero2ai ledger state model/lab/digits\n  zero2ai ledger state member/ --json\n  \
        zero2ai ledger state \"\"   # all\n\nThe kinds of entries are listed in proto/README.md."
    )]
    State {
        /// An entry's key, or how keys start
        key: String,
    },
    /// Who signs blocks, and who of them has been silent of late
    #[command(after_help = "Example:\n  zero2ai ledger signers --blocks 500\n\n\
        A block needs the signatures of more than two thirds of the power: who was slower than those is missing in it, and still \
        well. Who signed none of many is down, or cut off: see 'zero2ai doctor'. 'zero2ai pool signers' replaces the set.")]
    Signers {
        /// How many of the newest blocks to look at
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=100_000))]
        blocks: u64,
    },
    /// Signers that are proved to have signed two different things at one step
    #[command(after_help = "Example:\n  zero2ai ledger evidence\n\n\
        It takes no right and no power away: an administrator takes such a signer out with 'zero2ai pool signers'. Under rules 2 \
        it pays with what it has at stake: see 'zero2ai validator slashes'.")]
    Evidence,
    /// Replay everything from the genesis: every certificate, header, transaction, state root and receipt; exit code 13 if
    /// something does not hold, with its place
    #[command(
        after_help = "Examples:\n  zero2ai ledger verify\n  zero2ai ledger verify --from genesis.cbor --json\n\n\
        A node that joined a long ledger began with a snapshot of its state, proved by its signers: 'begins' says where. Blocks \
        before it are not here (a node that ran 'up --full-history' when it joined has them all).\n\
        Not seen: blocks that were taken off the end (ask another node for its head), and what was never on this disk."
    )]
    Verify {
        /// The pool's genesis, from a source you trust [default: the home's own]
        #[arg(long, value_name = "FILE")]
        from: Option<PathBuf>,
    },
    /// Write blocks with their certificates to a file, one JSON object a line; the first line is the genesis
    #[command(after_help = "Example:\n  zero2ai ledger export --out ledger.jsonl --first 1 --last 500")]
    Export {
        /// Where to
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// The first height
        #[arg(long, default_value_t = 1)]
        first: u64,
        /// The last height [default: the newest]
        #[arg(long)]
        last: Option<u64>,
    },
}
