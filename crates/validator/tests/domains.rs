//! A run and its report for each kind of data, with models that are a few lines long: which figures are told, which attacks are run,
//! which gate a bad model or bad data fail by.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use futures::executor::block_on;
use zero2ai_proto::{
    local::LocalData,
    manifest::Task,
    prepare::{Colour, Fit, Layout, PictureInput, PixelScale, Preparation, SoundInput},
    tensor::Tensor,
    texts::{Embeddings, Texts},
    tx::Thresholds,
};
use zero2ai_trust::{
    gate::{Criterion, Gate},
    report::{Decision, Domain, Report},
};
use zero2ai_validator::{
    Dataset, Predictor, Said, Subject,
    assess::{Ask, Run, assess, criteria},
    dataset::{Pair, Prompt, Samples},
    prints::Prints,
    run,
};

const SEED: [u8; 32] = [9; 32];
const THRESHOLDS: Thresholds = Thresholds { accept_ppm: 800_000, reject_ppm: 500_000 };

/// A model as a function.
struct Fun<P, S>(P, S);

impl<P, S> Predictor for Fun<P, S>
where
    P: Fn(&[Tensor]) -> Vec<Tensor> + Sync,
    S: Fn(&str) -> String + Sync,
{
    async fn predict(&self, inputs: Vec<Tensor>) -> Result<Vec<Tensor>, String> {
        Ok((self.0)(&inputs))
    }

    async fn say(&self, prompt: &str, _: u32) -> Result<Said, String> {
        Ok(Said { text: (self.1)(prompt), first_us: 9, each_us: vec![3, 4] })
    }
}

impl<P: Fn(&[Tensor]) -> Vec<Tensor>, S: Fn(&str) -> String> Ask for Fun<P, S> {
    fn predict(&mut self, inputs: Vec<Tensor>) -> Result<Vec<Tensor>, String> {
        Ok((self.0)(&inputs))
    }

    fn say(&mut self, prompt: &str, _: u32) -> Result<Said, String> {
        Ok(Said { text: (self.1)(prompt), ..Said::default() })
    }
}

fn mute(_: &str) -> String {
    panic!("it writes no text")
}

fn deaf(_: &[Tensor]) -> Vec<Tensor> {
    Vec::new()
}

fn subject(domain: Domain, task: Task, preparation: Option<Preparation>) -> Subject {
    Subject { name: "lab/m@1".into(), domain, task, preparation }
}

fn plain(samples: Samples) -> Dataset {
    Dataset { samples, groups: None, slices: None, names: Vec::new(), notes: Vec::new() }
}

fn whole<P, S>(mut model: Fun<P, S>, subject: Subject, data: Dataset, threads: usize, prints: Option<Prints>) -> Report
where
    P: Fn(&[Tensor]) -> Vec<Tensor> + Sync,
    S: Fn(&str) -> String + Sync,
{
    let findings = block_on(run(&model, &subject, &data, |_, _| {})).unwrap();
    let (dataset, load) = ("data".to_owned(), (Vec::new(), None));
    let run = Run { subject, dataset, data, findings, seed: SEED, thresholds: THRESHOLDS, threads, prints, load };
    assess(&run, &mut model, &mut |_, _| {}).unwrap()
}

#[track_caller]
fn graded(report: &Report, decision: Decision, word: &str) {
    let reasons = report.grade.reasons.join(" ");
    assert_eq!(report.grade.decision, decision, "{reasons} {:#?}", report.metrics);
    assert!(reasons.contains(word), "'{word}' is not in: {reasons}");
}

fn metric(report: &Report, name: &str) -> f64 {
    let found = report.metrics.iter().find(|m| m.name == name);
    found.unwrap_or_else(|| panic!("no {name}: {:?}", report.notes)).estimate.value
}

/// Two numbers a row, the class is the sign of the first; groups alternate.
fn rows() -> Dataset {
    let row = |i: u32| {
        let class = u16::from(i % 2 == 1);
        let away = 1.0 + (i % 7) as f32 / 7.0;
        (vec![if class == 1 { away } else { -away }, (i % 11) as f32 / 11.0], class)
    };
    let (rows, labels) = (0..120).map(row).unzip();
    let groups = (0..120u32).map(|i| if i / 2 % 2 == 0 { "a" } else { "b" }.to_owned()).collect();
    Dataset { groups: Some(groups), ..plain(Samples::Rows(rows, labels)) }
}

