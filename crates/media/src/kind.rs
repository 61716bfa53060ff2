//! What bytes are, by their first ones: a file's name is not asked.

use std::fmt;

/// A kind of content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A picture.
    Png,
    /// A picture.
    Jpeg,
    /// A picture.
    Webp,
    /// A picture.
    Bmp,
    /// A sound in a RIFF file.
    Wav,
    /// A sound.
    Flac,
    /// A sound in an Ogg file.
    Ogg,
    /// A sound.
    Mp3,
    /// Nothing at all.
    Empty,
    /// UTF-8 text: a table or tensors as JSON.
    Text,
    /// Known, and not read here: what it is called.
    Other(&'static str),
    /// None of these.
    Unknown,
}

/// First bytes (at an offset) of what is known. In this order.
const FIRST: &[(usize, &[u8], Kind)] = &[
    (0, b"\x89PNG\r\n\x1a\n", Kind::Png),
    (0, b"\xff\xd8\xff", Kind::Jpeg),
    (8, b"WEBP", Kind::Webp),
    (8, b"WAVE", Kind::Wav),
    (0, b"fLaC", Kind::Flac),
    (0, b"OggS", Kind::Ogg),
    (0, b"ID3\x02", Kind::Mp3),
    (0, b"ID3\x03", Kind::Mp3),
    (0, b"ID3\x04", Kind::Mp3),
    (0, b"GIF8", Kind::Other("a GIF animation")),
    (0, b"II*\0", Kind::Other("a TIFF picture")),
    (0, b"MM\0*", Kind::Other("a TIFF picture")),
    (4, b"ftypheic", Kind::Other("a HEIC picture")),
    (4, b"ftypavif", Kind::Other("an AVIF picture")),
    (4, b"ftypM4A", Kind::Other("an AAC sound")),
    (4, b"ftyp", Kind::Other("an MP4 film")),
    (0, b"\x1a\x45\xdf\xa3", Kind::Other("a Matroska or WebM film")),
    (0, b"%PDF", Kind::Other("a PDF document")),
    (0, b"PK\x03\x04", Kind::Other("a ZIP archive")),
];

impl Kind {
    /// Looks at the first bytes; at all of them to see whether they are text.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        if bytes.is_empty() {
            return Self::Empty;
        }
        let starts = |at: usize, magic: &[u8]| bytes.get(at..).is_some_and(|rest| rest.starts_with(magic));
        if let Some((_, _, kind)) = FIRST.iter().find(|(at, magic, _)| starts(*at, magic)) {
            return *kind;
        }
        // A bitmap's length stands behind its two letters, and four bytes of zeros behind that.
        if starts(0, b"BM") && starts(6, &[0; 4]) {
            return Self::Bmp;
        }
        if is_mpeg_frame(bytes) {
            return Self::Mp3;
        }
        let text = std::str::from_utf8(bytes).is_ok_and(|text| !text.contains('\0'));
        if text { Self::Text } else { Self::Unknown }
    }

    /// True for pictures that are read here.
    #[must_use]
    pub const fn is_picture(self) -> bool {
        matches!(self, Self::Png | Self::Jpeg | Self::Webp | Self::Bmp)
    }

    /// True for sounds that are read here.
    #[must_use]
    pub const fn is_sound(self) -> bool {
        matches!(self, Self::Wav | Self::Flac | Self::Ogg | Self::Mp3)
    }
}

/// An MPEG audio frame of layer III: eleven bits of sync, no reserved value in what follows.
fn is_mpeg_frame(bytes: &[u8]) -> bool {
    let &[0xff, second, third, ..] = bytes else { return false };
    let (version, layer) = (second >> 3 & 3, second >> 1 & 3);
    second & 0xe0 == 0xe0 && version != 1 && layer == 1 && third >> 4 != 15 && third >> 2 & 3 != 3
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Png => "a PNG picture",
            Self::Jpeg => "a JPEG picture",
            Self::Webp => "a WebP picture",
            Self::Bmp => "a BMP picture",
            Self::Wav => "a WAV sound",
            Self::Flac => "a FLAC sound",
            Self::Ogg => "an Ogg sound",
            Self::Mp3 => "an MP3 sound",
            Self::Empty => "an empty file",
            Self::Text => "text",
            Self::Other(what) => what,
            Self::Unknown => "a file of no known kind",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_known_by_its_first_bytes() {
        for (bytes, kind) in [
            (&b""[..], Kind::Empty),
            (b"\x89PNG\r\n\x1a\n....", Kind::Png),
            (b"\xff\xd8\xff\xe0", Kind::Jpeg),
            (b"RIFF....WEBPVP8 ", Kind::Webp),
            (b"RIFF....WAVEfmt ", Kind::Wav),
            (b"BM\x36\0\0\0\0\0\0\0", Kind::Bmp),
            (b"BMW, 1, 2\n", Kind::Text),
            (b"\xff\xfb\x90\x00", Kind::Mp3),
            (b"\xff\xff\xff\xff", Kind::Unknown),
            (b"1,2,3\n", Kind::Text),
            ("Grüße".as_bytes(), Kind::Text),
            (b"\0\0\0\x18ftypmp42", Kind::Other("an MP4 film")),
            (b"\x80\x01", Kind::Unknown),
        ] {
            assert_eq!(Kind::of(bytes), kind, "{bytes:?}");
        }
    }
}
