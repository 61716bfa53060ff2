//! A set to train on, out of what callers sent back: their inputs with what was true of them, and perturbed copies. What holds
//! personal data, as far as that can be told by its form, is left out and counted. No file is written here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use zero2ai_proto::{
    calls::Prompt,
    kept::CallInput,
    outcome::Truth,
    tensor::{DType, Tensor},
};
use zero2ai_trust::{
    attacks::{
        Space,
        rows::nearby,
        text::{self, CHANGES},
    },
    draw::Seed,
    gate::privacy,
};

use crate::dataset::FEATURES;

/// How far a feature of a copy may be from its original, in deviations of what was sent (see [`Augmented::row_copies`]): the mildest
/// distance of a row's attack.
pub const DISTANCE: f32 = 0.05;
/// Standard deviations in a median distance from the median, of normal values.
const NORMAL: f64 = 1.4826;
/// The severity of changes of a text: the mildest.
pub const SEVERITY: u8 = 1;
/// Perturbed copies of each sample at most.
pub const COPIES: u32 = 16;

/// What was left out, and why: rows or prompts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// The caller did not give his input.
    pub no_input: u64,
    /// Something in it has the form of personal data.
    pub personal: u64,
    /// It is known to be wrong, but not what would have been right.
    pub no_label: u64,
    /// Pictures, sounds, conversations and other tensors than one of rows of numbers; rows of another width than most have.
    pub other_kind: u64,
}

/// A row of numbers and its class.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelledRow {
    /// The features.
    pub features: Vec<f32>,
    /// The true class.
    pub class: u16,
}

/// A prompt, and whether the answer to it was right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JudgedPrompt {
    /// The text.
    pub prompt: String,
    /// By the caller's word.
    pub right: bool,
}

/// The set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Augmented {
    /// As they were sent.
    pub rows: Vec<LabelledRow>,
    /// As they were sent.
    pub prompts: Vec<JudgedPrompt>,
    /// What is not in it.
    pub left_out: LeftOut,
}

impl Augmented {
    /// Takes one outcome: what was true of each row, with the class that was answered where that is known, and the input if it came.
    pub fn take(&mut self, input: Option<CallInput>, truths: &[Truth], answered: &[(Option<u16>, bool)]) {
        let count = truths.len() as u64;
        match input {
            None => self.left_out.no_input = self.left_out.no_input.saturating_add(count),
            Some(CallInput::Text(input)) => match (input.prompt, answered.first()) {
                (Prompt::Text(prompt), Some((_, right))) => self.take_prompt(JudgedPrompt { prompt, right: *right }),
                _ => self.left_out.other_kind = self.left_out.other_kind.saturating_add(count),
            },
            Some(CallInput::Tensors(tensors)) => match rows_of(&tensors).filter(|rows| rows.len() == truths.len()) {
                Some(rows) => {
                    let known = truths.iter().zip(answered).map(|(truth, answered)| class(*truth, *answered));
                    rows.into_iter().zip(known).for_each(|(features, class)| self.take_row(features, class));
                }
                None => self.left_out.other_kind = self.left_out.other_kind.saturating_add(count),
            },
        }
    }

    fn take_row(&mut self, features: Vec<f32>, class: Option<u16>) {
        let left_out = &mut self.left_out;
        // A number by itself may be an identity: a card's, an account's.
        let personal = || features.iter().any(|value| !privacy::scan(&value.to_string()).is_empty());
        let count = if personal() {
            &mut left_out.personal
        } else if let Some(class) = class {
            return self.rows.push(LabelledRow { features, class });
        } else {
            &mut left_out.no_label
        };
        *count = count.saturating_add(1);
    }

    fn take_prompt(&mut self, prompt: JudgedPrompt) {
        if privacy::scan(&prompt.prompt).is_empty() && prompt.prompt.len() <= privacy::TEXT {
            self.prompts.push(prompt);
        } else {
            self.left_out.personal = self.left_out.personal.saturating_add(1);
        }
    }

    /// Leaves out the rows of another width than most have: whose came first decides nothing.
    pub fn keep_one_width(&mut self) {
        let mut widths: BTreeMap<usize, u64> = BTreeMap::new();
        for row in &self.rows {
            *widths.entry(row.features.len()).or_default() += 1;
        }
        let most = widths.iter().max_by_key(|(_, rows)| **rows).map(|(width, _)| *width);
        let before = self.rows.len();
        self.rows.retain(|row| Some(row.features.len()) == most);
        let gone = (before - self.rows.len()) as u64;
        self.left_out.other_kind = self.left_out.other_kind.saturating_add(gone);
    }

