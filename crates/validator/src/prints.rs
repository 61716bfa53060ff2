//! Fingerprints of the data that a model was made with: made by its publisher, published as one more file of the version, sealed as all
//! of them are, and so open to whoever is given the version's key: the validators among them, who compare their own data with it.
//! The salt lies beside the fingerprints; so whoever has the key can test guesses of samples, and nothing else.

use serde::{Deserialize, Serialize};
use zero2ai_proto::{decode, encode};
use zero2ai_trust::gate::{
    Check, Criterion,
    minhash::Salt,
    overlap::{self, Fingerprints, Limits, Sample, check, compare},
};

use crate::{
    dataset::{Dataset, Samples},
    inputs::Subject,
};

/// The file's path in a version.
pub const FILE: &str = "zero2ai.fingerprints";
/// Its bytes at most.
pub const BYTES: usize = 64 * 1024 * 1024;
/// Samples that are fingerprinted: of more, every second, third, …, so that they fit the file.
const SAMPLES: usize = 50_000;
/// Version of the file's shape.
const VERSION: u16 = 1;
/// Columns from which on near duplicates of rows are told by coarse steps: rows of a few numbers agree in those by chance.
const WIDE: usize = 32;

/// Why there are no fingerprints, or why a file of them cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("fingerprints of the training data: {0}")]
pub struct PrintsError(pub String);

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prints {
    version: u16,
    #[serde(with = "serde_bytes")]
    salt: [u8; 32],
    /// What each number of a row is counted in, as bits of single-precision numbers; empty counts all as they are.
    scales: Vec<u32>,
    /// Steps to which rows are rounded for near duplicates, likewise.
    step: u32,
    /// Samples that there were; more than were fingerprinted, if there were too many.
    of: u64,
    prints: Fingerprints,
}

impl Prints {
    /// Of all samples, or a part of them. Pictures and sounds are compared as `subject` takes them.
    ///
    /// # Errors
    /// A file cannot be decoded, or there is too much text.
    pub fn make(data: &Dataset, subject: &Subject, salt: [u8; 32]) -> Result<Self, PrintsError> {
        let every = data.len().div_ceil(SAMPLES).max(1);
        let scales = match &data.samples {
            Samples::Rows(rows, _) => deviations(rows),
            _ => Vec::new(),
        };
        let step = match &data.samples {
            Samples::Rows(rows, _) if rows.first().is_some_and(|row| row.len() < WIDE) => 0.01f32,
            _ => 0.25,
        };
        let mut made = Self {
            version: VERSION,
            salt,
            scales: scales.iter().map(|s| s.to_bits()).collect(),
            step: step.to_bits(),
            of: data.len() as u64,
            prints: Fingerprints::default(),
        };
        let parts = made.parts(data, subject, every)?;
        made.prints = Fingerprints::of(&Salt::new(salt), parts.iter().map(|p| p.sample(step)))
            .map_err(|e| PrintsError(e.to_string()))?;
        Ok(made)
    }

