//! Texts that run together: each step takes the rows of all of them through one pass, and gives what came of it.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    time::Instant,
};

use zero2ai_proto::worker::GenerateJob;

use super::{
    super::{Event, Given},
    cache::{Cache, PAGE, Page, Pages},
    generation::{Choice, TextGeneration},
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

/// Rows of texts that give tokens in one pass, guessed ones included: where there are as many texts or more, each is one row.
/// Up to here it is [`Pace::worth`] that says whether a guess is worth the time it takes from others.
const GIVING_ROWS: usize = 32;
/// Texts that give together from which on nothing is guessed: their rows fill a pass by themselves, and what guesses take from
/// all is more than they bring to some (measured at 8; at 4 it is the other way round).
const CROWD: usize = 8;

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
    /// How many of them, the last ones, are guesses.
    guessed: usize,
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
    /// When each text is to be given up.
    until: HashMap<u64, Instant>,
    /// Whether tokens are guessed, and how many guesses were right since the start.
    guessing: bool,
    guessed: u64,
}

impl Batch {
    /// For caches of so many pages together; with `guessing`, tokens are read in advance.
    pub(super) fn new(limit: usize, guessing: bool) -> Self {
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
            until: HashMap::new(),
            guessing,
            guessed: 0,
        }
    }

    /// Tokens of a prompt that may be read at once.
    pub(super) fn rows_at_once(&self) -> usize {
        self.pace.budget(self.schedule.giving())
    }

    /// Takes up a text.
    pub(super) fn enter(
        &mut self,
        job: &GenerateJob,
        mut text: TextGeneration,
        until: Instant,
    ) -> Result<(), EngineError> {
        if let Some(reason) = text.over() {
            let given = Given { job: job.job, piece: None, end: Some((reason, text.prompt_tokens)) };
            self.told.push(Event::Given(given));
            return Ok(());
        }
        let (pages, caller) = (text.room().div_ceil(PAGE), job.caller.to_vec());
        self.schedule.enter(job.job, caller.clone(), text.pending().len(), pages)?;
        self.until.insert(job.job, until);
        self.waiting.insert(job.job, Waiting { text, caller, pages });
        self.changed = true;
        Ok(())
    }

    /// Drops a text, if it is here.
    pub(super) fn leave(&mut self, job: u64) {
        self.forget(job);
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
        self.give_up_late(started);
        let budget = self.rows_at_once();
        let mut turns = self.turns(model, budget);
        let mut parts: Vec<Part<'_>> = turns.iter_mut().map(Turn::part).collect();
        let rows = parts.iter().map(|part| part.tokens.len()).sum();
        self.read = self.read.saturating_add(rows as u64);
        let passed = if parts.is_empty() { Ok(Vec::new()) } else { model.forward(&mut parts) };
        match passed {
            Ok(scores) => {
                let giving = turns.iter().all(|turn| turn.tokens.len() == turn.guessed.saturating_add(1));
                self.pace.saw(rows, started.elapsed());
                let before = self.told.len();
                self.give(turns, &scores, model, tokenizer);
                if giving && rows > 0 {
                    // The choice of tokens counts too.
                    self.pace.gave(rows, self.told.len().saturating_sub(before), started.elapsed());
                }
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

    /// How many guesses were right since the start.
    #[cfg(test)]
    pub(super) const fn guessed(&self) -> u64 {
        self.guessed
    }

    /// Ends texts whose time is over.
    fn give_up_late(&mut self, now: Instant) {
        let late: Vec<u64> = self.until.iter().filter(|(_, until)| **until <= now).map(|(job, _)| *job).collect();
        for job in late {
            self.leave(job);
            self.told.push(Event::Failed { job, error: EngineError::late() });
        }
    }

    /// Takes a text out of all plans.
    fn forget(&mut self, job: u64) {
        self.schedule.leave(job);
        self.until.remove(&job);
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
        let plan = self.schedule.plan(budget);
        let guesses = if self.guessing && model.keeps_bits() { self.wishes(&plan) } else { HashMap::new() };
        for (job, rows) in plan {
            let Some(mut running) = self.running.remove(&job) else { continue };
            let rows = if model.keeps_bits() {
                rows
            } else {
                FIXED_PART.saturating_sub(running.cache.len() % FIXED_PART).min(running.text.pending().len())
            };
            let mut tokens = running.text.take(rows);
            let known = tokens.len();
            if let Some(guesses) = guesses.get(&job).copied().filter(|_| running.text.read_all()) {
                tokens.extend(running.text.guess(guesses, running.cache.len().saturating_add(known)));
            }
            let guessed = tokens.len().saturating_sub(known);
            match running.cache.grow(tokens.len(), &model.config, &self.pages) {
                Ok(made) => {
                    running.promised = running.promised.saturating_sub(made);
                    self.promised = self.promised.saturating_sub(made);
                    turns.push(Turn { job, running, tokens, guessed });
                }
                Err(error) => self.fail(job, running, error),
            }
        }
        turns
    }

    /// How many tokens are to be guessed for which of the texts that give one: what each wishes, the most hopeful first, as far as
    /// there are rows for it.
    fn wishes(&mut self, plan: &[(u64, usize)]) -> HashMap<u64, usize> {
        let worth = self.pace.worth();
        let giving = || plan.iter().filter(|(_, rows)| *rows == 1).map(|(job, _)| *job);
        let count = giving().count();
        let mut left = GIVING_ROWS.saturating_sub(count);
        if left == 0 || count >= CROWD {
            return HashMap::new();
        }
        let wish = |job| Some((job, self.running.get_mut(&job)?.text.wish(worth)));
        let mut wishes: Vec<(u64, usize)> = giving().filter_map(wish).collect();
        wishes.sort_by_key(|(_, wish)| Reverse(*wish));
        let grant = |(job, wish): (u64, usize)| {
            let granted = wish.min(left);
            left = left.saturating_sub(granted);
            (job, granted)
        };
        wishes.into_iter().map(grant).collect()
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
        for Turn { job, mut running, mut tokens, guessed } in turns {
            self.schedule.read(job, tokens.len().saturating_sub(guessed));
            if !running.text.read_all() {
                self.keep_of(&mut running, &tokens, model);
                self.running.insert(job, running);
                continue;
            }
            match chosen.next().flatten() {
                Some(Ok(choices)) => {
                    // What was read after a wrong guess is forgotten.
                    let right = choices.len().saturating_sub(1);
                    let wrong = guessed.saturating_sub(right);
                    running.text.learn(guessed, right);
                    running.cache.cut(wrong);
                    tokens.truncate(tokens.len().saturating_sub(wrong));
                    self.guessed = self.guessed.saturating_add(right as u64);
                    self.schedule.gave(job, right);
                    self.keep_of(&mut running, &tokens, model);
                    self.tell(job, running, choices, tokenizer);
                }
                Some(Err(error)) => self.fail(job, running, error),
                None => self.fail(job, running, EngineError::worker("a text was given no scores")),
            }
        }
    }

    /// Gives a text's tokens, all of which but the last were read already.
    fn tell(&mut self, job: u64, mut running: Running, choices: Vec<Choice>, tokenizer: &Tokenizer) {
        let first = running.cache.len().saturating_sub(choices.len().saturating_sub(1));
        for (index, choice) in choices.into_iter().enumerate() {
            running.text.take(usize::from(index > 0));
            let (piece, end) = running.text.give(choice, first.saturating_add(index), tokenizer);
            let end = end.map(|reason| (reason, running.text.prompt_tokens));
            self.told.push(Event::Given(Given { job, piece: Some(piece), end }));
            if end.is_some() {
                self.forget(job);
                return self.free(running);
            }
        }
        self.running.insert(job, running);
    }

    fn keep_of(&mut self, running: &mut Running, tokens: &[u32], model: &Model) {
        if model.keeps_bits() {
            self.keep(running, tokens);
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
        self.forget(job);
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
    /// Rows of scores that it wants: one for what follows the known tokens, and one for what follows each guess.
    fn scored(&self) -> usize {
        if self.running.text.read_all() { self.guessed.saturating_add(1) } else { 0 }
    }

    fn part(&mut self) -> Part<'_> {
        let scored = self.scored();
        Part { tokens: &self.tokens, cache: &mut self.running.cache, scored }
    }

    fn guesses(&self) -> &[u32] {
        self.tokens.get(self.tokens.len().saturating_sub(self.guessed)..).unwrap_or_default()
    }
}

type Choices = Result<Vec<Choice>, EngineError>;

/// The next tokens of each text that has scores, in their order, chosen on all threads.
fn choose(turns: &[Turn], scores: &[f32], model: &Model) -> Result<Vec<Option<Choices>>, EngineError> {
    let vocabulary = model.vocabulary().max(1);
    let mut rest = scores;
    let mut scored: Vec<(&Turn, &[f32])> = Vec::new();
    for turn in turns.iter().filter(|turn| turn.scored() > 0) {
        let (own, after) = rest.split_at(turn.scored().saturating_mul(vocabulary).min(rest.len()));
        rest = after;
        scored.push((turn, own));
    }
    let mut chosen: Vec<Option<Choices>> = scored.iter().map(|_| None).collect();
    let pool = &model.machine().pool;
    let run = pool.for_each_chunk(&mut chosen, 1, 1, &|index, place| {
        if let Some((turn, rows)) = scored.get(index) {
            let choose = || turn.running.text.choose(rows.chunks_exact(vocabulary), turn.guesses());
            place.fill_with(|| Some(choose()));
        }
    });
    run.map_err(broken)?;
    Ok(chosen)
}
