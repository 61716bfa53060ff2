//! Labelled samples out of CSV text: numbers, then the class, a line a sample; a first line of names is skipped.

use zero2ai_ledger::receipt_log::root_of;
use zero2ai_proto::{Digest, tensor::Tensor};

/// Samples in one file: enough for any interval that matters, few enough to hold.
pub const SAMPLES: usize = 100_000;
/// Features of one sample.
pub const FEATURES: usize = 65_536;

/// Text that holds no usable samples.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SamplesError {
    /// No sample at all.
    #[error("the file holds no samples: give lines of numbers with the class as the last one")]
    Empty,
    /// More than [`SAMPLES`].
    #[error("more than {SAMPLES} samples: split the file")]
    TooMany,
    /// A line that cannot be read.
    #[error("line {line}: {why}")]
    Line {
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
}

/// A validator's own samples, in file order.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    /// Features, a row a sample; all rows have the same length.
    pub rows: Vec<Vec<f32>>,
    /// The class of each row; empty if the file has none.
    pub classes: Vec<u16>,
}

impl Dataset {
    /// Reads labelled samples.
    ///
    /// # Errors
    /// See [`SamplesError`].
    pub fn labelled(text: &str) -> Result<Self, SamplesError> {
        let mut data = Self::unlabelled(text)?;
        for (i, row) in data.rows.iter_mut().enumerate() {
            let bad = |why: &str| SamplesError::Line { line: i + 1, why: why.to_owned() };
            let class = row.pop().filter(|_| !row.is_empty()).ok_or_else(|| bad("features and a class are needed"))?;
            if class.fract() != 0.0 || !(0.0..=f32::from(u16::MAX)).contains(&class) {
                return Err(bad(&format!("the last number is the class, and {class} is none: classes are 0, 1, 2, …")));
            }
            // Checked just above: a whole number within u16.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            data.classes.push(class as u16);
        }
        Ok(data)
    }

    /// Reads rows of numbers without a class.
    ///
    /// # Errors
    /// See [`SamplesError`].
    pub fn unlabelled(text: &str) -> Result<Self, SamplesError> {
        let mut rows: Vec<Vec<f32>> = Vec::new();
        for (i, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
            let fail = |why: String| Err(SamplesError::Line { line: i + 1, why });
            let row: Result<Vec<f32>, _> = line.split(',').map(|cell| cell.trim().parse::<f32>()).collect();
            let Ok(row) = row else {
                if i == 0 {
                    continue; // names of the columns
                }
                return fail("not all cells are numbers".to_owned());
            };
            if row.iter().any(|v| !v.is_finite()) {
                return fail("a cell is not a finite number".to_owned());
            }
            if row.len() > FEATURES + 1 {
                return fail(format!("more than {FEATURES} features"));
            }
            if rows.first().is_some_and(|first| first.len() != row.len()) {
                return fail(format!("{} cells where the lines before have {}", row.len(), rows[0].len()));
            }
            if rows.len() == SAMPLES {
                return Err(SamplesError::TooMany);
            }
            rows.push(row);
        }
        if rows.is_empty() {
            return Err(SamplesError::Empty);
        }
        Ok(Self { rows, classes: Vec::new() })
    }

    /// One sample as a tensor `[1, features]`.
    #[must_use]
    pub fn tensor(&self, row: usize) -> Option<Tensor> {
        self.rows.get(row).map(|values| Tensor::f32("", &[1, values.len() as u64], values))
    }

    /// RFC 6962 root over the samples in ascending order of bytes (features, then class, little-endian): shuffling a
    /// file does not make it another dataset.
    #[must_use]
    pub fn root(&self) -> Digest {
        let mut leaves: Vec<Vec<u8>> = (self.rows.iter().enumerate())
            .map(|(i, row)| {
                let features = row.iter().flat_map(|v| v.to_le_bytes());
                features.chain(self.classes.get(i).copied().unwrap_or_default().to_le_bytes()).collect()
            })
            .collect();
        leaves.sort();
        root_of(leaves)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn reads_rows_and_classes_and_skips_names() {
        let data = Dataset::labelled("a,b,class\n1,2,0\n3.5,4,1\n\n").unwrap();
        assert_eq!(data.rows, [[1.0, 2.0], [3.5, 4.0]]);
        assert_eq!(data.classes, [0, 1]);
        assert_eq!(data.tensor(1).unwrap().shape, [1, 2]);
    }

    #[test]
    fn every_fault_names_its_line() {
        for (text, line) in
            [("1,2,0\n1,x,0", 2), ("1,2,0\n1,2", 2), ("1,2,0.5", 1), ("1,2,-1", 1), ("1,NaN,0", 1), ("7", 1)]
        {
            match Dataset::labelled(text) {
                Err(SamplesError::Line { line: got, .. }) => assert_eq!(got, line, "{text:?}"),
                other => unreachable!("{text:?} gave {other:?}"),
            }
        }
        assert_eq!(Dataset::labelled("a,b\n"), Err(SamplesError::Empty));
    }

    #[test]
    fn the_root_names_the_set_not_its_order() {
        let (a, b) = (Dataset::labelled("1,2,0\n3,4,1").unwrap(), Dataset::labelled("3,4,1\n1,2,0").unwrap());
        assert_eq!(a.root(), b.root());
        assert_ne!(a.root(), Dataset::labelled("1,2,0\n3,4,0").unwrap().root());
    }
}
