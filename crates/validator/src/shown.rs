//! A sample between two validators: one shows what a disputed leaf is about, the other checks that it is that and asks the model again.

use zero2ai_proto::{
    ByteBuf, Digest,
    limits::{PROMPT_BYTES, SHOWN_BYTES},
    sample::{Sample, ShownSample},
    tx::OpenedLeaf,
};

use crate::{
    Dataset, JobError, Predictor, Subject,
    dataset::{ANSWERS, FEATURES, Medium, Prompt, Samples, Span},
    job::run,
    leaves::salted,
};

/// Why what was shown is not what the leaf is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShownError {
    /// Its digest is another one.
    #[error("it is another sample, or has another salt")]
    Another,
    /// Nothing that data may hold.
    #[error("it is no sample: empty, or longer than samples may be")]
    Malformed,
}

/// One sample of `data`, to be shown; `None` beyond the last, and of queries: what is found with one depends on all of the data.
#[must_use]
pub fn show(data: &Dataset, place: usize) -> Option<Sample> {
    let file = |medium: &Medium| ByteBuf::from(medium.content.to_vec());
    let bits = |span: &Span| (span.start.to_bits(), span.end.to_bits());
    Some(match &data.samples {
        Samples::Rows(rows, labels) => {
            let features: Vec<u8> = rows.get(place)?.iter().flat_map(|v| v.to_le_bytes()).collect();
            Sample::Row { features: ByteBuf::from(features), label: *labels.get(place)? }
        }
        Samples::Pictures(media, labels) => {
            Sample::Picture { file: file(media.get(place)?), label: *labels.get(place)? }
        }
        Samples::Sounds(media, labels) => {
            let medium = media.get(place)?;
            Sample::Sound { file: file(medium), span: medium.span.as_ref().map(bits), label: *labels.get(place)? }
        }
        Samples::Prompts(prompts) => {
            let Prompt { prompt, expected } = prompts.get(place)?;
            Sample::Prompt { prompt: prompt.clone(), expected: expected.clone() }
        }
        Samples::Pairs(_) => return None,
    })
}

/// The first sample that is too long to be shown ([`SHOWN_BYTES`] with its salt), if one is.
#[must_use]
pub fn too_long(data: &Dataset) -> Option<usize> {
    /// More than what stands around the content.
    const AROUND: usize = 4 * 1024;
    let texts = |prompt: &Prompt| prompt.expected.iter().map(|e| e.len().saturating_add(8)).sum::<usize>();
    let long = |bytes: usize| bytes.saturating_add(AROUND) > SHOWN_BYTES;
    match &data.samples {
        Samples::Rows(rows, _) => rows.iter().position(|row| long(row.len().saturating_mul(4))),
        Samples::Pictures(media, _) | Samples::Sounds(media, _) => media.iter().position(|m| long(m.content.len())),
        Samples::Prompts(prompts) => prompts.iter().position(|p| long(p.prompt.len().saturating_add(texts(p)))),
        Samples::Pairs(_) => None,
    }
}

/// What was shown, as data of one sample, if it is what `leaf` is about. Its label is part of what the leaf's digest is of. The sample is
/// of as many `classes` as the counts of the leaf's validator: all its data may have told him what one sample does not.
///
/// # Errors
/// See [`ShownError`].
pub fn accept(shown: ShownSample, leaf: &OpenedLeaf, classes: usize) -> Result<Dataset, ShownError> {
    let ShownSample { salt, sample } = shown;
    let data = Dataset {
        samples: one(sample).ok_or(ShownError::Malformed)?,
        groups: None,
        slices: None,
        names: vec![String::new(); classes],
        notes: Vec::new(),
    };
    let fits = |hash: Digest| salted(&salt, &hash) == leaf.sample;
    if data.sample_hash(0).is_some_and(fits) { Ok(data) } else { Err(ShownError::Another) }
}

