//! Something under way on the runtime. A blocking caller waits for it without Python's lock; an event loop has itself told.
//! Dropping or cancelling it stops the work.

use std::{
    future::Future,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use pyo3::{Py, PyAny, PyResult, Python, pyclass, pymethods};
use tokio::{runtime::Handle, task::AbortHandle};

use crate::{failure::Failure, runtime::runtime};

/// How often a blocking wait looks for Ctrl-C: not felt by a person, nothing for a machine.
const SIGNALS: Duration = Duration::from_millis(50);

/// Makes the Python value of a result, with Python's lock held.
pub(crate) type Value = Box<dyn FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send>;

enum State {
    Running,
    Done(Result<Value, Failure>),
    Taken,
}

struct Slot {
    state: State,
    /// Called once the state is [`State::Done`].
    callback: Option<Py<PyAny>>,
}

struct Shared {
    slot: Mutex<Slot>,
    done: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the first result and tells whoever waits.
    fn finish(&self, result: Result<Value, Failure>) {
        let mut slot = self.lock();
        if !matches!(slot.state, State::Running) {
            return;
        }
        slot.state = State::Done(result);
        let callback = slot.callback.take();
        drop(slot);
        self.done.notify_all();
        if let Some(callback) = callback {
            tell(callback);
        }
    }

    /// Waits a little; true once there is a result.
    fn wait(&self) -> bool {
        let running = |slot: &mut Slot| matches!(slot.state, State::Running);
        let waited = self.done.wait_timeout_while(self.lock(), SIGNALS, running);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

/// Calls back from a thread that may wait for Python's lock. At the end of the process nobody is left to be told.
fn tell(callback: Py<PyAny>) {
    let call = move || {
        Python::try_attach(|py| {
            if let Err(error) = callback.call0(py) {
                error.write_unraisable(py, None);
            }
        });
    };
    match Handle::try_current() {
        Ok(handle) => drop(handle.spawn_blocking(call)),
        Err(_) => call(),
    }
}

/// Whatever becomes of the work, a panic included, the waiting end.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.finish(Err(Failure::new("cancelled", "the call was cancelled before it was done")));
    }
}

/// Something under way.
#[pyclass(frozen)]
pub(crate) struct Task {
    shared: Arc<Shared>,
    abort: AbortHandle,
}

impl Task {
    /// Starts `work`.
    pub(crate) fn start<E: Into<Failure>>(
        py: Python<'_>,
        work: impl Future<Output = Result<Value, E>> + Send + 'static,
    ) -> PyResult<Self> {
        let runtime = runtime().map_err(|e| e.raise(py))?;
        let slot = Mutex::new(Slot { state: State::Running, callback: None });
        let shared = Arc::new(Shared { slot, done: Condvar::new() });
        let ending = Ending(Arc::clone(&shared));
        let work = async move {
            let result = work.await.map_err(Into::into);
            ending.0.finish(result);
        };
        Ok(Self { shared, abort: runtime.spawn(work).abort_handle() })
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

#[pymethods]
impl Task {
    /// Waits for the result without Python's lock. Ctrl-C cancels the work.
    fn wait(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        while !py.detach(|| self.shared.wait()) {
            if let Err(signal) = py.check_signals() {
                self.cancel();
                return Err(signal);
            }
        }
        self.result(py)
    }

    /// Has `callback` called without arguments, from another thread, once there is a result.
    fn then(&self, callback: Py<PyAny>) {
        let mut slot = self.shared.lock();
        if matches!(slot.state, State::Running) {
            slot.callback = Some(callback);
        } else {
            drop(slot);
            tell(callback);
        }
    }

    /// The result, once.
    fn result(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let state = std::mem::replace(&mut self.shared.lock().state, State::Taken);
        match state {
            State::Done(Ok(value)) => value(py),
            State::Done(Err(failure)) => Err(failure.raise(py)),
            State::Running | State::Taken => Err(Failure::new("internal", "there is no result to take").raise(py)),
        }
    }

    /// Stops the work.
    fn cancel(&self) {
        self.abort.abort();
    }
}
