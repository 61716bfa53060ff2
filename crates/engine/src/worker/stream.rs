//! The caller's end of one generation.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use zero2ai_proto::calls::{StopReason, TokenPiece};

use super::jobs::JobGuard;
use crate::error::EngineError;

/// One item of a generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GenEvent {
    /// A token, with the text that became certain with it.
    Token(TokenPiece),
    /// The end; nothing follows.
    End {
        /// Why.
        reason: StopReason,
        /// Tokens of the prompt.
        prompt_tokens: u32,
    },
}

/// A running generation. Dropping it stops the work within one step. A caller that reads slowly holds nobody else up.
#[derive(Debug)]
pub struct GenerateStream {
    _job: JobGuard,
    events: mpsc::Receiver<Result<GenEvent, EngineError>>,
    end: watch::Receiver<Option<Arc<str>>>,
    over: bool,
}

impl GenerateStream {
    pub(super) const fn new(
        job: JobGuard,
        events: mpsc::Receiver<Result<GenEvent, EngineError>>,
        end: watch::Receiver<Option<Arc<str>>>,
    ) -> Self {
        Self { _job: job, events, end, over: false }
    }

    /// The next item; `None` after the end or after an error. Safe to cancel.
    ///
    /// # Errors
    /// [`EngineError::Failed`] with its fault, or [`EngineError::Died`].
    pub async fn next(&mut self) -> Option<Result<GenEvent, EngineError>> {
        if self.over {
            return None;
        }
        let item = self.events.recv().await.unwrap_or_else(|| {
            let why = self.end.borrow().as_deref().unwrap_or("it is being stopped").to_owned();
            Err(EngineError::Died(why))
        });
        self.over = !matches!(item, Ok(GenEvent::Token(_)));
        Some(item)
    }
}