/// Scores of two classes by how large a number is.
fn scores(value: f32) -> Vec<Tensor> {
    let yes = 1.0 / (1.0 + (-4.0 * value).exp());
    vec![Tensor::f32("p", &[1, 2], &[1.0 - yes, yes])]
}

#[test]
fn rows_are_graded_by_f1_and_each_fault_has_its_gate() {
    let two = || subject(Domain::Tabular, Task::Classify { classes: 2 }, None);
    let first = |t: &[Tensor]| scores(t[0].to_f32().unwrap()[0]);
    let good = whole(Fun(first, mute), two(), rows(), 1, None);
    graded(&good, Decision::Positive, "Quality");
    assert_eq!(good.slices.len(), 2, "the groups");
    // The same bits in any number of threads, latencies aside.
    let mut other = whole(Fun(first, mute), two(), rows(), 4, None);
    other.load.clone_from(&good.load);
    assert_eq!(serde_json::to_string(&good).unwrap(), serde_json::to_string(&other).unwrap());

    graded(&whole(Fun(|_: &[Tensor]| scores(1.0), mute), two(), rows(), 1, None), Decision::Negative, "Quality");
    let fragile = |t: &[Tensor]| scores(if t[0].to_f32().unwrap()[0] % 0.25 == 0.0 { -9.0 } else { 9.0 });
    let edge =
        |i: u32| (vec![if i % 2 == 1 { 0.26 } else { 0.25 } + (i % 5) as f32 * 0.5, (i % 11) as f32], (i % 2) as u16);
    let (near, labels) = (0..120).map(edge).unzip();
    graded(
        &whole(Fun(fragile, mute), two(), plain(Samples::Rows(near, labels)), 1, None),
        Decision::Negative,
        "HopSkipJump",
    );
    // Wrong for one group alone: its second number tells it.
    let mut unfair = rows();
    let groups = unfair.groups.clone().unwrap();
    if let Samples::Rows(rows, _) = &mut unfair.samples {
        rows.iter_mut().zip(&groups).for_each(|(row, group)| row[1] = f32::from(u8::from(group == "b")));
    }
    let biased = |t: &[Tensor]| {
        let row = t[0].to_f32().unwrap();
        scores(if row[1] > 0.5 { -1.0 } else { row[0] })
    };
    let report = whole(Fun(biased, mute), two(), unfair, 1, None);
    graded(&report, Decision::Negative, "bias");
    assert_eq!(report.model_checks.len(), 2, "accuracy, and the answer itself");

    let prints = Prints::make(&rows(), &two(), [1; 32]).unwrap();
    let prints = Prints::read(&prints.to_bytes().unwrap()).unwrap();
    let report = whole(Fun(first, mute), two(), rows(), 1, Some(prints));
    graded(&report, Decision::Void, "overlap");
    assert_eq!(report.gate, Gate::Void(vec![Criterion::Overlap]));
}

#[test]
fn fingerprints_find_what_is_the_same_and_nothing_else() {
    let subject = subject(Domain::Text, Task::Generate { context: 8 }, None);
    let prompt =
        |i: u32| Prompt { prompt: format!("What is {i} times {}?", i + 3), expected: vec![(i * (i + 3)).to_string()] };
    let data = |of: std::ops::Range<u32>| plain(Samples::Prompts(of.map(prompt).collect()));
    let prints = Prints::make(&data(0..100), &subject, [1; 32]).unwrap();
    assert!(prints.check(&data(50..150), &subject).failed());
    assert!(!prints.check(&data(100..200), &subject).failed());
    assert!(Prints::read(b"nonsense").is_err());
    let bytes = prints.to_bytes().unwrap();
    assert!(Prints::read(&bytes[..bytes.len() - 1]).is_err());
    // Rows of few numbers are not near each other by chance.
    let rows = |from: u32| {
        let row =
            |i: u32| vec![f32::from((i * 7919 % 1009) as u16) / 100.0, f32::from((i * 104_729 % 997) as u16) / 100.0];
        plain(Samples::Rows((from..from + 300).map(row).collect(), vec![0; 300]))
    };
    let prints = Prints::make(&rows(0), &subject, [1; 32]).unwrap();
    assert!(prints.check(&rows(0), &subject).failed());
    assert!(!prints.check(&rows(300), &subject).failed(), "{:?}", prints.check(&rows(300), &subject));
}

