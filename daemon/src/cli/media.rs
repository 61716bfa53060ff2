//! `publish --image` and `--audio`: how a model's input is prepared, as one word.

use std::str::FromStr;

use zero2ai_proto::prepare::{Colour, Fit, Frames, Layout, PictureInput, PixelScale, Preparation, SoundInput, Zeros};

/// The help of `--image`.
pub(crate) const IMAGE_HELP: &str = "It takes pictures: WIDTHxHEIGHT[,rgb|bgr|grey][,nchw|nhwc|flat][,stretch|cover|contain|line]\
    [,mean=M[/M/M]][,std=S[/S/S]|,raw|,u8][,input=NAME]\n\n\
    Samples are numbers from 0 (black) to 1 (white), less the mean, divided by the deviation (std), each one number or one a \
    channel; with raw they are 0 to 255, with u8 bytes. Unless said: rgb,nchw,stretch,mean=0,std=1. 'cover' cuts the middle out, \
    'contain' leaves zeros at the right or below, 'line' is as high as it must be with zeros at the right (lines of text). \
    Example: 192x48,bgr,line,mean=0.5,std=0.5";
/// The help of `--audio`.
pub(crate) const AUDIO_HELP: &str = "It takes a sound: RATE[,window=N[,hop=N][,lead=N]][,input=NAME][,zeros=NAME:AxBxC]...\n\n\
    Samples from -1 to 1 of one channel, RATE a second: [1, samples], or frames of 'window' samples every 'hop' (as many) with \
    'lead' zeros before the first. 'zeros' are further inputs: the state a recurrent model begins with. \
    Example: 16000,window=576,hop=512,lead=64,input=input,zeros=h:1x1x128,zeros=c:1x1x128";
/// What `--image` takes.
pub(crate) const IMAGE: &str = "WIDTHxHEIGHT[,rgb|bgr|grey][,nchw|nhwc|flat][,stretch|cover|contain|line]\
    [,mean=M[/M/M]][,std=S[/S/S]|,raw|,u8][,input=NAME]";
/// What `--audio` takes.
pub(crate) const AUDIO: &str = "RATE[,window=N[,hop=N][,lead=N]][,input=NAME][,zeros=NAME:AxBxC]...";

/// Thousandths of a sample's step in white.
const WHITE: f64 = 255_000.0;

/// Reads `192x48,bgr,line,mean=0.5,std=0.5`. Means and deviations are fractions of white, as most recipes give them.
pub(crate) fn image(text: &str) -> Result<Preparation, String> {
    let mut parts = text.split(',');
    let size = parts.next().unwrap_or_default();
    let (width, height) = size.split_once('x').ok_or_else(|| format!("'{size}' is not WIDTHxHEIGHT"))?;
    let (mut colour, mut layout, mut fit) = (Colour::Rgb, Layout::Nchw, Fit::Stretch);
    let (mut input, mut mean, mut deviation, mut bytes) = (String::new(), vec![0], vec![255_000], false);
    for part in parts {
        match part.split_once('=').unwrap_or((part, "")) {
            ("rgb", "") => colour = Colour::Rgb,
            ("bgr", "") => colour = Colour::Bgr,
            ("grey" | "gray", "") => colour = Colour::Grey,
            ("nchw", "") => layout = Layout::Nchw,
            ("nhwc", "") => layout = Layout::Nhwc,
            ("flat", "") => layout = Layout::Flat,
            ("stretch", "") => fit = Fit::Stretch,
            ("cover", "") => fit = Fit::Cover,
            ("contain", "") => fit = Fit::Contain,
            ("line", "") => fit = Fit::Line,
            ("mean", list) => mean = fractions(list)?,
            ("std", list) => deviation = fractions(list)?,
            ("raw", "") => deviation = vec![1_000],
            ("u8", "") => bytes = true,
            ("input", name) => input = name.to_owned(),
            _ => return Err(format!("'{part}' is not known; it is {IMAGE}")),
        }
    }
    let channels = |mut list: Vec<u32>| {
        if let [one] = list[..] {
            list = vec![one; colour.channels()];
        }
        list
    };
    let scale = (!bytes).then(|| PixelScale { mean_milli: channels(mean), deviation_milli: channels(deviation) });
    let (width, height) = (number(width)?, number(height)?);
    checked(Preparation::Picture(PictureInput { input, width, height, colour, layout, fit, scale }))
}

