//! Text, token by token. When a provider dies in the middle, the next one is given the tokens that were shown and goes on
//! from there: what was shown is never contradicted and never doubled.

use std::{fmt, time::Duration};

use tokio::time::{Instant, timeout_at};
use zero2ai_proto::{
    Digest, NodeId,
    calls::{Generate, GenerateCall, GenerateInput, Generated, Prompt, StopReason, TokenPiece},
    kept::{CallInput, CallOutput, KeptCall},
    limits::NEW_TOKENS,
    receipt::{Receipt, Status},
};
use zero2ai_rpc::Replies;

use crate::{
    client::{Client, left},
    error::ClientError,
    order::{Order, Subject},
    predict::Line,
    resolve::{Resolution, ResolvedEndpoint},
};

/// How long a provider may take to its first token while another one could be asked: a model that is not in memory may have to
/// be loaded first. Longer, and whoever waits at one that hangs goes away; shorter, and providers on slow disks are left.
const FIRST_TOKEN: Duration = Duration::from_secs(10);
/// So many bytes of the prompt are read in one more second: a slow processor reads some 50 tokens of four bytes. Who is left for
/// being slower than that is asked no second time, and the next one is waited for to the end.
const PROMPT_BYTES_A_SECOND: u64 = 200;

/// One event of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextEvent {
    /// A token and the text that became certain with it.
    Token(TokenPiece),
    /// The end: nothing comes after it.
    Done(TextEnd),
}

/// How a text ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextEnd {
    /// Who ended it.
    pub node: NodeId,
    /// Why.
    pub reason: StopReason,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Checked receipts, one a provider, in order: of one that died the last checkpoint, if it gave one.
    pub receipts: Vec<Receipt>,
    /// The same with what was sent and what came, to be kept, checked and run again.
    pub calls: Vec<KeptCall>,
    /// Providers that failed before or in the middle.
    pub failed: usize,
}

/// A text being generated. Dropping it stops the work; the provider keeps a partial receipt.
pub struct TextStream {
    client: Client,
    subject: Subject,
    line: Line,
    input: GenerateInput,
    attempt: Option<Attempt>,
    /// What is kept of the providers before the present one.
    calls: Vec<KeptCall>,
    over: bool,
}

/// What one provider has said so far.
struct Attempt {
    endpoint: ResolvedEndpoint,
    order: Order,
    /// What it was asked: behind the tokens of those before it.
    input: GenerateInput,
    replies: Replies<Generate>,
    begun: Instant,
    tokens: Vec<u32>,
    checkpoint: Option<KeptCall>,
}

impl Attempt {
    /// What the provider has given, and what it may bill.
    fn given(&self) -> (&Vec<u32>, u64) {
        (&self.tokens, self.tokens.len() as u64)
    }

    /// The next item. With `leave`, one that gives no token in time is not waited for.
    async fn item(&mut self, leave: bool) -> Result<Generated, ClientError> {
        let node = self.endpoint.node;
        let item = if leave && self.tokens.is_empty() {
            let by = self.begun + first_token_within(&self.input);
            let overdue = |_| ClientError::Overdue { node: node.short(), after: self.begun.elapsed() };
            timeout_at(by, self.replies.next()).await.map_err(overdue)?
        } else {
            self.replies.next().await
        };
        let item = item.ok_or_else(|| ClientError::untrue(&node, "the text ends without its signature"))?;
        Ok(item?)
    }

    /// The call up to here, whose receipt was checked.
    fn kept(&self, receipt: Receipt) -> KeptCall {
        let (input, output) = (CallInput::Text(self.input.clone()), CallOutput::Tokens(self.tokens.clone()));
        KeptCall::new(receipt, self.order.secret(), input, output)
    }
}

impl fmt::Debug for TextStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TextStream({}, {} tokens so far)", self.subject.name, self.input.resume.len())
    }
}

impl Client {
    /// Begins a text at the nearest endpoint of `found`; `patience` is for all of it. `input.resume` may hold tokens to go
    /// on from.
    ///
    /// # Errors
    /// Nobody serves it; later failures come from [`TextStream::next`].
    pub async fn generate(
        &self,
        found: &Resolution,
        input: GenerateInput,
        patience: Duration,
    ) -> Result<TextStream, ClientError> {
        let line = Line::new(self, found, patience)?;
        let subject = Subject::from(found);
        let client = self.clone();
        let mut text = TextStream { client, subject, line, input, attempt: None, calls: Vec::new(), over: false };
        text.begin().await?;
        Ok(text)
    }
}

impl TextStream {
    /// The next event; `None` after [`TextEvent::Done`] or an error. Goes on to the next provider by itself when one fails, and,
    /// once a text, when one gives no token for some ten seconds and a second for every 200 bytes of prompt. Dropping the
    /// future loses nothing that was shown, but may cost an attempt.
    pub async fn next(&mut self) -> Option<Result<TextEvent, ClientError>> {
        if self.over {
            return None;
        }
        let event = self.advance().await;
        self.over = !matches!(event, Ok(TextEvent::Token(_)));
        if self.over {
            self.attempt = None;
        }
        Some(event)
    }

    /// Who gives it at the moment: after an event, who gave that; `None` at the end and between two providers.
    #[must_use]
    pub fn provider(&self) -> Option<NodeId> {
        self.attempt.as_ref().map(|attempt| attempt.endpoint.node)
    }

