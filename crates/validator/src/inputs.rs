//! From a sample to what a model is asked, and from its answer to scores. Pictures and sounds are decoded here, as their model's publisher
//! said; attacks change what came of it.

use zero2ai_media::{framed, prepare, samples};
use zero2ai_proto::{
    ByteBuf,
    limits::CLASSES,
    manifest::Task,
    prepare::{Layout, PictureInput, Preparation, SoundInput},
    tensor::{DType, Tensor},
};
use zero2ai_trust::{attacks::square::Shape, report::Domain};

use crate::dataset::{Dataset, Medium, Samples};

/// The model that is run.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Its name and version.
    pub name: String,
    /// What metrics and attacks go by.
    pub domain: Domain,
    /// What it does.
    pub task: Task,
    /// How pictures or sounds become its inputs.
    pub preparation: Option<Preparation>,
}

impl Subject {
    /// How many classes answers are told apart by, and whether the data are of the kind that the model takes.
    ///
    /// # Errors
    /// In words, with what to give instead.
    pub fn classes(&self, data: &Dataset) -> Result<u16, String> {
        let fits = matches!(
            (self.domain, &data.samples),
            (Domain::Tabular, Samples::Rows(..))
                | (Domain::Image, Samples::Pictures(..))
                | (Domain::Audio, Samples::Sounds(..))
                | (Domain::Text, Samples::Prompts(_))
                | (Domain::Embedding, Samples::Pairs(_))
        );
        if !fits {
            let wanted = match self.domain {
                Domain::Tabular => "a table of rows of numbers with a class",
                Domain::Image => "a folder of pictures",
                Domain::Audio => "a folder of sounds",
                Domain::Text => "a table with the columns prompt and expected",
                Domain::Embedding => "a table with the columns query and relevant",
                Domain::Unknown => "nothing, since its domain is not known",
            };
            return Err(format!("the data are {}, and {} takes {wanted}", data.kind(), self.name));
        }
        let Some(labels) = data.labels() else { return Ok(1) };
        let most = labels.iter().copied().max().unwrap_or(0);
        let classes = match (self.task, self.domain) {
            (Task::Classify { classes }, _) => classes,
            // A probability for each frame: of the second of two classes.
            (_, Domain::Audio) => {
                u16::try_from(data.names.len()).unwrap_or(u16::MAX).max(most.saturating_add(1)).max(2)
            }
            _ => {
                return Err(format!("{} gives no score per class: it cannot be graded on labelled samples", self.name));
            }
        };
        if usize::from(classes) > CLASSES {
            return Err(format!("{} has {classes} classes; at most {CLASSES} can be graded", self.name));
        }
        if usize::from(classes) < data.names.len() {
            return Err(format!("{} classes are named, and {} has {classes}", data.names.len(), self.name));
        }
        Ok(classes)
    }

    /// The pictures' preparation.
    #[must_use]
    pub fn picture(&self) -> Option<&PictureInput> {
        match &self.preparation {
            Some(Preparation::Picture(wanted)) => Some(wanted),
            _ => None,
        }
    }

    /// The sounds' preparation.
    #[must_use]
    pub fn sound(&self) -> Option<&SoundInput> {
        match &self.preparation {
            Some(Preparation::Sound(wanted)) => Some(wanted),
            _ => None,
        }
    }

    /// What the model is asked about a sample of classes.
    ///
    /// # Errors
    /// In words: the file cannot be decoded, or the part of a sound lies behind its end.
    pub fn inputs(&self, data: &Dataset, sample: usize) -> Result<Vec<Tensor>, String> {
        match &data.samples {
            Samples::Rows(rows, _) => Ok(row(&rows[sample])),
            Samples::Pictures(media, _) => {
                let preparation = self.preparation.as_ref().ok_or("nothing says how pictures become its inputs")?;
                prepare(preparation, &[&media[sample].content]).map_err(|e| e.to_string())
            }
            Samples::Sounds(media, _) => {
                let wanted = self.sound().ok_or("nothing says how sounds become its inputs")?;
                framed(wanted, &heard(wanted, &media[sample])?).map_err(|e| e.to_string())
            }
            Samples::Prompts(_) | Samples::Pairs(_) => Err("texts have no class".into()),
        }
    }

