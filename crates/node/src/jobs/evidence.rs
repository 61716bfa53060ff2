//! Puts proofs that a signer contradicted itself on the ledger. Every honest node sees them, so they take turns: one
//! transaction is enough.

use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use zero2ai_proto::{evidence::Evidence, tx::TxBody};

use crate::{account::PATIENCE, core::Core};

/// How long a node leaves the evidence to each node whose turn comes before its own.
const TURN: Duration = Duration::from_secs(3);
/// How often a node tries; after that the others, or the next start, must do.
const TRIES: u32 = 5;
/// How long it waits after a try that failed.
const PAUSE: Duration = Duration::from_secs(10);

/// Reports what `found` brings until `stop`. Ends early only with the chain's task, whose end stops the node.
pub(crate) async fn report(core: Arc<Core>, mut found: mpsc::Receiver<Evidence>, stop: CancellationToken) {
    let job = async {
        while let Some(evidence) = found.recv().await {
            bring(&core, evidence).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = job => {}
    }
}

async fn bring(core: &Core, evidence: Evidence) {
    let ((height, ..), signer) = (evidence.place(), evidence.signer.short());
    let recorded = || core.chain.read(|l| l.equivocation(&evidence.signer, height).is_some());
    // Turns go by the order of the signers; who signs nothing waits longest.
    let turn = core.chain.read(|l| {
        let signers = l.signers().as_slice();
        signers.iter().position(|s| s.key == core.id).unwrap_or(signers.len())
    });
    tokio::time::sleep(TURN.saturating_mul(u32::try_from(turn).unwrap_or(u32::MAX))).await;
    for _ in 0..TRIES {
        if recorded() {
            return;
        }
        match core.account.submit(TxBody::Evidence(evidence), PATIENCE).await {
            Ok(at) => return tracing::warn!(%signer, height, at, "evidence against a signer is on the ledger"),
            Err(error) if !recorded() => tracing::info!(%signer, height, %error, "evidence is not on the ledger yet"),
            Err(_) => return,
        }
        tokio::time::sleep(PAUSE).await;
    }
}
