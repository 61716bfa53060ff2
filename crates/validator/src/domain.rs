//! What a model is for: by what its publisher said of its inputs, else by a ranked guess of what it takes and gives. The guess with its
//! reasons is for people; what it leaves open is graded by nobody.

use zero2ai_proto::{
    manifest::Task,
    prepare::Preparation,
    tensor::{DType, TensorSpec},
    worker::ModelInfo,
};
use zero2ai_trust::report::Domain;

/// One domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guess {
    /// A word for it.
    pub domain: &'static str,
    /// How much speaks for it; only the order means something.
    pub points: u32,
    /// What speaks for it.
    pub reasons: Vec<String>,
}

/// Words in the names of inputs and outputs, and what they speak for.
const WORDS: &[(&str, &[&str], u32)] = &[
    ("image", &["image", "pixel", "img", "picture"], 30),
    ("audio", &["audio", "wave", "speech", "voice", "mel", "sound", "frame"], 40),
    ("text", &["input_ids", "token", "attention_mask", "text"], 60),
];

/// The domain that metrics and attacks go by.
///
/// # Errors
/// In words: what is open, and what a publisher can do about it.
pub fn domain(info: &ModelInfo, preparation: Option<&Preparation>) -> Result<Domain, String> {
    match (info.task, preparation) {
        (Task::Generate { .. }, _) => return Ok(Domain::Text),
        (Task::Embed { .. }, _) => return Ok(Domain::Embedding),
        (_, Some(Preparation::Picture(_))) => return Ok(Domain::Image),
        (_, Some(Preparation::Sound(_))) => return Ok(Domain::Audio),
        _ => {}
    }
    // A picture or anything else that comes as one row of numbers is graded as the row that it is.
    let is_row = |i: &TensorSpec| matches!(i.shape.as_slice(), [_, Some(_)]) && i.dtype == DType::F32;
    if matches!(info.inputs.as_slice(), [only] if is_row(only)) {
        return Ok(Domain::Tabular);
    }
    let guesses = guess(info);
    let best = guesses.first().map_or("tensors", |g| g.domain);
    let tied: Vec<&str> =
        guesses.iter().filter(|g| Some(g.points) == guesses.first().map(|f| f.points)).map(|g| g.domain).collect();
    Err(match best {
        _ if tied.len() > 1 => format!("it may be for {}, and nothing is graded by a guess", tied.join(" or ")),
        "image" => {
            "it seems to take pictures, and its publisher did not say how they become its inputs (publish --image)"
                .into()
        }
        "audio" => {
            "it seems to take sounds, and its publisher did not say how they become its inputs (publish --audio)".into()
        }
        other => format!(
            "its domain is '{other}', which is not graded: rows of numbers, pictures, sounds, text and embeddings are"
        ),
    })
}

/// The most likely first.
#[must_use]
pub fn guess(info: &ModelInfo) -> Vec<Guess> {
    let mut found = Found(Vec::new());
    match info.task {
        Task::Generate { .. } => found.add("text generation", 100, format!("{} writes text", info.architecture)),
        Task::Embed { .. } => {
            found.add("text embedding", 100, format!("{} gives a row of numbers a text", info.architecture));
        }
        Task::Tensors | Task::Classify { .. } => tensors(info, &mut found),
    }
    if found.0.is_empty() {
        found.add("tensors", 1, "nothing about its inputs is of a known kind".into());
    }
    found.0.sort_by_key(|g| std::cmp::Reverse(g.points));
    found.0
}

struct Found(Vec<Guess>);

impl Found {
    fn add(&mut self, domain: &'static str, points: u32, reason: String) {
        match self.0.iter_mut().find(|g| g.domain == domain) {
            Some(guess) => {
                guess.points = guess.points.saturating_add(points);
                guess.reasons.push(reason);
            }
            None => self.0.push(Guess { domain, points, reasons: vec![reason] }),
        }
    }
}

fn tensors(info: &ModelInfo, found: &mut Found) {
    for spec in info.inputs.iter().chain(&info.outputs) {
        let name = spec.name.to_lowercase();
        for (domain, words, points) in WORDS {
            if let Some(word) = words.iter().find(|word| name.contains(**word)) {
                found.add(domain, *points, format!("'{}' has '{word}' in its name", spec.name));
            }
        }
    }
    let fixed = |spec: &&TensorSpec| spec.shape.iter().all(Option::is_some);
    let state = info.inputs.iter().filter(fixed).filter(|i| info.outputs.iter().any(|o| o.shape == i.shape));
    let state: Vec<&str> = state.map(|i| i.name.as_str()).collect();
    if !state.is_empty() && state.len() < info.inputs.len() {
        found.add("audio", 20, format!("{} are inputs and come out again: it keeps a state", state.join(", ")));
    }
    for spec in &info.inputs {
        if !state.contains(&spec.name.as_str()) {
            by_shape(spec, found);
        }
    }
}