    async fn advance(&mut self) -> Result<TextEvent, ClientError> {
        loop {
            let Some(attempt) = self.attempt.as_mut() else {
                self.begin().await?;
                continue;
            };
            let leave = self.line.may_leave(&self.client);
            match attempt.item(leave).await.and_then(|item| self.take(item)) {
                Ok(Some(event)) => return Ok(event),
                Ok(None) => {}
                Err(error) => self.give_up(error)?,
            }
        }
    }

    /// Takes one item of the present provider's; `None` is nothing to show.
    fn take(&mut self, item: Generated) -> Result<Option<TextEvent>, ClientError> {
        let pool = self.client.inner.pool;
        let Some(attempt) = self.attempt.as_mut() else { return Ok(None) };
        match item {
            Generated::Token(piece) => {
                let most = self.input.sampling.max_tokens.min(NEW_TOKENS) as usize;
                if self.input.resume.len() >= most {
                    return Err(ClientError::untrue(
                        &attempt.endpoint.node,
                        "it gives more tokens than were asked for",
                    ));
                }
                attempt.tokens.push(piece.id);
                self.input.resume.push(piece.id);
                Ok(Some(TextEvent::Token(piece)))
            }
            Generated::Checkpoint(response) => {
                let receipt = attempt.order.check(&pool, response, attempt.given(), Status::Checkpoint)?;
                attempt.checkpoint = Some(attempt.kept(receipt));
                Ok(None)
            }
            Generated::Done(end) => {
                let receipt = attempt.order.check(&pool, end.response, attempt.given(), Status::Complete)?;
                self.client.inner.health.answered(&attempt.endpoint.node);
                self.client.inner.used.answered(&self.subject.name, self.subject.version, attempt.endpoint.node);
                self.calls.push(attempt.kept(receipt));
                let calls = std::mem::take(&mut self.calls);
                Ok(Some(TextEvent::Done(TextEnd {
                    node: attempt.endpoint.node,
                    reason: end.reason,
                    prompt_tokens: end.prompt_tokens,
                    receipts: calls.iter().map(|call| call.receipt.clone()).collect(),
                    calls,
                    failed: self.line.tried - 1,
                })))
            }
        }
    }

    /// Leaves the present provider, keeping what it signed; an error that holds everywhere is given back.
    fn give_up(&mut self, error: ClientError) -> Result<(), ClientError> {
        let Some(attempt) = self.attempt.take() else { return Err(error) };
        self.calls.extend(attempt.checkpoint);
        self.line.failed(&self.client, &attempt.endpoint, error)
    }

    /// Begins at the next endpoint that takes the request.
    async fn begin(&mut self) -> Result<(), ClientError> {
        loop {
            let endpoint = self.line.next(&self.client).await?;
            match self.begin_at(&endpoint).await {
                Ok((order, replies)) => {
                    let (input, begun) = (self.input.clone(), Instant::now());
                    let (tokens, checkpoint) = (Vec::new(), None);
                    self.attempt = Some(Attempt { endpoint, order, input, replies, begun, tokens, checkpoint });
                    return Ok(());
                }
                Err(error) => self.line.failed(&self.client, &endpoint, error)?,
            }
        }
    }

    /// Takes itself exclusively, so that a stream may be told from any thread though its reader cannot be shared.
    async fn begin_at(&mut self, endpoint: &ResolvedEndpoint) -> Result<(Order, Replies<Generate>), ClientError> {
        let peer = self.client.reach(endpoint, self.line.deadline).await?;
        let left = left(self.line.deadline);
        let parent: Option<Digest> = self.calls.last().map(|call| call.receipt.id()).transpose()?;
        let signer = (&self.client.inner.pool, &self.client.inner.key);
        let order = Order::sign(&self.subject, endpoint.node, &self.input, left, parent, signer)?;
        let call = GenerateCall { request: order.request.clone(), salt: order.salt(), input: self.input.clone() };
        Ok((order, peer.stream::<Generate>(&call, left).await?))
    }
}

/// How long a provider may take to its first token, if another one could be asked. All that the model reads first counts: the
/// prompt, and the tokens to go on from.
fn first_token_within(input: &GenerateInput) -> Duration {
    let prompt = match &input.prompt {
        Prompt::Text(text) => text.len(),
        Prompt::Chat(messages) => messages.iter().map(|message| message.content.len()).sum(),
    };
    let bytes = prompt.saturating_add(input.resume.len().saturating_mul(4)) as u64;
    FIRST_TOKEN + Duration::from_secs(bytes / PROMPT_BYTES_A_SECOND)
}

#[cfg(test)]
mod tests {
    use zero2ai_proto::{
        calls::{ChatMessage, ChatRole, Sampling},
        limits::PROMPT_BYTES,
    };

    use super::*;

    #[test]
    fn a_longer_prompt_is_waited_for_longer_whatever_it_is_made_of() {
        let within = |prompt, resume: usize| {
            let input = GenerateInput { prompt, sampling: Sampling::default(), resume: vec![7; resume] };
            first_token_within(&input).as_secs()
        };
        let said = |len: usize| ChatMessage { role: ChatRole::User, content: "a".repeat(len) };
        assert_eq!(within(Prompt::Text(String::new()), 0), 10);
        assert_eq!(within(Prompt::Text("a".repeat(2_000)), 0), 20);
        assert_eq!(within(Prompt::Chat(vec![said(1_500), said(500)]), 0), 20);
        assert_eq!(within(Prompt::Text(String::new()), 500), 20);
        assert_eq!(within(Prompt::Text("a".repeat(PROMPT_BYTES)), 0), 10 + 1_310);
    }
}
