//! A call as its caller keeps it: what was asked, the salt, what came, and both signatures. Whoever holds it can check that the
//! provider signed exactly this, and run it again.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::{
    calls::GenerateInput,
    codec::{CodecError, encode},
    ids::PoolId,
    keys::AccountId,
    receipt::{Receipt, ReceiptError, Request, Response, commit, commit_output},
    tensor::{Tensor, units},
};

/// The shape that [`KeptCall::version`] names.
const VERSION: u16 = 2;

/// What a call was asked with: what its request commits to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallInput {
    /// A prediction's tensors.
    Tensors(Vec<Tensor>),
    /// A generation's input.
    Text(GenerateInput),
}

impl CallInput {
    /// The bytes under the request's commitment.
    ///
    /// # Errors
    /// Never with values that were decoded.
    pub fn committed(&self) -> Result<Vec<u8>, CodecError> {
        match self {
            Self::Tensors(tensors) => encode(tensors),
            Self::Text(input) => encode(input),
        }
    }
}

/// What a call gave: what its response commits to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallOutput {
    /// A prediction's tensors.
    Tensors(Vec<Tensor>),
    /// A generation's token ids, those resumed from not included.
    Tokens(Vec<u32>),
}

impl CallOutput {
    /// The bytes under the response's commitment.
    ///
    /// # Errors
    /// Never with values that were decoded.
    pub fn committed(&self) -> Result<Vec<u8>, CodecError> {
        match self {
            Self::Tensors(tensors) => encode(tensors),
            Self::Tokens(tokens) => encode(tokens),
        }
    }
}

/// See the module. It holds the input and the output in the clear.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptCall {
    /// Version of this shape: 2.
    pub version: u16,
    /// Both halves of the receipt.
    pub receipt: Receipt,
    /// The call's salt, from which both commitments' follow: 32 bytes.
    pub salt: ByteBuf,
    /// What was asked.
    pub input: CallInput,
    /// What came.
    pub output: CallOutput,
    /// What the provider said computes there; empty if it was not asked. Nothing signs this.
    pub runtime: String,
}

/// Why a kept call proves nothing.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum KeptError {
    /// A shape of another version.
    #[error("its shape has version {0}, and this program reads version {VERSION}")]
    Version(u16),
    /// The receipt.
    #[error("its receipt does not hold: {0}")]
    Receipt(#[from] ReceiptError),
    /// The salt is no salt.
    #[error("its salt has {0} bytes instead of 32")]
    Salt(usize),
    /// The input is not what was signed.
    #[error("its input is not the one that the caller signed")]
    Input,
    /// The output is not what was signed.
    #[error("its output is not the one that the provider signed")]
    Output,
    /// The units are not those of the call.
    #[error("the provider signed {signed} units, and the call has {counted}")]
    Units {
        /// As signed.
        signed: u64,
        /// As counted here.
        counted: u64,
    },
    /// Tensors for a text, or a text for tensors.
    #[error("its input and its output are not of one kind")]
    Kind,
    /// Encoding failed.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

impl KeptCall {
    /// A call whose receipt was checked. What the provider said of its runtime is left empty.
    #[must_use]
    pub fn new(receipt: Receipt, salt: [u8; 32], input: CallInput, output: CallOutput) -> Self {
        let salt = ByteBuf::from(salt.to_vec());
        Self { version: VERSION, receipt, salt, input, output, runtime: String::new() }
    }

    /// Checks both signatures, and that they are over this very input and output.
    ///
    /// # Errors
    /// See [`KeptError`].
    pub fn check(&self, pool: &PoolId) -> Result<(AccountId, Request, Response), KeptError> {
        if self.version != VERSION {
            return Err(KeptError::Version(self.version));
        }
        let (account, request, response) = self.receipt.verify(pool)?;
        let salt = <[u8; 32]>::try_from(self.salt.as_slice()).map_err(|_| KeptError::Salt(self.salt.len()))?;
        let counted = match (&self.input, &self.output) {
            (CallInput::Tensors(inputs), CallOutput::Tensors(_)) => units(inputs),
            (CallInput::Text(_), CallOutput::Tokens(tokens)) => tokens.len() as u64,
            _ => return Err(KeptError::Kind),
        };
        if commit(&salt, &self.input.committed()?) != request.commitment {
            return Err(KeptError::Input);
        }
        if commit_output(&salt, &self.output.committed()?) != response.commitment {
            return Err(KeptError::Output);
        }
        if response.units != counted {
            return Err(KeptError::Units { signed: response.units, counted });
        }
        Ok((account, request, response))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{
        Digest, ManifestId, SecretKey, Signed,
        calls::{Prompt, Sampling},
        pool::Nonce,
        receipt::{Status, request_hash},
    };

    const POOL: PoolId = PoolId([7; 32]);

    fn kept() -> KeptCall {
        let (caller, provider) = (SecretKey::from_bytes(&[1; 32]), SecretKey::from_bytes(&[2; 32]));
        let prompt = Prompt::Text("why".into());
        let input = CallInput::Text(GenerateInput { prompt, sampling: Sampling::default(), resume: vec![4] });
        let (salt, output) = ([3; 32], CallOutput::Tokens(vec![5, 6]));
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
        let request = Signed::sign(&request, &POOL, &caller).unwrap();
        let response = Response {
            request: request_hash(&request).unwrap(),
            commitment: commit_output(&salt, &output.committed().unwrap()),
            units: 2,
            status: Status::Complete,
            time_ms: 3,
        };
        let response = Signed::sign(&response, &POOL, &provider).unwrap();
        KeptCall::new(Receipt { request, response }, salt, input, output)
    }

    #[test]
    fn a_kept_call_holds_and_none_of_its_parts_can_be_changed() {
        let whole = kept();
        assert_eq!(whole.check(&POOL).unwrap().1.version, 2);
        assert!(matches!(whole.check(&PoolId([8; 32])), Err(KeptError::Receipt(_))));
        let changed = |change: &dyn Fn(&mut KeptCall)| {
            let mut kept = whole.clone();
            change(&mut kept);
            kept.check(&POOL).unwrap_err()
        };
        assert_eq!(changed(&|k| k.version = 1), KeptError::Version(1));
        assert_eq!(changed(&|k| k.salt = ByteBuf::from(vec![3; 31])), KeptError::Salt(31));
        assert_eq!(changed(&|k| k.salt = ByteBuf::from(vec![9; 32])), KeptError::Input);
        assert_eq!(changed(&|k| k.output = CallOutput::Tokens(vec![5, 7])), KeptError::Output);
        assert_eq!(changed(&|k| k.output = CallOutput::Tensors(vec![])), KeptError::Kind);
        let other = |k: &mut KeptCall| {
            if let CallInput::Text(input) = &mut k.input {
                input.sampling.seed = 1;
            }
        };
        assert_eq!(changed(&other), KeptError::Input);
        let foreign = |k: &mut KeptCall| {
            let mut response = k.receipt.response.read_unverified().unwrap();
            response.commitment = Digest([0; 32]);
            k.receipt.response = Signed::sign(&response, &POOL, &SecretKey::from_bytes(&[9; 32])).unwrap();
        };
        assert_eq!(changed(&foreign), KeptError::Receipt(ReceiptError::OtherProvider));
    }
}
