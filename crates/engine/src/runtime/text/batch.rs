//! Texts that run together: each step takes the rows of all of them through one pass, and gives what came of it.

use std::{
    collections::{BTreeMap, HashMap},
    time::Instant,
};

use zero2ai_proto::worker::GenerateJob;

use super::{
    super::{Event, Given},
    cache::{Cache, PAGE, Page, Pages},
    generation::TextGeneration,
    linear::broken,
    model::{Model, Part},
    pace::Pace,
    prefix::{Prefix, Prefixes},
    schedule::{Caller, Schedule},
    tokenizer::Tokenizer,
};
use crate::error::EngineError;

/// Rows of one pass over a model whose bits depend on how its rows are cut: always at multiples of this.
const FIXED_PART: usize = 128;

struct Waiting {
    text: TextGeneration,
    caller: Caller,
    /// Pages that it may come to hold.
    pages: usize,
}

struct Running {
    text: TextGeneration,
    cache: Cache,
    /// Pages set aside for it and not yet made.
    promised: usize,
    /// Places after each of its full pages.
    places: Vec<Prefix>,
    /// The caller's beginning.
    start: Prefix,
    /// Tokens read since the last full page.
    tail: Vec<u32>,
}

/// A running text's part in one step.
struct Turn {
    job: u64,
    running: Running,
    tokens: Vec<u32>,
}

/// All texts of one model. The pages that running texts may come to hold are set aside when they start, so that none is left
/// without memory halfway; pages that no text holds stay for prompts to come, until their room is wanted.
pub(super) struct Batch {
    schedule: Schedule,
    waiting: HashMap<u64, Waiting>,
    running: BTreeMap<u64, Running>,
    prefixes: Prefixes<Page>,
    pages: Pages,
    /// Pages there may be.
    limit: usize,
    /// Pages set aside and not yet made.
    promised: usize,
    /// Whether somebody came or went since texts were last let in.
    changed: bool,
    /// What is to be told with the next step.
    told: Vec<Event>,
    pace: Pace,
    /// Rows read since the start.
    read: u64,
}

