//! A run of an embedder: queries search the texts that the data say they should find.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use zero2ai_proto::{
    limits::{EMBED_BYTES, EMBED_TEXTS},
    tensor::Tensor,
    texts::{Embeddings, Texts},
};
use zero2ai_trust::metrics::retrieval::Query;

use crate::{
    dataset::{Dataset, Pair},
    job::{Answers, Findings, JobError, Predictor, elapsed, findings},
};

/// Queries of one run of an embedder: each is compared with every text.
pub const QUERIES: usize = 2_000;
/// Embeds every text once and every query by itself, which is what is timed.
pub(crate) async fn search<P: Predictor>(
    model: &P,
    data: &Dataset,
    pairs: &[Pair],
    mut progress: impl FnMut(usize, usize) + Send,
) -> Result<Findings, JobError> {
    if pairs.len() > QUERIES {
        return Err(JobError::Unfit(format!(
            "{} queries; at most {QUERIES} are searched with: split the data",
            pairs.len()
        )));
    }
    let corpus = Corpus::of(pairs);
    let fail = |row| move |why| JobError::Model { row, why };
    let rows = embed_all(model, &corpus.texts).await.map_err(fail(0))?;
    let (mut found, mut micros) = (Vec::new(), Vec::new());
    for (row, pair) in pairs.iter().enumerate() {
        let start = Instant::now();
        let query = embed_all(model, std::slice::from_ref(&pair.query)).await.map_err(fail(row))?;
        micros.push(elapsed(start));
        let query = query.first().ok_or_else(|| fail(row)("no row came".into()))?;
        found.push(corpus.ranked(query, &rows, &pair.relevant));
        progress(row.saturating_add(1), pairs.len());
    }
    let right: Vec<bool> = found.iter().map(first_is_relevant).collect();
    let leaves = found.iter().map(|q| q.ranked.first().copied().unwrap_or(u32::MAX).to_le_bytes().to_vec()).collect();
    Ok(findings(data, &right, leaves, micros, Answers::Found(found)))
}

/// True if what is found first is relevant.
#[must_use]
pub fn first_is_relevant(query: &Query) -> bool {
    query.ranked.first().is_some_and(|first| query.relevant.contains(first))
}

/// The texts that queries search, each once, in the order of the data.
pub struct Corpus {
    /// The texts.
    pub texts: Vec<String>,
    places: BTreeMap<String, u32>,
}

impl Corpus {
    /// Of all pairs.
    #[must_use]
    pub fn of(pairs: &[Pair]) -> Self {
        let mut corpus = Self { texts: Vec::new(), places: BTreeMap::new() };
        for pair in pairs {
            if !corpus.places.contains_key(&pair.relevant) {
                corpus.places.insert(pair.relevant.clone(), u32::try_from(corpus.texts.len()).unwrap_or(u32::MAX));
                corpus.texts.push(pair.relevant.clone());
            }
        }
        corpus
    }

    /// The texts in the order of their nearness (cosine) to a query.
    #[must_use]
    pub fn ranked(&self, query: &[f32], rows: &[Vec<f32>], relevant: &str) -> Query {
        let scores: Vec<f64> = rows.iter().map(|row| cosine(query, row)).collect();
        Query::from_scores(&scores, self.places.get(relevant).copied().into_iter().collect::<BTreeSet<u32>>())
    }
}

/// In doubles and in order, so that it is the same everywhere.
fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    let size = (dot(a, a) * dot(b, b)).sqrt();
    if size > 0.0 { dot(a, b) / size } else { 0.0 }
}

/// The tensors that ask for the rows of texts, cut where they are too long, in as many calls as it takes.
///
/// # Errors
/// A text beyond what one call carries.
pub fn embed_calls(texts: &[String]) -> Result<Vec<(usize, Vec<Tensor>)>, String> {
    let (mut calls, mut from) = (Vec::new(), 0);
    while from < texts.len() {
        let (mut to, mut bytes) = (from, 0usize);
        while to < texts.len() && to - from < EMBED_TEXTS {
            bytes = bytes.saturating_add(texts[to].len());
            if bytes > EMBED_BYTES && to > from {
                break;
            }
            to += 1;
        }
        let part = Texts { truncate: true, ..Texts::new(&texts[from..to]) };
        calls.push((to - from, part.to_tensors().map_err(|e| e.to_string())?));
        from = to;
    }
    Ok(calls)
}

/// The rows in an answer about so many texts.
///
/// # Errors
/// Another number of rows.
pub fn embedded(outputs: &[Tensor], texts: usize) -> Result<Vec<Vec<f32>>, String> {
    let rows = Embeddings::from_tensors(outputs, texts).map_err(|e| e.to_string())?;
    Ok(rows.values.chunks_exact(rows.width.max(1)).map(<[f32]>::to_vec).collect())
}

async fn embed_all<P: Predictor>(model: &P, texts: &[String]) -> Result<Vec<Vec<f32>>, String> {
    let mut rows = Vec::with_capacity(texts.len());
    for (count, call) in embed_calls(texts)? {
        rows.extend(embedded(&model.predict(call).await?, count)?);
    }
    Ok(rows)
}
