//! What the fuzz targets do with a byte string: each reads it as a peer's or a user's bytes are read, and checks what must
//! hold of all that is accepted. `testnet/tests/fuzz.rs` compiles this file too, and runs every target on stable.
//!
//! | module | owns |
//! |---|---|
//! | [`chain`] | transactions, blocks, snapshots and headers, as far as a ledger takes them |
//! | [`files`] | headers of model files, manifests, differences |
//! | [`media`] | pictures and sounds |
//! | [`models`] | what any file is; models as workers load them; conformance samples |
//! | [`outcomes`] | what callers say of a model's answers |
//! | [`weights`] | blocks of quantised weights |
//! | [`wire`] | frames, transactions, records, proofs, invites, gossip |

pub mod chain;
pub mod files;
pub mod media;
pub mod models;
pub mod outcomes;
pub mod weights;
pub mod wire;

/// One target: reads any bytes, panics if something holds that must not.
pub type Target = fn(&[u8]);

/// Every target by its name, which is also its folder in `corpus/`.
pub const TARGETS: &[(&str, Target)] = &[
    ("gguf", files::gguf),
    ("safetensors", files::safetensors),
    ("onnx", files::onnx),
    ("manifest", files::manifest),
    ("sealed_manifest", files::sealed_manifest),
    ("delta", files::delta),
    ("inspect", models::inspect),
    ("embedder", models::embedder),
    ("vocabulary", models::vocabulary),
    ("samples", models::samples),
    ("picture", media::picture),
    ("sound", media::sound),
    ("pack", weights::pack),
    ("codec", wire::codec),
    ("transaction", wire::transaction),
    ("frame", wire::frame),
    ("gossip", wire::gossip),
    ("record", wire::record),
    ("proof", wire::proof),
    ("audit", wire::audit),
    ("invite", wire::invite),
    ("name", wire::name),
    ("outcome", outcomes::outcome),
    ("ledger", chain::ledger),
    ("block", chain::block),
    ("snapshot", chain::snapshot),
    ("light", chain::light),
];
