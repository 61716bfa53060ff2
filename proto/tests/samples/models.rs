//! Samples of models and their use: manifests, tensors, receipts, audits, worker frames.

use zero2ai_proto::{
    ByteBuf, Cid, Signed,
    calls::{
        ChatMessage, ChatRole, GenerateInput, Prompt, ProvenAudit, ProviderAddresses, Sampling, StopReason, TokenPiece,
        TokenScore,
    },
    encode,
    kept::{CallInput, CallOutput, KeptCall},
    manifest::{
        BaseChunk, ChunkRef, ConformanceSample, Delta, Domain, FileEntry, Format, GrantInfo, Manifest, Part,
        SealedChunk, SealedManifest, Subject, Task, WrappedKey,
    },
    prepare::{Colour, Fit, Frames, Layout, PictureInput, PixelScale, Preparation, SoundInput, Zeros},
    proof::{LogProof, TrustStep},
    receipt::{
        AuditExport, ProvenReceipt, ProviderReceipts, Receipt, Request, Response, Status, commit, commit_output,
        request_hash,
    },
    record::Address,
    tensor::{DType, Tensor, TensorSpec},
    worker::{
        FailedJob, Fault, FromWorker, GenerateJob, GeneratedJob, LoadModel, LoadedModel, ModelInfo, PredictJob,
        PredictedJob, ToWorker, TokenJob, WORKER_PROTOCOL, WorkerReady,
    },
};

use super::{Vectors, bytes, digest, key, ledger, manifest, name, nonce, pool, sign};

pub(crate) const SALT: [u8; 32] = [0x51; 32];

pub(crate) fn tensor() -> Tensor {
    Tensor::f32("x", &[1, 2], &[0.5, -1.0])
}

pub(crate) fn wrapped() -> WrappedKey {
    let info = GrantInfo { pool: pool(), subject: Subject::Manifest(manifest()), grantee: key(2).public(), epoch: 5 };
    WrappedKey { info, encapsulated: bytes(0xf0, 32), ciphertext: bytes(0xf1, 48) }
}

pub(crate) fn request() -> Signed<Request> {
    let request = Request {
        provider: key(2).public(),
        name: name(),
        version: 1,
        manifest: manifest(),
        commitment: commit(&SALT, &encode(&vec![tensor()]).unwrap()),
        nonce: nonce(),
        time_ms: 1_700_000_002_000,
        deadline_ms: 1_700_000_012_000,
        price_cap: 0,
        parent: Some(digest(0x61)),
    };
    sign(&request, 5)
}

pub(crate) fn response() -> Signed<Response> {
    let response = Response {
        request: request_hash(&request()).unwrap(),
        commitment: commit_output(&SALT, &encode(&vec![tensor()]).unwrap()),
        units: 1,
        status: Status::Complete,
        time_ms: 1_700_000_002_003,
    };
    sign(&response, 2)
}

pub(crate) fn receipt() -> Receipt {
    let receipt = Receipt { request: request(), response: response() };
    receipt.verify(&pool()).unwrap();
    receipt
}

pub(crate) fn kept() -> KeptCall {
    let (input, output) = (CallInput::Tensors(vec![tensor()]), CallOutput::Tensors(vec![tensor()]));
    let kept = KeptCall { runtime: "tract 0.22".into(), ..KeptCall::new(receipt(), SALT, input, output) };
    kept.check(&pool()).unwrap();
    kept
}

pub(crate) fn provider_receipts() -> ProviderReceipts {
    let proof = LogProof { index: 0, size: 1, siblings: vec![] };
    let receipts = vec![ProvenReceipt { receipt: receipt(), proof }];
    ProviderReceipts { provider: key(2).public(), anchor: ledger::state_proof(), receipts }
}

pub(crate) fn audit() -> AuditExport {
    AuditExport {
        version: 1,
        genesis: ByteBuf::from(encode(&ledger::genesis()).unwrap()),
        name: name(),
        steps: vec![TrustStep { header: ledger::signed_header(), next_signers: ledger::signers() }],
        header: ledger::signed_header(),
        entries: vec![ledger::state_proof()],
        providers: vec![provider_receipts()],
    }
}

pub(crate) fn proven_audit() -> ProvenAudit {
    let providers = vec![ProviderReceipts { receipts: vec![], ..provider_receipts() }];
    let at = ProviderAddresses { provider: key(2).public(), addresses: vec![Address::Rpc("192.0.2.1:7411".into())] };
    ProvenAudit { export: AuditExport { providers, ..audit() }, addresses: vec![at] }
}

pub(crate) fn generate_input() -> GenerateInput {
    let say = |role, content: &str| ChatMessage { role, content: content.into() };
    GenerateInput {
        prompt: Prompt::Chat(vec![say(ChatRole::System, "Be brief."), say(ChatRole::User, "Grüße!")]),
        sampling: Sampling { stop: vec!["\n\n".into()], seed: 7, logprobs: Some(3), ..Sampling::default() },
        resume: vec![1, 2, 70_000],
    }
}

pub(crate) fn conformance() -> Vec<ConformanceSample> {
    vec![ConformanceSample { inputs: vec![tensor()], outputs: vec![tensor()], tolerance_ppm: 100 }]
}

