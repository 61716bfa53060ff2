//! Bytes to pixels. The size is read from the header and held to the limits before a pixel is decoded.

use std::io::Cursor;

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, metadata::Orientation};

use crate::{error::MediaError, kind::Kind};

/// Pixels of a side: the largest cameras' pictures fit twice.
const SIDE: u32 = 16_384;
/// Bytes of the decoded pixels: 64 million of four bytes.
const BYTES: u64 = 256 * 1024 * 1024;

/// A picture: red, green and blue of each pixel, row by row.
#[derive(Debug)]
pub(crate) struct Picture {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) rgb: Vec<u8>,
}

/// Decodes a picture, upright, without its transparency.
pub(crate) fn decode(bytes: &[u8]) -> Result<Picture, MediaError> {
    let kind = Kind::of(bytes);
    let format = match kind {
        Kind::Png => ImageFormat::Png,
        Kind::Jpeg => ImageFormat::Jpeg,
        Kind::Webp => ImageFormat::WebP,
        Kind::Bmp => ImageFormat::Bmp,
        found => return Err(MediaError::Kind { found, wanted: "a picture (PNG, JPEG, WebP, BMP)" }),
    };
    let damaged = |e: image::ImageError| match e {
        image::ImageError::Limits(why) => MediaError::TooLarge(format!("the picture: {why}")),
        other => MediaError::damaged(kind, other),
    };
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits());
    let mut decoder = reader.into_decoder().map_err(damaged)?;
    let (width, height) = decoder.dimensions();
    if width == 0 || height == 0 {
        return Err(MediaError::damaged(kind, "it has no pixels"));
    }
    if width > SIDE || height > SIDE || decoder.total_bytes() > BYTES {
        return Err(MediaError::TooLarge(format!(
            "a picture of {width} × {height} pixels, where sides of {SIDE} and {} MiB of pixels are the limit",
            BYTES >> 20
        )));
    }
    // What the file says of it is advice; a picture whose advice cannot be read is taken as it lies.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut decoded = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    decoded.apply_orientation(orientation);
    let rgb = decoded.into_rgb8();
    let (width, height) = (rgb.width() as usize, rgb.height() as usize);
    Ok(Picture { width, height, rgb: rgb.into_raw() })
}

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.max_image_width = Some(SIDE);
    limits.max_image_height = Some(SIDE);
    limits.max_alloc = Some(2 * BYTES);
    limits
}
