//! Real files against what other programs make of them, and hostile ones against the limits.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;

use proptest::prelude::*;
use zero2ai_media::{MediaError, prepare};
use zero2ai_proto::{
    prepare::{Colour, Fit, Frames, Layout, PictureInput, PixelScale, Preparation, SoundInput, Zeros},
    tensor::Tensor,
};

fn fixture(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testnet/fixtures/media");
    std::fs::read(folder.join(name)).unwrap()
}

fn input(width: u32, height: u32) -> PictureInput {
    let (colour, layout, fit) = (Colour::Rgb, Layout::Flat, Fit::Stretch);
    PictureInput { input: "x".into(), width, height, colour, layout, fit, scale: None }
}

fn picture(width: u32, height: u32) -> Preparation {
    Preparation::Picture(input(width, height))
}

fn sound(rate: u32) -> Preparation {
    Preparation::Sound(SoundInput { input: "x".into(), rate, frames: None, zeros: Vec::new() })
}

fn one(preparation: &Preparation, bytes: &[u8]) -> Result<Tensor, MediaError> {
    let mut made = prepare(preparation, &[bytes])?;
    assert_eq!(made.len(), 1);
    made[0].check().unwrap();
    Ok(made.remove(0))
}

#[track_caller]
fn refused(preparation: &Preparation, bytes: &[u8], word: &str) {
    let error = one(preparation, bytes).unwrap_err().to_string();
    assert!(error.contains(word), "'{word}' is not in: {error}");
}

fn golden() -> serde_json::Value {
    serde_json::from_slice(&fixture("golden.json")).unwrap()
}

#[test]
fn pictures_are_scaled_to_the_bit_as_pillow_does() {
    for (size, want) in golden()["pictures"].as_object().unwrap() {
        let (numbers, grey) = size.split_once(' ').map_or((size.as_str(), false), |(n, _)| (n, true));
        let (width, height) = numbers.split_once('x').unwrap();
        let mut wanted = input(width.parse().unwrap(), height.parse().unwrap());
        wanted.colour = if grey { Colour::Grey } else { Colour::Rgb };
        let want: Vec<u8> = serde_json::from_value(want.clone()).unwrap();
        for file in ["picture.png", "picture.webp", "picture.bmp"] {
            let got = one(&Preparation::Picture(wanted.clone()), &fixture(file)).unwrap();
            assert!(got.data.to_vec() == want, "{file} at {size}");
        }
    }
}

#[test]
fn a_picture_on_its_side_is_turned_and_a_lossy_one_is_near() {
    let at = |file| one(&picture(8, 6), &fixture(file)).unwrap().data.to_vec();
    let (sharp, upright, turned) = (at("picture.png"), at("picture.jpg"), at("turned.jpg"));
    let far =
        |a: &[u8], b: &[u8]| a.iter().zip(b).map(|(a, b)| u32::from(a.abs_diff(*b))).sum::<u32>() / a.len() as u32;
    assert!(far(&sharp, &upright) < 12, "{}", far(&sharp, &upright));
    assert!(far(&upright, &turned) < 12, "{}", far(&upright, &turned));
}

#[test]
fn several_pictures_are_a_batch_of_normalised_numbers() {
    let scale = PixelScale { mean_milli: vec![127_500; 3], deviation_milli: vec![127_500; 3] };
    let wanted = PictureInput { layout: Layout::Nchw, scale: Some(scale), ..input(24, 16) };
    let png = fixture("picture.png");
    let made = prepare(&Preparation::Picture(wanted), &[&png, &png]).unwrap();
    assert_eq!((made[0].name.as_str(), made[0].shape.as_slice()), ("x", &[2, 3, 16, 24][..]));
    let values = made[0].to_f32().unwrap();
    let want: Vec<u8> = serde_json::from_value(golden()["pictures"]["24x16"].clone()).unwrap();
    for (at, got) in values.iter().enumerate() {
        let (channel, pixel) = (at / (16 * 24) % 3, at % (16 * 24));
        let sample = f32::from(want[pixel * 3 + channel]);
        assert!((got - (sample / 255.0 - 0.5) / 0.5).abs() < 1e-5, "element {at}: {got}");
    }
    let error = prepare(&picture(8, 6), &[fixture("picture.png"), b"GIF89a".to_vec()]).unwrap_err().to_string();
    assert!(error.contains("file 2") && error.contains("GIF"), "{error}");
    assert!(prepare(&picture(8, 6), &Vec::<Vec<u8>>::new()).is_err());
}

