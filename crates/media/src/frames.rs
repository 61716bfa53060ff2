//! Samples to tensors: whole or as frames, with the zeros that a recurrent model begins with.

use zero2ai_proto::{
    ByteBuf,
    prepare::{Frames, SoundInput},
    tensor::{DType, Tensor},
};

use crate::{CALL_BYTES, error::MediaError};

/// Bytes of a number.
const NUMBER: usize = 4;

/// Bytes that the zeros take of a call.
fn zero_bytes(wanted: &SoundInput) -> usize {
    let elements = wanted.zeros.iter().map(|z| z.shape.iter().product::<u64>());
    usize::try_from(elements.sum::<u64>()).unwrap_or(usize::MAX).saturating_mul(NUMBER)
}

/// Samples of the longest sound that one call carries.
pub(crate) fn longest(wanted: &SoundInput) -> usize {
    let numbers = CALL_BYTES.saturating_sub(zero_bytes(wanted)) / NUMBER;
    match wanted.frames {
        None => numbers,
        Some(Frames { window, hop, lead }) => {
            let (window, hop, lead) = (window as usize, hop as usize, lead as usize);
            let frames = numbers.checked_div(window).unwrap_or(0).max(1);
            (frames - 1).saturating_mul(hop).saturating_add(window - lead)
        }
    }
}

/// The tensors of a sound that is not empty and no longer than [`longest`].
pub(crate) fn tensors(wanted: &SoundInput, sound: &[f32]) -> Result<Vec<Tensor>, MediaError> {
    if sound.is_empty() {
        return Err(MediaError::Empty);
    }
    if sound.len() > longest(wanted) {
        return Err(MediaError::TooLarge("the sound is longer than one call carries to this model: cut it".into()));
    }
    let sound = match wanted.frames {
        None => Tensor::f32(&wanted.input, &[1, sound.len() as u64], sound),
        Some(frames) => framed(&wanted.input, frames, sound),
    };
    let zeros = wanted.zeros.iter().map(|z| {
        let elements = usize::try_from(z.shape.iter().product::<u64>()).unwrap_or(0);
        let data = ByteBuf::from(vec![0; elements.saturating_mul(NUMBER)]);
        Tensor { name: z.name.clone(), dtype: DType::F32, shape: z.shape.clone(), data }
    });
    Ok(std::iter::once(sound).chain(zeros).collect())
}

fn framed(name: &str, Frames { window, hop, lead }: Frames, sound: &[f32]) -> Tensor {
    let (window, hop, lead) = (window as usize, hop as usize, lead as usize);
    // As many as it takes for the last sample to be in one.
    let count = 1 + (sound.len() + lead).saturating_sub(window).div_ceil(hop);
    let mut values = Vec::with_capacity(count * window);
    for frame in 0..count {
        let begin = frame * hop;
        let sample = |at: usize| at.checked_sub(lead).and_then(|at| sound.get(at)).copied().unwrap_or(0.0);
        values.extend((begin..begin + window).map(sample));
    }
    Tensor::f32(name, &[count as u64, window as u64], &values)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use zero2ai_proto::prepare::Zeros;

    use super::*;

    fn wanted(frames: Option<Frames>) -> SoundInput {
        let zeros = vec![Zeros { name: "h".into(), shape: vec![1, 2] }];
        SoundInput { input: "x".into(), rate: 16_000, frames, zeros }
    }

    #[test]
    fn frames_overlap_and_the_last_sample_is_in_one() {
        let frames = |window, hop, lead| wanted(Some(Frames { window, hop, lead }));
        let of = |wanted: &SoundInput, sound: &[f32]| {
            let made = tensors(wanted, sound).unwrap();
            made.iter().for_each(|t| t.check().unwrap());
            assert_eq!((made[1].name.as_str(), made[1].to_f32().unwrap()), ("h", vec![0.0, 0.0]));
            (made[0].shape.clone(), made[0].to_f32().unwrap())
        };
        let sound = [1.0, 2.0, 3.0, 4.0, 5.0];
        assert_eq!(of(&wanted(None), &sound), (vec![1, 5], sound.to_vec()));
        assert_eq!(of(&frames(3, 2, 1), &sound), (vec![3, 3], vec![0.0, 1.0, 2.0, 2.0, 3.0, 4.0, 4.0, 5.0, 0.0]));
        assert_eq!(of(&frames(3, 2, 1), &sound[..4]), (vec![2, 3], vec![0.0, 1.0, 2.0, 2.0, 3.0, 4.0]));
        assert_eq!(of(&frames(8, 8, 0), &sound).0, [1, 8]);
        assert_eq!(tensors(&wanted(None), &[]), Err(MediaError::Empty));
    }

    #[test]
    fn the_longest_sound_fits_a_call() {
        for wanted in [wanted(None), wanted(Some(Frames { window: 576, hop: 512, lead: 64 }))] {
            let made = tensors(&wanted, &vec![0.1; longest(&wanted)]).unwrap();
            let bytes: usize = made.iter().map(|t| t.data.len()).sum();
            assert!((CALL_BYTES - 4 * 576..=CALL_BYTES).contains(&bytes), "{bytes} of {CALL_BYTES}");
            assert!(tensors(&wanted, &vec![0.1; longest(&wanted) + 1]).is_err());
        }
    }
}
