//! The demo's figures: what `--report` writes as JSON and the closing table shows.

use serde::Serialize;

use crate::output::{Table, plural};

/// Everything the demo measured. A field is `None` until its step is done. The names are an interface for scripts.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    /// Nodes asked for.
    pub(crate) nodes: u8,
    pub(crate) stranger_refused: bool,
    pub(crate) unadmitted_refused: bool,
    pub(crate) signers: Option<Signers>,
    pub(crate) publish: Option<Publish>,
    pub(crate) endorsements: Vec<Endorsement>,
    pub(crate) score: Option<f64>,
    pub(crate) block: Option<Block>,
    pub(crate) resolve: Option<Resolve>,
    pub(crate) predict: Option<Predict>,
    pub(crate) failover: Option<Failover>,
    pub(crate) halted: Option<Halted>,
    pub(crate) audit: Option<Audit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) llm: Option<Llm>,
    /// Seconds that the whole demo took.
    pub(crate) seconds: f64,
}

/// Size of the signer set before and after.
#[derive(Debug, Serialize)]
pub(crate) struct Signers {
    pub(crate) from: usize,
    pub(crate) to: usize,
}

/// The publication.
#[derive(Debug, Serialize)]
pub(crate) struct Publish {
    pub(crate) bytes: u64,
    pub(crate) chunks: u32,
    /// Copies on other nodes than the publisher's.
    pub(crate) replicas: usize,
    /// Files of all homes that were searched for a piece of the model in the clear, and did not hold it.
    pub(crate) files_searched: u64,
}

/// What one validator signed.
#[derive(Debug, Serialize)]
pub(crate) struct Endorsement {
    pub(crate) validator: String,
    pub(crate) samples: u32,
    pub(crate) precision: f64,
    pub(crate) recall: f64,
    pub(crate) f1: f64,
    pub(crate) verdict: &'static str,
    /// True if the counts of every class are those of scikit-learn on the same samples.
    pub(crate) equals_golden: bool,
}

/// The block that holds the last endorsement.
#[derive(Debug, Serialize)]
pub(crate) struct Block {
    pub(crate) height: u64,
    pub(crate) signatures: usize,
    pub(crate) validators: usize,
}

/// The lookup from the node that never held the model.
#[derive(Debug, Serialize)]
pub(crate) struct Resolve {
    pub(crate) ms: f64,
    pub(crate) source: &'static str,
    pub(crate) endpoints: Vec<serde_json::Value>,
}

/// The predictions over the network.
#[derive(Debug, Serialize)]
pub(crate) struct Predict {
    pub(crate) requests: usize,
    pub(crate) correct: usize,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

/// The request right after the serving node was killed.
#[derive(Debug, Serialize)]
pub(crate) struct Failover {
    pub(crate) ms: f64,
}

/// The halt of the chain.
#[derive(Debug, Serialize)]
pub(crate) struct Halted {
    /// Predictions asked for while no block could be made.
    pub(crate) predictions: usize,
    /// Those that were answered.
    pub(crate) ok: usize,
    /// Milliseconds from the signers' return to the first new block.
    pub(crate) recovered_ms: f64,
}

/// The audit.
#[derive(Debug, Serialize)]
pub(crate) struct Audit {
    pub(crate) verified: bool,
    pub(crate) receipts: usize,
}

/// The language model.
#[derive(Debug, Serialize)]
pub(crate) struct Llm {
    pub(crate) tokens: u64,
    pub(crate) tokens_per_s: f64,
    pub(crate) ttft_ms: f64,
}

impl Report {
    /// The closing table.
    pub(crate) fn summary(&self) -> String {
        let mut table = Table::new(&["what", "figure"]);
        let mut row = |what: &str, figure: Option<String>| {
            table.row([what.to_owned(), figure.unwrap_or_else(|| "-".into())]);
        };
        let refused = |yes: bool| Some(if yes { "refused" } else { "NOT REFUSED" }.to_owned());
        row("nodes", Some(self.nodes.to_string()));
        row("stranger with a wrong key", refused(self.stranger_refused));
        row("stranger without a ticket", refused(self.unadmitted_refused));
        row("signers", self.signers.as_ref().map(|s| format!("{} -> {}", s.from, s.to)));
        row(
            "published",
            self.publish
                .as_ref()
                .map(|p| format!("{} B, {}, {} replicas", p.bytes, plural(u64::from(p.chunks), "chunk"), p.replicas)),
        );
        row("endorsements", Some(self.endorsements.len().to_string()));
        row("score", self.score.map(|s| format!("{s:.4}")));
        row(
            "block of the last endorsement",
            self.block.as_ref().map(|b| format!("{}: {} of {} signatures", b.height, b.signatures, b.validators)),
        );
        row(
            "resolve",
            self.resolve.as_ref().map(|r| format!("{:.1} ms, {} endpoints, by {}", r.ms, r.endpoints.len(), r.source)),
        );
        row("predictions right", self.predict.as_ref().map(|p| format!("{} of {}", p.correct, p.requests)));
        row("latency", self.predict.as_ref().map(|p| format!("p50 {:.1} ms, p99 {:.1} ms", p.p50_ms, p.p99_ms)));
        row("answer after a SIGKILL", self.failover.as_ref().map(|f| format!("{:.0} ms", f.ms)));
        row("predictions while halted", self.halted.as_ref().map(|h| format!("{} of {}", h.ok, h.predictions)));
        row(
            "audit",
            self.audit.as_ref().map(|a| {
                let word = if a.verified { "verified offline" } else { "NOT VERIFIED" };
                format!("{word}, {} receipts", a.receipts)
            }),
        );
        if let Some(llm) = &self.llm {
            let (n, rate, first) = (llm.tokens, llm.tokens_per_s, llm.ttft_ms);
            row("text", Some(format!("{n} tokens, {rate:.1} tokens/s, first after {first:.0} ms")));
        }
        row("time", Some(format!("{:.1} s", self.seconds)));
        table.render(2)
    }
}