#[test]
fn every_format_of_sound_gives_the_same_tone() {
    // Two channels, the second half as loud: three quarters of 0.8.
    for (file, near) in [("tone.wav", 1e-3), ("tone.flac", 1e-3), ("tone.ogg", 0.06), ("tone.mp3", 0.06)] {
        let tensor = one(&sound(44_100), &fixture(file)).unwrap();
        let samples = tensor.to_f32().unwrap();
        assert!((4_000..8_000).contains(&samples.len()), "{file}: {} samples", samples.len());
        // Encoders put silence in front; the tone repeats every 44.1 samples: its crest is what all have.
        let middle = &samples[samples.len() / 3..samples.len() / 3 * 2];
        let crest = middle.iter().fold(0f32, |m, v| m.max(v.abs()));
        assert!((crest - 0.6).abs() < near + 0.002, "{file}: a crest of {crest}");
        let changes = middle.windows(2).filter(|w| (w[0] < 0.0) != (w[1] < 0.0)).count() as f32;
        let expected = middle.len() as f32 / 22.05;
        assert!((changes - expected).abs() <= 2.0, "{file}: {changes} crossings instead of {expected}");
    }
}

#[test]
fn a_sound_comes_at_the_rate_and_in_the_frames_that_are_wanted() {
    let zeros = vec![Zeros { name: "h".into(), shape: vec![1, 1, 128] }];
    let frames = Some(Frames { window: 576, hop: 512, lead: 64 });
    let wanted = Preparation::Sound(SoundInput { input: "x".into(), rate: 16_000, frames, zeros });
    let made = prepare(&wanted, &[fixture("tone.wav")]).unwrap();
    // 1,600 samples: ceil(1600 / 512) frames.
    assert_eq!((made[0].shape.as_slice(), made[1].shape.as_slice()), (&[4, 576][..], &[1, 1, 128][..]));
    let values = made[0].to_f32().unwrap();
    assert!(values[..64].iter().all(|v| *v == 0.0) && values[64..576].iter().any(|v| *v > 0.5));
    assert_eq!(values[512..576], values[576..640], "frames overlap");
    let error = prepare(&wanted, &[fixture("tone.wav"), fixture("tone.wav")]).unwrap_err();
    assert!(error.to_string().contains("one file"), "{error}");
}

/// A PNG that says how large it is and holds next to nothing.
fn png_of(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = fixture("picture.png");
    bytes[16..20].copy_from_slice(&width.to_be_bytes());
    bytes[20..24].copy_from_slice(&height.to_be_bytes());
    let crc = crc32(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&crc.to_be_bytes());
    bytes
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |c, _| if c & 1 == 1 { c >> 1 ^ 0xedb8_8320 } else { c >> 1 })
    };
    !bytes.iter().fold(!0, step)
}

/// A BMP of one plain colour.
fn bmp(width: u32, height: u32, pixels: usize) -> Vec<u8> {
    let mut bytes = b"BM".to_vec();
    bytes.extend([0u32, 0, 54, 40, width, height].iter().flat_map(|v| v.to_le_bytes()));
    bytes.extend([1, 0, 24, 0]);
    bytes.extend([0u8; 24]);
    bytes.resize(bytes.len() + pixels, 0x60);
    bytes
}

#[test]
fn pictures_of_hostile_sizes_are_refused_before_memory_is_taken() {
    for bytes in [png_of(60_000, 60_000), bmp(60_000, 60_000, 64), png_of(16_384, 16_384), png_of(16_385, 1)] {
        let error = one(&picture(8, 6), &bytes).unwrap_err();
        assert!(matches!(error, MediaError::TooLarge(_)), "{error}");
    }
    // Within the limits, and not there.
    assert!(one(&picture(8, 6), &png_of(2_000, 2_000)).is_err());
    // One pixel is a picture.
    assert_eq!(one(&picture(8, 6), &bmp(1, 1, 4)).unwrap().data.to_vec(), [0x60; 8 * 6 * 3]);
    let batch = vec![bmp(1, 1, 4); 500];
    let error = prepare(&picture(200, 200), &batch).unwrap_err();
    assert!(matches!(error, MediaError::TooLarge(_)), "{error}");
}

