//! Nothing is read or written beyond the buffers that callers lend: each stands against a page that may not be touched, behind
//! it or before it. A load or store one number too far ends this test's process.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{
    ffi::{c_int, c_long, c_void},
    ops::{Deref, DerefMut},
};

use common::{FORMATS, Random, bits};
use zero2ai_kernels::{
    Attend, BLOCK, KeyValues, Packed, Path, Pool, Product, Rows, add, attend, gate_silu, multiply, rms_norm, rotate,
};

// The three calls that are needed; the C library is linked anyway.
unsafe extern "C" {
    fn mmap(at: *mut c_void, len: usize, protection: c_int, flags: c_int, file: c_int, offset: c_long) -> *mut c_void;
    fn mprotect(at: *mut c_void, len: usize, protection: c_int) -> c_int;
    fn munmap(at: *mut c_void, len: usize) -> c_int;
}
const READ_WRITE: c_int = 3;
const NOTHING: c_int = 0;
#[cfg(target_os = "linux")]
const PRIVATE_ANONYMOUS: c_int = 0x22;
#[cfg(not(target_os = "linux"))]
const PRIVATE_ANONYMOUS: c_int = 0x1002;
/// Larger than any machine's page, so that it is a multiple of it.
const PAGE: usize = 65_536;

/// Numbers between two pages that may not be touched: at the end of theirs, or at its start.
struct Guarded<T> {
    map: *mut u8,
    len: usize,
    start: *mut T,
    count: usize,
}

impl<T: Copy> Guarded<T> {
    fn new(values: &[T], at_end: bool) -> Self {
        let bytes = size_of_val(values);
        let inner = bytes.next_multiple_of(PAGE).max(PAGE);
        let len = inner + 2 * PAGE;
        // SAFETY: new private memory is asked for; the two outer pages lie within it.
        let map: *mut u8 = unsafe {
            let map = mmap(std::ptr::null_mut(), len, READ_WRITE, PRIVATE_ANONYMOUS, -1, 0);
            assert!(map as isize != -1, "no memory");
            let map: *mut u8 = map.cast();
            assert_eq!(mprotect(map.cast(), PAGE, NOTHING), 0);
            assert_eq!(mprotect(map.add(len - PAGE).cast(), PAGE, NOTHING), 0);
            map
        };
        let offset = PAGE + if at_end { inner - bytes } else { 0 };
        // SAFETY: the place lies within the inner pages and has room for the values. Their size is a multiple of their
        // alignment and the inner pages end and start at a page, so the place is aligned.
        let start = unsafe {
            let start = map.add(offset).cast::<T>();
            start.copy_from_nonoverlapping(values.as_ptr(), values.len());
            start
        };
        Self { map, len, start, count: values.len() }
    }
}

impl<T> Deref for Guarded<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: written in `new`, and lent through this owner only.
        unsafe { std::slice::from_raw_parts(self.start, self.count) }
    }
}

impl<T> DerefMut for Guarded<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.count) }
    }
}

impl<T> Drop for Guarded<T> {
    fn drop(&mut self) {
        // SAFETY: this owner's own mapping, which nothing refers to any more.
        unsafe { munmap(self.map.cast(), self.len) };
    }
}

#[test]
fn a_guard_guards() {
    for at_end in [false, true] {
        let mut guarded = Guarded::new(&[1.0_f32, 2.0, 3.0], at_end);
        guarded[2] = 4.0;
        assert_eq!(&*guarded, [1.0, 2.0, 4.0]);
        let place = guarded.start as usize - guarded.map as usize;
        assert_eq!(if at_end { place + 12 } else { place }, if at_end { 2 * PAGE } else { PAGE });
    }
    assert!(Guarded::<f32>::new(&[], true).is_empty());
}

#[test]
fn products_stay_within_their_buffers() {
    let mut random = Random(11);
    let pools = [Pool::new(1).unwrap(), Pool::new(2).unwrap()];
    for at_end in [true, false] {
        for format in FORMATS {
            for (n, blocks) in [(1, 1), (15, 3), (16, 1), (17, 2), (49, 18)] {
                let k = blocks * BLOCK;
                let bytes = Guarded::new(&random.blocks(format, n, k), at_end);
                let packed = Packed::new(format, &bytes, n, k).unwrap();
                assert_eq!(packed.unpack(), *bytes);
                let mut row = Guarded::new(&vec![0.0; k], at_end);
                (0..n).for_each(|index| packed.row(index, &mut row).unwrap());
                for rows in [0, 1, 3, 4, 5, 15, 16, 17, 33] {
                    let x = Guarded::new(&random.numbers(rows * k), at_end);
                    let mut first = None;
                    for (path, pool) in Path::available().flat_map(|path| pools.iter().map(move |pool| (path, pool))) {
                        let mut out = Guarded::new(&vec![0.0; rows * n], at_end);
                        let mut quantised = Rows::new(path);
                        quantised.fill(pool, &x, k).unwrap();
                        multiply(pool, &quantised, &mut [Product { weights: &packed, out: &mut out }]).unwrap();
                        let got = bits(&out);
                        assert_eq!(*first.get_or_insert_with(|| got.clone()), got, "{}", path.name());
                    }
                }
            }
        }
    }
}

#[test]
fn layers_stay_within_their_buffers() {
    let mut random = Random(12);
    let pool = Pool::new(2).unwrap();
    for at_end in [true, false] {
        for path in Path::available() {
            for (rows, width) in [(0, 6), (1, 2), (3, 30), (2, 576), (33, 34)] {
                let mut guarded = |count: usize| Guarded::new(&random.numbers(count), at_end);
                let (x, weights) = (guarded(rows * width), guarded(width));
                let (mut out, mut gate, up) = (guarded(rows * width), guarded(rows * width), guarded(rows * width));
                rms_norm(&pool, path, &x, &weights, 1e-5, &mut out).unwrap();
                gate_silu(&pool, path, &mut gate, &up).unwrap();
                add(&pool, path, &mut gate, &x).unwrap();
                let angles = Guarded::new(&vec![[0.6_f32, 0.8]; rows * (width / 2)], at_end);
                rotate(&pool, path, &mut gate, width, &angles).unwrap();
                assert!(gate.iter().chain(out.iter()).all(|v| v.is_finite()));
            }
        }
    }
}

#[test]
fn attention_stays_within_its_buffers() {
    let mut random = Random(13);
    let pool = Pool::new(2).unwrap();
    for at_end in [true, false] {
        for path in Path::available() {
            for (rows, heads, kv_heads, dim) in [(1, 1, 1, 1), (5, 6, 2, 17), (16, 9, 3, 64), (33, 3, 1, 20)] {
                let mut page = KeyValues::new(kv_heads, dim, rows).unwrap();
                let mut guarded = |count: usize| Guarded::new(&random.numbers(count), at_end);
                let (keys, values) = (guarded(rows * kv_heads * dim), guarded(rows * kv_heads * dim));
                page.store(0, &keys, &values).unwrap();
                let (query, mut out) = (guarded(rows * heads * dim), guarded(rows * heads * dim));
                let sequence = Attend { pages: &[&page], rows, first: 0 };
                attend(&pool, path, &query, heads, &[sequence], &mut out).unwrap();
                assert!(out.iter().all(|v| v.is_finite()));
            }
        }
    }
}
