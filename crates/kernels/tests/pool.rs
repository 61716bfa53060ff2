//! The pool: every unit once, panics survived, no deadlock where it is used from within or from two threads.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use zero2ai_kernels::{KernelError, MAX_THREADS, Pool};

#[test]
fn every_unit_runs_once() {
    for threads in [1, 2, 5] {
        let pool = Pool::new(threads).unwrap();
        assert_eq!(pool.threads(), threads);
        for (units, at_once) in [(0, 1), (1, 1), (7, 3), (1000, 1), (1000, 0), (1000, usize::MAX)] {
            let counts: Vec<_> = (0..units).map(|_| AtomicUsize::new(0)).collect();
            pool.for_each(units, at_once, &|range| {
                assert!(!range.is_empty() && range.len() <= at_once.max(1));
                range.for_each(|unit| _ = counts[unit].fetch_add(1, Ordering::Relaxed));
            })
            .unwrap();
            assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 1), "{units} units, {at_once} at once");
        }
    }
}

#[test]
fn thousands_of_small_jobs_lose_nothing() {
    let pool = Pool::new(4).unwrap();
    let mut numbers = vec![0_u32; 64];
    for round in 1..=20_000 {
        pool.for_each_chunk(&mut numbers, 3, 1, &|_, chunk| chunk.iter_mut().for_each(|n| *n += 1)).unwrap();
        assert!(numbers.iter().all(|n| *n == round), "round {round}");
    }
}

#[test]
fn workers_help_awake_or_asleep() {
    let pool = Pool::new(2).unwrap();
    for pause in [Duration::ZERO, Duration::from_millis(30)] {
        thread::sleep(pause);
        let both = std::sync::Barrier::new(2);
        // Each unit waits for the other: this ends only where two threads are at work.
        pool.for_each(2, 1, &|_| _ = both.wait()).unwrap();
    }
}

#[test]
fn a_panic_is_an_error_and_the_pool_goes_on() {
    let pool = Pool::new(3).unwrap();
    for bad in 0..40 {
        let result = pool.for_each(40, 1, &|range| assert!(!range.contains(&bad), "unit {bad} broke"));
        let Err(KernelError::Job(why)) = result else { panic!("no error for unit {bad}") };
        assert_eq!(why, format!("unit {bad} broke"));
        let done = AtomicUsize::new(0);
        pool.for_each(40, 1, &|range| _ = done.fetch_add(range.len(), Ordering::Relaxed)).unwrap();
        assert_eq!(done.load(Ordering::Relaxed), 40);
    }
    let result = pool.for_each(9, 1, &|_| std::panic::panic_any(5));
    assert!(matches!(result, Err(KernelError::Job(_))));
    let result = pool.for_each(1, 1, &|_| panic!("alone"));
    assert!(matches!(result, Err(KernelError::Job(why)) if why == "alone"));
}

#[test]
fn a_pool_in_use_runs_jobs_alone() {
    let pool = Pool::new(2).unwrap();
    let count = AtomicUsize::new(0);
    let add = |n: usize| _ = count.fetch_add(n, Ordering::Relaxed);
    pool.for_each(10, 1, &|_| pool.for_each(10, 1, &|range| add(range.len())).unwrap()).unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..500).for_each(|_| pool.for_each(10, 1, &|range| add(range.len())).unwrap()));
        }
    });
    assert_eq!(count.load(Ordering::Relaxed), 100 + 4 * 500 * 10);
}

#[test]
fn numbers_of_threads_are_bounded() {
    assert!(Pool::new(0).is_err() && Pool::new(MAX_THREADS + 1).is_err());
}