    /// The file's bytes.
    ///
    /// # Errors
    /// More than [`BYTES`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, PrintsError> {
        let bytes = encode(self).map_err(|e| PrintsError(e.to_string()))?;
        if bytes.len() > BYTES {
            return Err(PrintsError(format!(
                "{} bytes; at most {BYTES} are kept: give a random part of the data",
                bytes.len()
            )));
        }
        Ok(bytes)
    }

    /// From the file's bytes.
    ///
    /// # Errors
    /// They are no fingerprints of this version of the shape.
    pub fn read(bytes: &[u8]) -> Result<Self, PrintsError> {
        let made: Self = decode(bytes, BYTES).map_err(|e| PrintsError(e.to_string()))?;
        if made.version != VERSION {
            return Err(PrintsError(format!("version {} of their shape is not known here", made.version)));
        }
        Ok(made)
    }

    /// Compares a validator's data with them.
    #[must_use]
    pub fn check(&self, data: &Dataset, subject: &Subject) -> Check {
        let limits = Limits::default();
        let parts = match self.parts(data, subject, 1) {
            Ok(parts) => parts,
            Err(why) => return Check::not_assessable(Criterion::Overlap, &why.to_string()),
        };
        let step = f32::from_bits(self.step);
        let found = compare(&Salt::new(self.salt), &self.prints, parts.iter().map(|p| p.sample(step)), limits);
        let mut check = check(Some(&found), limits);
        let kept = u64::from(self.prints.samples);
        if kept < self.of {
            check.notes.push(format!("The publisher fingerprinted {kept} of his {} samples.", self.of));
        }
        check
    }

    fn parts(&self, data: &Dataset, subject: &Subject, every: usize) -> Result<Vec<Part>, PrintsError> {
        let scales: Vec<f32> = self.scales.iter().map(|b| f32::from_bits(*b)).collect();
        let part = |i: usize| -> Result<Part, String> {
            Ok(match &data.samples {
                Samples::Rows(rows, _) => Part::Row(scaled(&rows[i], &scales)),
                Samples::Prompts(all) => Part::Text(format!("{}\n{}", all[i].prompt, all[i].expected.join("\n"))),
                Samples::Pairs(all) => Part::Text(format!("{}\n{}", all[i].query, all[i].relevant)),
                Samples::Pictures(..) | Samples::Sounds(..) => {
                    let tensors = subject.inputs(data, i)?;
                    let first = tensors.first().ok_or("it becomes no tensor")?;
                    let values = first.to_f32().unwrap_or_else(|_| first.data.iter().map(|b| f32::from(*b)).collect());
                    Part::Row(values)
                }
            })
        };
        let mut values = 0usize;
        let mut named = |i: usize| {
            let part = part(i).map_err(|why| PrintsError(format!("sample {i}: {why}")))?;
            if let Part::Row(row) = &part {
                values = values.saturating_add(row.len());
            }
            if values > VALUES {
                let why =
                    format!("the samples up to {i} come to more than {VALUES} numbers: take fewer, or smaller ones");
                return Err(PrintsError(why));
            }
            Ok(part)
        };
        (0..data.len()).step_by(every).map(&mut named).collect()
    }
}

/// Numbers of all samples that are compared at once: a quarter of a gigabyte of them.
const VALUES: usize = 1 << 26;

/// A sample as it is compared.
enum Part {
    Text(String),
    Row(Vec<f32>),
}

impl Part {
    fn sample(&self, step: f32) -> Sample<'_> {
        match self {
            Self::Text(text) => Sample::Text(text),
            Self::Row(row) => Sample::Row(row, step),
        }
    }
}

/// Each number over its scale; what has none that can be used stays.
fn scaled(row: &[f32], scales: &[f32]) -> Vec<f32> {
    let one = |(i, value): (usize, &f32)| match scales.get(i) {
        Some(scale) if scale.is_finite() && *scale > 0.0 => value / scale,
        _ => *value,
    };
    row.iter().enumerate().map(one).collect()
}

/// The standard deviation of each column; 1 where nothing varies.
fn deviations(rows: &[Vec<f32>]) -> Vec<f32> {
    let n = rows.len().max(1) as f64;
    let one = |k: usize| {
        let values = || rows.iter().filter_map(|row| row.get(k)).copied().map(f64::from);
        let mean = values().sum::<f64>() / n;
        let variance = values().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n;
        // Single precision is enough for a unit.
        #[allow(clippy::cast_possible_truncation)]
        let deviation = variance.sqrt() as f32;
        if deviation.is_finite() && deviation > 0.0 { deviation } else { 1.0 }
    };
    (0..rows.first().map_or(0, Vec::len)).map(one).collect()
}

/// The check where the publisher left none.
#[must_use]
pub fn none() -> Check {
    overlap::check(None, Limits::default())
}
