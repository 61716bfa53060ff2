//! Weights as the kernels pack them.

use zero2ai_kernels::{BLOCK, Format, Packed};

/// Blocks of quantised weights: the first byte is the format, the second and third are rows and blocks of a row. What is packed
/// comes back as it was, every row of it can be looked up, and nothing else is taken.
pub fn pack(bytes: &[u8]) {
    let Some(([format, n, blocks], bytes)) = bytes.split_first_chunk::<3>() else { return };
    let format = [Format::Q8_0, Format::Q4_0, Format::Q4_1][usize::from(*format) % 3];
    let (n, k) = (usize::from(*n), usize::from(*blocks) * BLOCK);
    let fits = bytes.len() == n * usize::from(*blocks) * format.block_bytes();
    match Packed::new(format, bytes, n, k) {
        Ok(packed) => {
            assert!(fits && packed.unpack() == bytes);
            let mut row = vec![0.0; k];
            assert!((0..n).all(|index| packed.row(index, &mut row).is_ok()) && packed.row(n, &mut row).is_err());
        }
        Err(_) => assert!(!fits || k == 0, "{n} rows of {k} columns were refused"),
    }
}
