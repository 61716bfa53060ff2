//! Buffers aligned for vector loads, and slices whose parts several threads fill. Knows nothing of what is in them.

use std::{marker::PhantomData, ops::Range, slice};

use crate::KernelError;

/// A cache line, and the widest vector.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Zeroed bytes that start at a cache line.
#[derive(Default)]
pub(crate) struct Lines(Vec<Line>);

impl Lines {
    pub(crate) fn zeroed(bytes: usize, what: &'static str) -> Result<Self, KernelError> {
        let mut lines = Self::default();
        lines.grow(bytes, what)?;
        Ok(lines)
    }

    /// Makes it at least so long; it never shrinks.
    pub(crate) fn grow(&mut self, bytes: usize, what: &'static str) -> Result<(), KernelError> {
        let lines = bytes.div_ceil(64);
        let more = lines.saturating_sub(self.0.len());
        self.0.try_reserve_exact(more).map_err(|_| KernelError::Memory { what, bytes })?;
        self.0.resize(lines.max(self.0.len()), Line([0; 64]));
        Ok(())
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: `Line` is 64 initialised bytes without padding, so so many bytes are there; they live as long as `self`.
        unsafe { slice::from_raw_parts(self.0.as_ptr().cast(), size_of_val(self.0.as_slice())) }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and borrowed uniquely; any byte is a valid byte of a `Line`.
        unsafe { slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), size_of_val(self.0.as_slice())) }
    }
}

/// A vector of zeros, or an error rather than an abort where memory is short.
pub(crate) fn zeros<T: Clone + Default>(len: usize, what: &'static str) -> Result<Vec<T>, KernelError> {
    let mut values = Vec::new();
    let bytes = len.saturating_mul(size_of::<T>());
    values.try_reserve_exact(len).map_err(|_| KernelError::Memory { what, bytes })?;
    values.resize(len, T::default());
    Ok(values)
}

/// A slice lent to several threads, each of which writes places of its own.
pub(crate) struct Parts<'a, T> {
    start: *mut T,
    len: usize,
    lent: PhantomData<&'a mut [T]>,
}

// SAFETY: it hands out `&mut T` across threads under the contract of `part`, which is what `Send` allows; no `&T` is shared.
unsafe impl<T: Send> Sync for Parts<'_, T> {}

impl<'a, T> Parts<'a, T> {
    pub(crate) const fn new(whole: &'a mut [T]) -> Self {
        Self { start: whole.as_mut_ptr(), len: whole.len(), lent: PhantomData }
    }

    /// A pointer to where this range starts, if it lies within the slice. What is written through it must stay within what
    /// no other thread uses at the time.
    pub(crate) fn pointer(&self, range: Range<usize>) -> Option<*mut T> {
        // SAFETY: the start lies within the slice or at its end.
        (range.start <= range.end && range.end <= self.len).then(|| unsafe { self.start.add(range.start) })
    }

    /// A part of the slice, cut to its bounds.
    ///
    /// # Safety
    /// While the part is used, no other that overlaps it may be.
    #[allow(clippy::mut_from_ref, reason = "that is what it is for; the contract keeps the parts apart")]
    pub(crate) unsafe fn part(&self, range: Range<usize>) -> &mut [T] {
        let end = range.end.min(self.len);
        let start = range.start.min(end);
        // SAFETY: `start..end` lies within the slice, which is borrowed uniquely for 'a; the caller keeps parts disjoint.
        unsafe { slice::from_raw_parts_mut(self.start.add(start), end - start) }
    }
}