fn plain_manifest() -> Manifest {
    let chunk = ChunkRef { cid: Cid([0xf2; 32]), plain: digest(0xf3), len: 20_480, delta: None };
    let part = Part { name: "#header".into(), chunks: vec![chunk] };
    let file = FileEntry { path: "digits.onnx".into(), size: 20_480, hash: digest(0xf4), parts: vec![part] };
    let manifest = Manifest {
        name: name(),
        version: 1,
        format: Format::Onnx,
        task: Task::Classify { classes: 10 },
        domain: Domain::Pool,
        secret: [0xf5; 32],
        files: vec![file],
        conformance: conformance(),
        preparation: None,
    };
    manifest.check().unwrap();
    manifest
}

pub(crate) fn picture() -> Preparation {
    let scale = PixelScale { mean_milli: vec![127_500; 3], deviation_milli: vec![127_500; 3] };
    let (colour, layout, fit) = (Colour::Bgr, Layout::Nchw, Fit::Line);
    let picture = PictureInput { input: "x".into(), width: 192, height: 48, colour, layout, fit, scale: Some(scale) };
    Preparation::Picture(picture)
}

fn sound() -> Preparation {
    let frames = Some(Frames { window: 576, hop: 512, lead: 64 });
    let zeros = vec![Zeros { name: "h".into(), shape: vec![1, 1, 128] }];
    Preparation::Sound(SoundInput { input: "input".into(), rate: 16_000, frames, zeros })
}

fn prepared_manifest() -> Manifest {
    let mut manifest = plain_manifest();
    manifest.preparation = Some(sound());
    manifest.check().unwrap();
    assert_eq!(manifest.sealed_version(), SealedManifest::WITH_PREPARATION);
    manifest
}

fn delta_manifest() -> Manifest {
    let mut manifest = plain_manifest();
    let base = BaseChunk { cid: Cid([0xf7; 32]), plain: digest(0xf8), len: 20_480 };
    let chunk = &mut manifest.files[0].parts[0].chunks[0];
    chunk.len = 900;
    chunk.delta = Some(Delta { base, piece: digest(0xf9), width: 2 });
    manifest.check().unwrap();
    manifest
}

pub(crate) fn add(v: &mut Vectors) {
    v.add("manifest/plain", &plain_manifest());
    v.add("manifest/plain_delta", &delta_manifest());
    v.add("manifest/plain_prepared", &prepared_manifest());
    v.add("manifest/picture", &picture());
    v.add("manifest/sound", &sound());
    let chunks = vec![SealedChunk { cid: Cid([0xf2; 32]), len: 20_496 }];
    v.add("manifest/sealed", &SealedManifest { version: 1, chunks, body: bytes(0xf6, 40) });
    let chunks = [(0xf7, 20_496), (0xf2, 916)].map(|(cid, len)| SealedChunk { cid: Cid([cid; 32]), len }).to_vec();
    let version = SealedManifest::WITH_DELTAS;
    v.add("manifest/sealed_delta", &SealedManifest { version, chunks, body: bytes(0xf6, 40) });
    v.add("manifest/wrapped_key", &wrapped());
    v.add("tensor/f32", &tensor());
    let every = [DType::F32, DType::F64, DType::F16, DType::I64, DType::I32, DType::U8, DType::Bool];
    v.add("tensor/dtypes", &every.to_vec());
    v.add("receipt/request", &request().verify(&pool()).unwrap());
    v.add("receipt/response", &response().verify(&pool()).unwrap());
    v.add("receipt/receipt", &receipt());
    v.add("receipt/audit", &audit());
    v.add("receipt/kept", &kept());
    add_worker(v);
}

fn add_worker(v: &mut Vectors) {
    let files = vec!["digits.onnx".into()];
    let load = LoadModel { job: 1, format: Format::Onnx, files, conformance: conformance() };
    v.add("worker/load", &ToWorker::Load(load));
    v.add("worker/predict", &ToWorker::Predict(PredictJob { job: 2, inputs: vec![tensor()], within_ms: 30_000 }));
    let caller = ByteBuf::from([7; 32]);
    let generate = GenerateJob { job: 3, input: generate_input(), caller, within_ms: 60_000 };
    v.add("worker/generate", &ToWorker::Generate(generate));
    v.add("worker/cancel", &ToWorker::Cancel(3));
    let ready = WorkerReady { protocol: WORKER_PROTOCOL, sandbox: vec!["landlock".into()] };
    v.add("worker/ready", &FromWorker::Ready(ready));
    let spec = TensorSpec { name: "x".into(), dtype: DType::F32, shape: vec![None, Some(64)] };
    let info = ModelInfo {
        task: Task::Tensors,
        architecture: "onnx".into(),
        runtime: "tract".into(),
        inputs: vec![spec],
        outputs: vec![],
        parameters: 4_810,
    };
    v.add("worker/loaded", &FromWorker::Loaded(LoadedModel { job: 1, info }));
    v.add("worker/predicted", &FromWorker::Predicted(PredictedJob { job: 2, outputs: vec![tensor()] }));
    let score = TokenScore { id: 70_000, bytes: ByteBuf::from(*b"hi"), minus_log_micro: 693_147 };
    let piece = TokenPiece { id: 70_000, text: "hi".into(), scores: vec![score] };
    v.add("worker/token", &FromWorker::Token(TokenJob { job: 3, piece }));
    let end = GeneratedJob { job: 3, reason: StopReason::Length, prompt_tokens: 12 };
    v.add("worker/generated", &FromWorker::Generated(end));
    let failed = FailedJob { job: 4, fault: Fault::Input, message: "the prompt is too long".into() };
    v.add("worker/failed", &FromWorker::Failed(failed));
}
