//! A pool across two NATs, in short: the whole tour with figures is `cargo run -p zero2ai-testnet --bin nat`. Skipped, with a
//! word, where this machine cannot make namespaces.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Mutex;

use zero2ai_testnet::nat::{Kind, Lab, Options, missing};

/// Namespaces have fixed names: one world at a time.
static WORLD: Mutex<()> = Mutex::new(());

fn tour(nats: Kind) {
    if let Some(what) = missing() {
        return eprintln!("skipped: {what}");
    }
    let _one = WORLD.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let options = Options { nats, predictions: 0, bulk_mib: 0, kill_relay: false };
    println!("{:#}", Lab::new(options).unwrap().run().unwrap());
}

#[test]
fn behind_cones_members_find_each_other_and_a_hole_is_punched() {
    tour(Kind::Cone);
}

#[test]
fn behind_symmetric_nats_everything_goes_through_the_relay() {
    tour(Kind::Symmetric);
}
