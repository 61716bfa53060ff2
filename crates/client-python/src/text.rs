//! A text that comes token by token.

use std::sync::Arc;

use pyo3::{IntoPyObject as _, PyResult, Python, pyclass, pymethods};
use tokio::sync::Mutex;
use zero2ai_client::{ClientError, TextEvent, TextStream};
use zero2ai_proto::PoolId;

use crate::{
    shape,
    task::{Task, Value},
};

/// A text under way. Dropping it stops the provider's work.
#[pyclass(frozen)]
pub(crate) struct Text {
    stream: Arc<Mutex<TextStream>>,
    pool: PoolId,
}

impl Text {
    pub(crate) fn new(stream: TextStream, pool: PoolId) -> Self {
        Self { stream: Arc::new(Mutex::new(stream)), pool }
    }
}

#[pymethods]
impl Text {
    /// The next event: `(id, text, provider)` of a token, a dictionary at the end, `None` after it.
    fn next(&self, py: Python<'_>) -> PyResult<Task> {
        let (stream, pool) = (self.stream.clone(), self.pool);
        Task::start(py, async move {
            let mut stream = stream.lock().await;
            let event = stream.next().await.transpose()?;
            let node = stream.provider().map(|node| node.to_string());
            Ok::<Value, ClientError>(Box::new(move |py| match event {
                Some(TextEvent::Token(piece)) => {
                    Ok((piece.id, piece.text, node).into_pyobject(py)?.into_any().unbind())
                }
                Some(TextEvent::Done(end)) => shape::end(py, &end, &pool),
                None => Ok(py.None()),
            }))
        })
    }
}
