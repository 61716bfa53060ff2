//! Sixteen numbers side by side on each path, where the compiler does not keep them in registers by itself.

use crate::math::LANES;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// A vector of [`LANES`] numbers. Every lane is computed by itself, so all implementations give the same bits.
///
/// # Safety
/// Methods may be called only where the CPU has what the implementation says it needs, and are inlined into a function that
/// enables it.
pub(crate) trait Vector: Copy {
    /// All lanes the same.
    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(values: &[f32; LANES]) -> Self;
    unsafe fn store(self, values: &mut [f32; LANES]);
    /// `self · by + to`, rounded once.
    unsafe fn fma(self, by: Self, to: Self) -> Self;
}

/// Plain code; needs nothing.
impl Vector for [f32; LANES] {
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        [value; LANES]
    }

    #[inline(always)]
    unsafe fn load(values: &[f32; LANES]) -> Self {
        *values
    }

    #[inline(always)]
    unsafe fn store(self, values: &mut [f32; LANES]) {
        *values = self;
    }

    #[inline(always)]
    unsafe fn fma(self, by: Self, to: Self) -> Self {
        std::array::from_fn(|lane| self[lane].mul_add(by[lane], to[lane]))
    }
}

/// Needs `avx512f`.
#[cfg(target_arch = "x86_64")]
impl Vector for __m512 {
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: the caller has the feature.
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn load(values: &[f32; LANES]) -> Self {
        // SAFETY: the caller has the feature; sixteen numbers are there.
        unsafe { _mm512_loadu_ps(values.as_ptr()) }
    }

    #[inline(always)]
    unsafe fn store(self, values: &mut [f32; LANES]) {
        // SAFETY: the caller has the feature; sixteen numbers have room.
        unsafe { _mm512_storeu_ps(values.as_mut_ptr(), self) };
    }

    #[inline(always)]
    unsafe fn fma(self, by: Self, to: Self) -> Self {
        // SAFETY: the caller has the feature.
        unsafe { _mm512_fmadd_ps(self, by, to) }
    }
}

/// Two halves. Needs `avx2` and `fma`.
#[cfg(target_arch = "x86_64")]
impl Vector for [__m256; 2] {
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: the caller has the features.
        unsafe { [_mm256_set1_ps(value); 2] }
    }

    #[inline(always)]
    unsafe fn load(values: &[f32; LANES]) -> Self {
        // SAFETY: the caller has the features; sixteen numbers are there.
        unsafe { [_mm256_loadu_ps(values.as_ptr()), _mm256_loadu_ps(values.as_ptr().add(8))] }
    }

    #[inline(always)]
    unsafe fn store(self, values: &mut [f32; LANES]) {
        // SAFETY: the caller has the features; sixteen numbers have room.
        unsafe {
            _mm256_storeu_ps(values.as_mut_ptr(), self[0]);
            _mm256_storeu_ps(values.as_mut_ptr().add(8), self[1]);
        }
    }

    #[inline(always)]
    unsafe fn fma(self, by: Self, to: Self) -> Self {
        // SAFETY: the caller has the features.
        unsafe { [_mm256_fmadd_ps(self[0], by[0], to[0]), _mm256_fmadd_ps(self[1], by[1], to[1])] }
    }
}
