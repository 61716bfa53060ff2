//! Fault loops: real processes are cut off at random moments again and again, and whatever they had acknowledged must be
//! there afterwards, whole. The program `faults` runs them; a seed fixes every moment it draws (what the operating system
//! was doing at that moment no seed can fix).
//!
//! | module | owns |
//! |---|---|
//! | [`publish`] | a node cut off while it publishes, by SIGKILL or by a power cut |
//! | [`fetch`] | a node killed while it fetches, or while another fetches from it |
//! | [`chain`] | signers killed while they make something final |
//! | [`perturb`] | signers paused, killed, cut off or started anew, and how soon they are back |
//! | [`power`] | a writer into a store, cut off from power |
//! | [`writer`] | that writer, and the check of what it had acknowledged |
//! | [`image`] | a file system in a file, and its power switch |
//! | [`audit`] | every file of a home that nobody has open is whole |
//! | [`model`] | models large enough for a fault to land inside |
//! | [`wires`] | a network whose wires can be pulled out |
//! | [`rng`] | numbers that a seed fixes |

pub mod audit;
pub mod chain;
pub mod fetch;
pub mod image;
pub mod model;
pub mod perturb;
pub mod power;
pub mod publish;
pub mod rng;
pub mod wires;
pub mod writer;

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};

use rng::Rng;

/// Failed runs after which a loop gives up.
const ENOUGH: usize = 10;
/// How often a loop says how far it is.
const WORD: Duration = Duration::from_secs(10);

/// What one run saw. A run that finds something wrong is an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ran {
    /// The fault fell before the work in hand was acknowledged.
    pub inside: bool,
    /// Pieces of work acknowledged in this run.
    pub acknowledged: u64,
    /// Acknowledged ones, of this and earlier runs, that were looked at after the fault and found whole.
    pub checked: u64,
    /// What was half done went on from where it was.
    pub resumed: bool,
}

/// One kind of fault under one kind of work. What it builds up lives through many runs.
pub trait Scenario {
    /// One run: work, fault, restart, checks.
    ///
    /// # Errors
    /// Something acknowledged is lost or not whole, or the run itself could not be carried out.
    fn run(&mut self, n: u64, rng: &mut Rng) -> Result<Ran>;
}

/// What a loop saw.
#[derive(Clone, Debug)]
pub struct Report {
    /// Its name.
    pub name: &'static str,
    /// Runs finished.
    pub runs: u64,
    /// Runs whose fault fell inside the work.
    pub inside: u64,
    /// Runs after which half-done work went on from where it was.
    pub resumed: u64,
    /// Sums over the runs: [`Ran::acknowledged`].
    pub acknowledged: u64,
    /// Sums over the runs: [`Ran::checked`].
    pub checked: u64,
    /// Failed runs: number and why.
    pub failures: Vec<(u64, String)>,
    /// How long it took.
    pub took: Duration,
    /// The seed.
    pub seed: u64,
}

impl Report {
    /// As JSON, one object.
    #[must_use]
    pub fn json(&self) -> Value {
        let failures: Vec<Value> = self.failures.iter().map(|(run, why)| json!({ "run": run, "why": why })).collect();
        json!({
            "loop": self.name, "seed": self.seed, "runs": self.runs, "inside": self.inside, "resumed": self.resumed,
            "acknowledged": self.acknowledged, "checked": self.checked, "failures": failures,
            "seconds": self.took.as_secs(),
        })
    }

    /// For people, a table row and the failures below it.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!(
            "| loop | runs | fault inside the work | acknowledged | checked afterwards | resumed | failed | seconds |\n\
             |---|---|---|---|---|---|---|---|\n| {} | {} | {} | {} | {} | {} | {} | {} |",
            self.name,
            self.runs,
            self.inside,
            self.acknowledged,
            self.checked,
            self.resumed,
            self.failures.len(),
            self.took.as_secs()
        );
        for (run, why) in &self.failures {
            text += &format!("\nrun {run} failed: {why}");
        }
        text
    }
}

/// Runs a loop. A run that fails is written down, and the next begins from nothing; after ten the loop ends.
/// How far it is goes to standard error.
///
/// # Errors
/// The scenario cannot be set up at all.
pub fn repeat<S: Scenario>(
    name: &'static str,
    runs: u64,
    seed: u64,
    mut fresh: impl FnMut() -> Result<S>,
) -> Result<Report> {
    let (start, mut last) = (Instant::now(), Instant::now());
    let (failures, took) = (Vec::new(), Duration::ZERO);
    let mut report = Report { name, runs: 0, inside: 0, resumed: 0, acknowledged: 0, checked: 0, failures, took, seed };
    let mut scenario = fresh()?;
    for n in 0..runs {
        match scenario.run(n, &mut Rng::new(seed, n)) {
            Ok(ran) => {
                report.inside += u64::from(ran.inside);
                report.resumed += u64::from(ran.resumed);
                report.acknowledged += ran.acknowledged;
                report.checked += ran.checked;
            }
            Err(why) => {
                eprintln!("{name}: run {n} failed: {why:#}");
                report.failures.push((n, format!("{why:#}")));
                if report.failures.len() >= ENOUGH {
                    report.runs += 1;
                    break;
                }
                drop(scenario);
                scenario = fresh()?;
            }
        }
        report.runs += 1;
        if last.elapsed() >= WORD {
            last = Instant::now();
            let (done, inside, failed) = (report.runs, report.inside, report.failures.len());
            eprintln!("{name}: {done} of {runs} runs, {inside} inside the work, {failed} failed");
        }
    }
    report.took = start.elapsed();
    Ok(report)
}