    /// The scores per class in an answer: the first output, whose rows are averaged where there are several. A model of sounds that
    /// gives one number a frame gives the probability of the second of two classes.
    ///
    /// # Errors
    /// In words, if they are not one number for each class, or none is a number.
    pub fn scores(&self, outputs: &[Tensor], classes: u16) -> Result<Vec<f32>, String> {
        let first = outputs.first().ok_or("no output")?;
        let values = first.to_f32().map_err(|e| e.to_string())?;
        if values.is_empty() || values.iter().any(|v| v.is_nan()) {
            return Err("no scores, or one that is not a number".into());
        }
        let width = usize::from(classes);
        let per_frame = classes == 2 && self.domain == Domain::Audio && !matches!(self.task, Task::Classify { .. });
        if per_frame && first.shape.last().copied() != Some(2) {
            let mean = values.iter().sum::<f32>() / values.len() as f32;
            return Ok(vec![1.0 - mean, mean]);
        }
        if values.len() == width {
            return Ok(values);
        }
        if self.domain != Domain::Audio || width == 0 || values.len() % width != 0 {
            return Err(format!("{} values", values.len()));
        }
        let rows = values.len() / width;
        Ok((0..width).map(|c| values.iter().skip(c).step_by(width).sum::<f32>() / rows as f32).collect())
    }
}

/// A row of numbers as a model takes it.
#[must_use]
pub fn row(values: &[f32]) -> Vec<Tensor> {
    vec![Tensor::f32("", &[1, values.len() as u64], values)]
}

/// The samples of a sound or of the labelled part of it.
///
/// # Errors
/// In words, as [`Subject::inputs`].
pub fn heard(wanted: &SoundInput, medium: &Medium) -> Result<Vec<f32>, String> {
    let all = samples(wanted, &medium.content).map_err(|e| e.to_string())?;
    let Some(span) = medium.span else { return Ok(all) };
    // Seconds and rates are small: the products are exact enough, and beyond the end is the end.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let at = |seconds: f64| ((seconds * f64::from(wanted.rate)) as usize).min(all.len());
    let part = &all[at(span.start)..at(span.end)];
    if part.is_empty() { Err(format!("the part from {} s lies behind its end", span.start)) } else { Ok(part.to_vec()) }
}

/// A text as the input of a language model.
#[must_use]
pub fn text(text: &str) -> Tensor {
    Tensor {
        name: "text".into(),
        dtype: DType::U8,
        shape: vec![text.len() as u64],
        data: ByteBuf::from(text.as_bytes().to_vec()),
    }
}

/// The place from which on a language model tells how likely each token was.
#[must_use]
pub fn from(token: i64) -> Tensor {
    Tensor { name: "from".into(), dtype: DType::I64, shape: vec![1], data: ByteBuf::from(token.to_le_bytes().to_vec()) }
}

/// Pictures as attacks see them: values from 0 to 1, row by row, the channels of a pixel together.
#[derive(Clone, Debug)]
pub struct Pixels<'a>(&'a PictureInput);

impl<'a> Pixels<'a> {
    /// Of pictures that are prepared so.
    #[must_use]
    pub fn new(wanted: &'a PictureInput) -> Self {
        Self(wanted)
    }

    /// How the values lie.
    #[must_use]
    pub fn shape(&self) -> Shape {
        let wanted = self.0;
        Shape { height: wanted.height as usize, width: wanted.width as usize, channels: wanted.colour.channels() }
    }

