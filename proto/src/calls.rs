//! The methods of peer RPC that members may call on each other.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::{
    envelope::Signed,
    ids::{Cid, ManifestId, TxId},
    keys::NodeId,
    manifest::{Subject, WrappedKey},
    methods,
    name::{ModelName, ModelRef},
    pool::PoolKey,
    prepare::Preparation,
    proof::{SignedHeader, StateProof, TrustStep},
    receipt::{AuditExport, ProviderReceipts, Request, Response},
    record::{Address, EndpointRecord, NameRecord},
    tensor::Tensor,
    tx::{Disputed, Tx},
    worker::ModelInfo,
};

methods! {
    /// Is anyone there, and how busy? Also measures the round trip.
    Ping = 1: Empty => Pong;
    /// Submits a redemption; the only call open to an identity that is not admitted.
    Redeem = 2: RedeemCall => Redeemed;
    /// Looks a name up, through this node's cache and DHT.
    Resolve = 3: ResolveCall => Resolved;
    /// The newest final header.
    Head = 4: Empty => SignedHeader;
    /// Final blocks in ascending order, one an item.
    Blocks = 5: BlocksCall => SealedBlock;
    /// Proofs of state entries under the newest final header.
    Prove = 6: ProveCall => Proved;
    /// Changes of the signer set since genesis, in ascending order of height, one an item.
    TrustSteps = 7: Empty => TrustStep;
    /// Submits a transaction; with `wait`, answers once it is final.
    SubmitTx = 8: SubmitCall => Submitted;
    /// A sealed manifest's bytes, in pieces of at most [`crate::limits::CHUNK_BYTES`], one an item.
    GetManifest = 9: ManifestCall => Piece;
    /// Which chunks of a manifest are here: one bit each, first chunk in the highest bit of the first byte.
    Have = 10: ManifestCall => Bitfield;
    /// One chunk's ciphertext.
    GetChunk = 11: ChunkCall => Piece;
    /// A manifest's key or the pool's content secret, wrapped to the caller's registered sealing key, if the ledger lets
    /// the caller have it.
    Grant = 12: GrantCall => WrappedKey;
    /// One prediction.
    Predict = 13: PredictCall => Predicted;
    /// Text, token by token; the last item is [`Generated::Done`].
    Generate = 14: GenerateCall => Generated;
    /// Asks the node to fetch a version, and to serve it.
    Replicate = 15: ReplicateCall => Replicated;
    /// This provider's receipts of a model, with proofs, under its anchor as of the header of the height asked for.
    Receipts = 16: ReceiptsCall => ProviderReceipts;
    /// What a version that is served here takes and gives, as its worker found it.
    Describe = 17: DescribeCall => ModelInfo;
    /// Which chunks of a manifest are here and, while a transfer brings more of it, each that comes. Ends when all are here or
    /// nothing brings more; the first item is a bit field.
    WatchHave = 18: ManifestCall => HaveNews;
    /// Everything the ledger proves of a model: an encoded [`ProvenAudit`] in pieces, one an item. The receipts are for the
    /// caller to ask each provider for, who shows what that caller may see.
    AuditProofs = 19: AuditProofsCall => Piece;
    /// The ledger's state near the head: an encoded [`crate::proof::Snapshot`] in pieces, one an item. For a node that is new.
    GetSnapshot = 20: Empty => Piece;
    /// The newest pool key, for members, over the connection's own encryption. Also answered to a member whose key is too old for
    /// anything else. Check its id against the ledger's `pool/epoch` before using it.
    GetPoolKey = 21: Empty => PoolKey;
    /// How pictures or sounds become what a version that is served here takes, as its publisher said.
    Prepare = 22: DescribeCall => Prepared;
    /// Asks for a way to a node that does not answer the caller directly: a UDP port of the node asked, whose datagrams go
    /// to the other node's peer RPC and back. For members.
    Forward = 23: ForwardCall => Forwarded;
    /// Tells a model's owner what was true of a call: an encoded [`crate::outcome::OutcomeReport`], sealed. From the account that
    /// made the call, to the node that owns the model.
    TellOutcome = 24: OutcomeCall => OutcomeTaken;
    /// Asks who opened a disputed leaf for its sample: an encoded [`crate::sample::ShownSample`] in pieces, one an item. For the
    /// jurors who sit over it, until the dispute is settled.
    ShowSample = 25: ShowSampleCall => Piece;
}

