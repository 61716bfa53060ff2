//! `outcomes --augment`: writes a set to train on, out of the inputs that callers gave.
//!
//! ```text
//! rows.csv  rows-perturbed.csv        features f0..., the class last: what 'predict --labelled' and 'validate' read
//! prompts.jsonl  prompts-perturbed.jsonl   {"prompt", "right"}: what was asked, and whether the answer was right
//! manifest.json                       seed, counts, what was left out and why
//! ```

use std::{
    borrow::Borrow,
    collections::BTreeSet,
    io::{self, Write},
    iter::once,
    path::Path,
};

use serde::Serialize;
use zero2ai_proto::{Digest, keys::random_bytes, local::ToldOutcome};
use zero2ai_validator::augment::{Augmented, DISTANCE, JudgedPrompt, LabelledRow, LeftOut, SEVERITY};

use crate::{
    cli::OutcomesArgs,
    commands::{fill_private, write_private},
    exit::{Exit, Failure, Outcome, file_error},
};

/// `manifest.json`.
#[derive(Serialize)]
pub(super) struct Manifest {
    name: String,
    versions: Vec<u32>,
    seed: String,
    copies: u32,
    rows: usize,
    row_copies: usize,
    prompts: usize,
    prompt_copies: usize,
    left_out: LeftOut,
    /// Inputs that could not be read on the owner's disk; counted among those without input.
    damaged: u32,
    distance: f32,
    severity: u8,
    notes: [&'static str; 3],
}

/// What a reader of the set has to know.
const NOTES: [&str; 3] = [
    "Labels are callers' words: each is signed by the account that made the call, and none is checked.",
    "A feature of a copy moves by at most 'distance' of its deviation over the rows sent, by medians (1.4826 times the median distance \
     from the median); a prompt's copies change as in a validator's attack at 'severity'.",
    "Left out as personal is what has the form of personal data. Names, postal addresses and dates of birth are not found. Samples that \
     validators' runs failed on are not here: reports carry figures, no samples.",
];

/// A set that is filled as outcomes come; copies are made as they are written, so that what callers sent is held once.
pub(super) struct Begun {
    set: Augmented,
    versions: BTreeSet<u32>,
}

impl Begun {
    /// An empty set for a new or empty folder.
    pub(super) fn new(folder: &Path) -> Outcome<Self> {
        std::fs::create_dir_all(folder).map_err(|e| file_error("make the folder", folder, &e))?;
        let mut inside = std::fs::read_dir(folder).map_err(|e| file_error("look into", folder, &e))?;
        if inside.next().is_some() {
            let why = format!("{} is not empty: name a new folder for the set.", folder.display());
            return Err(Failure::new(Exit::Usage, why));
        }
        Ok(Self { set: Augmented::default(), versions: BTreeSet::new() })
    }

    /// Takes an outcome's input: it is in the set from here on, and nowhere else.
    pub(super) fn take(&mut self, outcome: &mut ToldOutcome) {
        if outcome.has_input {
            self.versions.insert(outcome.version);
        }
        self.set.take(outcome.input.take(), &outcome.truths, &outcome.rows);
    }

    /// Writes the set; `damaged` outcomes came without their inputs, and are counted among those.
    pub(super) fn write(self, folder: &Path, args: &OutcomesArgs, damaged: u32) -> Outcome<Manifest> {
        let Self { mut set, versions } = self;
        let drawn = || random_bytes().map(Digest).map_err(|e| Failure::new(Exit::Internal, format!("No seed: {e}.")));
        let seed = args.seed.map_or_else(drawn, Ok)?;
        set.keep_one_width();
        let (row_copies, prompt_copies) = files(folder, &set, args.copies, &seed)?;
        let manifest = Manifest {
            name: args.name.to_string(),
            versions: versions.into_iter().collect(),
            seed: seed.to_string(),
            copies: args.copies,
            rows: set.rows.len(),
            row_copies,
            prompts: set.prompts.len(),
            prompt_copies,
            left_out: set.left_out,
            damaged,
            distance: DISTANCE,
            severity: SEVERITY,
            notes: NOTES,
        };
        // Last: where it is, the set is whole.
        let internal = |e: serde_json::Error| Failure::new(Exit::Internal, format!("The set cannot be written: {e}."));
        let bytes = serde_json::to_vec_pretty(&manifest).map_err(internal)?;
        write_private("write", &folder.join("manifest.json"), &bytes)?;
        Ok(manifest)
    }
}

/// Writes the samples and `copies` of each; gives how many copies there are, of rows and of prompts.
fn files(folder: &Path, set: &Augmented, copies: u32, seed: &Digest) -> Outcome<(usize, usize)> {
    table(folder, "rows.csv", set.rows.iter())?;
    let row_copies = table(folder, "rows-perturbed.csv", set.row_copies(copies, seed.0))?;
    lines(folder, "prompts.jsonl", set.prompts.iter())?;
    Ok((row_copies, lines(folder, "prompts-perturbed.jsonl", set.prompt_copies(copies, seed.0))?))
}

/// Rows of numbers with a header. A number is written with the digits that give the same one when it is read.
fn table<R: Borrow<LabelledRow>>(folder: &Path, file: &str, rows: impl Iterator<Item = R>) -> Outcome<usize> {
    let head = |file: &mut dyn Write, first: &R| {
        (0..first.borrow().features.len()).try_for_each(|i| write!(file, "f{i},"))?;
        writeln!(file, "class")
    };
    fill(folder, file, rows, head, |file, row| {
        let LabelledRow { features, class } = row.borrow();
        features.iter().try_for_each(|value| write!(file, "{value},"))?;
        writeln!(file, "{class}")
    })
}

/// Prompts, a JSON object a line.
fn lines<P: Borrow<JudgedPrompt>>(folder: &Path, file: &str, prompts: impl Iterator<Item = P>) -> Outcome<usize> {
    fill(
        folder,
        file,
        prompts,
        |_, _| Ok(()),
        |file, prompt| {
            serde_json::to_writer(&mut *file, prompt.borrow())?;
            writeln!(file)
        },
    )
}

/// Writes a file of samples, if there are any, one at a time; tells how many.
fn fill<T>(
    folder: &Path,
    file: &str,
    mut samples: impl Iterator<Item = T>,
    head: impl FnOnce(&mut dyn Write, &T) -> io::Result<()>,
    line: impl Fn(&mut dyn Write, &T) -> io::Result<()>,
) -> Outcome<usize> {
    let Some(first) = samples.next() else { return Ok(0) };
    let mut count = 0;
    fill_private("write", &folder.join(file), |file| {
        head(file, &first)?;
        for sample in once(first).chain(samples) {
            line(file, &sample)?;
            count += 1;
        }
        Ok(())
    })?;
    Ok(count)
}

impl Manifest {
    pub(super) fn text(&self, folder: &Path) -> String {
        let LeftOut { no_input, personal, no_label, other_kind } = self.left_out;
        format!(
            "\nIn {}: {} rows with {} copies, {} prompts with {} copies. Left out: {no_input} without input (of {} outcomes it could not \
             be read), {personal} with what may be personal data, {no_label} without a known class, {other_kind} of another kind.",
            folder.display(),
            self.rows,
            self.row_copies,
            self.prompts,
            self.prompt_copies,
            self.damaged,
        )
    }
}
