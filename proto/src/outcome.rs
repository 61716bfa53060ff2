//! Outcomes: what a caller learns later of an answer that a model gave him. He signs it, and seals it to the model's owner together
//! with the receipt, so that nobody else reads it and nobody else can have said it.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::{
    codec::CodecError,
    envelope::{Message, Signed, VerifyError},
    ids::{Digest, PoolId},
    kept::{CallInput, CallOutput, KeptCall},
    keys::{AccountId, NodeId},
    limits::{OUTCOME_ROWS, TENSORS},
    receipt::{Receipt, ReceiptError, Request, Response, commit, output_salt},
    tensor::{Tensor, TensorError, argmax},
};

/// The shape that [`OutcomeReport::version`] names.
const VERSION: u16 = 1;

/// What was true of one row of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Truth {
    /// The true class. The answer goes along, so that its reader sees himself whether it was right.
    Class(u16),
    /// Whether the answer was right, by the caller's word alone.
    Right(bool),
}

/// What a caller says of one call, signed by the account that made it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The call: [`Receipt::id`].
    pub receipt: Digest,
    /// One for each row, in order, 1 to [`OUTCOME_ROWS`].
    pub truths: Vec<Truth>,
    /// When it was signed, milliseconds since 1970 UTC.
    pub time_ms: u64,
}

impl Message for Outcome {
    const KIND: u16 = 6;
}

/// What of a call goes along with an outcome. Each part has the salt of its own commitment, and an output's does not lead to the input's:
/// who is shown an output alone cannot try out inputs against the receipt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// The salt of the input's commitment, which is the call's: 32 bytes; empty if the input does not go along.
    pub input_salt: ByteBuf,
    /// What was asked, if the caller gives it.
    pub input: Option<CallInput>,
    /// The salt of the output's commitment, 32 bytes; empty if the output does not go along.
    pub output_salt: ByteBuf,
    /// What came; needed beside [`Truth::Class`].
    pub output: Option<CallOutput>,
}

impl Shown {
    /// No more of a kept call than an outcome needs: with the input both; without it the output where the truths are classes and it is
    /// tensors, since a text's answer shows nothing by itself; else nothing.
    ///
    /// # Errors
    /// The call's salt is none.
    pub fn of(call: KeptCall, truths: &[Truth], with_input: bool) -> Result<Self, OutcomeError> {
        let salt = salt_of(&call.salt)?;
        let classes = truths.iter().any(|truth| matches!(truth, Truth::Class(_)));
        let output = Some(call.output).filter(|o| with_input || classes && matches!(o, CallOutput::Tensors(_)));
        let bytes = |salt: [u8; 32]| ByteBuf::from(salt.to_vec());
        Ok(Self {
            input_salt: if with_input { bytes(salt) } else { ByteBuf::new() },
            input: with_input.then_some(call.input),
            output_salt: if output.is_some() { bytes(output_salt(&salt)) } else { ByteBuf::new() },
            output,
        })
    }

    /// That each part is the one that was signed, and that nothing goes along but those parts and their salts.
    fn check(&self, request: &Request, response: &Response) -> Result<(), OutcomeError> {
        match &self.input {
            None if !self.input_salt.is_empty() => return Err(OutcomeError::Salt(self.input_salt.len())),
            None => {}
            Some(input) => {
                if let CallInput::Tensors(tensors) = input {
                    tensors.iter().try_for_each(Tensor::check)?;
                }
                if commit(&salt_of(&self.input_salt)?, &input.committed()?) != request.commitment {
                    return Err(OutcomeError::Input);
                }
            }
        }
        match &self.output {
            None if !self.output_salt.is_empty() => Err(OutcomeError::Salt(self.output_salt.len())),
            None => Ok(()),
            Some(output) if commit(&salt_of(&self.output_salt)?, &output.committed()?) != response.commitment => {
                Err(OutcomeError::Output)
            }
            Some(_) => Ok(()),
        }
    }
}

fn salt_of(bytes: &[u8]) -> Result<[u8; 32], OutcomeError> {
    bytes.try_into().map_err(|_| OutcomeError::Salt(bytes.len()))
}