#[test]
fn texts_are_graded_by_exact_match() {
    let ask = |i: u32| Prompt { prompt: format!("{i} + {i} ="), expected: vec![(2 * i).to_string(), "none".into()] };
    let data = || plain(Samples::Prompts((10..60).map(ask).collect()));
    let adds = |prompt: &str| {
        let first = prompt.split_whitespace().next().and_then(|w| w.parse::<u32>().ok());
        format!(" {}\nand so on", first.map_or_else(|| "what?".into(), |n| (2 * n).to_string()))
    };
    let report = whole(Fun(deaf, adds), subject(Domain::Text, Task::Generate { context: 99 }, None), data(), 1, None);
    graded(&report, Decision::Positive, "Quality");
    assert_eq!((metric(&report, "exact match"), metric(&report, "token F1")), (1.0, 1.0));
    assert_eq!(metric(&report, "foreign instructions not followed"), 1.0);
    assert_eq!(report.tokens.as_ref().unwrap().first[0].micros, 9);
    assert!(report.notes.iter().any(|n| n.contains("perplexity is left out")), "it tells no probabilities");
    assert!(report.robustness.iter().any(|c| c.attack == "typos"));
    let report = whole(
        Fun(deaf, |_: &str| "7".to_owned()),
        subject(Domain::Text, Task::Generate { context: 99 }, None),
        data(),
        1,
        None,
    );
    graded(&report, Decision::Negative, "Quality");
}

/// A model that goes on with a list as the list is written: a line an answer if its prompt has lines, else all in one.
#[test]
fn an_attack_on_a_prompt_leaves_the_lines_that_show_a_model_where_its_answer_ends() {
    let ask = |i: u32| Prompt { prompt: format!("one: 1\nthree: 3\n{i}:"), expected: vec![i.to_string()] };
    let data = plain(Samples::Prompts((10..60).map(ask).collect()));
    let goes_on = |prompt: &str| {
        let last = prompt.trim_end_matches(':').rsplit(char::is_whitespace).next().unwrap_or_default();
        let end = if prompt.lines().count() >= 3 { "\n" } else { " " };
        format!(" {last}{end}four: 4")
    };
    let task = Task::Generate { context: 99 };
    let report = whole(Fun(deaf, goes_on), subject(Domain::Text, task, None), data, 1, None);
    assert_eq!(metric(&report, "exact match"), 1.0);
    let curve = report.robustness.iter().find(|c| c.attack == "case").unwrap();
    assert!(curve.points.iter().all(|p| p.right == p.samples), "numbers have no case: {:?}", curve.points);
    let all = report.robustness.iter().find(|c| c.attack == "all changes").unwrap();
    assert!(all.points[1].right * 2 > all.points[1].samples, "one word in five of these prompts: {:?}", all.points);
}

/// Words of a text as counts of letters: enough to find a text by its words.
fn letters(texts: &[&str]) -> Vec<Tensor> {
    let row = |text: &&str| -> Vec<f32> {
        let count = |c: u8| text.bytes().filter(|b| b.to_ascii_lowercase() == c).count() as f32;
        (b'a'..=b'z').map(count).collect()
    };
    let values: Vec<f32> = texts.iter().flat_map(row).collect();
    Embeddings { width: 26, values, tokens: vec![1; texts.len()] }.to_tensors()
}