/// Request of [`Forward`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardCall {
    /// Whom the caller wants to reach.
    pub node: NodeId,
}

/// Answer to [`Forward`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forwarded {
    /// UDP port at the address where the caller reached the node asked. It takes datagrams of the caller's IP address alone,
    /// from the first port that sends one, and closes after a minute without any. Who answers there proves to be the node
    /// wanted, as at any other address.
    pub port: u16,
}

/// A request without content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// Answer to [`Ping`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pong {
    /// This node's clock, milliseconds since 1970 UTC.
    pub time_ms: u64,
    /// Final height.
    pub height: u64,
    /// Calls being served or waiting.
    pub queue: u32,
    /// What that queue means: expected wait before a new prediction starts, microseconds.
    pub queue_us: u64,
    /// The program's version.
    pub version: String,
}

/// Request of [`Redeem`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedeemCall {
    /// A signed [`crate::tx::Redeem`], by the caller's identity key.
    pub tx: Signed<Tx>,
}

/// Answer to [`Redeem`], once the admission is final.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redeemed {
    /// The encoded genesis: its hash must be the invite's pool.
    pub genesis: ByteBuf,
    /// Height of the admission.
    pub height: u64,
}

/// Request of [`Resolve`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolveCall {
    /// What to look up.
    pub name: ModelRef,
    /// Ask the network even if the cache has a fresh answer.
    pub fresh: bool,
}

/// Answer to [`Resolve`]: the caller checks every part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolved {
    /// The ledger's word on the name.
    pub record: NameRecord,
    /// The version meant; differs from `record.latest` when a version or channel was asked for.
    pub version: StateProof,
    /// The header `version` is proved under.
    pub version_header: SignedHeader,
    /// Nodes that say they serve it.
    pub endpoints: Vec<Signed<EndpointRecord>>,
    /// Where the name record came from.
    pub source: Source,
    /// How long the lookup took, microseconds.
    pub took_us: u64,
}

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// The node's own cache.
    Cache,
    /// The node's own copy of the ledger.
    Ledger,
    /// Kademlia.
    Dht,
}

/// Request of [`Blocks`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlocksCall {
    /// First height.
    pub from: u64,
    /// At most so many; the answer may be shorter.
    pub max: u32,
}

/// A block with the certificate that makes it final.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedBlock {
    /// The encoded [`crate::block::Block`].
    pub block: ByteBuf,
    /// Its certificate.
    pub certificate: crate::block::Certificate,
}

/// Request of [`Prove`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProveCall {
    /// Keys of state entries, at most [`crate::limits::RECEIPTS`].
    pub keys: Vec<ByteBuf>,
}

/// Answer to [`Prove`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proved {
    /// The header whose `app_hash` the proofs stand under.
    pub header: SignedHeader,
    /// One proof a key, in order.
    pub proofs: Vec<StateProof>,
}

/// Request of [`SubmitTx`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubmitCall {
    /// The transaction.
    pub tx: Signed<Tx>,
    /// Answer only when it is final, or failed.
    pub wait: bool,
}

/// Answer to [`SubmitTx`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submitted {
    /// Its id.
    pub id: TxId,
    /// Height of the block that holds it, if it was waited for.
    pub height: Option<u64>,
}

/// Request of [`Grant`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantCall {
    /// What is to be opened.
    pub subject: Subject,
}

/// Request of [`GetManifest`], [`Have`] and [`WatchHave`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestCall {
    /// The sealing.
    pub manifest: ManifestId,
}

/// Request of [`GetChunk`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkCall {
    /// The ciphertext.
    pub cid: Cid,
}