fn by_shape(spec: &TensorSpec, found: &mut Found) {
    let name = &spec.name;
    let numbers = matches!(spec.dtype, DType::F32 | DType::F64 | DType::F16);
    let channels = |dim: Option<u64>| dim.is_some_and(|d| matches!(d, 1 | 3 | 4));
    match (spec.shape.as_slice(), spec.dtype) {
        ([_, first, _, last], _) if channels(*first) || channels(*last) => {
            let (count, order) = if channels(*first) { (*first, "first") } else { (*last, "last") };
            let count = count.unwrap_or_default();
            found.add("image", 60, format!("'{name}' is a batch of pictures of {count} channels, channels {order}"));
        }
        ([_, Some(80 | 128), _] | [_, _, Some(80 | 128)], _) if numbers => {
            found.add("audio", 40, format!("'{name}' has 80 or 128 bands: a mel spectrogram"));
        }
        ([_, Some(width)], _) if numbers => {
            let points = if *width <= 512 { 40 } else { 15 };
            found.add("table", points, format!("'{name}' is rows of {width} numbers"));
            let side = width.isqrt();
            if side.checked_mul(side) == Some(*width) && side >= 8 {
                found.add("image", 20, format!("{width} numbers are {side} × {side} pixels"));
            }
        }
        ([_, None], _) if numbers => {
            found.add("audio", 30, format!("'{name}' is rows of any length: a sound, or a series"));
        }
        ([_, _], DType::I64) => {
            found.add("text", 20, format!("'{name}' is rows of whole numbers: tokens, or categories"))
        }
        ([_, _], DType::U8 | DType::I32) => found.add("bytes", 30, format!("'{name}' is rows of small whole numbers")),
        _ => {}
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn spec(name: &str, dtype: DType, shape: &[Option<u64>]) -> TensorSpec {
        TensorSpec { name: name.into(), dtype, shape: shape.to_vec() }
    }

    fn first(inputs: Vec<TensorSpec>, outputs: Vec<TensorSpec>) -> &'static str {
        let (architecture, runtime) = ("onnx".into(), "tract".into());
        let info = ModelInfo { task: Task::Tensors, architecture, runtime, inputs, outputs, parameters: 0 };
        guess(&info).first().map_or("", |g| g.domain)
    }

    #[test]
    fn real_models_are_taken_for_what_they_are() {
        let f = DType::F32;
        let state = |name| spec(name, f, &[Some(1), Some(1), Some(128)]);
        let speech = vec![spec("speech_probs", f, &[None]), state("hn"), state("cn")];
        assert_eq!(first(vec![spec("input", f, &[None, Some(576)]), state("h"), state("c")], speech), "audio");
        assert_eq!(
            first(vec![spec("x", f, &[None, Some(3), None, None])], vec![spec("p", f, &[None, Some(2)])]),
            "image"
        );
        assert_eq!(first(vec![spec("in", f, &[None, Some(224), Some(224), Some(3)])], vec![]), "image");
        assert_eq!(first(vec![spec("pixels", f, &[None, Some(64)])], vec![]), "image");
        assert_eq!(first(vec![spec("features", f, &[None, Some(13)])], vec![]), "table");
        assert_eq!(first(vec![spec("bytes", DType::I32, &[None, Some(2048)])], vec![]), "bytes");
        assert_eq!(first(vec![spec("input_ids", DType::I64, &[None, None])], vec![]), "text");
        assert_eq!(first(vec![spec("q", f, &[None])], vec![]), "tensors");
    }

    #[test]
    fn what_is_open_is_graded_by_nobody() {
        let info = |task, inputs| ModelInfo {
            task,
            architecture: "onnx".into(),
            runtime: "tract".into(),
            inputs,
            outputs: vec![],
            parameters: 0,
        };
        let f = DType::F32;
        let picture = || vec![spec("x", f, &[None, Some(3), Some(8), Some(8)])];
        assert!(domain(&info(Task::Classify { classes: 2 }, picture()), None).unwrap_err().contains("--image"));
        assert!(domain(&info(Task::Tensors, vec![spec("q", f, &[None])]), None).unwrap_err().contains("'tensors'"));
        assert!(domain(&info(Task::Tensors, vec![spec("input_ids", DType::I64, &[None, None])]), None).is_err());
        assert_eq!(domain(&info(Task::Tensors, vec![spec("pixels", f, &[None, Some(64)])]), None), Ok(Domain::Tabular));
        assert_eq!(domain(&info(Task::Generate { context: 8 }, vec![]), None), Ok(Domain::Text));
        assert_eq!(domain(&info(Task::Embed { width: 8, context: 8 }, vec![]), None), Ok(Domain::Embedding));
    }
}
