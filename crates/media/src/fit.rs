//! Pixels to a tensor: brought to the size that a model takes, in its colours, its order and its numbers.

use zero2ai_proto::{
    ByteBuf,
    prepare::{Colour, Fit, Layout, PictureInput},
    tensor::{DType, Tensor},
};

use crate::{CALL_BYTES, error::MediaError, picture::Picture, resize::resize};

/// Where a scaled picture lies in the tensor's: at the top left, or with its middle in the middle.
struct Place {
    /// Width and height that the picture is scaled to.
    scaled: (usize, usize),
    /// Pixels of it that are cut off at the left and at the top.
    cut: (usize, usize),
}

fn place(fit: Fit, picture: (usize, usize), wanted: (usize, usize)) -> Place {
    let ((w, h), (to_w, to_h)) = (picture, wanted);
    // Sides are below 2^14 and 2^11: products fit.
    let by_height = (w * to_h, h);
    let by_width = (h * to_w, w);
    let round = |(product, by): (usize, usize)| ((product + by / 2) / by).max(1);
    let wider = w * to_h > h * to_w;
    let scaled = match (fit, wider) {
        (Fit::Stretch, _) => wanted,
        (Fit::Line, _) => (by_height.0.div_ceil(by_height.1).clamp(1, to_w), to_h),
        (Fit::Contain, true) | (Fit::Cover, false) => (to_w, round(by_width)),
        (Fit::Contain, false) | (Fit::Cover, true) => (round(by_height), to_h),
    };
    // Rounding may miss by a pixel what must cover or be covered.
    let scaled = match fit {
        Fit::Cover => (scaled.0.max(to_w), scaled.1.max(to_h)),
        _ => (scaled.0.min(to_w), scaled.1.min(to_h)),
    };
    Place { scaled, cut: ((scaled.0.saturating_sub(to_w)) / 2, (scaled.1.saturating_sub(to_h)) / 2) }
}

/// The part of a picture that covers a size of other proportions, so that scaling what is cut off anyway costs nothing: a
/// picture of one row would be scaled to millions of pixels.
fn crop(picture: &Picture, wanted: (usize, usize)) -> Picture {
    let ((w, h), (to_w, to_h)) = ((picture.width, picture.height), wanted);
    let keep = (((h * to_w).div_ceil(to_h)).clamp(1, w), ((w * to_h).div_ceil(to_w)).clamp(1, h));
    let at = ((w - keep.0) / 2, (h - keep.1) / 2);
    let rows = picture.rgb.chunks_exact(w * 3).skip(at.1).take(keep.1);
    let rgb = rows.flat_map(|row| row[at.0 * 3..(at.0 + keep.0) * 3].iter().copied()).collect();
    Picture { width: keep.0, height: keep.1, rgb }
}

/// A tensor under way: one picture after the other.
pub(crate) struct Batch<'a> {
    wanted: &'a PictureInput,
    data: Vec<u8>,
    rows: u64,
}

impl<'a> Batch<'a> {
    /// Room for so many pictures.
    pub(crate) fn new(wanted: &'a PictureInput, pictures: usize) -> Result<Self, MediaError> {
        let element = if wanted.scale.is_some() { 4 } else { 1 };
        let one = wanted.width as usize * wanted.height as usize * wanted.colour.channels() * element;
        let bytes = one.checked_mul(pictures).filter(|bytes| *bytes <= CALL_BYTES);
        let most = CALL_BYTES.checked_div(one).unwrap_or(0);
        let bytes = bytes.ok_or_else(|| {
            MediaError::TooLarge(format!("{pictures} pictures in one call, where {most} of this model's are the limit"))
        })?;
        Ok(Self { wanted, data: Vec::with_capacity(bytes), rows: 0 })
    }

    /// Adds a picture. What it does not cover is zeros.
    pub(crate) fn add(&mut self, picture: &Picture) -> Result<(), MediaError> {
        let wanted = (self.wanted.width as usize, self.wanted.height as usize);
        let cropped;
        let picture = if self.wanted.fit == Fit::Cover {
            cropped = crop(picture, wanted);
            &cropped
        } else {
            picture
        };
        let place = place(self.wanted.fit, (picture.width, picture.height), wanted);
        let channels = self.wanted.colour.channels();
        let samples = recolour(picture, self.wanted.colour);
        let scaled = resize(samples, channels, (picture.width, picture.height), place.scaled);
        let sample = |x: usize, y: usize, channel: usize| {
            let (x, y) = (x + place.cut.0, y + place.cut.1);
            let inside = x < place.scaled.0 && y < place.scaled.1;
            inside.then(|| scaled[(y * place.scaled.0 + x) * channels + channel])
        };
        match self.wanted.layout {
            Layout::Nchw => {
                for channel in 0..channels {
                    each_pixel(wanted, |x, y| self.push(sample(x, y, channel), channel));
                }
            }
            Layout::Nhwc | Layout::Flat => {
                each_pixel(wanted, |x, y| (0..channels).for_each(|c| self.push(sample(x, y, c), c)));
            }
        }
        self.rows += 1;
        Ok(())
    }

