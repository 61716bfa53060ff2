//! Bytes to samples of one channel at the rate that a model takes. No more is decoded than one call can carry.

use std::io::{Cursor, ErrorKind};

use symphonia::core::{
    audio::SampleBuffer,
    codecs::{Decoder, DecoderOptions},
    errors::Error,
    formats::{FormatOptions, FormatReader},
    io::{MediaSourceStream, MediaSourceStreamOptions},
    meta::MetadataOptions,
    probe::Hint,
};

use crate::{error::MediaError, kind::Kind, resample::resample};

/// Samples a second of a sound that is read.
const RATES: std::ops::RangeInclusive<u32> = 1_000..=384_000;
/// Channels of a sound that is read.
const CHANNELS: usize = 32;
/// Samples kept of one channel, at the sound's own rate: 256 MiB.
const SAMPLES: usize = 64 * 1024 * 1024;
/// Packets in a row that are damaged before the sound is: players skip some as well.
const SKIPPED: usize = 16;

/// Decodes a sound, mixes its channels and brings it to `rate`; more than `longest` samples at that rate are refused.
pub(crate) fn decode(bytes: &[u8], rate: u32, longest: usize) -> Result<Vec<f32>, MediaError> {
    let kind = Kind::of(bytes);
    if !kind.is_sound() {
        return Err(MediaError::Kind { found: kind, wanted: "a sound (WAV, FLAC, Ogg Vorbis, MP3)" });
    }
    let mut format = open(kind, bytes)?;
    let track = format.default_track().ok_or_else(|| MediaError::damaged(kind, "it holds no sound"))?;
    let (id, parameters) = (track.id, track.codec_params.clone());
    let mut decoder = symphonia::default::get_codecs()
        .make(&parameters, &DecoderOptions::default())
        .map_err(|e| MediaError::damaged(kind, e))?;
    let mut mono = Mono { kind, rate: None, to: rate, longest, samples: Vec::new() };
    read(kind, format.as_mut(), decoder.as_mut(), id, &mut mono)?;
    let from = mono.rate.filter(|_| !mono.samples.is_empty()).ok_or(MediaError::Empty)?;
    Ok(resample(&mono.samples, from, rate))
}

fn open(kind: Kind, bytes: &[u8]) -> Result<Box<dyn FormatReader>, MediaError> {
    // The stream owns its source; sounds that fit a call are small.
    let source = Box::new(Cursor::new(bytes.to_vec()));
    let stream = MediaSourceStream::new(source, MediaSourceStreamOptions::default());
    let (format, metadata) = (FormatOptions::default(), MetadataOptions::default());
    let probed = symphonia::default::get_probe().format(&Hint::new(), stream, &format, &metadata);
    Ok(probed.map_err(|e| MediaError::damaged(kind, e))?.format)
}

fn read(
    kind: Kind,
    format: &mut dyn FormatReader,
    decoder: &mut dyn Decoder,
    track: u32,
    mono: &mut Mono,
) -> Result<(), MediaError> {
    let mut skipped = 0;
    loop {
        let packet = match format.next_packet() {
            Ok(packet) => packet,
            // The end, which a cut file comes to early: what was recorded before it is a sound.
            Err(Error::IoError(e)) if e.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            Err(Error::ResetRequired) => return Err(MediaError::damaged(kind, "it is several sounds in one file")),
            Err(e) => return Err(MediaError::damaged(kind, e)),
        };
        if packet.track_id() != track {
            continue;
        }
        match decoder.decode(&packet) {
            Ok(decoded) => {
                skipped = 0;
                let spec = *decoded.spec();
                let mut buffer = SampleBuffer::<f32>::new(decoded.capacity() as u64, spec);
                buffer.copy_interleaved_ref(decoded);
                mono.add(spec.rate, spec.channels.count(), buffer.samples())?;
            }
            Err(Error::DecodeError(why)) => {
                skipped += 1;
                if skipped > SKIPPED {
                    return Err(MediaError::damaged(kind, why));
                }
            }
            Err(Error::IoError(e)) if e.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            Err(e) => return Err(MediaError::damaged(kind, e)),
        }
    }
}

/// What was decoded, mixed to one channel.
struct Mono {
    kind: Kind,
    rate: Option<u32>,
    to: u32,
    longest: usize,
    samples: Vec<f32>,
}

impl Mono {
    fn add(&mut self, rate: u32, channels: usize, interleaved: &[f32]) -> Result<(), MediaError> {
        if !RATES.contains(&rate) || !(1..=CHANNELS).contains(&channels) || self.rate.is_some_and(|r| r != rate) {
            let why = format!("{channels} channels of {rate} samples a second, or a rate that changes, is not read");
            return Err(MediaError::damaged(self.kind, why));
        }
        self.rate = Some(rate);
        let longest = (self.longest as u64).saturating_mul(u64::from(rate)) / u64::from(self.to);
        let most = usize::try_from(longest).unwrap_or(usize::MAX).min(SAMPLES);
        if self.samples.len().saturating_add(interleaved.len() / channels) > most {
            let seconds = most as u64 / u64::from(rate);
            return Err(MediaError::TooLarge(format!(
                "the sound is longer than {seconds} s, which is what one call carries to this model: cut it"
            )));
        }
        #[allow(clippy::cast_precision_loss)] // 32 at most
        let share = 1.0 / channels as f32;
        // A number that is none would poison its neighbours.
        let mix = |frame: &[f32]| Some(frame.iter().sum::<f32>() * share).filter(|v| v.is_finite()).unwrap_or(0.0);
        self.samples.extend(interleaved.chunks_exact(channels).map(mix));
        Ok(())
    }
}