impl Batch {
    /// For caches of so many pages together.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            schedule: Schedule::new(limit),
            waiting: HashMap::new(),
            running: BTreeMap::new(),
            prefixes: Prefixes::default(),
            pages: Pages::default(),
            limit,
            promised: 0,
            changed: false,
            told: Vec::new(),
            pace: Pace::default(),
            read: 0,
        }
    }

    /// Takes up a text.
    pub(super) fn enter(&mut self, job: &GenerateJob, mut text: TextGeneration) -> Result<(), EngineError> {
        if let Some(reason) = text.over() {
            let given = Given { job: job.job, piece: None, end: Some((reason, text.prompt_tokens)) };
            self.told.push(Event::Given(given));
            return Ok(());
        }
        let (pages, caller) = (text.room().div_ceil(PAGE), job.caller.to_vec());
        self.schedule.enter(job.job, caller.clone(), text.pending().len(), pages)?;
        self.waiting.insert(job.job, Waiting { text, caller, pages });
        self.changed = true;
        Ok(())
    }

    /// Drops a text, if it is here.
    pub(super) fn leave(&mut self, job: u64) {
        self.schedule.leave(job);
        self.changed |= self.waiting.remove(&job).is_some();
        if let Some(running) = self.running.remove(&job) {
            self.free(running);
        }
    }

    /// Whether a step would do anything.
    pub(super) fn has_work(&self) -> bool {
        !self.told.is_empty() || !self.schedule.is_empty()
    }

    /// Lets texts in, reads what is planned of each, and answers what came of it.
    pub(super) fn step(&mut self, model: &Model, tokenizer: &Tokenizer) -> Vec<Event> {
        if std::mem::take(&mut self.changed) {
            self.admit(model);
        }
        let started = Instant::now();
        let budget = self.pace.budget(self.schedule.giving());
        let mut turns = self.turns(model, budget);
        let mut parts: Vec<Part<'_>> = turns.iter_mut().map(Turn::part).collect();
        let rows = parts.iter().map(|part| part.tokens.len()).sum();
        self.read = self.read.saturating_add(rows as u64);
        let passed = if parts.is_empty() { Ok(Vec::new()) } else { model.forward(&mut parts) };
        match passed {
            Ok(scores) => {
                self.pace.saw(rows, started.elapsed());
                self.give(turns, &scores, model, tokenizer);
            }
            Err(error) => {
                let why = error.to_string();
                for Turn { job, running, .. } in turns {
                    self.fail(job, running, EngineError::Failed { fault: error.fault(), message: why.clone() });
                }
            }
        }
        std::mem::take(&mut self.told)
    }

    /// Rows read since the start.
    #[cfg(test)]
    pub(super) const fn read(&self) -> u64 {
        self.read
    }

    /// Pages that there are.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.pages.count()
    }

    fn admit(&mut self, model: &Model) {
        while let Some(job) = self.schedule.next() {
            let Some(Waiting { text, caller, pages }) = self.waiting.get_mut(&job) else { break };
            let pending = text.pending();
            // The last token is read in any case: what follows it is what is wanted.
            let known = pending.get(..pending.len().saturating_sub(1)).filter(|_| model.keeps_bits());
            let (found, places) = self.prefixes.find(caller, known.unwrap_or_default());
            let promised = pages.saturating_sub(found.len());
            let wanted = self.promised.saturating_add(promised);
            while self.pages.count().saturating_add(wanted) > self.limit {
                if !self.prefixes.evict() {
                    return; // No memory for it until another ends.
                }
            }
            let Some(Waiting { mut text, caller, .. }) = self.waiting.remove(&job) else { break };
            let cache = Cache::starting_with(found);
            text.take(cache.len());
            self.schedule.admit(job, cache.len());
            self.promised = wanted;
            let start = Prefix::start(&caller);
            self.running.insert(job, Running { text, cache, promised, places, start, tail: Vec::new() });
        }
    }

    /// What the next step reads, with memory for it.
    fn turns(&mut self, model: &Model, budget: usize) -> Vec<Turn> {
        let mut turns = Vec::new();
        for (job, rows) in self.schedule.plan(budget) {
            let Some(mut running) = self.running.remove(&job) else { continue };
            let rows = if model.keeps_bits() {
                rows
            } else {
                FIXED_PART.saturating_sub(running.cache.len() % FIXED_PART).min(running.text.pending().len())
            };
            let tokens = running.text.take(rows);
            match running.cache.grow(tokens.len(), &model.config, &self.pages) {
                Ok(made) => {
                    running.promised = running.promised.saturating_sub(made);
                    self.promised = self.promised.saturating_sub(made);
                    turns.push(Turn { job, running, tokens });
                }
                Err(error) => self.fail(job, running, error),
            }
        }
        turns
    }

    /// Takes in what a pass gave.
    fn give(&mut self, turns: Vec<Turn>, scores: &[f32], model: &Model, tokenizer: &Tokenizer) {
        let chosen = choose(&turns, scores, model);
        let mut chosen = match chosen {
            Ok(chosen) => chosen.into_iter(),
            Err(error) => {
                let why = error.to_string();
                turns.into_iter().for_each(|t| self.fail(t.job, t.running, EngineError::worker(why.clone())));
                return;
            }
        };
        for Turn { job, mut running, tokens } in turns {
            self.schedule.read(job, tokens.len());
            if model.keeps_bits() {
                self.keep(&mut running, &tokens);
            }
            if !running.text.read_all() {
                self.running.insert(job, running);
                continue;
            }
            match chosen.next().flatten() {
                Some(Ok(id)) => {
                    let (piece, end) = running.text.give(id, running.cache.len(), tokenizer);
                    let end = end.map(|reason| (reason, running.text.prompt_tokens));
                    self.told.push(Event::Given(Given { job, piece: Some(piece), end }));
                    if end.is_some() {
                        self.schedule.leave(job);
                        self.free(running);
                    } else {
                        self.running.insert(job, running);
                    }
                }
                Some(Err(error)) => self.fail(job, running, error),
                None => self.fail(job, running, EngineError::worker("a text was given no scores")),
            }
        }
    }

    /// Keeps the pages that became full.
    fn keep(&mut self, running: &mut Running, tokens: &[u32]) {
        running.tail.extend_from_slice(tokens);
        let full = running.tail.len() / PAGE * PAGE;
        for tokens in running.tail.get(..full).unwrap_or_default().chunks_exact(PAGE) {
            let (index, place) = (running.places.len(), running.places.last().unwrap_or(&running.start).then(tokens));
            let Some(page) = running.cache.pages().get(index) else { return };
            // Two texts that read the same at the same time hold it once from here on.
            let page = self.prefixes.keep(place, page);
            running.cache.replace(index, page);
            running.places.push(place);
        }
        running.tail.drain(..full);
    }

    /// Ends a text with an error.
    fn fail(&mut self, job: u64, running: Running, error: EngineError) {
        self.schedule.leave(job);
        self.free(running);
        self.told.push(Event::Failed { job, error });
    }

    /// Gives back what a text held.
    fn free(&mut self, running: Running) {
        self.promised = self.promised.saturating_sub(running.promised);
        self.prefixes.touch(&running.places);
        drop(running);
        // What is kept for prompts to come takes half of the memory for texts, at most.
        while self.prefixes.len() > self.limit / 2 && self.prefixes.evict() {}
        self.changed = true;
    }
}

impl Turn {
    fn part(&mut self) -> Part<'_> {
        let scored = self.running.text.read_all();
        Part { tokens: &self.tokens, cache: &mut self.running.cache, scored }
    }
}

/// The next token of each text that has scores, in their order, chosen on all threads.
fn choose(turns: &[Turn], scores: &[f32], model: &Model) -> Result<Vec<Option<Result<u32, EngineError>>>, EngineError> {
    let vocabulary = model.vocabulary().max(1);
    let scored: Vec<&Turn> = turns.iter().filter(|turn| turn.running.text.read_all()).collect();
    let mut chosen: Vec<Option<Result<u32, EngineError>>> = scored.iter().map(|_| None).collect();
    let pool = &model.machine().pool;
    let run = pool.for_each_chunk(&mut chosen, 1, 1, &|index, place| {
        let (turn, row) = (scored.get(index), scores.chunks_exact(vocabulary).nth(index));
        if let (Some(turn), Some(row)) = (turn, row) {
            place.fill_with(|| Some(turn.running.text.choose(row)));
        }
    });
    run.map_err(broken)?;
    Ok(chosen)
}
