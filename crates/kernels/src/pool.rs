//! Fork and join over threads that spin briefly for the next job and then sleep. Knows nothing of what a job computes.

use std::{
    any::Any,
    cell::UnsafeCell,
    hint::spin_loop,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError, TryLockError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
};

use crate::{KernelError, memory::Parts};

/// Threads of one pool, at most: far more than share one memory bus to profit.
pub const MAX_THREADS: usize = 256;

/// Looks at the state before a thread goes to sleep, or gives its turn away: some tens of microseconds, longer than what
/// lies between two products of one text, and too short to matter to other processes. Less, and every product pays a
/// wake-up; more, and idle threads take time from those that have work.
const SPINS: u32 = 4_000;

/// Bits of the state that count the workers inside the job.
const INSIDE: u64 = 0xffff;
/// Set while workers may enter the job.
const OPEN: u64 = 1 << 16;
/// Set when the pool is dropped.
const STOP: u64 = 1 << 17;
/// From this bit on, the job's number. It wraps after years.
const NUMBER: u32 = 18;

/// What is run: borrowed for the time of one call of [`Pool::run`].
type Work<'a> = dyn Fn() + Sync + 'a;

struct Shared {
    /// The number of the job, whether it may be entered, and how many are inside.
    state: AtomicU64,
    /// The job. Written by the thread that holds the turn while the state is closed and nobody is inside; read by workers
    /// that are inside.
    job: UnsafeCell<Option<*const Work<'static>>>,
    /// What the first worker that panicked said.
    broken: Mutex<Option<String>>,
}

// SAFETY: `job` is the only field that is not `Send` and `Sync`; the protocol on `state` (see `Pool::run` and `serve`)
// orders its one writer before its readers and the readers before the next write. What it points to is `Sync`.
unsafe impl Sync for Shared {}
// SAFETY: as above; the pointer has no tie to a thread.
unsafe impl Send for Shared {}

/// Threads that share out the units of a job. A worker that does not wake in time is not waited for: whoever is awake does
/// the work, so a busy machine slows the pool in proportion and no further.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Held by the thread whose job the workers help with.
    turn: Mutex<()>,
}