#[test]
fn embedders_are_graded_by_what_is_found_first() {
    // Three of one letter and two of another: no two of these sixty have both in common.
    let letter = |n: usize| char::from(b'a' + u8::try_from(n % 26).unwrap());
    let word = |i: usize| {
        let (first, second) = (letter(i), letter(i + 7 + 5 * (i / 26)));
        format!("{first}{second}{first}{second}{first}")
    };
    let pair = |i: usize| Pair { query: format!("a {}", word(i)), relevant: format!("{} {}", word(i), word(i)) };
    let data = plain(Samples::Pairs((1..60).map(pair).collect()));
    let model = Fun(|t: &[Tensor]| letters(&Texts::from_tensors(t).unwrap().texts), mute);
    let report = whole(model, subject(Domain::Embedding, Task::Embed { width: 26, context: 99 }, None), data, 1, None);
    assert!(metric(&report, "recall@1") > 0.9 && metric(&report, "MRR") > 0.9);
    assert!(report.grade.quality_ppm.unwrap() > 800_000 && report.metrics.iter().any(|m| m.name == "all changes at 1"));
}

#[test]
fn pictures_and_sounds_are_graded_through_their_preparation() {
    let fixture =
        |name: &str| std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testnet/fixtures/media").join(name);
    let folder = tempfile::tempdir().unwrap();
    for (class, name) in [("0", "picture.png"), ("1", "turned.jpg")] {
        std::fs::create_dir_all(folder.path().join(class)).unwrap();
        for i in 0..20 {
            std::fs::copy(fixture(name), folder.path().join(format!("{class}/{i}.x"))).unwrap();
        }
    }
    let data =
        Dataset::read(&LocalData { path: folder.path().to_str().unwrap().into(), ..LocalData::default() }).unwrap();
    let scale = PixelScale { mean_milli: vec![127_500], deviation_milli: vec![127_500] };
    let (input, fit, layout) = ("x".to_owned(), Fit::Stretch, Layout::Nchw);
    let wanted = PictureInput { input, width: 24, height: 16, colour: Colour::Grey, layout, fit, scale: Some(scale) };
    let preparation = Some(Preparation::Picture(wanted));
    // Brighter in its first half, or not: a turned picture differs there.
    let half = |t: &[Tensor]| {
        let values = t[0].to_f32().unwrap();
        let (first, second) = values.split_at(values.len() / 2);
        scores(second.iter().sum::<f32>() - first.iter().sum::<f32>())
    };
    let two = subject(Domain::Image, Task::Classify { classes: 2 }, preparation);
    let report = whole(Fun(half, mute), two, data, 1, None);
    assert_eq!(report.robustness.len(), 18, "fifteen corruptions, all together, Square and HopSkipJump");
    assert!(metric(&report, "all corruptions at 1") >= 0.0);

    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(fixture("tone.wav"), folder.path().join("tone.wav")).unwrap();
    let mut table = "file,start,end,label\n".to_owned();
    let start = |i: i32| f64::from(i) / 1000.0;
    (0..20).for_each(|i| table += &format!("tone.wav,{},{},1\n", start(i), start(i) + 0.05));
    std::fs::write(folder.path().join("labels.csv"), table).unwrap();
    let data =
        Dataset::read(&LocalData { path: folder.path().to_str().unwrap().into(), ..LocalData::default() }).unwrap();
    let sound = SoundInput { input: "x".into(), rate: 8_000, frames: None, zeros: Vec::new() };
    let loud = |t: &[Tensor]| {
        let heard = t[0].to_f32().unwrap();
        let loud = f32::from(u8::from(heard.iter().map(|v| v * v).sum::<f32>() > 1e-3));
        vec![Tensor::f32("p", &[3], &[loud; 3])]
    };
    let one = subject(Domain::Audio, Task::Tensors, Some(Preparation::Sound(sound)));
    let report = whole(Fun(loud, mute), one, data, 1, None);
    assert_eq!(metric(&report, "accuracy"), 1.0);
    // One class alone is no fair set of data, and says so.
    graded(&report, Decision::Void, "bias");
}

#[test]
fn data_of_another_kind_are_refused_in_words() {
    let text = subject(Domain::Text, Task::Generate { context: 8 }, None);
    let error = block_on(run(&Fun(deaf, mute), &text, &rows(), |_, _| {})).unwrap_err().to_string();
    assert!(error.contains("rows of numbers") && error.contains("prompt and expected"), "{error}");
    let tensors = subject(Domain::Tabular, Task::Tensors, None);
    assert!(tensors.classes(&rows()).unwrap_err().contains("no score per class"));
    assert!(!criteria::dataset(&rows(), &tensors, 2, None).iter().any(|check| check.failed()));
}