/// Bytes of something larger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// The bytes.
    pub data: ByteBuf,
}

/// Answer to [`Have`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bitfield {
    /// One bit a chunk of [`crate::manifest::SealedManifest::chunks`].
    pub bits: ByteBuf,
}

/// One item of the answer to [`WatchHave`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HaveNews {
    /// All that is here. Also sent when the caller read too slowly to be told of each.
    Held(Bitfield),
    /// Numbers of chunks that came since, at most [`crate::limits::HAVE_BATCH`].
    Gained(Vec<u32>),
}

/// Request of [`Predict`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PredictCall {
    /// The caller's half of the receipt; its commitment is over the encoding of `inputs`.
    pub request: Signed<Request>,
    /// The call's salt: 32 random bytes. It is that of the input's commitment; that of the output's is [`crate::receipt::output_salt`] of it.
    pub salt: ByteBuf,
    /// The inputs.
    pub inputs: Vec<Tensor>,
}

/// Answer to [`Predict`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Predicted {
    /// The provider's half of the receipt; its commitment is over the encoding of `outputs`.
    pub response: Signed<Response>,
    /// The outputs.
    pub outputs: Vec<Tensor>,
}

/// Who says a message of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChatRole {
    /// Instructions.
    System,
    /// The user.
    User,
    /// The model.
    Assistant,
}

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// Who says it.
    pub role: ChatRole,
    /// What.
    pub content: String,
}

/// What text generation starts from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Prompt {
    /// Text as it stands.
    Text(String),
    /// A conversation, put into the model's own chat template.
    Chat(Vec<ChatMessage>),
}

/// How text is generated. Fractions are in thousandths, so that the same request has the same bytes everywhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sampling {
    /// New tokens at most, those of `resume` included: after a fail-over the same request is sent with what came so far.
    pub max_tokens: u32,
    /// 0 takes the likeliest token; 1000 samples from the model's own distribution.
    pub temperature_milli: u32,
    /// Only the likeliest so many; 0 is all.
    pub top_k: u32,
    /// Only the likeliest that together have this probability; 1000 is all.
    pub top_p_milli: u32,
    /// Randomness is a function of this and the token's position alone.
    pub seed: u64,
    /// Generation ends before any of these.
    pub stop: Vec<String>,
    /// Only tokens of at least this share of the likeliest one's probability; 0 is all.
    pub min_p_milli: u32,
    /// Divides the scores above zero, and multiplies those below, of all tokens of the prompt and of the answer so far; 1000
    /// changes nothing, more makes repetition less likely.
    pub repetition_milli: u32,
    /// Taken from a token's score for each time that the answer has it so far; 2000 at most.
    pub frequency_milli: u32,
    /// Taken once from the score of each token that the answer has so far; 2000 at most.
    pub presence_milli: u32,
    /// Tells each token's probability beside it, and those of so many likeliest tokens
    /// ([`crate::limits::TOP_SCORES`] at most); nothing if absent.
    pub logprobs: Option<u8>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            max_tokens: 128,
            temperature_milli: 0,
            top_k: 0,
            top_p_milli: 1000,
            seed: 0,
            stop: Vec::new(),
            min_p_milli: 0,
            repetition_milli: 1000,
            frequency_milli: 0,
            presence_milli: 0,
            logprobs: None,
        }
    }
}

/// The input of one generation: what the request's commitment is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerateInput {
    /// What to start from.
    pub prompt: Prompt,
    /// How.
    pub sampling: Sampling,
    /// Tokens that another provider gave already: taken as said, not billed again.
    pub resume: Vec<u32>,
}

/// Request of [`Generate`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerateCall {
    /// The caller's half of the receipt; its commitment is over the encoding of `input`.
    pub request: Signed<Request>,
    /// The call's salt: 32 random bytes. It is that of the input's commitment; that of the output's is [`crate::receipt::output_salt`] of it.
    pub salt: ByteBuf,
    /// The input.
    pub input: GenerateInput,
}