    #[allow(clippy::cast_precision_loss)] // constants in thousandths of 255 need far fewer bits
    fn push(&mut self, sample: Option<u8>, channel: usize) {
        let Some(scale) = &self.wanted.scale else {
            self.data.push(sample.unwrap_or(0));
            return;
        };
        let of = |list: &[u32], otherwise| list.get(channel).copied().unwrap_or(otherwise) as f32 / 1000.0;
        let (mean, deviation) = (of(&scale.mean_milli, 0), of(&scale.deviation_milli, 1000));
        let value = sample.map_or(0.0, |s| (f32::from(s) - mean) / deviation);
        self.data.extend_from_slice(&value.to_le_bytes());
    }

    /// The tensor.
    pub(crate) fn finish(self) -> Tensor {
        let [width, height] = [self.wanted.width, self.wanted.height].map(u64::from);
        let channels = self.wanted.colour.channels() as u64;
        let shape = match self.wanted.layout {
            Layout::Nchw => vec![self.rows, channels, height, width],
            Layout::Nhwc => vec![self.rows, height, width, channels],
            Layout::Flat => vec![self.rows, height * width * channels],
        };
        let dtype = if self.wanted.scale.is_some() { DType::F32 } else { DType::U8 };
        Tensor { name: self.wanted.input.clone(), dtype, shape, data: ByteBuf::from(self.data) }
    }
}

fn each_pixel((width, height): (usize, usize), mut visit: impl FnMut(usize, usize)) {
    for y in 0..height {
        for x in 0..width {
            visit(x, y);
        }
    }
}

/// The samples in the colours that are wanted.
fn recolour(picture: &Picture, colour: Colour) -> Vec<u8> {
    match colour {
        Colour::Rgb => picture.rgb.clone(),
        Colour::Bgr => {
            let mut samples = picture.rgb.clone();
            samples.as_chunks_mut::<3>().0.iter_mut().for_each(|pixel| pixel.swap(0, 2));
            samples
        }
        Colour::Grey => picture.rgb.as_chunks::<3>().0.iter().map(grey).collect(),
    }
}

/// ITU-R 601-2, in the fixed point that Pillow uses.
#[allow(clippy::cast_possible_truncation)] // the weights' sum is 2^16
fn grey([red, green, blue]: &[u8; 3]) -> u8 {
    let sum = u32::from(*red) * 19_595 + u32::from(*green) * 38_470 + u32::from(*blue) * 7_471 + 0x8000;
    (sum >> 16) as u8
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn wanted(fit: Fit, layout: Layout, colour: Colour) -> PictureInput {
        PictureInput { input: "x".into(), width: 4, height: 2, colour, layout, fit, scale: None }
    }

    fn fitted(wanted: &PictureInput, picture: &Picture) -> Tensor {
        let mut batch = Batch::new(wanted, 1).unwrap();
        batch.add(picture).unwrap();
        let tensor = batch.finish();
        tensor.check().unwrap();
        tensor
    }

    #[test]
    fn every_fit_places_the_picture() {
        let grey = |width: usize, height: usize| Picture { width, height, rgb: vec![9; width * height * 3] };
        let at = |fit, w, h| fitted(&wanted(fit, Layout::Flat, Colour::Grey), &grey(w, h)).data.to_vec();
        assert_eq!(at(Fit::Stretch, 7, 9), [9; 8]);
        assert_eq!(at(Fit::Cover, 1, 100), [9; 8]);
        assert_eq!(at(Fit::Cover, 16_384, 1), [9; 8]);
        assert_eq!(at(Fit::Contain, 10, 10), [9, 9, 0, 0, 9, 9, 0, 0]);
        assert_eq!(at(Fit::Contain, 16_384, 1), [9, 9, 9, 9, 0, 0, 0, 0]);
        assert_eq!(at(Fit::Line, 3, 2), [9, 9, 9, 0, 9, 9, 9, 0]);
        assert_eq!(at(Fit::Line, 100, 2), [9; 8]);
        assert_eq!(at(Fit::Line, 1, 500), [9, 0, 0, 0, 9, 0, 0, 0]);
    }

    #[test]
    fn a_cover_shows_the_middle() {
        // Columns 0 to 5: of six, four are shown.
        let rgb = (0..12u8).flat_map(|i| [i % 6; 3]).collect();
        let tensor = fitted(&wanted(Fit::Cover, Layout::Flat, Colour::Grey), &Picture { width: 6, height: 2, rgb });
        assert_eq!(tensor.data.to_vec(), [1, 2, 3, 4, 1, 2, 3, 4]);
    }

    #[test]
    fn layouts_and_colours_put_samples_where_they_belong() {
        let rgb: Vec<u8> = (0..24).collect();
        let picture = || Picture { width: 4, height: 2, rgb: rgb.clone() };
        let of = |layout, colour| fitted(&wanted(Fit::Stretch, layout, colour), &picture());
        let rows = of(Layout::Nhwc, Colour::Rgb);
        assert_eq!((rows.shape, rows.data.to_vec()), (vec![1, 2, 4, 3], rgb.clone()));
        let planes = of(Layout::Nchw, Colour::Bgr);
        assert_eq!((planes.shape, &planes.data[..4]), (vec![1, 3, 2, 4], &[2, 5, 8, 11][..]));
        assert_eq!(&planes.data[16..20], [0, 3, 6, 9]);
        assert_eq!(of(Layout::Flat, Colour::Grey).shape, [1, 8]);
    }
}