/// Reads `16000,window=576,hop=512,lead=64,zeros=h:1x1x128`.
pub(crate) fn audio(text: &str) -> Result<Preparation, String> {
    let mut parts = text.split(',');
    let rate = number(parts.next().unwrap_or_default())?;
    let (mut input, mut zeros) = (String::new(), Vec::new());
    let (mut window, mut hop, mut lead) = (None, None, None);
    for part in parts {
        match part.split_once('=').unwrap_or((part, "")) {
            ("window", n) => window = Some(number(n)?),
            ("hop", n) => hop = Some(number(n)?),
            ("lead", n) => lead = Some(number(n)?),
            ("input", name) => input = name.to_owned(),
            ("zeros", of) => {
                let (name, shape) = of.rsplit_once(':').ok_or_else(|| format!("'{part}' is not zeros=NAME:AxBxC"))?;
                let shape = shape.split('x').map(number).collect::<Result<_, _>>()?;
                zeros.push(Zeros { name: name.to_owned(), shape });
            }
            _ => return Err(format!("'{part}' is not known; it is {AUDIO}")),
        }
    }
    let frames = match window {
        Some(window) => Some(Frames { window, hop: hop.unwrap_or(window), lead: lead.unwrap_or(0) }),
        None if hop.is_some() || lead.is_some() => return Err("hop and lead are of frames: give a window too".into()),
        None => None,
    };
    checked(Preparation::Sound(SoundInput { input, rate, frames, zeros }))
}

fn checked(preparation: Preparation) -> Result<Preparation, String> {
    preparation.check().map_err(|e| e.0).map(|()| preparation)
}

fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("'{text}' is not a whole number"))
}

/// `0.485/0.456/0.406` in thousandths of a sample's step.
fn fractions(text: &str) -> Result<Vec<u32>, String> {
    let one = |word: &str| {
        let value: Option<f64> = word.parse().ok().filter(|v| (0.0..=16.0).contains(v));
        // Far below 2^32, as was just checked.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let milli = value.map(|v| (v * WHITE).round() as u32);
        milli.ok_or_else(|| format!("'{word}' is not a fraction of white, from 0 on"))
    };
    text.split('/').map(one).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn recipes_are_read_as_they_are_written() {
        let Preparation::Picture(p) = image("224x160,cover,mean=0.485/0.456/0.406,std=0.229/0.224/0.225").unwrap()
        else {
            panic!("a picture")
        };
        assert_eq!((p.width, p.height, p.colour, p.layout, p.fit), (224, 160, Colour::Rgb, Layout::Nchw, Fit::Cover));
        let scale = p.scale.unwrap();
        assert_eq!(scale.mean_milli, [123_675, 116_280, 103_530]);
        assert_eq!(scale.deviation_milli, [58_395, 57_120, 57_375]);
        let Preparation::Picture(p) = image("8x8,grey,flat,raw,input=pixels").unwrap() else { panic!("a picture") };
        let scale = p.scale.unwrap();
        assert_eq!((scale.mean_milli, scale.deviation_milli, p.input.as_str()), (vec![0], vec![1_000], "pixels"));
        let Preparation::Picture(p) = image("8x8,nhwc,u8").unwrap() else { panic!("a picture") };
        assert_eq!((p.scale, p.layout), (None, Layout::Nhwc));
        let Preparation::Sound(s) = audio("16000,input=input,window=576,hop=512,lead=64,zeros=h:1x1x128").unwrap()
        else {
            panic!("a sound")
        };
        assert_eq!(s.frames, Some(Frames { window: 576, hop: 512, lead: 64 }));
        assert_eq!(s.zeros, [Zeros { name: "h".into(), shape: vec![1, 1, 128] }]);
        assert!(matches!(audio("8000"), Ok(Preparation::Sound(SoundInput { frames: None, .. }))));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, word) in [
            ("", "WIDTHxHEIGHT"),
            ("8", "WIDTHxHEIGHT"),
            ("8xa", "'a'"),
            ("0x8", "sides"),
            ("8x8,purple", "purple"),
            ("8x8,mean=-1", "'-1'"),
            ("8x8,std=0", "zero"),
            ("8x8,mean=0.1/0.2", "3 channels"),
        ] {
            let error = image(text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
        for (text, word) in
            [("", "whole"), ("16000,hop=3", "window"), ("16000,zeros=h", "zeros"), ("16000,window=4,hop=5", "hop")]
        {
            let error = audio(text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
