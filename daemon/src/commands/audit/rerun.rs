//! `audit re-run`: checks a kept call, lets the node of this home run it again, and compares bit for bit with what the provider
//! signed.

use std::path::Path;

use serde_json::{Value, json};
use zero2ai_proto::{
    AccountId, decode,
    kept::{CallOutput, KeptCall},
    local::{Rerun, RerunCall, RerunItem, RerunReport},
    receipt::{Request, Response, Status},
    tensor::{DType, Tensor},
};

use super::status;
use crate::{
    commands::{keep::plain, publish::LONG, read_file},
    exit::{Exit, Failure, Outcome},
    output::{self, Output, facts},
    progress::Progress,
    session::Session,
};

/// Bytes of a kept call that are read: inputs and outputs of one call are at most some ten megabytes.
const CALL_BYTES: u64 = 128 * 1024 * 1024;
/// Calls in one file: one for each provider that a text went through.
const CALLS: usize = 64;

/// Where two answers part.
#[derive(Debug, PartialEq)]
struct Difference {
    /// Which token, or which element of which tensor.
    at: String,
    /// What the provider signed.
    signed: String,
    /// What came out here.
    here: String,
}

/// One call, checked and run again.
struct Checked {
    account: AccountId,
    request: Request,
    response: Response,
    receipt: String,
    /// The provider's own word on its runtime.
    said: String,
    report: RerunReport,
    difference: Option<Difference>,
}

/// The command.
pub(crate) async fn rerun(home: &Path, file: &Path, out: Output) -> Outcome {
    let calls = read(file)?;
    let session = Session::open(home).await?;
    let mut checked = Vec::new();
    // All of them are checked before the first is run.
    for call in &calls {
        checked.push(call.check(&session.pool).map_err(|e| {
            let why = format!(
                "The kept call in {} does not hold: {e}. Whoever kept it altered it, or it is of another pool.",
                file.display()
            );
            Failure::new(Exit::Unverified, why)
        })?);
    }
    let mut progress = Progress::start(out, "running again");
    let mut done = Vec::new();
    for (call, (account, request, response)) in calls.into_iter().zip(checked) {
        let receipt = call.receipt.id()?.to_string();
        let report = run(&session, &call, &request, &mut progress).await?;
        let difference = compare(&call.output, &report.output, response.status == Status::Complete);
        done.push(Checked { account, request, response, receipt, said: plain(&call.runtime), report, difference });
    }
    drop(progress);
    let parted = done.iter().find_map(|call| call.difference.as_ref());
    let json = json!({ "same": parted.is_none(), "calls": done.iter().map(Checked::json).collect::<Vec<_>>() });
    out.result(&json, || done.iter().map(Checked::text).collect::<Vec<_>>().join("\n"));
    let Some(Difference { at, signed, here }) = parted else { return Ok(()) };
    Err(Failure::new(
        Exit::Differs,
        format!(
            "Run again here, the answer differs from what its provider signed, first at {at}: {signed} there, {here} here. On \
             this project's own kernels ('kernels/' without 'candle' on both sides, of one version) that means the provider did \
             not run this version on this input; elsewhere compare on a processor like the provider's first."
        ),
    ))
}

/// The calls of a file.
fn read(file: &Path) -> Outcome<Vec<KeptCall>> {
    let bytes = read_file("read the kept call in", file, CALL_BYTES)?;
    let invalid = |why: String| {
        let next = "Was it written by 'predict' or 'run' with --save-call, and copied whole?";
        Failure::new(Exit::Invalid, format!("The kept call in {} cannot be read: {why}. {next}", file.display()))
    };
    let calls: Vec<KeptCall> = decode(&bytes, bytes.len()).map_err(|e| invalid(e.to_string()))?;
    match calls.len() {
        1..=CALLS => Ok(calls),
        count => Err(invalid(format!("it holds {count} calls, and 1 to {CALLS} are read"))),
    }
}

/// The last call of a file: of a text that several nodes wrote, the part of the one that ended it.
pub(crate) fn last_call(file: &Path) -> Outcome<KeptCall> {
    let none = || Failure::new(Exit::Invalid, format!("{} holds no call.", file.display()));
    read(file)?.pop().ok_or_else(none)
}

async fn run(session: &Session, call: &KeptCall, request: &Request, progress: &mut Progress) -> Outcome<RerunReport> {
    let (name, input) = (request.name.clone(), call.input.clone());
    let again = RerunCall { name, version: request.version, manifest: request.manifest, input };
    let mut items = session.stream::<Rerun>(&again, LONG).await?;
    while let Some(item) = items.next().await {
        match item? {
            RerunItem::Step(step) => progress.step(&step),
            RerunItem::Done(report) => return Ok(report),
        }
    }
    Err(Failure::new(
        Exit::Internal,
        "The node ended its answer without a result. Look at its log, then run the command again.",
    ))
}

/// Where `here` parts from `signed` first. Of a call that was not complete, what was signed is only the beginning.
fn compare(signed: &CallOutput, here: &CallOutput, complete: bool) -> Option<Difference> {
    match (signed, here) {
        (CallOutput::Tokens(signed), CallOutput::Tokens(here)) => {
            let here = here.get(..signed.len()).filter(|_| !complete).unwrap_or(here);
            let show = |token: Option<&u32>| token.map_or("the end".to_owned(), u32::to_string);
            let most = signed.len().max(here.len());
            let at = (0..most).find(|i| signed.get(*i) != here.get(*i))?;
            let at_token = format!("token {}", at + 1);
            Some(Difference { at: at_token, signed: show(signed.get(at)), here: show(here.get(at)) })
        }
        (CallOutput::Tensors(signed), CallOutput::Tensors(here)) if signed.len() == here.len() => {
            signed.iter().zip(here).find_map(|(signed, here)| compare_tensors(signed, here))
        }
        (signed, here) => {
            let count = |output: &CallOutput| match output {
                CallOutput::Tokens(tokens) => format!("{} tokens", tokens.len()),
                CallOutput::Tensors(tensors) => format!("{} tensors", tensors.len()),
            };
            Some(Difference { at: "the whole".to_owned(), signed: count(signed), here: count(here) })
        }
    }
}