/// What is sealed to the model's owner: at most [`crate::limits::OUTCOME_BYTES`] once encoded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeReport {
    /// Version of this shape: 1.
    pub version: u16,
    /// What the caller says.
    pub outcome: Signed<Outcome>,
    /// Both halves of the receipt: that the call was made.
    pub receipt: Receipt,
    /// What of the call goes along.
    pub shown: Shown,
}

/// What the HPKE sealing of a report is bound to: its `info` is the encoding of this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeInfo {
    /// `zero2ai outcome v1`, which no other sealing begins with.
    pub purpose: String,
    /// The pool.
    pub pool: PoolId,
    /// Who sealed it.
    pub account: AccountId,
    /// Who may open it.
    pub owner: NodeId,
}

impl OutcomeInfo {
    /// Of a report by `account` to `owner`.
    #[must_use]
    pub fn new(pool: PoolId, account: AccountId, owner: NodeId) -> Self {
        Self { purpose: "zero2ai outcome v1".to_owned(), pool, account, owner }
    }
}

/// A report whose signatures hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedOutcome {
    /// Who called, and says so.
    pub account: AccountId,
    /// What was asked of whom.
    pub request: Request,
    /// What was answered.
    pub response: Response,
    /// What the caller says.
    pub outcome: Outcome,
    /// For each row: the class that was answered, where that is known, and whether the answer was right.
    pub rows: Vec<(Option<u16>, bool)>,
}

