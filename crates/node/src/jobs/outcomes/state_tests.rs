//! Disk and memory say the same, whatever fails in between.
#![allow(clippy::unwrap_used)]

use std::fs;

use zero2ai_proto::{
    Digest, ManifestId, PoolId, SecretKey, Signed,
    outcome::{Outcome, Shown, Truth},
    pool::Nonce,
    receipt::{Receipt, Request, Response, Status, request_hash},
};

use super::*;
use crate::jobs::outcomes::{Outcomes, show::Page};

const POOL: PoolId = PoolId([7; 32]);

fn report() -> OutcomeReport {
    report_of(5)
}

/// Of the call with this nonce.
fn report_of(nonce: u8) -> OutcomeReport {
    let key = SecretKey::from_bytes(&[1; 32]);
    let request = Request {
        provider: key.public(),
        name: "lab/m".parse().unwrap(),
        version: 1,
        manifest: ManifestId([4; 32]),
        commitment: Digest([5; 32]),
        nonce: Nonce([nonce; 16]),
        time_ms: 1,
        deadline_ms: 2,
        price_cap: 0,
        parent: None,
    };
    let request = Signed::sign(&request, &POOL, &key).unwrap();
    let response = Response {
        request: request_hash(&request).unwrap(),
        commitment: Digest([6; 32]),
        units: 1,
        status: Status::Complete,
        time_ms: 3,
    };
    let receipt = Receipt { request, response: Signed::sign(&response, &POOL, &key).unwrap() };
    let outcome = Outcome { receipt: Digest([0; 32]), truths: vec![Truth::Right(true)], time_ms: 1 };
    OutcomeReport::new(Signed::sign(&outcome, &POOL, &key).unwrap(), receipt, Shown::default())
}

fn kept(nth: u8, right: bool) -> Kept {
    Kept {
        place: 0,
        receipt: Digest([nth; 32]),
        said: Digest([1; 32]),
        account: SecretKey::from_bytes(&[1; 32]).public(),
        name: "lab/m".parse().unwrap(),
        version: 1,
        provider: SecretKey::from_bytes(&[2; 32]).public(),
        answered_ms: 1_000 + u64::from(nth),
        told_ms: 2_000 + u64::from(nth),
        truths: vec![Truth::Right(right)],
        rows: vec![(None, right)],
        has_input: false,
        bytes: 0,
        alarm: None,
    }
}

fn made(said: &drift::Alarm, rows: u64) -> Alarm {
    Alarm {
        version: 1,
        time_ms: 1,
        height: 9,
        detector: "ddm".into(),
        rows,
        before_ppm: 0,
        after_ppm: 1,
        round: None,
        accounts: said.accounts,
        needed: 1,
    }
}

fn take(state: &mut State, nth: u8, right: bool) -> Result<bool, RpcError> {
    state.take(kept(nth, right), &report(), &made)
}

fn open(home: &Path) -> State {
    State::open(home, Shares::default())
}

/// What a node knows of `lab/m`: places, and alarms with their rows and rounds.
fn known(state: &State) -> (Vec<u64>, Vec<(u64, Option<u64>)>) {
    let name = "lab/m".parse().unwrap();
    let alarms = state.alarms().iter().map(|(_, alarm)| (alarm.rows, alarm.round)).collect();
    (state.book.of(&name, 0).map(|kept| kept.place).collect(), alarms)
}

/// Sixty right answers and then wrong ones, until there is an alarm.
fn alarmed(state: &mut State) -> u8 {
    (0..60).for_each(|nth| assert!(take(state, nth, true).unwrap()));
    let wrong = (60..90).find(|nth| {
        take(state, *nth, false).unwrap();
        !state.alarms().is_empty()
    });
    wrong.unwrap()
}

#[test]
fn an_alarm_is_there_with_its_outcome_even_if_the_file_of_alarms_cannot_be_written() {
    let home = tempfile::tempdir().unwrap();
    let mut state = open(home.path());
    // A folder stands where the file is to be: each write of it fails.
    let file = files::alarms_file(home.path());
    fs::create_dir_all(file.join("full")).unwrap();
    let last = alarmed(&mut state);
    let before = known(&state);
    assert_eq!((before.0.len(), before.1.len()), (usize::from(last) + 1, 1));
    assert_eq!(known(&open(home.path())), before, "after a restart");
    // With the disk back in order it is saved with the next outcome, once, and answered for good.
    fs::remove_dir_all(&file).unwrap();
    let mut again = open(home.path());
    take(&mut again, last + 1, true).unwrap();
    assert_eq!(known(&open(home.path())).1, before.1);
    again.answer(&"lab/m".parse().unwrap(), 1, 4).unwrap();
    let answered = known(&open(home.path()));
    assert_eq!(answered.1, [(before.1[0].0, Some(4))]);
}