    /// `copies` perturbed copies of each row, at most [`COPIES`], made as they are asked for, those of one row together: the same seed and
    /// rows give the same ones. A feature's deviation is 1.4826 times the median distance from its median, which is the standard
    /// deviation where values are normal (Hampel 1974): outliers of fewer than half of the rows do not change its order of size. One of
    /// which more than half are equal stays as it is. None of rows that are all alike: nothing is known of how they vary.
    pub fn row_copies(&self, copies: u32, seed: Seed) -> impl Iterator<Item = LabelledRow> {
        spread(&self.rows).into_iter().flat_map(move |space| {
            each(copies, self.rows.iter()).map(move |(row, _, place)| LabelledRow {
                features: nearby(&row.features, &space, DISTANCE, &seed, place),
                class: row.class,
            })
        })
    }

    /// The same of prompts. Whether an answer to a copy would be right nobody said: it is what was said of the original.
    pub fn prompt_copies(&self, copies: u32, seed: Seed) -> impl Iterator<Item = JudgedPrompt> {
        each(copies, self.prompts.iter()).map(move |(judged, copy, place)| {
            let kind = CHANGES[copy as usize % CHANGES.len()];
            JudgedPrompt { prompt: text::change(&judged.prompt, kind, SEVERITY, &seed, place), right: judged.right }
        })
    }
}

/// Each sample as often as it has copies, with the number of the copy and a place that no other copy has.
fn each<T: Copy>(copies: u32, samples: impl Iterator<Item = T>) -> impl Iterator<Item = (T, u32, u64)> {
    let copies = copies.min(COPIES);
    let place = |sample: usize, copy: u32| (sample as u64).wrapping_mul(u64::from(COPIES)).wrapping_add(copy.into());
    samples.enumerate().flat_map(move |(at, sample)| (0..copies).map(move |copy| (sample, copy, place(at, copy))))
}

/// Each feature within what the rows show of it, and counted in its deviation by medians; one feature is looked at at a time.
fn spread(rows: &[LabelledRow]) -> Option<Space> {
    let mut space = Space { low: Vec::new(), high: Vec::new(), scale: Vec::new() };
    for feature in 0..rows.first()?.features.len() {
        let of = |row: &LabelledRow| row.features.get(feature).copied().map(f64::from);
        let mut values: Vec<f64> = rows.iter().filter_map(of).collect();
        let middle = median(&mut values)?;
        #[allow(clippy::cast_possible_truncation)]
        if let (Some(low), Some(high)) = (values.first(), values.last()) {
            // They were single precision.
            space.low.push(*low as f32);
            space.high.push(*high as f32);
        }
        values.iter_mut().for_each(|value| *value = (*value - middle).abs());
        // Finite samples have finite distances, up to what single precision holds.
        #[allow(clippy::cast_possible_truncation)]
        space.scale.push((NORMAL * median(&mut values)?).min(f64::from(f32::MAX)) as f32);
    }
    space.scale.iter().any(|scale| *scale > 0.0).then_some(space)
}

/// The lower median of some numbers, which are then in order.
fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len().checked_sub(1)? / 2).copied()
}

/// The class of a row, as far as it is known.
fn class(truth: Truth, (said, right): (Option<u16>, bool)) -> Option<u16> {
    match truth {
        Truth::Class(class) => Some(class),
        Truth::Right(_) => said.filter(|_| right),
    }
}

