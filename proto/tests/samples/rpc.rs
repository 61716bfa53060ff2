//! Samples of peer RPC: the handshake, frames, and the bodies of every method.

use zero2ai_proto::{
    ByteBuf, Cid, Digest, ManifestId, ModelRef, TxId, calls as c, encode,
    kept::{CallInput, CallOutput},
    local as l,
    manifest::{Domain, Subject},
    name::Selector,
    record::Address,
    rpc::{CallFrame, Challenge, ErrorCode, Hello, Load, Proof, ReplyFrame, RpcError},
    state::{GrantState, Rights, Signers},
    texts::{Embeddings, Texts},
    tx::Thresholds,
};

use super::{Vectors, bytes, key, ledger, manifest, models, name, pool, sign};

fn latest() -> ModelRef {
    ModelRef { name: name(), selector: Selector::Latest }
}

pub(crate) fn add(v: &mut Vectors) {
    v.add("rpc/challenge", &Challenge { nonce: bytes(0x11, 32), epoch: 5 });
    v.add("rpc/proof", &Proof { mac: bytes(0x12, 32) });
    v.add("rpc/hello", &Hello { pool: pool(), min_version: 1, max_version: 1, features: 0 });
    v.add("rpc/call", &CallFrame { method: 13, timeout_ms: 5_000, body: bytes(0x13, 3) });
    v.add("rpc/reply_item", &ReplyFrame::Item(bytes(0x14, 3)));
    v.add("rpc/reply_end", &<ReplyFrame>::End);
    v.add("rpc/reply_load", &<ReplyFrame>::Load(Load { queue: 2, queue_us: 1_500 }));
    v.add("rpc/reply_error", &<ReplyFrame>::Error(RpcError::new(ErrorCode::NotFound, "no such model")));
    add_calls(v);
    add_use(v);
    add_local(v);
    add_local_models(v);
    add_local_grants(v);
    add_local_residents(v);
    add_local_store(v);
}

fn add_calls(v: &mut Vectors) {
    v.add("calls/empty", &c::Empty {});
    let pong = c::Pong { time_ms: 1_700_000_000_000, height: 7, queue: 2, queue_us: 900, version: "0.1.0".into() };
    v.add("calls/pong", &pong);
    v.add("calls/redeem", &c::RedeemCall { tx: ledger::signed_tx() });
    let genesis = ByteBuf::from(encode(&ledger::genesis()).unwrap());
    v.add("calls/redeemed", &c::Redeemed { genesis, height: 2 });
    v.add("calls/resolve", &c::ResolveCall { name: latest(), fresh: false });
    let version = ModelRef { name: name(), selector: Selector::Version(3) };
    v.add("calls/resolve_version", &c::ResolveCall { name: version, fresh: true });
    let channel = ModelRef { name: name(), selector: Selector::Channel("stable".into()) };
    v.add("calls/resolve_channel", &c::ResolveCall { name: channel, fresh: true });
    let resolved = c::Resolved {
        record: ledger::name_record(),
        version: ledger::state_proof(),
        version_header: ledger::signed_header(),
        endpoints: vec![sign(&ledger::endpoint(), 2)],
        source: c::Source::Dht,
        took_us: 8_000,
    };
    v.add("calls/resolved", &resolved);
    v.add("calls/blocks", &c::BlocksCall { from: 1, max: 64 });
    let block = ByteBuf::from(encode(&ledger::block()).unwrap());
    v.add("calls/sealed_block", &c::SealedBlock { block, certificate: ledger::certificate() });
    v.add("calls/prove", &c::ProveCall { keys: vec![ByteBuf::from(b"signers".to_vec())] });
    v.add("calls/proved", &c::Proved { header: ledger::signed_header(), proofs: vec![ledger::state_proof()] });
    v.add("calls/submit", &c::SubmitCall { tx: ledger::signed_tx(), wait: true });
    v.add("calls/submitted", &c::Submitted { id: TxId([0xe2; 32]), height: Some(7) });
    v.add("calls/manifest", &c::ManifestCall { manifest: manifest() });
    v.add("calls/grant", &c::GrantCall { subject: Subject::Manifest(manifest()) });
    v.add("calls/grant_pool_content", &c::GrantCall { subject: Subject::PoolContent });
    v.add("calls/piece", &c::Piece { data: bytes(0x15, 4) });
    v.add("calls/bitfield", &c::Bitfield { bits: bytes(0xc0, 1) });
    v.add("calls/have_held", &c::HaveNews::Held(c::Bitfield { bits: bytes(0xc0, 1) }));
    v.add("calls/have_gained", &c::HaveNews::Gained(vec![2, 3]));
    v.add("calls/chunk", &c::ChunkCall { cid: Cid([0xf2; 32]) });
    v.add(
        "calls/replicate",
        &c::ReplicateCall { name: name(), version: 1, serve: true, from: key(1).public(), copies: 4 },
    );
    v.add("calls/replicated", &c::Replicated { bytes: 20_496, chunks: 7 });
    v.add("calls/receipts", &c::ReceiptsCall { name: name(), from: 0, height: 7 });
    v.add("calls/audit_proofs", &c::AuditProofsCall { name: name() });
    v.add("calls/proven_audit", &models::proven_audit());
    v.add("calls/describe", &c::DescribeCall { name: name(), version: 1 });
    v.add("calls/prepared", &c::Prepared { preparation: Some(models::picture()) });
    v.add("calls/forward", &c::ForwardCall { node: key(2).public() });
    v.add("calls/forwarded", &c::Forwarded { port: 40_123 });
    v.add("calls/provider_receipts", &models::provider_receipts());
}

