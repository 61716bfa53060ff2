//! Figures of search: reciprocal rank and recall at k. A query comes with what was returned, best first, and what would
//! have been right.
#![allow(clippy::float_arithmetic)]

use std::collections::BTreeSet;

use super::{MetricError, sum};

/// One query's answer and truth, both as the caller's ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// What was returned, best first.
    pub ranked: Vec<u32>,
    /// What is relevant.
    pub relevant: BTreeSet<u32>,
}

impl Query {
    /// From scores per item: ranked by score, of equal scores the lower id first.
    #[must_use]
    pub fn from_scores(scores: &[f64], relevant: BTreeSet<u32>) -> Self {
        let mut ranked: Vec<u32> = (0..u32::try_from(scores.len()).unwrap_or(u32::MAX)).collect();
        ranked.sort_by(|a, b| scores[*b as usize].total_cmp(&scores[*a as usize]).then(a.cmp(b)));
        Self { ranked, relevant }
    }

    /// 1 / (rank of the first relevant item, from 1); 0 if none was returned.
    #[must_use]
    pub fn reciprocal_rank(&self) -> f64 {
        let first = self.ranked.iter().position(|item| self.relevant.contains(item));
        first.map_or(0.0, |place| 1.0 / (place + 1) as f64)
    }

    /// Share of the relevant items among the first `k`; an item returned twice counts once.
    ///
    /// # Errors
    /// Nothing is relevant to this query: leave it out, or the figure says nothing.
    pub fn recall_at(&self, k: usize) -> Result<f64, MetricError> {
        if self.relevant.is_empty() {
            return Err(MetricError::Undefined("recall needs at least one relevant item per query"));
        }
        let found: BTreeSet<&u32> = self.ranked.iter().take(k).filter(|i| self.relevant.contains(i)).collect();
        Ok(found.len() as f64 / self.relevant.len() as f64)
    }
}

/// Mean reciprocal rank (MRR) over queries.
///
/// # Errors
/// No queries.
pub fn mean_reciprocal_rank(queries: &[Query]) -> Result<f64, MetricError> {
    mean(&queries.iter().map(Query::reciprocal_rank).collect::<Vec<_>>())
}

/// Mean recall at `k` over queries.
///
/// # Errors
/// No queries, or one without relevant items.
pub fn mean_recall_at(queries: &[Query], k: usize) -> Result<f64, MetricError> {
    let each: Result<Vec<f64>, MetricError> = queries.iter().map(|q| q.recall_at(k)).collect();
    mean(&each?)
}

fn mean(values: &[f64]) -> Result<f64, MetricError> {
    if values.is_empty() { Err(MetricError::Empty) } else { Ok(sum(values.iter().copied()) / values.len() as f64) }
}
