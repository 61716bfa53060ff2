//! The client's methods. Each checks what it was given, starts a [`Task`], and returns at once.

use std::{
    path::PathBuf,
    str::FromStr as _,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use pyo3::{Py, PyResult, Python, pybacked::PyBackedBytes, pyclass, pyfunction, pymethods};
use tokio::time::{Instant, timeout_at};
use zero2ai_client::{Client, ClientError, Membership};
use zero2ai_proto::{
    ModelName, ModelRef, NodeId,
    calls::{ChatMessage, ChatRole, GenerateInput, Prompt, Sampling},
    decode,
    kept::KeptCall,
    limits::FRAME_BYTES,
    outcome::Truth,
    pool::Invite,
};

use crate::{
    audit,
    failure::Failure,
    shape::{self, Input},
    task::{Task, Value},
    text::Text,
};

/// The longest a caller may wait: beyond it clocks overflow, and nobody means it.
const PATIENCE: f64 = 86_400.0;
/// Bytes of calls that are read again: one of each provider of a text, each within a frame, or one prediction.
const KEPT_BYTES: usize = 2 * FRAME_BYTES;

fn seconds(timeout: f64) -> Result<Duration, Failure> {
    let fits = timeout > 0.0 && timeout <= PATIENCE;
    let read = Duration::try_from_secs_f64(timeout).ok().filter(|_| fits);
    read.ok_or_else(|| {
        Failure::invalid(format!("a timeout of {timeout} s: it must be above 0 and at most {PATIENCE} s"))
    })
}

/// A fraction in thousandths, as requests carry it.
fn milli(what: &str, value: f64, most: f64) -> Result<u32, Failure> {
    if !(0.0..=most).contains(&value) {
        return Err(Failure::invalid(format!("{what} is {value}: it must be from 0 to {most}")));
    }
    // In range, as was just checked.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    Ok((value * 1000.0).round() as u32)
}

fn name(text: &str) -> Result<ModelRef, Failure> {
    ModelRef::from_str(text).map_err(Failure::invalid)
}

/// Joins a pool with an invite, or connects again with the account in a file.
#[pyfunction]
pub(crate) fn connect(
    py: Python<'_>,
    invite: Option<String>,
    account: Option<PathBuf>,
    timeout: f64,
) -> PyResult<Task> {
    let read = || -> Result<_, Failure> {
        let invite = invite.map(|line| line.parse::<Invite>().map_err(Failure::invalid)).transpose()?;
        if invite.is_none() && account.is_none() {
            return Err(Failure::invalid("neither an invite nor an account was given: one of the two is needed"));
        }
        Ok((invite, Instant::now() + seconds(timeout)?))
    };
    let (invite, deadline) = read().map_err(|e| e.raise(py))?;
    Task::start(py, async move {
        let joined = async {
            match (&account, &invite) {
                (Some(path), invite) => Client::open(path, invite.as_ref()).await,
                (None, Some(invite)) => Ok(Client::join(Membership::new(invite)?, Some(invite)).await?.0),
                (None, None) => Err(ClientError::Randomness("no account".to_owned())),
            }
        };
        let late = |_| Failure::new("timeout", format!("no node of the pool let us in within {timeout} s"));
        let client = timeout_at(deadline, joined).await.map_err(late)??;
        Ok::<Value, Failure>(Box::new(|py| {
            let (account, pool) = (client.id().to_string(), client.pool().to_string());
            Ok(Py::new(py, Core { client: Mutex::new(Some(client)), account, pool })?.into_any())
        }))
    })
}

/// A client of one pool.
#[pyclass(frozen)]
pub(crate) struct Core {
    /// None once it is closed.
    client: Mutex<Option<Client>>,
    /// The account's key in hexadecimal.
    #[pyo3(get)]
    account: String,
    /// The pool's id in hexadecimal.
    #[pyo3(get)]
    pool: String,
}

impl Core {
    fn client(&self) -> Result<Client, Failure> {
        let client = self.client.lock().unwrap_or_else(PoisonError::into_inner).clone();
        client.ok_or_else(|| Failure::invalid("the client is closed"))
    }
}

#[pymethods]
impl Core {
    /// Closes its connections, once nothing is under way any more.
    fn close(&self) {
        drop(self.client.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Looks a name up, proved, with its endpoints measured.
    fn resolve(&self, py: Python<'_>, name: &str, fresh: bool, timeout: f64) -> PyResult<Task> {
        let read = || Ok((self.client()?, self::name(name)?, seconds(timeout)?));
        let (client, name, patience) = read().map_err(|e: Failure| e.raise(py))?;
        Task::start(py, async move {
            let found =
                tokio::time::timeout(patience, client.resolve(&name, fresh)).await.map_err(|_| late(&name))??;
            Ok::<Value, Failure>(Box::new(move |py| shape::resolution(py, &found)))
        })
    }

    /// What a model takes and gives.
    fn describe(&self, py: Python<'_>, name: &str, timeout: f64) -> PyResult<Task> {
        let read = || Ok((self.client()?, self::name(name)?, seconds(timeout)?));
        let (client, name, patience) = read().map_err(|e: Failure| e.raise(py))?;
        Task::start(py, async move {
            let described = async { client.describe(&*client.find(&name).await?, patience).await };
            let info = tokio::time::timeout(patience, described).await.map_err(|_| late(&name))??;
            Ok::<Value, Failure>(Box::new(move |py| shape::model(py, &info)))
        })
    }

    /// One prediction.
    fn predict(&self, py: Python<'_>, name: &str, inputs: Vec<Input<'_>>, timeout: f64) -> PyResult<Task> {
        let read = || {
            let tensors = inputs.iter().map(shape::tensor).collect::<Result<Vec<_>, _>>()?;
            Ok((self.client()?, self::name(name)?, seconds(timeout)?, tensors))
        };
        let (client, name, patience, tensors) = read().map_err(|e: Failure| e.raise(py))?;
        Task::start(py, async move {
            let deadline = Instant::now() + patience;
            let found = timeout_at(deadline, client.find(&name)).await.map_err(|_| late(&name))??;
            let left = deadline.saturating_duration_since(Instant::now());
            let answer = client.predict(&found, tensors, left).await.inspect_err(|_| client.forget(&name))?;
            let pool = client.pool();
            Ok::<Value, Failure>(Box::new(move |py| shape::prediction(py, answer, &pool)))
        })
    }

    /// One prediction of pictures or a sound: the contents of files.
    fn predict_content(
        &self,
        py: Python<'_>,
        name: &str,
        contents: Vec<PyBackedBytes>,
        timeout: f64,
    ) -> PyResult<Task> {
        let read = || Ok((self.client()?, self::name(name)?, seconds(timeout)?));
        let (client, name, patience) = read().map_err(|e: Failure| e.raise(py))?;
        let contents = contents.iter().map(|content| content.to_vec()).collect();
        Task::start(py, async move {
            let deadline = Instant::now() + patience;
            let left = || deadline.saturating_duration_since(Instant::now());
            let found = timeout_at(deadline, client.find(&name)).await.map_err(|_| late(&name))??;
            let tensors = client.prepare(&found, contents, left()).await?;
            let answer = client.predict(&found, tensors, left()).await.inspect_err(|_| client.forget(&name))?;
            let pool = client.pool();
            Ok::<Value, Failure>(Box::new(move |py| shape::prediction(py, answer, &pool)))
        })
    }

    /// Begins a text.
    #[allow(clippy::too_many_arguments)] // Python's keyword arguments, gathered into one request here.
    fn generate(
        &self,
        py: Python<'_>,
        name: &str,
        prompt: PromptGiven,
        max_tokens: u32,
        sampling: (f64, u32, f64, u64),
        stop: Vec<String>,
        timeout: f64,
    ) -> PyResult<Task> {
        let read = || {
            let (temperature, top_k, top_p, seed) = sampling;
            let sampling = Sampling {
                max_tokens,
                temperature_milli: milli("temperature", temperature, 100.0)?,
                top_k,
                top_p_milli: milli("top_p", top_p, 1.0)?,
                seed,
                stop,
                ..Sampling::default()
            };
            let input = GenerateInput { prompt: prompt.read()?, sampling, resume: Vec::new() };
            Ok((self.client()?, self::name(name)?, seconds(timeout)?, input))
        };
        let (client, name, patience, input) = read().map_err(|e: Failure| e.raise(py))?;
        Task::start(py, async move {
            let deadline = Instant::now() + patience;
            let found = timeout_at(deadline, client.find(&name)).await.map_err(|_| late(&name))??;
            let left = deadline.saturating_duration_since(Instant::now());
            let stream = client.generate(&found, input, left).await.inspect_err(|_| client.forget(&name))?;
            let text = Text::new(stream, client.pool());
            Ok::<Value, Failure>(Box::new(move |py| Ok(Py::new(py, text)?.into_any())))
        })
    }

    /// Everything the ledger and the providers know of a model, checked.
    fn audit(&self, py: Python<'_>, name: &str, timeout: f64) -> PyResult<Task> {
        let read = || Ok((self.client()?, ModelName::from_str(name).map_err(Failure::invalid)?, seconds(timeout)?));
        let (client, name, patience) = read().map_err(|e: Failure| e.raise(py))?;
        Task::start(py, async move {
            // The providers' part ends by itself in time; the ledger's is waited for here.
            let audit = client.audit(&name, patience).await?;
            Ok::<Value, Failure>(Box::new(move |py| audit::audit(py, &audit)))
        })
    }

    /// What was true of a kept call, for the model's owner: classes, or else whether the answer was right.
    fn tell_outcome(
        &self,
        py: Python<'_>,
        call: &[u8],
        labels: Vec<u16>,
        right: bool,
        with_input: bool,
        timeout: f64,
    ) -> PyResult<Task> {
        let read = || {
            let calls = decode::<Vec<KeptCall>>(call, KEPT_BYTES).map_err(Failure::invalid)?;
            let call =
                calls.into_iter().next_back().ok_or_else(|| Failure::invalid("there is no call in these bytes"))?;
            Ok((self.client()?, call, seconds(timeout)?))
        };
        let (client, call, patience) = read().map_err(|e: Failure| e.raise(py))?;
        let truths = match labels.is_empty() {
            true => vec![Truth::Right(right)],
            false => labels.into_iter().map(Truth::Class).collect(),
        };
        Task::start(py, async move {
            let told = client.tell_outcome(call, truths, with_input, patience);
            let late = |_| {
                Failure::new("timeout", "the model's owner did not answer within the time allowed: tell it again later")
            };
            let sent = tokio::time::timeout(patience, told).await.map_err(late)??;
            Ok::<Value, Failure>(Box::new(move |py| shape::outcome(py, &sent)))
        })
    }

    /// The receipts of a model that one provider has anchored and shows to this account, from log index `from` on.
    fn receipts(&self, py: Python<'_>, name: &str, provider: &str, from: u64, timeout: f64) -> PyResult<Task> {
        let read = || {
            let provider = NodeId::from_str(provider).map_err(Failure::invalid)?;
            Ok((self.client()?, self::name(name)?, provider, seconds(timeout)?))
        };
        let (client, name, provider, patience) = read().map_err(|e: Failure| e.raise(py))?;
        Task::start(py, async move {
            let gathered = async {
                let found = client.find(&name).await?;
                let addresses = found.endpoints.iter().find(|e| e.node == provider).map(|e| e.addresses.as_slice());
                let (_, header) = client.head().await?;
                client.receipts(provider, addresses.unwrap_or_default(), &name.name, from, &header).await
            };
            let found = tokio::time::timeout(patience, gathered).await.map_err(|_| late(&name))??;
            let pool = client.pool();
            Ok::<Value, Failure>(Box::new(move |py| shape::logged(py, &found, &pool)))
        })
    }
}

fn late(name: &ModelRef) -> Failure {
    Failure::new("timeout", format!("{name}: no whole answer within the time allowed: allow more, or ask for less"))
}

/// What a text starts from: text as it stands, or (role, content) pairs for the model's own chat template.
#[derive(pyo3::FromPyObject)]
pub(crate) enum PromptGiven {
    Text(String),
    Chat(Vec<(String, String)>),
}

impl PromptGiven {
    fn read(self) -> Result<Prompt, Failure> {
        let role = |word: &str| match word {
            "system" => Ok(ChatRole::System),
            "user" => Ok(ChatRole::User),
            "assistant" => Ok(ChatRole::Assistant),
            other => Err(Failure::invalid(format!("role {other:?}: it must be system, user or assistant"))),
        };
        Ok(match self {
            Self::Text(text) => Prompt::Text(text),
            Self::Chat(said) => {
                let message = |(who, content): (String, String)| Ok(ChatMessage { role: role(&who)?, content });
                Prompt::Chat(said.into_iter().map(message).collect::<Result<_, Failure>>()?)
            }
        })
    }
}