/// One item of the answer to [`Generate`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Generated {
    /// A token and the text that became certain with it (may be empty inside a character).
    Token(TokenPiece),
    /// The provider's signature over the stream so far; its commitment is over the encoding of all token ids.
    Checkpoint(Signed<Response>),
    /// The end.
    Done(GenerationEnd),
}

/// A token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenPiece {
    /// Its id in the model's vocabulary.
    pub id: u32,
    /// Text.
    pub text: String,
    /// If [`Sampling::logprobs`] asks: this token's probability, then the likeliest tokens', the likeliest first. No receipt
    /// covers them.
    pub scores: Vec<TokenScore>,
}

/// How likely a token was, by the model's own distribution: before penalties, temperature and cuts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenScore {
    /// The token.
    pub id: u32,
    /// What it stands for, cut to [`crate::limits::SCORE_BYTES`]; not always whole characters.
    pub bytes: ByteBuf,
    /// Minus the natural logarithm of its probability, millionths.
    pub minus_log_micro: u32,
}

/// Why a generation ended, and the receipt's second half.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerationEnd {
    /// The provider's half of the receipt.
    pub response: Signed<Response>,
    /// Why it ended.
    pub reason: StopReason,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopReason {
    /// The model said so.
    EndOfText,
    /// A stop string came up.
    StopString,
    /// `max_tokens` were given.
    Length,
    /// The context is full.
    Context,
}

/// Request of [`Replicate`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicateCall {
    /// The model.
    pub name: ModelName,
    /// The version.
    pub version: u32,
    /// Also load it and announce an endpoint.
    pub serve: bool,
    /// A node that has it.
    pub from: NodeId,
    /// Copies that the pool is to hold in all, 2 to [`crate::limits::COPIES`]; 0 leaves it to each node's settings. Counts from the
    /// model's owner, and from another provider where the node knows no wish yet.
    pub copies: u32,
}

/// Answer to [`Replicate`], once every chunk is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replicated {
    /// Bytes of ciphertext that came over the network.
    pub bytes: u64,
    /// Chunks held now.
    pub chunks: u32,
}

/// Request of [`Receipts`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptsCall {
    /// The model.
    pub name: ModelName,
    /// First log index to look at.
    pub from: u64,
    /// The header the audit stands under: the anchor in its state is used. Must be final here.
    pub height: u64,
}

/// Request of [`AuditProofs`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditProofsCall {
    /// The model.
    pub name: ModelName,
}

/// Answer to [`AuditProofs`], once its pieces are put together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvenAudit {
    /// The audit, with every provider's anchor and no receipt.
    pub export: AuditExport,
    /// Where this node believes those providers to be; nothing proves it.
    pub addresses: Vec<ProviderAddresses>,
}

/// Where one provider of a [`ProvenAudit`] may be reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderAddresses {
    /// The provider.
    pub provider: NodeId,
    /// Its addresses, at most [`crate::limits::ADDRESSES`].
    pub addresses: Vec<Address>,
}

/// Request of [`Describe`] and [`Prepare`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescribeCall {
    /// The model.
    pub name: ModelName,
    /// The version.
    pub version: u32,
}

/// Answer to [`Prepare`]. Nothing proves it: a wrong one gives wrong tensors, which the receipt of the call they are sent in names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepared {
    /// None if the model takes tensors alone.
    pub preparation: Option<Preparation>,
}

/// Request of [`ShowSample`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShowSampleCall {
    /// The leaf.
    pub leaf: Disputed,
}

/// Request of [`TellOutcome`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeCall {
    /// HPKE's encapsulated key, 32 bytes.
    pub encapsulated: ByteBuf,
    /// The sealed report; `info` is the encoding of [`crate::outcome::OutcomeInfo`].
    pub ciphertext: ByteBuf,
}

/// Answer to [`TellOutcome`], once it is on the owner's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeTaken {
    /// False if the same outcome was taken before: it counts once.
    pub fresh: bool,
}
