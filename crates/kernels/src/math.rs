//! The exponential, the error function and sums, each in one fixed order of operations: the C library's may differ between CPUs in their last bit.

/// Numbers summed side by side: what the widest vector register holds.
pub(crate) const LANES: usize = 16;

/// Adding this to a number of less than 22 bits leaves its nearest integer (ties to even) in the lowest bits.
pub(crate) const ROUND: f32 = 12_582_912.0;

/// Below this the result would be denormal: it is taken as 0.
const LEAST: f32 = -87.336_54;
/// Above this the power of two would not be representable: the result is taken as infinite.
const MOST: f32 = 88.376_26;

/// e to the power of `x`, within two units in the last place; 0 below -87.3, infinite above 88.3, NaN for NaN.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Written as selects, so that it stays one straight line in vectors. NaN fails every comparison and goes through.
    let clamped = if x < LEAST { LEAST } else { x };
    let clamped = if clamped > MOST { MOST } else { clamped };
    let shifted = clamped.mul_add(std::f32::consts::LOG2_E, ROUND);
    let power = shifted - ROUND;
    // ln 2 in two parts: the first has so few bits that its product with `power` is exact.
    let rest = power.mul_add(-0.693_359_4, clamped);
    let rest = power.mul_add(2.121_944_4e-4, rest);
    // Cephes' minimax polynomial for e^rest - 1 - rest, over rest².
    let mut sum = 1.987_569_2e-4_f32;
    sum = sum.mul_add(rest, 1.398_2e-3);
    sum = sum.mul_add(rest, 8.333_452e-3);
    sum = sum.mul_add(rest, 4.166_579_6e-2);
    sum = sum.mul_add(rest, 1.666_666_5e-1);
    sum = sum.mul_add(rest, 0.5);
    let fraction = sum.mul_add(rest * rest, rest) + 1.0;
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127);
    let result = fraction * f32::from_bits(exponent << 23);
    let result = if x < LEAST { 0.0 } else { result };
    if x > MOST { f32::INFINITY } else { result }
}

/// The error function, within 6e-7; 1 and -1 beyond 4, NaN for NaN. A quotient of two polynomials, as XLA has it.
#[inline(always)]
pub(crate) fn erf(x: f32) -> f32 {
    let clamped = if x < -4.0 { -4.0 } else { x };
    let clamped = if clamped > 4.0 { 4.0 } else { clamped };
    let square = clamped * clamped;
    let mut over = -2.726_142_3e-10_f32;
    over = over.mul_add(square, 2.770_681_4e-8);
    over = over.mul_add(square, -2.101_024e-6);
    over = over.mul_add(square, -5.692_506_5e-5);
    over = over.mul_add(square, -7.349_906_5e-4);
    over = over.mul_add(square, -2.954_598e-3);
    over = over.mul_add(square, -1.609_603_3e-2);
    let mut under = -1.456_607_2e-5_f32;
    under = under.mul_add(square, -2.133_740_6e-4);
    under = under.mul_add(square, -1.682_827e-3);
    under = under.mul_add(square, -7.373_329_3e-3);
    under = under.mul_add(square, -1.426_473_9e-2);
    let result = clamped * over / under;
    let result = if x > 4.0 { 1.0 } else { result };
    if x < -4.0 { -1.0 } else { result }
}

/// The sum of all lanes, halves first.
#[inline(always)]
pub(crate) fn sum_lanes(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// A 16-bit floating point number, as scales of blocks are stored. NaN stays NaN.
#[inline(always)]
pub(crate) fn half_to_f32(half: u16) -> f32 {
    let (sign, rest) = (u32::from(half & 0x8000) << 16, u32::from(half & 0x7fff));
    let magnitude = match rest {
        // Zero and denormals: their value is their bits times 2^-24, exactly.
        0..0x400 => rest as f32 * f32::from_bits(0x3380_0000),
        0x400..0x7c00 => f32::from_bits((rest << 13) + (112 << 23)),
        // Infinite, or NaN, made quiet as CPUs do.
        0x7c00 => f32::INFINITY,
        _ => f32::from_bits(0x7fc0_0000 | (rest << 13)),
    };
    f32::from_bits(magnitude.to_bits() | sign)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_close_everywhere() {
        let mut worst = 0.0_f64;
        for step in 0..2_000_000 {
            let x = -87.3 + step as f32 * (175.6 / 2_000_000.0);
            let exact = f64::from(x).exp();
            worst = worst.max(((f64::from(exp(x)) - exact) / exact).abs());
        }
        assert!(worst < 2.0 * f64::from(f32::EPSILON), "{worst}");
        assert_eq!((exp(0.0), exp(-100.0), exp(f32::NEG_INFINITY)), (1.0, 0.0, 0.0));
        assert_eq!((exp(89.0), exp(f32::INFINITY)), (f32::INFINITY, f32::INFINITY));
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn the_error_function_is_close_everywhere() {
        let mut worst = 0.0_f64;
        for step in 0..1_000_000 {
            let x = -5.0 + step as f32 * 1e-5;
            worst = worst.max((f64::from(erf(x)) - libm::erf(x.into())).abs());
        }
        assert!(worst < 6e-7, "{worst}");
        assert_eq!((erf(0.0), erf(9.0), erf(f32::NEG_INFINITY)), (0.0, 1.0, -1.0));
        assert!(erf(f32::NAN).is_nan());
    }

    #[test]
    fn halves_mean_what_they_should() {
        let cases = [
            (0x0000, 0.0),
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0400, 6.103_515_6e-5),
            (0x0001, 5.960_464_5e-8),
            (0x83ff, -6.097_555e-5),
            (0xfc00, f32::NEG_INFINITY),
        ];
        for (half, value) in cases {
            assert_eq!(half_to_f32(half), value, "{half:x}");
        }
        assert!(half_to_f32(0x7c01).is_nan() && half_to_f32(0xfe00).is_nan());
        assert_eq!(half_to_f32(0x8000).to_bits(), (-0.0_f32).to_bits());
    }
}