/// Why a report says nothing.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum OutcomeError {
    /// A shape of another version.
    #[error("its shape has version {0}, and this program reads version {VERSION}")]
    Version(u16),
    /// The receipt.
    #[error("its receipt does not hold: {0}")]
    Receipt(#[from] ReceiptError),
    /// The outcome's signature.
    #[error("what it says is not signed: {0}")]
    Signature(#[from] VerifyError),
    /// Somebody else's word.
    #[error("it is signed by another account than made the call")]
    Stranger,
    /// It is about another call.
    #[error("it is about another call than its receipt")]
    OtherCall,
    /// A salt that is none, or one of what does not go along.
    #[error("a salt of it has {0} bytes; it has 32 where what it belongs to goes along, and else none")]
    Salt(usize),
    /// The input is not what was signed.
    #[error("its input is not the one that the caller signed")]
    Input,
    /// The output is not what was signed.
    #[error("its output is not the one that the provider signed")]
    Output,
    /// Too many or too few rows.
    #[error("it speaks of {said} rows, and the call has {rows}; 1 to {OUTCOME_ROWS} are possible")]
    Rows {
        /// Those of the outcome.
        said: usize,
        /// Those of the call.
        rows: u64,
    },
    /// No class can be read out of the answer.
    #[error("the answer is no row of scores for each class: say whether it was right instead")]
    NoClasses,
    /// A tensor that does not hold together.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// Encoding failed.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

impl OutcomeReport {
    /// A report, not checked yet.
    #[must_use]
    pub fn new(outcome: Signed<Outcome>, receipt: Receipt, shown: Shown) -> Self {
        Self { version: VERSION, outcome, receipt, shown }
    }

    /// Checks all three signatures, that they are of one call, and that input and output are those that were signed; then says which
    /// rows were right.
    ///
    /// # Errors
    /// See [`OutcomeError`].
    pub fn check(&self, pool: &PoolId) -> Result<CheckedOutcome, OutcomeError> {
        if self.version != VERSION {
            return Err(OutcomeError::Version(self.version));
        }
        let (account, request, response) = self.receipt.verify(pool)?;
        let outcome = self.outcome.verify(pool)?;
        if self.outcome.signer() != account {
            return Err(OutcomeError::Stranger);
        }
        if outcome.receipt != self.receipt.id()? {
            return Err(OutcomeError::OtherCall);
        }
        self.shown.check(&request, &response)?;
        let said = outcome.truths.len();
        // A text is one answer, however many tokens it has; of what is not shown the units are those of a prediction.
        let rows = if matches!(self.shown.output, Some(CallOutput::Tokens(_))) { 1 } else { response.units };
        if said == 0 || said > OUTCOME_ROWS || (said != 1 && said as u64 != rows) {
            return Err(OutcomeError::Rows { said, rows });
        }
        let rows = self.judge(&outcome.truths)?;
        Ok(CheckedOutcome { account, request, response, outcome, rows })
    }

    /// What was answered on each row, and whether it was right.
    fn judge(&self, truths: &[Truth]) -> Result<Vec<(Option<u16>, bool)>, OutcomeError> {
        let classes = match &self.shown.output {
            Some(CallOutput::Tensors(tensors)) if tensors.len() <= TENSORS => {
                tensors.first().and_then(|scores| answered(scores).ok())
            }
            _ => None,
        };
        let classes = classes.filter(|classes| classes.len() == truths.len());
        let row = |(at, truth): (usize, &Truth)| {
            let said = classes.as_ref().and_then(|classes| classes.get(at).copied());
            match (truth, said) {
                (Truth::Right(right), said) => Ok((said, *right)),
                (Truth::Class(class), Some(said)) => Ok((Some(said), said == *class)),
                (Truth::Class(_), None) => Err(OutcomeError::NoClasses),
            }
        };
        truths.iter().enumerate().map(row).collect()
    }
}

/// The class with the highest score of each row of a `[rows, classes]` tensor, the first of equals.
fn answered(scores: &Tensor) -> Result<Vec<u16>, OutcomeError> {
    let values = scores.to_f32()?;
    let [rows, classes] = scores.shape[..] else { return Err(OutcomeError::NoClasses) };
    let width = usize::try_from(classes).ok().filter(|width| (2..=usize::from(u16::MAX)).contains(width));
    let width = width.ok_or(OutcomeError::NoClasses)?;
    if rows > OUTCOME_ROWS as u64 {
        return Err(OutcomeError::NoClasses);
    }
    let best = |row: &[f32]| u16::try_from(argmax(row)).map_err(|_| OutcomeError::NoClasses);
    values.chunks(width).map(best).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{
        ManifestId, SecretKey,
        pool::Nonce,
        receipt::{Status, commit_output, request_hash},
    };

    const POOL: PoolId = PoolId([7; 32]);

    fn caller() -> SecretKey {
        SecretKey::from_bytes(&[1; 32])
    }

    /// Two rows of three classes, answered 1 and 0.
    fn report(truths: Vec<Truth>) -> OutcomeReport {
        let provider = SecretKey::from_bytes(&[2; 32]);
        let input = CallInput::Tensors(vec![Tensor::f32("x", &[2, 1], &[0.5, 1.5])]);
        let output = CallOutput::Tensors(vec![Tensor::f32("p", &[2, 3], &[0.1, 0.7, 0.2, 0.4, 0.4, 0.2])]);
        let salt = [3; 32];
        let request = Request {
            provider: provider.public(),
            name: "lab/m".parse().unwrap(),
            version: 2,
            manifest: ManifestId([4; 32]),
            commitment: commit(&salt, &input.committed().unwrap()),
            nonce: Nonce([5; 16]),
            time_ms: 1,
            deadline_ms: 2,
            price_cap: 0,
            parent: None,
        };
        let request = Signed::sign(&request, &POOL, &caller()).unwrap();
        let response = Response {
            request: request_hash(&request).unwrap(),
            commitment: commit_output(&salt, &output.committed().unwrap()),
            units: 2,
            status: Status::Complete,
            time_ms: 3,
        };
        let receipt = Receipt { request, response: Signed::sign(&response, &POOL, &provider).unwrap() };
        let outcome = sign(&receipt, truths.clone(), &caller());
        let call = KeptCall::new(receipt.clone(), salt, input, output);
        OutcomeReport::new(outcome, receipt, Shown::of(call, &truths, true).unwrap())
    }

    fn sign(receipt: &Receipt, truths: Vec<Truth>, key: &SecretKey) -> Signed<Outcome> {
        Signed::sign(&Outcome { receipt: receipt.id().unwrap(), truths, time_ms: 9 }, &POOL, key).unwrap()
    }

    #[test]
    fn a_report_says_which_rows_were_right() {
        let checked = report(vec![Truth::Class(1), Truth::Class(2)]).check(&POOL).unwrap();
        assert_eq!(checked.rows, [(Some(1), true), (Some(0), false)], "of equal scores the first class was answered");
        assert_eq!((checked.account, checked.request.version), (caller().public(), 2));
        let word = report(vec![Truth::Right(false), Truth::Right(true)]).check(&POOL).unwrap();
        assert_eq!(word.rows, [(Some(1), false), (Some(0), true)]);
        let mut bare = report(vec![Truth::Right(true)]);
        bare.shown = Shown::default();
        assert_eq!(bare.check(&POOL).unwrap().rows, [(None, true)], "of the whole call, without its content");
    }

    #[test]
    fn nothing_of_a_report_can_be_changed_or_said_by_another() {
        let whole = report(vec![Truth::Class(1), Truth::Class(0)]);
        let changed = |change: &dyn Fn(&mut OutcomeReport)| {
            let mut report = whole.clone();
            change(&mut report);
            report.check(&POOL).unwrap_err()
        };
        let two = || vec![Truth::Class(1), Truth::Class(0)];
        let stranger = SecretKey::from_bytes(&[9; 32]);
        assert!(matches!(whole.check(&PoolId([8; 32])), Err(OutcomeError::Receipt(_))), "another pool");
        assert_eq!(changed(&|r| r.version = 2), OutcomeError::Version(2));
        assert_eq!(changed(&|r| r.outcome = sign(&r.receipt, two(), &stranger)), OutcomeError::Stranger);
        let mut other = whole.receipt.clone();
        other.response = Signed::sign(
            &Response { time_ms: 4, ..whole.receipt.response.read_unverified().unwrap() },
            &POOL,
            &SecretKey::from_bytes(&[2; 32]),
        )
        .unwrap();
        assert_eq!(changed(&|r| r.receipt = other.clone()), OutcomeError::OtherCall);
        assert_eq!(changed(&|r| r.shown.input_salt = ByteBuf::from(vec![3; 31])), OutcomeError::Salt(31));
        assert_eq!(changed(&|r| r.shown.output_salt = ByteBuf::new()), OutcomeError::Salt(0));
        assert_eq!(changed(&|r| r.shown.input = None), OutcomeError::Salt(32), "a salt without what it belongs to");
        assert_eq!(changed(&|r| r.shown.output_salt = r.shown.input_salt.clone()), OutcomeError::Output);
        assert_eq!(changed(&|r| r.shown.input = Some(CallInput::Tensors(vec![]))), OutcomeError::Input);
        let better = Some(CallOutput::Tensors(vec![Tensor::f32("p", &[2, 3], &[0.0, 1.0, 0.0, 1.0, 0.0, 0.0])]));
        assert_eq!(changed(&|r| r.shown.output = better.clone()), OutcomeError::Output);
        let silent = |r: &mut OutcomeReport| (r.shown.output_salt, r.shown.output) = (ByteBuf::new(), None);
        assert_eq!(changed(&silent), OutcomeError::NoClasses);
        let rows = |said| OutcomeError::Rows { said, rows: 2 };
        assert_eq!(changed(&|r| r.outcome = sign(&r.receipt, vec![], &caller())), rows(0));
        assert_eq!(changed(&|r| r.outcome = sign(&r.receipt, vec![Truth::Right(true); 3], &caller())), rows(3));
        assert_eq!(
            changed(&|r| r.outcome = sign(&r.receipt, vec![Truth::Class(1)], &caller())),
            OutcomeError::NoClasses
        );
    }
    /// With one salt for both, whoever has the output could try out inputs until one fits the request's commitment.
    #[test]
    fn who_is_shown_the_output_alone_cannot_test_guesses_of_the_input() {
        let whole = report(vec![Truth::Class(1), Truth::Class(0)]);
        let (input, output) = (whole.shown.input.clone().unwrap(), whole.shown.output.clone().unwrap());
        let call = KeptCall::new(whole.receipt.clone(), [3; 32], input.clone(), output);
        let truths = [Truth::Class(1), Truth::Class(0)];
        let mut report = whole.clone();
        report.shown = Shown::of(call.clone(), &truths, false).unwrap();
        assert_eq!(report.check(&POOL).unwrap().rows, [(Some(1), true), (Some(0), true)]);
        assert!(report.shown.input.is_none() && report.shown.input_salt.is_empty());
        let salt = salt_of(&report.shown.output_salt).unwrap();
        let commitment = report.receipt.request.read_unverified().unwrap().commitment;
        for guess in [salt, output_salt(&salt)] {
            assert_ne!(
                commit(&guess, &input.committed().unwrap()),
                commitment,
                "the right input is not told from others"
            );
        }
        assert_eq!(
            Shown::of(call, &[Truth::Right(true)], false).unwrap(),
            Shown::default(),
            "one's word needs nothing"
        );
    }
}