impl Pool {
    /// A pool that computes on so many threads (1 to [`MAX_THREADS`]), the caller's own being one of them.
    ///
    /// # Errors
    /// If the number is out of range or the system starts no more threads.
    pub fn new(threads: usize) -> Result<Self, KernelError> {
        if threads == 0 || threads > MAX_THREADS {
            return Err(KernelError::shape("threads of a pool", threads, format!("1 to {MAX_THREADS}")));
        }
        let shared =
            Arc::new(Shared { state: AtomicU64::new(0), job: UnsafeCell::new(None), broken: Mutex::new(None) });
        // Built first: should a thread fail to start, dropping it stops those that did.
        let mut pool = Self { shared, workers: Vec::new(), turn: Mutex::new(()) };
        for index in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let builder = thread::Builder::new().name(format!("kernels-{index}"));
            pool.workers.push(builder.spawn(move || serve(&shared)).map_err(KernelError::Thread)?);
        }
        Ok(pool)
    }

    /// Threads that compute, the caller's included.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.workers.len().saturating_add(1)
    }

    /// Runs `work` once for every unit in `0..units`, handed out as ranges of at most `at_once`, in no order, on all threads;
    /// returns when all are done. Work that is handed out in one range, or while another thread (or a job of this pool
    /// itself) uses the pool, runs on the calling thread alone: nothing waits for anything.
    ///
    /// # Errors
    /// If `work` panicked for some unit: others may or may not have been run. The pool can be used again.
    pub fn for_each(
        &self,
        units: usize,
        at_once: usize,
        work: &(dyn Fn(Range<usize>) + Sync),
    ) -> Result<(), KernelError> {
        let at_once = at_once.max(1);
        let ranges = units.div_ceil(at_once);
        let next = AtomicUsize::new(0);
        let share = || {
            loop {
                // Cannot wrap: each thread takes one number too many at most.
                let range = next.fetch_add(1, Ordering::Relaxed);
                if range >= ranges {
                    return;
                }
                let start = range.saturating_mul(at_once);
                work(start..start.saturating_add(at_once).min(units));
            }
        };
        if ranges > 1 { self.run(&share) } else { guarded(&share) }
    }

    /// Cuts `whole` into chunks of `len` (the last may be shorter) and runs `work` on each with its number, handing out
    /// `at_once` of them at a time. Otherwise like [`Self::for_each`].
    ///
    /// # Errors
    /// As [`Self::for_each`].
    pub fn for_each_chunk<T: Send>(
        &self,
        whole: &mut [T],
        len: usize,
        at_once: usize,
        work: &(dyn Fn(usize, &mut [T]) + Sync),
    ) -> Result<(), KernelError> {
        let len = len.max(1);
        let chunks = whole.len().div_ceil(len);
        let parts = Parts::new(whole);
        self.for_each(chunks, at_once, &|range| {
            for index in range {
                let start = index.saturating_mul(len);
                // SAFETY: `for_each` hands out every index once, and chunks of different indices do not overlap.
                let chunk = unsafe { parts.part(start..start.saturating_add(len)) };
                work(index, chunk);
            }
        })
    }

    /// Runs `work` on the calling thread and on every worker that wakes before the caller is through with it.
    fn run(&self, work: &Work<'_>) -> Result<(), KernelError> {
        let turn = match self.turn.try_lock() {
            Ok(turn) => turn,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return guarded(work),
        };
        let state = &self.shared.state;
        // SAFETY: only the lifetime is changed. Workers use the pointer only between entering and leaving; entering needs
        // an open state, and this function does not return (nor unwind: `guarded` catches) before the state is closed
        // and all have left.
        let job = unsafe { std::mem::transmute::<*const Work<'_>, *const Work<'static>>(work) };
        // SAFETY: this thread holds the turn, the state is closed and nobody is inside, so nobody else touches the cell.
        unsafe { *self.shared.job.get() = Some(job) };
        let number = (state.load(Ordering::Relaxed) >> NUMBER).wrapping_add(1);
        // Release: who enters sees the job.
        state.store((number << NUMBER) | OPEN, Ordering::Release);
        for worker in &self.workers {
            worker.thread().unpark(); // A system call only where the worker sleeps.
        }
        let own = guarded(work);
        let mut inside = state.fetch_and(!OPEN, Ordering::AcqRel) & INSIDE;
        let mut spins = 0;
        while inside != 0 {
            if spins < SPINS {
                spins += 1;
                spin_loop();
            } else {
                thread::yield_now(); // A worker was interrupted within its share: let it run.
            }
            // Acquire: what workers wrote before they left is seen from here on.
            inside = state.load(Ordering::Acquire) & INSIDE;
        }
        let broken = self.shared.broken.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(turn);
        own.and(broken.map_or(Ok(()), |why| Err(KernelError::Job(why))))
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.state.fetch_or(STOP, Ordering::Release);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            let _ = worker.join(); // It catches what its jobs throw.
        }
    }
}

/// A worker's life.
fn serve(shared: &Shared) {
    let (mut done, mut spins) = (0, 0);
    loop {
        let state = shared.state.load(Ordering::Relaxed);
        if state & STOP != 0 {
            return;
        }
        let number = state >> NUMBER;
        if state & OPEN == 0 || number == done {
            if spins < SPINS {
                spins += 1;
                spin_loop();
            } else {
                thread::park(); // An unpark that came before makes this return at once: no job is missed.
                spins = 0;
            }
            continue;
        }
        // Acquire: pairs with the store that opened this very job.
        let entered = shared.state.compare_exchange_weak(state, state + 1, Ordering::Acquire, Ordering::Relaxed);
        if entered.is_err() {
            continue;
        }
        (done, spins) = (number, 0);
        // SAFETY: this thread is inside an open job: the cell was written before it opened and is not written before all
        // have left.
        let job = unsafe { *shared.job.get() };
        // SAFETY: the job lives until all who entered have left, see `run`.
        if let Some(Err(KernelError::Job(why))) = job.map(|job| guarded(unsafe { &*job })) {
            shared.broken.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
        }
        // Release: the caller sees what was written here.
        shared.state.fetch_sub(1, Ordering::Release);
    }
}

/// Runs it; a panic becomes an error.
fn guarded(work: &Work<'_>) -> Result<(), KernelError> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| KernelError::Job(reason(panic.as_ref()).to_owned()))
}

fn reason(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given")
}
