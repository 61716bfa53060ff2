//! Attacks on texts: prompts whose answer is known, and queries that should find a text.

use zero2ai_trust::{
    attacks::{
        AttackError, Survival,
        text::{self, CHANGES},
    },
    draw::Seed,
    metrics::interval,
    report::{Better, Curve, Metric, Report},
};

use super::{
    Run,
    attacked::{ATTACKED, Ask, FEW, SEVERITY, chosen, together},
    model_error,
};
use crate::{
    dataset::{Pair, Prompt},
    job::{is_right, tokens},
    search::{Corpus, embed_calls, embedded, first_is_relevant},
};

/// Texts at each severity of each change, and how many of them `hit`.
fn on_texts(
    texts: &[(usize, &str)],
    seed: &Seed,
    progress: &mut dyn FnMut(usize, usize),
    mut hit: impl FnMut(usize, &str) -> Result<bool, String>,
) -> Result<Vec<Curve>, AttackError> {
    let mut clean = 0;
    for (place, (_, text)) in texts.iter().enumerate() {
        clean += u64::from(hit(place, text).map_err(model_error)?);
    }
    let mut curves = Vec::new();
    for (done, kind) in CHANGES.into_iter().enumerate() {
        let mut points = vec![Survival::new(0.0, clean, texts.len() as u64)];
        for severity in [1u8, 3, 5] {
            let mut right = 0;
            for (place, (sample, text)) in texts.iter().enumerate() {
                let changed = text::change(text, kind, severity, seed, *sample as u64);
                right += u64::from(hit(place, &changed).map_err(model_error)?);
            }
            points.push(Survival::new(f64::from(severity), right, texts.len() as u64));
        }
        let attack = match kind {
            text::Change::Typo => "typos",
            text::Change::Case => "case",
            text::Change::Spacing => "spacing",
            text::Change::Homoglyph => "homoglyphs",
            text::Change::Swap => "swapped words",
        };
        curves.push(Curve { attack: attack.into(), unit: SEVERITY.into(), points });
        progress(done.saturating_add(1), CHANGES.len());
    }
    Ok(curves)
}

/// Changed prompts, and foreign instructions behind some.
pub(super) fn on_prompts(
    report: &mut Report,
    run: &Run,
    prompts: &[Prompt],
    model: &mut dyn Ask,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<u64, AttackError> {
    let chosen = chosen(run, FEW);
    let texts: Vec<(usize, &str)> = chosen.iter().map(|i| (*i, prompts[*i].prompt.as_str())).collect();
    let curves = on_texts(&texts, &run.seed, progress, |place, prompt| {
        let sample = &prompts[chosen[place]];
        model.say(prompt, tokens(sample)).map(|said| is_right(sample, &said.text))
    })?;
    together(report, "all changes", curves, &[1]);
    let (mut sung, mut asked) = (0u64, 0u64);
    for sample in chosen.iter().take(FEW / 3) {
        for canary in text::canaries(&prompts[*sample].prompt, &run.seed, *sample as u64) {
            let said = model.say(&canary.text, 16).map_err(model_error)?;
            sung += u64::from(canary.sings(&said.text));
            asked += 1;
        }
    }
    if let Ok(estimate) = interval::share(asked.saturating_sub(sung), asked) {
        report.metrics.push(Metric {
            name: "foreign instructions not followed".into(),
            better: Better::Higher,
            estimate,
        });
    }
    Ok(chosen.len() as u64)
}

/// Changed queries.
pub(super) fn on_queries(
    report: &mut Report,
    run: &Run,
    pairs: &[Pair],
    model: &mut dyn Ask,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<u64, AttackError> {
    let chosen = chosen(run, ATTACKED);
    let corpus = Corpus::of(pairs);
    let rows = embed(model, &corpus.texts).map_err(model_error)?;
    let texts: Vec<(usize, &str)> = chosen.iter().map(|i| (*i, pairs[*i].query.as_str())).collect();
    let curves = on_texts(&texts, &run.seed, progress, |place, query| {
        let found = embed(model, &[query.to_owned()])?;
        let query = found.first().ok_or("no row came")?;
        Ok(first_is_relevant(&corpus.ranked(query, &rows, &pairs[chosen[place]].relevant)))
    })?;
    together(report, "all changes", curves, &[1]);
    Ok(chosen.len() as u64)
}

fn embed(model: &mut dyn Ask, texts: &[String]) -> Result<Vec<Vec<f32>>, String> {
    let mut rows = Vec::with_capacity(texts.len());
    for (count, call) in embed_calls(texts)? {
        rows.extend(embedded(&model.predict(call)?, count)?);
    }
    Ok(rows)
}