#[test]
fn a_write_that_fails_changes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let mut state = open(home.path());
    assert!(take(&mut state, 1, true).unwrap());
    assert!(!take(&mut state, 1, true).unwrap(), "the same again");
    let before = known(&state);
    let blocked = files::kept_file(home.path(), 1);
    fs::create_dir_all(blocked.join("full")).unwrap();
    take(&mut state, 2, false).unwrap_err();
    assert_eq!(known(&state), before);
    let watched = |state: &State| state.book.watches(&"lab/m".parse().unwrap()).map(|(_, w)| w.answers()).sum::<u64>();
    assert_eq!(watched(&state), 1, "the detectors have not heard of it");
    fs::remove_dir_all(&blocked).unwrap();
    assert!(take(&mut state, 2, false).unwrap());
    assert_eq!(known(&open(home.path())), known(&state));
    assert_eq!(watched(&state), 2);
}

#[test]
fn what_is_let_go_leaves_disk_and_memory_alike() {
    let home = tempfile::tempdir().unwrap();
    let shares = Shares { outcomes: 3, ..Shares::default() };
    let mut state = State::open(home.path(), shares);
    (0..6).for_each(|nth| assert!(take(&mut state, nth, true).unwrap()));
    assert_eq!(known(&state).0, [3, 4, 5]);
    assert_eq!(files::list(&files::kept_folder(home.path()), "report").len(), 3);
    let mut again = State::open(home.path(), shares);
    assert_eq!(known(&again), known(&state));
    assert!(take(&mut again, 2, true).is_err(), "its outcome was here");
    // What cannot be let go is not lost, and nothing more is taken beyond it.
    let pasts = files::pasts_file(home.path());
    fs::remove_file(&pasts).unwrap();
    fs::create_dir_all(pasts.join("full")).unwrap();
    assert!(take(&mut again, 6, true).unwrap(), "it is on disk");
    assert_eq!(known(&again).0, [3, 4, 5, 6]);
    take(&mut again, 7, true).unwrap_err();
    fs::remove_dir_all(&pasts).unwrap();
    assert!(take(&mut again, 7, true).unwrap());
    assert_eq!(known(&again).0, [5, 6, 7]);
}

#[test]
fn a_request_that_is_dropped_in_the_middle_leaves_nothing_half_done() {
    let home = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let outcomes = std::sync::Arc::new(Outcomes::open(home.path()));
    runtime.block_on(async {
        for nth in 0..20 {
            let work = move |state: &mut State| take(state, nth, true);
            let outcomes = std::sync::Arc::clone(&outcomes);
            let request = tokio::spawn(async move { outcomes.change(work).await });
            tokio::task::yield_now().await;
            request.abort();
            let _ = request.await;
        }
        // Waits for whatever has begun.
        let known = outcomes.change(|state| Ok(known(state))).await.unwrap();
        assert_eq!(super::tests::known(&open(home.path())), known);
        for nth in 0..20 {
            outcomes.change(move |state| take(state, nth, true)).await.unwrap();
        }
        let whole = outcomes.change(|state| Ok(super::tests::known(state))).await.unwrap();
        assert_eq!(whole.0.len(), 20, "what was not begun is taken when it is told again");
        assert_eq!(super::tests::known(&open(home.path())), whole);
    });
}

#[test]
fn a_damaged_report_is_counted_and_hinders_no_other() {
    let home = tempfile::tempdir().unwrap();
    let mut state = open(home.path());
    for nth in 0..3 {
        let report = report_of(nth);
        let receipt = report.receipt.id().unwrap();
        assert!(state.take(Kept { has_input: true, receipt, ..kept(nth, true) }, &report, &made).unwrap());
    }
    fs::write(files::report_file(home.path(), 1), b"damaged").unwrap();
    fs::copy(files::report_file(home.path(), 0), files::report_file(home.path(), 2)).unwrap();
    let name = "lab/m".parse().unwrap();
    let all: Vec<Kept> = state.book.of(&name, 0).cloned().collect();
    let mut page = Page::new(home.path().to_owned(), true);
    let told: Vec<_> = all.into_iter().map(|kept| page.read(kept)).collect();
    assert_eq!((told.len(), page.end(None).damaged), (3, 2), "one is no report, one another's");
    assert_eq!(told[1].rows, [(None, true)], "what was said of it is there");
}