fn one(sample: Sample) -> Option<Samples> {
    let medium = |file: ByteBuf, span| vec![Medium { content: file.into_vec().into(), span }];
    Some(match sample {
        Sample::Row { features, label } => {
            let (numbers, rest) = features.as_chunks::<4>();
            let row: Vec<f32> = numbers.iter().map(|n| f32::from_le_bytes(*n)).collect();
            let sound =
                rest.is_empty() && !row.is_empty() && row.len() <= FEATURES && row.iter().all(|n| n.is_finite());
            sound.then(|| Samples::Rows(vec![row], vec![label]))?
        }
        Sample::Picture { file, label } => Samples::Pictures(medium(file, None), vec![label]),
        Sample::Sound { file, span, label } => {
            let span = span.map(|(start, end)| Span { start: f64::from_bits(start), end: f64::from_bits(end) });
            let sound =
                span.is_none_or(|s| s.start.is_finite() && s.end.is_finite() && 0.0 <= s.start && s.start < s.end);
            sound.then(|| Samples::Sounds(medium(file, span), vec![label]))?
        }
        Sample::Prompt { prompt, expected } => {
            let bounded = prompt.len() <= PROMPT_BYTES && (1..=ANSWERS).contains(&expected.len());
            bounded.then(|| Samples::Prompts(vec![Prompt { prompt, expected }]))?
        }
    })
}