/// The rows of one `[rows, features]` tensor of single precision, all finite.
fn rows_of(tensors: &[Tensor]) -> Option<Vec<Vec<f32>>> {
    let [tensor] = tensors else { return None };
    let [_, width] = tensor.shape[..] else { return None };
    let width = usize::try_from(width).ok().filter(|width| (1..=FEATURES).contains(width))?;
    let values = if tensor.dtype == DType::F32 { tensor.to_f32().ok()? } else { return None };
    values.iter().all(|value| value.is_finite()).then(|| values.chunks(width).map(<[f32]>::to_vec).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use zero2ai_proto::calls::{GenerateInput, Sampling};

    use super::*;

    const SEED: Seed = [4; 32];

    fn tensor(rows: &[[f32; 2]]) -> Option<CallInput> {
        Some(CallInput::Tensors(vec![Tensor::f32("x", &[rows.len() as u64, 2], rows.as_flattened())]))
    }

    fn prompt(text: &str) -> Option<CallInput> {
        let prompt = Prompt::Text(text.to_owned());
        Some(CallInput::Text(GenerateInput { prompt, sampling: Sampling::default(), resume: Vec::new() }))
    }

    #[test]
    fn rows_and_prompts_are_taken_with_what_is_known_of_them_and_the_rest_is_counted() {
        let mut set = Augmented::default();
        set.take(
            tensor(&[[1.0, 2.0], [3.0, 4.0]]),
            &[Truth::Class(7), Truth::Class(1)],
            &[(Some(7), true), (Some(2), false)],
        );
        set.take(tensor(&[[5.0, 6.0]]), &[Truth::Right(true)], &[(Some(3), true)]);
        set.take(tensor(&[[7.0, 8.0]]), &[Truth::Right(false)], &[(Some(3), false)]);
        // A number of a card, which single precision holds exactly.
        let mut numbers = (0..40_000_u16).map(|i| 4e15_f32 + f32::from(i) * 536_870_912.0);
        let card = numbers.find(|v| !privacy::scan(&v.to_string()).is_empty()).unwrap();
        set.take(tensor(&[[card, 8.0]]), &[Truth::Class(0)], &[(Some(0), true)]);
        set.take(None, &[Truth::Right(true); 3], &[(None, true); 3]);
        let picture = CallInput::Tensors(vec![Tensor::f32("x", &[1, 1, 1, 1], &[0.0])]);
        set.take(Some(picture), &[Truth::Class(0)], &[(Some(0), true)]);
        set.take(prompt("Why is the sky blue?"), &[Truth::Right(false)], &[(None, false)]);
        set.take(prompt("Write to ann@example.org"), &[Truth::Right(true)], &[(None, true)]);
        assert_eq!(set.rows.iter().map(|r| r.class).collect::<Vec<_>>(), [7, 1, 3]);
        assert_eq!(set.prompts, [JudgedPrompt { prompt: "Why is the sky blue?".into(), right: false }]);
        assert_eq!(set.left_out, LeftOut { no_input: 3, personal: 2, no_label: 1, other_kind: 1 });
    }

    #[test]
    fn most_rows_have_the_width_that_counts_whichever_came_first() {
        let mut set = Augmented::default();
        let wide = CallInput::Tensors(vec![Tensor::f32("x", &[1, 3], &[0.0; 3])]);
        set.take(Some(wide), &[Truth::Class(0)], &[(Some(0), true)]);
        set.take(tensor(&[[1.0, 2.0], [3.0, 4.0]]), &[Truth::Class(1); 2], &[(Some(1), true); 2]);
        set.keep_one_width();
        assert_eq!(set.rows.iter().map(|r| r.class).collect::<Vec<_>>(), [1, 1]);
        assert_eq!(set.left_out, LeftOut { other_kind: 1, ..LeftOut::default() });
    }

    #[test]
    fn copies_are_near_seeded_and_keep_their_class() {
        let mut set = Augmented::default();
        for i in 0..20_u16 {
            set.take(tensor(&[[f32::from(i), 3.0]]), &[Truth::Class(i)], &[(Some(i), true)]);
        }
        set.take(prompt("a list:\none\ntwo"), &[Truth::Right(true)], &[(None, true)]);
        let of = |seed| (set.row_copies(3, seed).collect::<Vec<_>>(), set.prompt_copies(3, seed).collect::<Vec<_>>());
        let (rows, prompts) = of(SEED);
        assert_eq!((rows.len(), prompts.len()), (60, 3));
        // Half of 0 to 19 lie within 5 of their middle.
        let deviation = 5.0 * 1.4826;
        for (copy, i) in rows.iter().zip((0..20).flat_map(|i| [i; 3])) {
            assert_eq!((copy.class, copy.features[1]), (i, 3.0), "what never varies stays");
            assert!(
                (copy.features[0] - f32::from(i)).abs() <= 0.05 * deviation && (0.0..=19.0).contains(&copy.features[0])
            );
        }
        assert!(rows.iter().filter(|c| c.features[0].fract() != 0.0).count() > 40);
        assert!(prompts.iter().all(|c| c.right && c.prompt.lines().count() == 3), "{prompts:?}");
        assert_eq!(of(SEED), (rows.clone(), prompts));
        assert_ne!(of([5; 32]).0, rows);
    }

    #[test]
    fn outliers_of_one_caller_do_not_spoil_the_copies_of_others() {
        let mut set = Augmented::default();
        for i in 0..30_u16 {
            set.take(tensor(&[[f32::from(i % 10), 1.0]]), &[Truth::Class(0)], &[(Some(0), true)]);
        }
        for _ in 0..10 {
            set.take(tensor(&[[1e9, 1.0]]), &[Truth::Class(0)], &[(Some(0), true)]);
        }
        let copies: Vec<_> = set.row_copies(2, SEED).collect();
        let moved = |sample: usize| {
            let of = &copies[2 * sample..2 * sample + 2];
            of.iter().map(|copy| (copy.features[0] - set.rows[sample].features[0]).abs()).fold(0.0, f32::max)
        };
        assert!((0..30).all(|sample| moved(sample) < 0.5), "a deviation of these with the outliers is 4e8");
        assert!((0..30).any(|sample| moved(sample) > 0.0));
    }
}
