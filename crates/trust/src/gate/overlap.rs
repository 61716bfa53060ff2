//! Overlap: does a validator's dataset hold samples of the publisher's? The publisher leaves salted fingerprints of the data
//! he used; the validator makes the same of his own, and compares: exact copies, shared runs of 13 words, near duplicates.
//! Integers only but for the share that is reported.
//!
//! What this cannot show: data the publisher left out of his fingerprints, paraphrases, and pictures that were cropped or
//! turned. Thirteen words are the run that GPT-3's authors used (Brown et al. 2020, appendix C).
#![allow(clippy::float_arithmetic)]

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{
    Check, Criterion, listed,
    minhash::{SIZE, Salt, Sketch, Sketcher},
};

/// Words of a run that two texts do not share by chance.
pub const RUN: usize = 13;
/// Words of a shingle for near duplicates.
const SHINGLE: usize = 3;
/// Samples of one set of fingerprints.
pub const SAMPLES: usize = 100_000;
/// Runs of 13 words of one set of fingerprints.
pub const RUNS: usize = 4_000_000;
/// Sketches that one slot of the index holds; more in one slot are near copies of each other, and one of them is enough.
const SLOT: usize = 64;

/// One sample as the validator or publisher has it.
#[derive(Clone, Copy, Debug)]
pub enum Sample<'a> {
    /// Text; compared in lower case, as words.
    Text(&'a str),
    /// Numbers of a row, a picture or a sound. For near duplicates they are rounded to multiples of the step; what rounds
    /// to 0 says nothing (the background of a picture).
    Row(&'a [f32], f32),
}

/// What is kept of one sample.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Print {
    exact: u64,
    runs: BTreeSet<u64>,
    sketch: Option<Sketch>,
}

/// What a publisher leaves of his data, to be sealed to the committee. It holds no sample, but whoever has the salt can test
/// guesses against it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprints {
    exact: BTreeSet<u64>,
    runs: BTreeSet<u64>,
    sketches: Vec<Sketch>,
    /// Samples behind it.
    pub samples: u32,
}

/// Too much for one set of fingerprints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "more than {SAMPLES} samples, or more than {RUNS} runs of {RUN} words: give a random part of the data, and say so"
)]
pub struct TooMuch;

impl Fingerprints {
    /// Of all samples.
    ///
    /// # Errors
    /// More than [`SAMPLES`] samples or [`RUNS`] runs.
    pub fn of<'a>(salt: &Salt, samples: impl IntoIterator<Item = Sample<'a>>) -> Result<Self, TooMuch> {
        let sketcher = Sketcher::new(salt);
        let mut all = Self::default();
        for sample in samples {
            let print = Print::of(salt, &sketcher, sample);
            all.exact.insert(print.exact);
            all.runs.extend(print.runs);
            all.sketches.extend(print.sketch);
            all.samples += 1;
            if all.samples as usize > SAMPLES || all.runs.len() > RUNS {
                return Err(TooMuch);
            }
        }
        all.sketches.sort_unstable();
        all.sketches.dedup();
        Ok(all)
    }
}

impl Print {
    fn of(salt: &Salt, sketcher: &Sketcher, sample: Sample<'_>) -> Self {
        match sample {
            Sample::Text(text) => {
                let lower = text.to_lowercase();
                let words: Vec<&str> = lower.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).collect();
                let run = |w: &[&str]| salt.hash(b'r', w.join(" ").as_bytes());
                let shingles: Vec<String> = match words.len() {
                    0 => Vec::new(),
                    n if n < SHINGLE => vec![words.join(" ")],
                    _ => words.windows(SHINGLE).map(|w| w.join(" ")).collect(),
                };
                Self {
                    exact: salt.hash(b'e', words.join(" ").as_bytes()),
                    runs: words.windows(RUN).map(run).collect(),
                    sketch: sketcher.sketch(shingles.iter().map(String::as_bytes)),
                }
            }
            Sample::Row(values, step) => {
                let bytes: Vec<u8> = values.iter().flat_map(|v| (v + 0.0).to_le_bytes()).collect();
                let step = if step.is_finite() && step > 0.0 { step } else { 1.0 };
                // Saturating: a value beyond the range of the integers is the largest of them.
                let shingles: Vec<[u8; 16]> = (values.iter().enumerate())
                    .map(|(i, v)| (i as u64, f64::from((v / step).round()) as i64))
                    .filter(|(_, rounded)| *rounded != 0)
                    .map(|(i, rounded)| {
                        let mut shingle = [0; 16];
                        shingle[..8].copy_from_slice(&i.to_le_bytes());
                        shingle[8..].copy_from_slice(&rounded.to_le_bytes());
                        shingle
                    })
                    .collect();
                Self {
                    exact: salt.hash(b'e', &bytes),
                    runs: BTreeSet::new(),
                    sketch: sketcher.sketch(shingles.iter().map(<[u8; 16]>::as_slice)),
                }
            }
        }
    }
}