fn add_use(v: &mut Vectors) {
    let salt = ByteBuf::from(models::SALT.to_vec());
    let predict = c::PredictCall { request: models::request(), salt: salt.clone(), inputs: vec![models::tensor()] };
    v.add("calls/predict", &predict);
    v.add("calls/predicted", &c::Predicted { response: models::response(), outputs: vec![models::tensor()] });
    let texts = Texts { texts: vec!["one", "zwei Wörter", ""], truncate: true };
    v.add("calls/texts", &texts.to_tensors().unwrap());
    let rows = Embeddings { width: 2, values: vec![1.0, 0.0, 0.6, -0.8, 0.0, 1.0], tokens: vec![3, 6, 2] };
    v.add("calls/embeddings", &rows.to_tensors());
    let input = models::generate_input();
    v.add("calls/generate", &c::GenerateCall { request: models::request(), salt, input });
    let text =
        c::GenerateInput { prompt: c::Prompt::Text("Once".into()), sampling: c::Sampling::default(), resume: vec![] };
    v.add("calls/generate_input_text", &text);
    v.add("calls/generated_token", &c::Generated::Token(c::TokenPiece { id: 7, text: "a".into(), scores: vec![] }));
    v.add("calls/generated_checkpoint", &c::Generated::Checkpoint(models::response()));
    let end = c::GenerationEnd { response: models::response(), reason: c::StopReason::EndOfText, prompt_tokens: 12 };
    v.add("calls/generated_done", &c::Generated::Done(end));
}

fn add_local(v: &mut Vectors) {
    let status = l::NodeStatusReply {
        node: key(1).public(),
        pool: pool(),
        version: "0.1.0".into(),
        rights: Rights::MEMBER,
        addresses: vec![Address::Rpc("127.0.0.1:4242".into())],
        height: 7,
        head_age_ms: 900,
        halted: false,
        waiting: None,
        mempool: 0,
        peers: vec![key(2).public()],
        models: vec![l::HeldModel { name: name(), version: 1, serving: true, calls: 3 }],
        chunks: 7,
        store_bytes: 20_496,
        receipts: 3,
        anchored: 2,
        contradicted: vec![(key(3).public(), 6)],
        placed: l::Placed {
            reach: l::Reach::Behind,
            external: vec!["/ip4/5.6.7.8/udp/7000/quic-v1".into()],
            relays: vec![key(2).public()],
            relaying: false,
            relayed: vec![key(3).public()],
        },
        alarms: vec![(name(), 3)],
    };
    v.add("local/status", &status);
    v.add("local/invite", &l::InviteCall { rights: Rights::USER, uses: 1, ttl_ms: 3_600_000 });
    v.add("local/invite_line", &l::InviteLine { line: "z2a1-AA".into() });
    v.add("local/signers", &l::SignersCall { signers: ledger::signers().as_slice().to_vec(), force: true });
    v.add("local/signers_reply", &l::SignersReply { height: 7, effective: 9 });
    let signers = Signers { current: ledger::signers(), next: ledger::signers() };
    let members = vec![(key(1).public(), ledger::member())];
    let show = l::PoolReply { pool: pool(), created_ms: 1_700_000_000_000, epoch: 5, height: 7, signers, members };
    v.add("local/pool", &show);
    v.add("local/rotate", &l::RotateCall { grace_ms: 600_000 });
    v.add("local/rotated", &l::RotateReply { epoch: 4, height: 9 });
    v.add("local/peer", &l::PeerCall { node: key(2).public() });
    let addresses = vec![Address::Rpc("127.0.0.1:4242".into())];
    v.add("local/peer_reply", &l::PeerReply { addresses, heard_ms_ago: Some(1_200), connected: true, relayed: true });
    v.add("local/names", &l::NamesCall { prefix: "acme/".into() });
    v.add("local/named", &ledger::named());
    v.add("local/history", &l::HistoryCall { name: name() });
    v.add("local/rights", &l::RightsCall { member: key(2).public(), rights: Rights::default() });
}