/// True if the model does not say of the sample in `data` what `leaf` says that it does, or the sample's class is another.
///
/// # Errors
/// [`JobError::Model`]: the model gave no answer, which may be this machine's fault. What can be no sample of this model is no error: the leaf
/// is false.
pub async fn refutes<P: Predictor>(
    model: &P,
    subject: &Subject,
    data: &Dataset,
    leaf: &OpenedLeaf,
) -> Result<bool, JobError> {
    match run(model, subject, data, |_, _| {}).await {
        Ok(found) => Ok(found.rows.first().is_none_or(|row| (row.label, row.answer) != (leaf.label, leaf.answer))),
        Err(error @ JobError::Model { .. }) => Err(error),
        Err(_) => Ok(true),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use futures::executor::block_on;
    use zero2ai_proto::{manifest::Task, tensor::Tensor};
    use zero2ai_trust::report::Domain;

    use super::*;
    use crate::{Leaves, Row, Said, own_salt};

    const RUN: [u8; 32] = [7; 32];

    /// Says the class that its first number names.
    struct First;

    impl Predictor for First {
        async fn predict(&self, inputs: Vec<Tensor>) -> Result<Vec<Tensor>, String> {
            let Ok(numbers) = inputs[0].to_f32() else { return Ok(Vec::new()) };
            let class = numbers[0];
            let scores: Vec<f32> = (0..3u8).map(|c| f32::from(u8::from(f32::from(c) == class))).collect();
            Ok(vec![Tensor::f32("scores", &[1, 3], &scores)])
        }

        async fn say(&self, prompt: &str, _: u32) -> Result<Said, String> {
            Ok(Said { text: prompt.to_uppercase(), ..Said::default() })
        }
    }

    struct Broken;

    impl Predictor for Broken {
        async fn predict(&self, _: Vec<Tensor>) -> Result<Vec<Tensor>, String> {
            Err("no memory".into())
        }

        async fn say(&self, _: &str, _: u32) -> Result<Said, String> {
            Err("no memory".into())
        }
    }

    fn data(samples: Samples) -> Dataset {
        Dataset { samples, groups: None, slices: None, names: Vec::new(), notes: Vec::new() }
    }

    fn subject(domain: Domain, task: Task) -> Subject {
        Subject { name: "lab/first@1".into(), domain, task, preparation: None }
    }

    fn leaf(subject: &Subject, data: &Dataset, place: u32) -> OpenedLeaf {
        let found = block_on(run(&First, subject, data, |_, _| {})).unwrap();
        Leaves::of(&found.rows, &RUN).open(&[place]).unwrap().remove(0)
    }

    fn shown(data: &Dataset, place: u32) -> ShownSample {
        let sample = show(data, usize::try_from(place).unwrap()).unwrap();
        ShownSample { salt: own_salt(&RUN, place.into()), sample }
    }

    #[test]
    fn a_true_leaf_stands_and_a_false_one_is_refuted() {
        let rows = data(Samples::Rows(vec![vec![0.0, 5.0], vec![2.0, 5.0], vec![1.0, 5.0]], vec![0, 1, 1]));
        let prompts = vec![
            Prompt { prompt: "paris".into(), expected: vec!["Paris".into()] },
            Prompt { prompt: "rome".into(), expected: vec!["Athens".into()] },
        ];
        let cases = [
            (subject(Domain::Tabular, Task::Classify { classes: 3 }), rows),
            (subject(Domain::Text, Task::Generate { context: 64 }), data(Samples::Prompts(prompts))),
        ];
        for (subject, data) in cases {
            for place in 0..2 {
                let leaf = leaf(&subject, &data, place);
                let one = accept(shown(&data, place), &leaf, 2).unwrap();
                assert!(!block_on(refutes(&First, &subject, &one, &leaf)).unwrap());
                let lie = OpenedLeaf { answer: leaf.answer ^ 1, ..leaf.clone() };
                assert!(block_on(refutes(&First, &subject, &one, &lie)).unwrap());
                let label = OpenedLeaf { label: leaf.label + 1, ..leaf.clone() };
                assert!(block_on(refutes(&First, &subject, &one, &label)).unwrap());
                let broken = block_on(refutes(&Broken, &subject, &one, &leaf));
                assert!(matches!(broken, Err(JobError::Model { .. })), "this machine's fault convicts nobody");
            }
        }
    }

    /// Its data told the validator of five; the one sample that a jury sees would make them two.
    #[test]
    fn what_has_no_classes_of_its_own_is_asked_with_those_of_the_counts() {
        let medium = |n: u8| Medium { content: vec![n].into(), span: None };
        let all = data(Samples::Sounds((0..5).map(medium).collect(), (0..5).collect()));
        let subject = subject(Domain::Audio, Task::Tensors);
        let row = Row { label: 0, answer: 0, sample: all.sample_hash(0).unwrap() };
        let leaf = Leaves::of(&[row], &RUN).open(&[0]).unwrap().remove(0);
        let one = accept(shown(&all, 0), &leaf, 5).unwrap();
        assert_eq!((subject.classes(&all), subject.classes(&one)), (Ok(5), Ok(5)));
    }

    #[test]
    fn another_sample_another_salt_and_another_label_are_not_accepted() {
        let rows = data(Samples::Rows(vec![vec![0.0], vec![1.0]], vec![0, 1]));
        let subject = subject(Domain::Tabular, Task::Classify { classes: 3 });
        let leaf = leaf(&subject, &rows, 0);
        let honest = shown(&rows, 0);
        assert_eq!(accept(shown(&rows, 1), &leaf, 3), Err(ShownError::Another));
        let salt = ShownSample { salt: Digest([1; 32]), ..honest.clone() };
        assert_eq!(accept(salt, &leaf, 3), Err(ShownError::Another));
        let Sample::Row { features, .. } = honest.sample.clone() else { unreachable!() };
        let label = ShownSample { sample: Sample::Row { features, label: 1 }, ..honest.clone() };
        assert_eq!(accept(label, &leaf, 3), Err(ShownError::Another));
        for bytes in [vec![], vec![0; 3], f32::NAN.to_le_bytes().to_vec()] {
            let odd = Sample::Row { features: ByteBuf::from(bytes), label: 0 };
            assert_eq!(accept(ShownSample { sample: odd, ..honest.clone() }, &leaf, 3), Err(ShownError::Malformed));
        }
    }

    #[test]
    fn what_is_too_long_to_be_shown_is_found_and_the_rest_fits() {
        let medium = |bytes: usize| Medium { content: vec![0; bytes].into(), span: None };
        let fits = data(Samples::Pictures(vec![medium(SHOWN_BYTES - 4 * 1024)], vec![0]));
        assert_eq!(too_long(&fits), None);
        assert!(zero2ai_proto::encode(&shown(&fits, 0)).unwrap().len() <= SHOWN_BYTES);
        let long = data(Samples::Sounds(vec![medium(8), medium(SHOWN_BYTES)], vec![0, 0]));
        assert_eq!(too_long(&long), Some(1));
        let most = Prompt { prompt: "p".repeat(PROMPT_BYTES), expected: vec!["e".repeat(100_000); ANSWERS] };
        let prompts = data(Samples::Prompts(vec![most]));
        assert_eq!(too_long(&prompts), None);
        assert!(zero2ai_proto::encode(&shown(&prompts, 0)).unwrap().len() <= SHOWN_BYTES);
    }

    #[test]
    fn a_sample_of_each_kind_hashes_alike_on_both_sides() {
        let media = vec![Medium { content: vec![1, 2, 3].into(), span: None }];
        let part = vec![Medium { content: vec![1, 2, 3].into(), span: Some(Span { start: 0.5, end: 1.25 }) }];
        for samples in
            [Samples::Pictures(media.clone(), vec![4]), Samples::Sounds(media, vec![4]), Samples::Sounds(part, vec![4])]
        {
            let data = data(samples);
            let again = Dataset { samples: one(show(&data, 0).unwrap()).unwrap(), ..data.clone() };
            assert_eq!(again.sample_hash(0), data.sample_hash(0));
            assert_eq!(show(&data, 1), None);
        }
    }
}
