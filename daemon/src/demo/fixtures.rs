//! The digits classifier and its samples, inside the binary: the demo needs nothing but itself. Made by
//! `testnet/fixtures/digits/make.py` from scikit-learn's scans of handwritten digits.

use serde::Deserialize;
use zero2ai_proto::tx::{ClassCounts, Endorse};

use crate::{
    exit::{Exit, Failure, Outcome},
    input::{self, Rows},
};

/// The model: a multi-layer perceptron in ONNX.
pub(crate) const MODEL: &[u8] = include_bytes!("../../../testnet/fixtures/digits/digits.onnx");
/// Samples that training never saw, other ones for each validator.
pub(crate) const HELD_OUT: [(&str, &str); 3] = [
    ("heldout-1.csv", include_str!("../../../testnet/fixtures/digits/heldout-1.csv")),
    ("heldout-2.csv", include_str!("../../../testnet/fixtures/digits/heldout-2.csv")),
    ("heldout-3.csv", include_str!("../../../testnet/fixtures/digits/heldout-3.csv")),
];
const PREDICT: &str = include_str!("../../../testnet/fixtures/digits/predict.csv");
const GOLDEN: &str = include_str!("../../../testnet/fixtures/digits/golden.json");

/// The hundred samples that the client predicts.
pub(crate) fn predict_rows() -> Outcome<Rows> {
    input::csv(PREDICT, true)
}

/// What scikit-learn itself counted.
#[derive(Deserialize)]
pub(crate) struct Golden {
    files: std::collections::BTreeMap<String, GoldenFile>,
}

#[derive(Deserialize)]
struct GoldenFile {
    samples: u32,
    correct: u32,
    per_class: Vec<GoldenClass>,
}

#[derive(Deserialize)]
struct GoldenClass {
    tp: u32,
    fp: u32,
    #[serde(rename = "fn")]
    missed: u32,
}

impl Golden {
    /// Reads the embedded file.
    pub(crate) fn read() -> Outcome<Self> {
        serde_json::from_str(GOLDEN)
            .map_err(|e| Failure::new(Exit::Internal, format!("The embedded golden.json cannot be read: {e}.")))
    }

    /// True if these counts are scikit-learn's on that file, to the last integer.
    pub(crate) fn equals(&self, file: &str, counts: &Endorse) -> bool {
        self.files.get(file).is_some_and(|golden| {
            let classes = golden.per_class.iter().map(|c| ClassCounts { tp: c.tp, fp: c.fp, fn_: c.missed });
            golden.samples == counts.samples
                && golden.correct == counts.correct
                && classes.eq(counts.classes.iter().copied())
        })
    }
}

/// Thirty-two bytes out of the middle of the model that are not all alike: found on a disk, they betray it.
pub(crate) fn canary(model: &[u8]) -> Option<&[u8]> {
    const DISTINCT: usize = 16; // of 32: no run of zeros, no pattern that any file could hold by chance
    let distinct = |w: &&[u8]| w.iter().collect::<std::collections::BTreeSet<_>>().len() >= DISTINCT;
    model.get(model.len() / 2..)?.windows(32).find(distinct)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_fixtures_fit_together() {
        let rows = predict_rows().unwrap();
        assert_eq!((rows.features.len(), rows.labels.len(), rows.features[0].len()), (100, 100, 64));
        let golden = Golden::read().unwrap();
        for (name, text) in HELD_OUT {
            let samples = input::csv(text, true).unwrap().labels.len();
            assert_eq!(golden.files[name].samples as usize, samples);
        }
        assert!(canary(MODEL).is_some() && canary(&[0; 100]).is_none());
    }
}