fn add_local_models(v: &mut Vectors) {
    let thresholds = Thresholds::default();
    let base = Some(ModelRef { name: name(), selector: Selector::Version(1) });
    let (path, store_only, domain) = ("/models/a.onnx".into(), false, Domain::Private);
    let (conformance, preparation) = (models::conformance(), Some(models::picture()));
    let samples = l::LocalData {
        path: "/data/held-out.csv".into(),
        label: Some("class".into()),
        group: Some("sex".into()),
        slice: Some("region".into()),
        features: vec!["age".into(), "income".into()],
        classes: vec!["no".into(), "yes".into()],
    };
    #[rustfmt::skip]
    let publish = l::PublishCall {
        path, name: name(), domain, replicas: 2, thresholds, store_only, base, conformance, preparation,
        training: Some(samples.clone()),
    };
    v.add("local/publish", &publish);
    let step = l::Progress { what: "sealing".into(), done: 1, total: 7 };
    v.add("local/publish_step", &l::PublishItem::Step(step.clone()));
    let report = l::PublishReport {
        name: name(),
        version: 1,
        manifest: manifest(),
        bytes: 20_480,
        chunks: 7,
        reused: 0,
        opened: true,
        holders: vec![key(1).public(), key(2).public()],
        height: 4,
        files: 1,
        not_served: None,
        deltas: 2,
        saved: 19_000,
        seal_ms: 12,
    };
    v.add("local/publish_done", &l::PublishItem::Done(report.clone()));
    v.add("local/fetch_step", &l::FetchItem::Step(step.clone()));
    let peers = vec![l::FetchPeer { node: key(1).public(), bytes: 4_112, rate: 1_000_000 }];
    let picture =
        l::FetchPicture { chunks: 3, total_chunks: 7, bytes: 4_112, total_bytes: 20_592, cells: bytes(0xff, 3), peers };
    v.add("local/fetch_picture", &l::FetchItem::Picture(picture));
    v.add("local/fetch_done", &l::FetchItem::Done(report));
    v.add("local/open", &l::OpenCall { name: name(), version: 1 });
    let opened = l::OpenedFile { path: "sub/model.safetensors".into(), size: 20_480, hash: Digest([0x41; 32]) };
    v.add("local/open_list", &l::OpenItem::List(vec![opened]));
    v.add("local/open_bytes", &l::OpenItem::Bytes(bytes(0x42, 3)));
    let text = CallInput::Text(models::generate_input());
    v.add("local/rerun", &l::RerunCall { name: name(), version: 1, manifest: manifest(), input: text });
    v.add("local/rerun_step", &l::RerunItem::Step(step.clone()));
    let again = l::RerunReport { runtime: "kernels/avx2 2".into(), output: CallOutput::Tokens(vec![3, 70_000]) };
    v.add("local/rerun_done", &l::RerunItem::Done(again));
    let report = Some(Digest([0x5e; 32]));
    let call = l::ValidateCall { name: latest(), samples, serve: true, report, load: true };
    v.add("local/validate", &call);
    v.add("local/validate_report", &l::ValidateItem::Report(bytes(0x7b, 3)));
    v.add("local/validate_step", &l::ValidateItem::Step(step));
    let (endorsement, score) = (Some(ledger::endorsement()), Some(ledger::score()));
    let done = l::ValidateReport { validator: key(2).public(), endorsement, score, withheld: None, committed: None };
    v.add("local/validate_done", &l::ValidateItem::Done(Box::new(done)));
    v.add("local/audit", &l::AuditCall { name: name() });
    v.add("local/fetch", &l::FetchCall { name: latest(), serve: true });
}

fn add_local_grants(v: &mut Vectors) {
    let (name, member) = (name(), key(2).public());
    v.add("local/grant", &l::GrantModelCall { name: name.clone(), member });
    v.add("local/grant_reply", &l::GrantModelReply { height: 5 });
    v.add("local/revoke", &l::RevokeModelCall { name: name.clone(), member, reseal: true });
    let step = l::Progress { what: "bytes sealed anew".into(), done: 1, total: 7 };
    v.add("local/revoke_step", &l::RevokeItem::Step(step));
    v.add("local/revoke_done", &l::RevokeItem::Done(l::RevokeReport { height: Some(6), resealed: vec![(1, 3)] }));
    v.add("local/grants", &l::ModelGrantsCall { name });
    let grant = GrantState { granted: true, height: 5, tx: TxId([0xe2; 32]) };
    let used = l::AccountUse { account: member, receipts: 3, units: 40, last_ms: 1_700_000_000_000 };
    v.add("local/account_use", &used);
    v.add("local/member_grant", &l::MemberGrant { member, grant });
}

