//! What callers say of a model's answers, as its owner reads it once it is unsealed: a report with three signatures, the parts of a call
//! that go along, and what follows from them. Signatures stand in the way of random bytes, so the target also signs anew what it reads.

use zero2ai_proto::{
    CodecError, Digest, ManifestId, PoolId, SecretKey, Signed,
    calls::{GenerateInput, Prompt, Sampling},
    decode, encode,
    kept::{CallInput, CallOutput, KeptCall},
    limits::{OUTCOME_BYTES, OUTCOME_ROWS},
    outcome::{Outcome, OutcomeReport, Shown, Truth},
    pool::Nonce,
    receipt::{Receipt, Request, Response, Status, commit, commit_output, request_hash},
    tensor::Tensor,
};

/// The pool that signatures are checked in.
pub const POOL: PoolId = PoolId([0xa0; 32]);

fn key(number: u8) -> SecretKey {
    SecretKey::from_bytes(&[number; 32])
}

/// An outcome's report.
pub fn outcome(bytes: &[u8]) {
    let Ok(report) = decode::<OutcomeReport>(bytes, OUTCOME_BYTES) else { return };
    assert_eq!(encode(&report).as_deref(), Ok(bytes), "a second spelling of a value");
    judged(&report);
    if let Some(report) = signed_anew(report) {
        judged(&report);
    }
}

/// Checks a report, and what must hold of one that is accepted.
fn judged(report: &OutcomeReport) {
    let Ok(checked) = report.check(&POOL) else { return };
    let truths = &checked.outcome.truths;
    assert_eq!(checked.rows.len(), truths.len());
    assert!((1..=OUTCOME_ROWS).contains(&truths.len()));
    for (truth, (said, right)) in truths.iter().zip(&checked.rows) {
        match truth {
            Truth::Class(class) => assert_eq!(*said == Some(*class), *right),
            Truth::Right(word) => assert_eq!(word, right),
        }
    }
    let Shown { input_salt, input, output_salt, output } = &report.shown;
    assert_eq!(
        (input_salt.len(), output_salt.len()),
        (32 * usize::from(input.is_some()), 32 * usize::from(output.is_some()))
    );
}

/// The same with halves, commitments and signatures that fit each other; none if a part cannot be read at all.
fn signed_anew(mut report: OutcomeReport) -> Option<OutcomeReport> {
    let mut request = report.receipt.request.read_unverified().ok()?;
    let mut response = report.receipt.response.read_unverified().ok()?;
    let mut outcome = report.outcome.read_unverified().ok()?;
    let (caller, provider) = (key(1), key(2));
    request.provider = provider.public();
    if let (Some(input), Ok(salt)) = (&report.shown.input, <[u8; 32]>::try_from(report.shown.input_salt.as_slice())) {
        request.commitment = commit(&salt, &input.committed().ok()?);
    }
    if let (Some(output), Ok(salt)) = (&report.shown.output, <[u8; 32]>::try_from(report.shown.output_salt.as_slice()))
    {
        response.commitment = commit(&salt, &output.committed().ok()?);
    }
    let request = Signed::sign(&request, &POOL, &caller).ok()?;
    response.request = request_hash(&request).ok()?;
    report.receipt = Receipt { request, response: Signed::sign(&response, &POOL, &provider).ok()? };
    outcome.receipt = report.receipt.id().ok()?;
    report.outcome = Signed::sign(&outcome, &POOL, &caller).ok()?;
    Some(report)
}

fn report(
    input: CallInput,
    output: CallOutput,
    units: u64,
    truths: Vec<Truth>,
    with_input: bool,
) -> Result<Vec<u8>, CodecError> {
    let (caller, provider, salt) = (key(1), key(2), [3; 32]);
    let request = Request {
        provider: provider.public(),
        name: "lab/m".parse().expect("a name"),
        version: 2,
        manifest: ManifestId([4; 32]),
        commitment: commit(&salt, &input.committed()?),
        nonce: Nonce([5; 16]),
        time_ms: 1_700_000_000_000,
        deadline_ms: 1_700_000_010_000,
        price_cap: 0,
        parent: Some(Digest([6; 32])),
    };
    let request = Signed::sign(&request, &POOL, &caller)?;
    let response = Response {
        request: request_hash(&request)?,
        commitment: commit_output(&salt, &output.committed()?),
        units,
        status: Status::Complete,
        time_ms: 1_700_000_000_100,
    };
    let receipt = Receipt { request, response: Signed::sign(&response, &POOL, &provider)? };
    let outcome = Outcome { receipt: receipt.id()?, truths: truths.clone(), time_ms: 1_700_000_100_000 };
    let outcome = Signed::sign(&outcome, &POOL, &caller)?;
    let call = KeptCall::new(receipt.clone(), salt, input, output);
    let shown = Shown::of(call, &truths, with_input).expect("a salt of 32 bytes");
    encode(&OutcomeReport::new(outcome, receipt, shown))
}

/// Inputs that are accepted: rows with classes, a word on a whole call, a text with its prompt.
pub fn seeds() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let rows = || CallInput::Tensors(vec![Tensor::f32("x", &[2, 1], &[0.5, 1.5])]);
    let scores = || CallOutput::Tensors(vec![Tensor::f32("p", &[2, 3], &[0.1, 0.7, 0.2, 0.4, 0.4, 0.2])]);
    let classes = || vec![Truth::Class(1), Truth::Class(2)];
    let prompt = Prompt::Text("why".to_owned());
    let text = CallInput::Text(GenerateInput { prompt, sampling: Sampling::default(), resume: vec![4] });
    let of = |made: Result<Vec<u8>, CodecError>| made.expect("it encodes");
    vec![
        ("outcome", "classes", of(report(rows(), scores(), 2, classes(), false))),
        ("outcome", "with_input", of(report(rows(), scores(), 2, classes(), true))),
        ("outcome", "word", of(report(rows(), scores(), 2, vec![Truth::Right(false)], false))),
        ("outcome", "text", of(report(text, CallOutput::Tokens(vec![5, 6]), 2, vec![Truth::Right(true)], true))),
    ]
}
