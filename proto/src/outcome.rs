//! Outcomes: what a caller learns later of an answer that a model gave him. He signs it, and seals it to the model's owner together
//! with the receipt, so that nobody else reads it and nobody else can have said it.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::{
    codec::CodecError,
    envelope::{Message, Signed, VerifyError},
    ids::{Digest, PoolId},
    kept::{CallInput, CallOutput},
    keys::{AccountId, NodeId},
    limits::{OUTCOME_ROWS, TENSORS},
    receipt::{Receipt, ReceiptError, Request, Response, commit},
    tensor::{Tensor, TensorError},
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

/// What is sealed to the model's owner: at most [`crate::limits::OUTCOME_BYTES`] once encoded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeReport {
    /// Version of this shape: 1.
    pub version: u16,
    /// What the caller says.
    pub outcome: Signed<Outcome>,
    /// Both halves of the receipt: that the call was made.
    pub receipt: Receipt,
    /// The salt of the receipt's commitments, 32 bytes; empty if neither input nor output goes along.
    pub salt: ByteBuf,
    /// What was asked, if the caller gives it.
    pub input: Option<CallInput>,
    /// What came; needed beside [`Truth::Class`].
    pub output: Option<CallOutput>,
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
    /// The salt is no salt.
    #[error("its salt has {0} bytes instead of 32")]
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
    pub fn new(
        outcome: Signed<Outcome>,
        receipt: Receipt,
        salt: ByteBuf,
        input: Option<CallInput>,
        output: Option<CallOutput>,
    ) -> Self {
        Self { version: VERSION, outcome, receipt, salt, input, output }
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
        self.check_commitments(&request, &response)?;
        let said = outcome.truths.len();
        // A text is one answer, however many tokens it has; of what is not shown the units are those of a prediction.
        let rows = if matches!(self.output, Some(CallOutput::Tokens(_))) { 1 } else { response.units };
        if said == 0 || said > OUTCOME_ROWS || (said != 1 && said as u64 != rows) {
            return Err(OutcomeError::Rows { said, rows });
        }
        let rows = self.judge(&outcome.truths)?;
        Ok(CheckedOutcome { account, request, response, outcome, rows })
    }

    fn check_commitments(&self, request: &Request, response: &Response) -> Result<(), OutcomeError> {
        if self.input.is_none() && self.output.is_none() {
            return if self.salt.is_empty() { Ok(()) } else { Err(OutcomeError::Salt(self.salt.len())) };
        }
        let salt = <[u8; 32]>::try_from(self.salt.as_slice()).map_err(|_| OutcomeError::Salt(self.salt.len()))?;
        if let Some(input) = &self.input {
            if let CallInput::Tensors(tensors) = input {
                tensors.iter().try_for_each(Tensor::check)?;
            }
            if commit(&salt, &input.committed()?) != request.commitment {
                return Err(OutcomeError::Input);
            }
        }
        match &self.output {
            Some(output) if commit(&salt, &output.committed()?) != response.commitment => Err(OutcomeError::Output),
            _ => Ok(()),
        }
    }

    /// What was answered on each row, and whether it was right.
    fn judge(&self, truths: &[Truth]) -> Result<Vec<(Option<u16>, bool)>, OutcomeError> {
        let classes = match &self.output {
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
    let best = |row: &[f32]| {
        let mut best = 0;
        for (class, score) in row.iter().enumerate() {
            if row.get(best).is_none_or(|so_far| score > so_far) {
                best = class;
            }
        }
        u16::try_from(best).map_err(|_| OutcomeError::NoClasses)
    };
    values.chunks(width).map(best).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{
        ManifestId, SecretKey,
        pool::Nonce,
        receipt::{Status, request_hash},
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
            commitment: commit(&salt, &output.committed().unwrap()),
            units: 2,
            status: Status::Complete,
            time_ms: 3,
        };
        let receipt = Receipt { request, response: Signed::sign(&response, &POOL, &provider).unwrap() };
        let outcome = sign(&receipt, truths, &caller());
        OutcomeReport::new(outcome, receipt, ByteBuf::from(salt.to_vec()), Some(input), Some(output))
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
        (bare.input, bare.output, bare.salt) = (None, None, ByteBuf::new());
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
        assert_eq!(changed(&|r| r.salt = ByteBuf::from(vec![3; 31])), OutcomeError::Salt(31));
        assert_eq!(changed(&|r| (r.input, r.output) = (None, None)), OutcomeError::Salt(32));
        assert_eq!(changed(&|r| r.input = Some(CallInput::Tensors(vec![]))), OutcomeError::Input);
        let better = Some(CallOutput::Tensors(vec![Tensor::f32("p", &[2, 3], &[0.0, 1.0, 0.0, 1.0, 0.0, 0.0])]));
        assert_eq!(changed(&|r| r.output = better.clone()), OutcomeError::Output);
        assert_eq!(changed(&|r| r.output = None), OutcomeError::NoClasses);
        let rows = |said| OutcomeError::Rows { said, rows: 2 };
        assert_eq!(changed(&|r| r.outcome = sign(&r.receipt, vec![], &caller())), rows(0));
        assert_eq!(changed(&|r| r.outcome = sign(&r.receipt, vec![Truth::Right(true); 3], &caller())), rows(3));
        assert_eq!(
            changed(&|r| r.outcome = sign(&r.receipt, vec![Truth::Class(1)], &caller())),
            OutcomeError::NoClasses
        );
    }
}