    /// The place of a value in the model's tensor.
    fn place(&self, at: usize) -> usize {
        let Shape { height, width, channels } = self.shape();
        match self.0.layout {
            Layout::Nchw => (at % channels) * height * width + at / channels,
            Layout::Nhwc | Layout::Flat => at,
        }
    }

    /// Mean and deviation of a channel, in steps of a sample.
    fn scale(&self, channel: usize) -> (f32, f32) {
        let Some(scale) = &self.0.scale else { return (0.0, 1.0) };
        let of = |list: &[u32], otherwise| list.get(channel).copied().unwrap_or(otherwise) as f32 / 1000.0;
        (of(&scale.mean_milli, 0), of(&scale.deviation_milli, 1000))
    }

    /// What a prepared picture shows. What the picture did not cover, zeros in the tensor, is grey.
    ///
    /// # Errors
    /// The tensor is of another shape.
    pub fn seen(&self, tensor: &Tensor) -> Result<Vec<f32>, String> {
        let channels = self.shape().channels;
        let values: Vec<f32> = match tensor.dtype {
            DType::U8 => tensor.data.iter().copied().map(f32::from).collect(),
            _ => tensor.to_f32().map_err(|e| e.to_string())?,
        };
        let size = self.shape().height * self.shape().width * channels;
        if values.len() != size {
            return Err(format!("{} values of a picture of {size}", values.len()));
        }
        let value = |at: usize| {
            let (mean, deviation) = self.scale(at % channels);
            ((values[self.place(at)] * deviation + mean) / 255.0).clamp(0.0, 1.0)
        };
        Ok((0..size).map(value).collect())
    }

    /// The model's inputs for a changed picture; the shape and the name are those of `like`.
    #[must_use]
    pub fn inputs(&self, pixels: &[f32], like: &Tensor) -> Vec<Tensor> {
        let channels = self.shape().channels;
        let mut values = vec![0.0f32; pixels.len()];
        for (at, pixel) in pixels.iter().enumerate() {
            let (mean, deviation) = self.scale(at % channels);
            values[self.place(at)] = (pixel * 255.0 - mean) / deviation;
        }
        if like.dtype != DType::U8 {
            return vec![Tensor::f32(&like.name, &like.shape, &values)];
        }
        // From 0 to 255, rounded.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let bytes: Vec<u8> = values.iter().map(|v| v.round().clamp(0.0, 255.0) as u8).collect();
        vec![Tensor {
            name: like.name.clone(),
            dtype: DType::U8,
            shape: like.shape.clone(),
            data: ByteBuf::from(bytes),
        }]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use zero2ai_proto::prepare::{Colour, Fit, PixelScale};

    use super::*;

    #[test]
    fn a_picture_comes_back_as_the_tensor_that_it_was() {
        for (layout, shape) in [(Layout::Nchw, [1, 3, 2, 4]), (Layout::Nhwc, [1, 2, 4, 3])] {
            let scale = PixelScale {
                mean_milli: vec![123_675, 116_280, 103_530],
                deviation_milli: vec![58_395, 57_120, 57_375],
            };
            let (input, colour, fit) = ("x".to_owned(), Colour::Rgb, Fit::Stretch);
            let wanted = PictureInput { input, width: 4, height: 2, colour, layout, fit, scale: Some(scale) };
            let pixels = Pixels::new(&wanted);
            let picture: Vec<f32> = (0..24u8).map(|i| f32::from(i) / 24.0).collect();
            let tensor = pixels.inputs(&picture, &Tensor::f32("x", &shape, &[0.0; 24])).remove(0);
            assert_eq!((tensor.name.as_str(), tensor.shape.as_slice()), ("x", shape.as_slice()));
            let back = pixels.seen(&tensor).unwrap();
            assert!(picture.iter().zip(&back).all(|(a, b)| (a - b).abs() < 1e-6), "{back:?}");
            assert!(pixels.seen(&Tensor::f32("x", &[1, 3], &[0.0; 3])).is_err());
        }
    }
}
