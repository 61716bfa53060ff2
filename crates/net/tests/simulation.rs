//! The short form of the simulation in `examples/dht`: forty real swarms over a network in memory. What it shows in the
//! large, with a thousand nodes and churn, is in `testnet/RESULTS.md`.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, missing_docs)]

#[path = "../examples/dht/hostile.rs"]
mod hostile;
#[path = "../examples/dht/report.rs"]
mod report;
#[path = "../examples/dht/truth.rs"]
mod truth;
#[path = "../examples/dht/wire.rs"]
mod wire;
#[path = "../examples/dht/world.rs"]
mod world;

use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};

use report::{Lookup, Report};
use world::Plan;

fn plan() -> Plan {
    Plan {
        nodes: 40,
        churn: 0,
        window: Duration::from_secs(8),
        hostile: 0,
        sybils: 0,
        seed: 7,
        rtt: Duration::from_millis(10),
        joins_per_second: 20,
        records: 10,
        lookups_per_second: 20,
        calm: Duration::from_secs(4),
        progress: false,
    }
}

/// One run at a time: three pools at once are more than two cores can hold.
async fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::const_new(());
    TURN.lock().await
}

/// Timers later than this: the machine is busy with other things, and lookups end for that alone.
const TOO_LATE_MS: u64 = 100;

/// Every kind of lookup was made, nearly all found the truth, and none was given anything else. The last holds on any
/// machine; the share is no property of one that cannot keep up.
fn check(report: &mut Report, beside_sybils: bool) {
    let mut asked = 0;
    let late = report.lag_p99_ms > TOO_LATE_MS;
    if late {
        eprintln!("SKIPPED the shares: timers were {} ms late; forgeries alone were looked for", report.lag_p99_ms);
    }
    for ((lookup, sybils), kind) in &report.tally.0 {
        if *sybils == beside_sybils {
            asked += kind.asked;
            assert!(late || kind.success_permille() >= 950, "{lookup:?} beside sybils {sybils}: {kind:?}");
        }
        assert_eq!(kind.forged, 0, "{lookup:?}: {kind:?}");
    }
    assert!(asked > 10, "{asked} lookups were made");
    assert!(report.tally.0.keys().any(|(lookup, _)| *lookup == Lookup::Newest));
}

/// A fifth of the pool is hostile: half of it lies about records, providers and who is closer, half never answers.
#[tokio::test(flavor = "multi_thread")]
async fn a_fifth_of_hostile_members_forges_nothing_and_hides_little() {
    let _alone = alone().await;
    let mut report = world::run(Plan { hostile: 20, ..plan() }).await;
    assert!(report.lies > 50, "they did lie: {} times", report.lies);
    check(&mut report, false);
}

/// Twenty members whose identities are closer to a key than anyone's: all that is put there alone is theirs.
#[tokio::test(flavor = "multi_thread")]
async fn sybils_beside_a_key_do_not_hide_what_it_names() {
    let _alone = alone().await;
    let mut report = world::run(Plan { sybils: 20, ..plan() }).await;
    assert!(report.lies > 20, "they did lie: {} times", report.lies);
    check(&mut report, true);
}

/// A twentieth of the pool leaves in these seconds, half of it without a word, and as many come.
#[tokio::test(flavor = "multi_thread")]
async fn records_outlive_nodes_that_come_and_go() {
    let _alone = alone().await;
    let mut report = world::run(Plan { churn: 2_000, ..plan() }).await;
    check(&mut report, false);
}