/// Where a sample counts as the publisher's, and a dataset as overlapping.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Share of a sample's runs of 13 words that the publisher's data has.
    pub runs: f64,
    /// Similarity (Jaccard) of near duplicates.
    pub similar: f64,
    /// Share of samples that may overlap.
    pub samples: f64,
}

impl Default for Limits {
    /// Half of the runs; 0.8; one sample in a hundred.
    fn default() -> Self {
        Self { runs: 0.5, similar: 0.8, samples: 0.01 }
    }
}

/// How many samples overlap, and how; a sample counts once, in the first that holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overlap {
    /// Samples compared.
    pub samples: u32,
    /// Equal to one of the publisher's.
    pub exact: u32,
    /// Made of its runs of words.
    pub runs: u32,
    /// Nearly equal to one.
    pub near: u32,
    /// The first of them, by their number from 0; at most 20.
    pub first: Vec<u32>,
}

/// Compares a validator's samples with a publisher's fingerprints under the same salt.
#[must_use]
pub fn compare<'a>(
    salt: &Salt,
    publisher: &Fingerprints,
    samples: impl IntoIterator<Item = Sample<'a>>,
    limits: Limits,
) -> Overlap {
    let sketcher = Sketcher::new(salt);
    let mut index: BTreeMap<(usize, [u32; 4]), Vec<usize>> = BTreeMap::new();
    for (i, sketch) in publisher.sketches.iter().enumerate() {
        for band in sketch.bands() {
            let slot = index.entry(band).or_default();
            if slot.len() < SLOT {
                slot.push(i);
            }
        }
    }
    let enough = (limits.similar * SIZE as f64).ceil() as usize;
    let near = |sketch: &Sketch| {
        sketch
            .bands()
            .filter_map(|b| index.get(&b))
            .flatten()
            .any(|i| publisher.sketches[*i].agreement(sketch) >= enough)
    };
    let mut found = Overlap::default();
    for sample in samples {
        let print = Print::of(salt, &sketcher, sample);
        let shared = print.runs.iter().filter(|r| publisher.runs.contains(r)).count();
        let place = if publisher.exact.contains(&print.exact) {
            &mut found.exact
        } else if shared > 0 && shared as f64 >= limits.runs * print.runs.len() as f64 {
            &mut found.runs
        } else if print.sketch.as_ref().is_some_and(near) {
            &mut found.near
        } else {
            found.samples += 1;
            continue;
        };
        *place += 1;
        if found.first.len() < 20 {
            found.first.push(found.samples);
        }
        found.samples += 1;
    }
    found
}

/// Judges what [`compare`] found; `None` where the publisher left no fingerprints.
#[must_use]
pub fn check(found: Option<&Overlap>, limits: Limits) -> Check {
    let Some(found) = found.filter(|f| f.samples > 0) else {
        return Check::not_assessable(Criterion::Overlap, "the publisher left no fingerprints of his data");
    };
    let mut check = Check::new(Criterion::Overlap);
    let hits = found.exact + found.runs + found.near;
    check.at_most("share of samples of the publisher's", f64::from(hits) / f64::from(found.samples), limits.samples);
    check.tell("equal samples", f64::from(found.exact));
    check.tell("samples that share runs of 13 words", f64::from(found.runs));
    check.tell("near duplicates", f64::from(found.near));
    if !found.first.is_empty() {
        check.notes.push(format!("The first of them, counted from 0: {}.", listed(&found.first)));
    }
    check.notes.push(
        "Paraphrases, cropped or turned pictures, and data left out of the fingerprints are not found.".to_owned(),
    );
    check
}
