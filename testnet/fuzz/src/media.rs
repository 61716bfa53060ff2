//! Pictures and sounds, as whoever asks a model for them reads them.

use zero2ai_media::{CALL_BYTES, Kind, prepare};
use zero2ai_proto::prepare::{Colour, Fit, Frames, Layout, PictureInput, Preparation, SoundInput};

/// What is made of content is tensors that hold together and fit a call.
fn made(preparation: &Preparation, bytes: &[u8]) {
    let _ = Kind::of(bytes);
    let Ok(tensors) = prepare(preparation, &[bytes]) else { return };
    assert!(!tensors.is_empty() && tensors.iter().all(|t| t.check().is_ok()));
    assert!(tensors.iter().map(|t| t.data.len()).sum::<usize>() <= CALL_BYTES);
}

/// A picture of any format.
pub fn picture(bytes: &[u8]) {
    let (colour, layout, fit) = (Colour::Rgb, Layout::Nchw, Fit::Contain);
    made(
        &Preparation::Picture(PictureInput {
            input: "x".into(),
            width: 12,
            height: 9,
            colour,
            layout,
            fit,
            scale: None,
        }),
        bytes,
    );
}

/// A sound of any format.
pub fn sound(bytes: &[u8]) {
    let frames = Some(Frames { window: 64, hop: 48, lead: 16 });
    made(&Preparation::Sound(SoundInput { input: "x".into(), rate: 16_000, frames, zeros: Vec::new() }), bytes);
}
