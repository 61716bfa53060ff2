//! Q4_K blocks as Q4_1 ones, which our kernels take. Every 4-bit number stays as it is; the scale and the least value of a
//! block of 32, products of two numbers there, are rounded to 16 bits each, some hundred times finer than the 4 bits are.

/// Bytes of 256 numbers in Q4_K: a scale and a scale of least values in 16 bits each, eight of both in 6 bits each, 4-bit numbers.
const FROM: usize = 144;
/// Bytes of 32 numbers in Q4_1.
const TO: usize = 20;

/// The same matrix in Q4_1; `None` if it does not consist of whole blocks.
pub(super) fn q4_k_to_q4_1(blocks: &[u8]) -> Option<Vec<u8>> {
    let (blocks, rest) = blocks.as_chunks::<FROM>();
    if !rest.is_empty() {
        return None;
    }
    let mut out = Vec::with_capacity(blocks.len().checked_mul(8 * TO)?);
    for block in blocks {
        let (d, rest) = block.split_first_chunk::<2>()?;
        let (least, rest) = rest.split_first_chunk::<2>()?;
        let (scales, numbers) = rest.split_first_chunk::<12>()?;
        let (d, least) = (from_half(u16::from_le_bytes(*d)), from_half(u16::from_le_bytes(*least)));
        for (pair, numbers) in numbers.as_chunks::<32>().0.iter().enumerate() {
            // A byte holds a number of this block of 32 and one of the next.
            for (high, index) in [(false, pair * 2), (true, pair * 2 + 1)] {
                let (scale, least_scale) = scale_at(scales, index);
                out.extend(to_half(d * f32::from(scale)).to_le_bytes());
                out.extend(to_half(-least * f32::from(least_scale)).to_le_bytes());
                let number = |at: usize| if high { numbers[at] >> 4 } else { numbers[at] & 15 };
                out.extend((0..16).map(|at| number(at) | (number(at + 16) << 4)));
            }
        }
    }
    Some(out)
}

/// The scale of block `index` of eight, and of its least value: 6 bits each, the upper two of the later four apart.
const fn scale_at(packed: &[u8; 12], index: usize) -> (u8, u8) {
    if index < 4 {
        (packed[index] & 63, packed[index + 4] & 63)
    } else {
        let low = packed[index + 4];
        ((low & 15) | ((packed[index - 4] >> 6) << 4), (low >> 4) | ((packed[index] >> 6) << 4))
    }
}

fn from_half(half: u16) -> f32 {
    let (sign, rest) = (u32::from(half & 0x8000) << 16, u32::from(half & 0x7fff));
    let magnitude = match rest {
        // Zero and denormals are their bits times 2^-24.
        0..0x400 => rest as f32 * f32::from_bits(0x3380_0000),
        0x400..0x7c00 => f32::from_bits((rest << 13) + (112 << 23)),
        0x7c00 => f32::INFINITY,
        _ => f32::NAN,
    };
    f32::from_bits(magnitude.to_bits() | sign)
}

/// To the nearest, ties to even; beyond the range infinite.
fn to_half(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = ((bits >> 16) & 0x8000) as u16;
    let magnitude = f32::from_bits(bits & 0x7fff_ffff);
    let half = if magnitude.is_nan() {
        0x7e00
    } else if magnitude >= 65_520.0 {
        0x7c00
    } else if magnitude < f32::from_bits(0x3880_0000) {
        // A denormal: the number of steps of 2^-24, which adding 2^23 rounds.
        ((magnitude * 16_777_216.0 + 8_388_608.0).to_bits() & 0x7fff) as u16
    } else {
        let bits = magnitude.to_bits() - (112 << 23);
        ((bits + 0xfff + ((bits >> 13) & 1)) >> 13) as u16
    };
    sign | half
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use candle_core::{
        Device, Tensor,
        quantized::{GgmlDType, QStorage, QTensor},
    };

    use super::*;

    #[test]
    fn halves_round_to_the_nearest_and_back() {
        for half in (0..=0xffff_u16).filter(|half| half & 0x7fff <= 0x7c00) {
            assert_eq!(to_half(from_half(half)), half, "{half:x}");
            if half & 0x7fff < 0x7bff {
                // Halfway goes to the even neighbour, a little more or less to the nearer.
                let (low, high) = (from_half(half), from_half(half + 1));
                let middle = f32::midpoint(low, high);
                assert_eq!(to_half(middle), half + (half & 1), "{half:x}");
                assert_eq!(to_half(f32::midpoint(low, middle)), half);
                assert_eq!(to_half(f32::midpoint(high, middle)), half + 1);
            }
        }
        assert_eq!((to_half(1e9), to_half(-1e9), to_half(f32::NAN)), (0x7c00, 0xfc00, 0x7e00));
    }

    #[test]
    fn numbers_stay_what_they_are() {
        let values: Vec<f32> =
            (0_u32..512 * 6).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / 1e7 - 0.6).collect();
        let tensor = Tensor::from_vec(values, (6, 512), &Device::Cpu).unwrap();
        let quantised = QTensor::quantize(&tensor, GgmlDType::Q4K).unwrap();
        let want: Vec<f32> = quantised.dequantize(&Device::Cpu).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        let blocks = q4_k_to_q4_1(&quantised.data().unwrap()).unwrap();
        let storage = QStorage::from_data(blocks.into(), &Device::Cpu, GgmlDType::Q4_1).unwrap();
        let got = QTensor::new(storage, (6, 512)).unwrap();
        let got: Vec<f32> = got.dequantize(&Device::Cpu).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        for (got, want) in got.iter().zip(&want) {
            assert!((got - want).abs() < 2e-3, "{got} for {want}");
        }
        assert!(q4_k_to_q4_1(&[0; 145]).is_none());
    }
}