#[test]
fn what_is_something_else_is_told_by_its_content() {
    refused(&picture(8, 6), b"", "an empty file");
    refused(&picture(8, 6), &fixture("tone.wav"), "a WAV sound");
    refused(&sound(16_000), &fixture("picture.png"), "a PNG picture");
    refused(&sound(16_000), b"1,2,3", "text");
    refused(&picture(8, 6), b"\0\0\0\x18ftypheic....", "HEIC");
    refused(&Preparation::Picture(input(0, 6)), &fixture("picture.png"), "do not use it");
}

fn wav(channels: u16, rate: u32, data: &[u8], said: u32) -> Vec<u8> {
    let mut bytes = b"RIFF\xff\xff\xff\x7fWAVEfmt \x10\0\0\0\x01\0".to_vec();
    bytes.extend(channels.to_le_bytes());
    bytes.extend(rate.to_le_bytes());
    bytes.extend(rate.wrapping_mul(2 * u32::from(channels)).to_le_bytes());
    bytes.extend(channels.wrapping_mul(2).to_le_bytes());
    bytes.extend([16, 0]);
    bytes.extend(b"data");
    bytes.extend(said.to_le_bytes());
    bytes.extend(data);
    bytes
}

#[test]
fn sounds_of_no_length_or_too_much_are_refused() {
    refused(&sound(16_000), &wav(1, 16_000, &[], 0), "no samples");
    // It says two gigabytes and holds four samples: those are a sound.
    let short = one(&sound(16_000), &wav(1, 16_000, &[0; 8], 0x7fff_ff00));
    assert!(short.is_err() || short.unwrap().shape == [1, 4]);
    let minutes = vec![0; 16_000 * 2 * 120];
    refused(&sound(16_000), &wav(1, 16_000, &minutes, minutes.len() as u32), "longer than 6");
    for bytes in [
        wav(0, 16_000, &[0; 8], 8),
        wav(1, 0, &[0; 8], 8),
        wav(1, u32::MAX, &[0; 8], 8),
        wav(999, 16_000, &[0; 1998], 1998),
    ] {
        assert!(one(&sound(16_000), &bytes).is_err());
    }
}

const FILES: [&str; 10] = [
    "picture.png",
    "picture.jpg",
    "picture.webp",
    "picture.bmp",
    "turned.jpg",
    "tone.wav",
    "tone.flac",
    "tone.ogg",
    "tone.mp3",
    "clip.wav",
];

fn try_both(bytes: &[u8]) {
    let _ = one(&picture(8, 6), bytes);
    let _ = one(&sound(16_000), bytes);
}

#[test]
fn a_file_cut_anywhere_is_read_or_refused() {
    for file in FILES {
        let whole = fixture(file);
        for cut in (0..whole.len()).step_by(1 + whole.len() / 120) {
            try_both(&whole[..cut]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_files_are_read_or_refused(
        file in 0..FILES.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        head in any::<bool>(),
    ) {
        let mut bytes = fixture(FILES[file]);
        for (at, value) in changes {
            // Half of the cases in the header, where sizes stand.
            let within = if head { bytes.len().min(64) } else { bytes.len() };
            bytes[at.index(within)] = value;
        }
        try_both(&bytes);
    }

    #[test]
    fn any_picture_fits_any_model(
        (from, to) in ((1u32..40, 1u32..40), (1u32..40, 1u32..40)),
        fit in 0..4usize, layout in 0..3usize, colour in 0..3usize,
    ) {
        let row = (from.0 as usize * 3).next_multiple_of(4);
        let wanted = PictureInput {
            fit: [Fit::Stretch, Fit::Cover, Fit::Contain, Fit::Line][fit],
            layout: [Layout::Nchw, Layout::Nhwc, Layout::Flat][layout],
            colour: [Colour::Rgb, Colour::Bgr, Colour::Grey][colour],
            ..input(to.0, to.1)
        };
        let tensor = one(&Preparation::Picture(wanted), &bmp(from.0, from.1, row * from.1 as usize)).unwrap();
        prop_assert!(tensor.data.contains(&0x60));
        if fit < 2 {
            prop_assert!(tensor.data.iter().all(|s| *s == 0x60), "a picture that covers leaves nothing empty");
        }
    }
}