fn compare_tensors(signed: &Tensor, here: &Tensor) -> Option<Difference> {
    let shape = |tensor: &Tensor| format!("{} {:?} {:?}", plain(&tensor.name), tensor.dtype, tensor.shape);
    if shape(signed) != shape(here) {
        return Some(Difference { at: "an output's shape".to_owned(), signed: shape(signed), here: shape(here) });
    }
    let size = signed.dtype.size();
    let mut pairs = signed.data.chunks(size).zip(here.data.chunks(size));
    let at = pairs.position(|(signed, here)| signed != here)?;
    let show = |tensor: &Tensor| value(tensor.dtype, tensor.data.chunks(size).nth(at).unwrap_or_default());
    let place = format!("element {} of output '{}'", at + 1, plain(&signed.name));
    Some(Difference { at: place, signed: show(signed), here: show(here) })
}

/// One element, with its bits, since two numbers may differ in their last bit alone.
fn value(dtype: DType, bytes: &[u8]) -> String {
    let bits: String = bytes.iter().rev().map(|byte| format!("{byte:02x}")).collect();
    match (dtype, bytes) {
        (DType::F32, &[a, b, c, d]) => format!("{} (0x{bits})", f32::from_le_bytes([a, b, c, d])),
        _ => format!("0x{bits}"),
    }
}

impl Checked {
    fn json(&self) -> Value {
        let difference = self.difference.as_ref();
        json!({
            "receipt": self.receipt, "name": self.request.name.to_string(), "version": self.request.version,
            "manifest": self.request.manifest.to_string(), "account": self.account.to_string(),
            "provider": self.request.provider.to_string(), "answered_ms": self.response.time_ms,
            "status": status(self.response.status), "units": self.response.units,
            "runtime": self.said, "runtime_here": self.report.runtime, "same": difference.is_none(),
            "differs": difference.map(|d| json!({ "at": d.at, "signed": d.signed, "here": d.here })),
        })
    }

    fn text(&self) -> String {
        let said = if self.said.is_empty() { "it did not say" } else { &self.said };
        let verdict = match &self.difference {
            None => "SAME BITS".to_owned(),
            Some(d) => format!("DIFFERS at {}: {} was signed, {} came out here", d.at, d.signed, d.here),
        };
        facts(&[
            (
                "call",
                format!(
                    "{}@{}, {} units, {}",
                    self.request.name,
                    self.request.version,
                    self.response.units,
                    status(self.response.status)
                ),
            ),
            ("receipt", self.receipt.clone()),
            (
                "answered by",
                format!(
                    "{} at {} UTC, for {}",
                    self.request.provider.short(),
                    output::utc(self.response.time_ms),
                    self.account.short()
                ),
            ),
            ("runtime there", format!("{said} (its own word)")),
            ("runtime here", self.report.runtime.clone()),
            ("run again here", verdict),
        ])
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn tokens(ids: &[u32]) -> CallOutput {
        CallOutput::Tokens(ids.to_vec())
    }

    #[test]
    fn the_first_token_that_differs_is_named() {
        assert_eq!(compare(&tokens(&[1, 2]), &tokens(&[1, 2]), true), None);
        let found = compare(&tokens(&[1, 2, 3]), &tokens(&[1, 9, 3]), true).unwrap();
        assert_eq!((found.at.as_str(), found.signed.as_str(), found.here.as_str()), ("token 2", "2", "9"));
        let longer = compare(&tokens(&[1]), &tokens(&[1, 2]), true).unwrap();
        assert_eq!((longer.at.as_str(), longer.signed.as_str()), ("token 2", "the end"));
        assert_eq!(compare(&tokens(&[1]), &tokens(&[1, 2]), false), None, "a checkpoint is a beginning");
        assert!(compare(&tokens(&[1, 2]), &tokens(&[1]), false).is_some());
    }

    #[test]
    fn the_first_element_that_differs_is_named_with_its_bits() {
        let tensor = |values: &[f32]| CallOutput::Tensors(vec![Tensor::f32("p", &[values.len() as u64], values)]);
        assert_eq!(compare(&tensor(&[0.5, f32::NAN]), &tensor(&[0.5, f32::NAN]), true), None);
        let found = compare(&tensor(&[0.5, 1.0]), &tensor(&[0.5, 1.0_f32.next_up()]), true).unwrap();
        assert_eq!(found.at, "element 2 of output 'p'");
        assert_eq!((found.signed.as_str(), found.here.as_str()), ("1 (0x3f800000)", "1.0000001 (0x3f800001)"));
        assert_eq!(compare(&tensor(&[1.0]), &tensor(&[1.0, 2.0]), true).unwrap().at, "an output's shape");
        assert_eq!(compare(&tensor(&[1.0]), &tokens(&[1]), true).unwrap().at, "the whole");
        assert!(compare(&tensor(&[0.0]), &tensor(&[-0.0]), true).is_some(), "bits, not values");
    }
}