fn add_local_residents(v: &mut Vectors) {
    let resident = l::ResidentModel {
        name: name(),
        version: 1,
        state: l::ModelState::Resident,
        why: None,
        bytes: 9_437_184,
        last_bytes: Some(9_437_184),
        last_use_ms: Some(1_700_000_000_000),
        pinned: true,
        calls: 3,
        in_hand: 1,
    };
    let failed = l::ResidentModel {
        version: 2,
        state: l::ModelState::Failed,
        why: Some("its worker died".into()),
        bytes: 0,
        last_bytes: None,
        last_use_ms: None,
        pinned: false,
        calls: 0,
        in_hand: 0,
        ..resident.clone()
    };
    let models = vec![resident, failed];
    add_activity(v, &models);
    v.add(
        "local/models",
        &l::ModelsReply { budget: 1 << 30, taken: 9_437_184, loads: 1, failures: 1, evictions: 0, models },
    );
    v.add("local/model", &l::ModelCall { name: name(), version: 1 });
}

fn add_local_store(v: &mut Vectors) {
    let step = l::Progress { what: "chunks hashed".into(), done: 1, total: 7 };
    let stored = l::StoredVersion {
        name: name(),
        version: 1,
        manifest: manifest(),
        present: 6,
        chunks: 7,
        sealed_bytes: 20_592,
        serving: true,
        pinned: false,
        problem: None,
    };
    v.add("local/stored", &stored);
    v.add("local/stored_problem", &l::StoredVersion { problem: Some("damaged".into()), ..stored });
    let stats = l::StoreStatsReply {
        chunks: 9,
        bytes: 30_000,
        quota: Some(1 << 30),
        manifests: 2,
        versions: 1,
        pinned: 1,
        unneeded_chunks: 2,
        unneeded_bytes: 9_408,
        unreadable: 0,
        used: 31_000,
        reserve: 1 << 29,
        evictable: 1,
        scrub: Some(l::ScrubReport { ended_ms: 1_700_000_000_000, checked: 11, damaged: 1, healed: 1, lost: 0 }),
    };
    v.add("local/store_stats", &stats);
    v.add("local/rebuild_step", &l::RebuildItem::Step(step.clone()));
    let rebuilt = l::RebuildReport { chunks: 9, bytes: 30_000, added: 1, removed: 1, corrected: 0 };
    v.add("local/rebuild_done", &l::RebuildItem::Done(rebuilt));
    v.add("local/verify_step", &l::VerifyItem::Step(step.clone()));
    let broken = l::BrokenVersion { name: name(), version: 1, missing: 2, why: "no peer has it".into() };
    let verified = l::VerifyReport {
        checked: 9,
        bytes: 30_000,
        damaged: 3,
        missing: 1,
        healed: 1,
        unneeded: 1,
        lost: 2,
        broken: vec![broken],
    };
    v.add("local/verify_done", &l::VerifyItem::Done(verified));
    v.add("local/gc", &l::GcCall { dry_run: true });
    v.add("local/gc_step", &l::GcItem::Step(step));
    let swept = l::GcReport { chunks: 2, bytes: 9_408, manifests: 1, kept_chunks: 7, kept_bytes: 20_592 };
    v.add("local/gc_done", &l::GcItem::Done(swept));
    v.add("local/pin", &l::PinCall { name: name(), version: 1, pinned: true });
    v.add("local/drop", &l::DropCall { name: name(), version: 1, stop_serving: false });
}

fn add_activity(v: &mut Vectors, models: &[l::ResidentModel]) {
    let near = l::PeerActivity {
        node: key(2).public(),
        rights: Rights::MEMBER,
        swarm: true,
        relayed: false,
        rtt_us: Some(1_500),
        address: Some(Address::Rpc("127.0.0.1:4242".into())),
        heard_ms_ago: Some(1_200),
    };
    let lost = l::PeerActivity { swarm: false, rtt_us: None, address: None, heard_ms_ago: None, ..near.clone() };
    let manifest = ManifestId([0xcd; 32]);
    let transfer = l::TransferActivity { manifest, model: Some((name(), 1)), held: 3, chunks: 7 };
    let activity = l::ActivityReply {
        at_ms: 1_700_000_000_000,
        height: 7,
        head_age_ms: 900,
        waiting: Some("a peer".into()),
        peers: vec![near, lost],
        transfers: vec![transfer],
        models: models.to_vec(),
        sent: 4_096,
        received: 20_496,
    };
    v.add("local/activity", &activity);
}
