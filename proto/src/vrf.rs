//! The verifiable random function of the chain of seeds: ECVRF-EDWARDS25519-SHA512-TAI of RFC 9381, under the node's own Ed25519 key.
//! The only file that names `vrf-rfc9381`; the RFC's vectors are its test.
//!
//! One key for signatures and for this is safe here: both derive their nonces from the key and what is hashed, and what is hashed
//! here is a point of 32 bytes, while no message that a node signs is that short (each begins with a tag and the pool's id).

use vrf_rfc9381::{
    Proof as _, Prover as _, Verifier as _,
    ec::edwards25519::{
        EdVrfProof,
        tai::{EdVrfEdwards25519TaiPublicKey, EdVrfEdwards25519TaiSecretKey},
    },
};

use crate::keys::{PublicKey, SecretKey};

/// Bytes of a proof.
pub const PROOF_BYTES: usize = 80;
/// Bytes of an output.
pub const OUTPUT_BYTES: usize = 64;

/// Proves the output of `key` over `input`. The same input always gives the same output, whoever proves it.
///
/// `None` if the library refuses the input: no hash of it in 256 tries is a point of the curve, which does not happen.
#[must_use]
pub fn prove(key: &SecretKey, input: &[u8]) -> Option<[u8; PROOF_BYTES]> {
    let secret = EdVrfEdwards25519TaiSecretKey::from_slice(key.to_bytes().as_slice()).ok()?;
    secret.prove(input).ok()?.encode_to_pi().try_into().ok()
}

/// The output of `key` over `input`, if `proof` proves it. A key of small order proves nothing, and a proof has one spelling: the RFC
/// refuses a scalar that is not reduced (section 5.4.4), which the library would reduce.
#[must_use]
pub fn verify(key: &PublicKey, input: &[u8], proof: &[u8]) -> Option<[u8; OUTPUT_BYTES]> {
    let public = EdVrfEdwards25519TaiPublicKey::from_slice(&key.0).ok()?;
    let decoded = EdVrfProof::decode_pi(proof).ok()?;
    if decoded.encode_to_pi() != proof {
        return None;
    }
    public.verify(input, decoded).ok()?.as_slice().try_into().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn bytes<const N: usize>(text: &str) -> [u8; N] {
        hex::decode(text).unwrap().try_into().unwrap()
    }

    /// RFC 9381, appendix B.3, examples 16 and 17.
    #[test]
    fn the_vectors_of_the_rfc_hold() {
        let examples: [(&str, &str, &[u8], &str, &str); 2] = [
            (
                "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
                "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
                b"",
                "8657106690b5526245a92b003bb079ccd1a92130477671f6fc01ad16f26f723f26f8a57ccaed74ee1b190bed1f479d9727d2d0f9b005a6e456a35d4fb0\
                 daab1268a1b0db10836d9826a528ca76567805",
                "90cf1df3b703cce59e2a35b925d411164068269d7b2d29f3301c03dd757876ff66b71dda49d2de59d03450451af026798e8f81cd2e333de5cdf4f3e140\
                 fdd8ae",
            ),
            (
                "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
                "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
                &[0x72],
                "f3141cd382dc42909d19ec5110469e4feae18300e94f304590abdced48aed5933bf0864a62558b3ed7f2fea45c92a465301b3bbf5e3e54ddf2d935be3b\
                 67926da3ef39226bbc355bdc9850112c8f4b02",
                "eb4440665d3891d668e7e0fcaf587f1b4bd7fbfe99d0eb2211ccec90496310eb5e33821bc613efb94db5e5b54c70a848a0bef4553a41befc57663b56373\
                 a5031",
            ),
        ];
        for (secret, public, input, proof, output) in examples {
            let (key, proof) = (SecretKey::from_bytes(&bytes(secret)), bytes::<PROOF_BYTES>(proof));
            assert_eq!(key.public().0, bytes(public));
            assert_eq!(prove(&key, input).unwrap(), proof);
            assert_eq!(verify(&key.public(), input, &proof).unwrap(), bytes(output));
        }
    }

    #[test]
    fn what_any_key_proves_holds() {
        for n in 0..=255 {
            let key = SecretKey::from_bytes(&[n; 32]);
            assert!(verify(&key.public(), &[n, 1], &prove(&key, &[n, 1]).unwrap()).is_some(), "key {n}");
        }
    }

    /// The scalar at the end, plus the order of the group: the same number, another spelling.
    #[test]
    fn a_proof_has_one_spelling() {
        let order = bytes::<32>("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
        let key = SecretKey::from_bytes(&[1; 32]);
        let mut proof = prove(&key, b"input").unwrap();
        let mut carry = 0u16;
        for (byte, add) in proof[PROOF_BYTES - 32..].iter_mut().zip(order) {
            carry += u16::from(*byte) + u16::from(add);
            *byte = u8::try_from(carry & 0xff).unwrap();
            carry >>= 8;
        }
        assert_eq!(carry, 0);
        assert_eq!(verify(&key.public(), b"input", &proof), None);
    }

    #[test]
    fn nothing_else_is_proved() {
        let key = SecretKey::from_bytes(&[1; 32]);
        let proof = prove(&key, b"input").unwrap();
        assert!(verify(&key.public(), b"input", &proof).is_some());
        assert_eq!(verify(&key.public(), b"another", &proof), None);
        assert_eq!(verify(&SecretKey::from_bytes(&[2; 32]).public(), b"input", &proof), None);
        assert_eq!(verify(&key.public(), b"input", &proof[1..]), None);
        for bit in 0..PROOF_BYTES * 8 {
            let mut other = proof;
            other[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(verify(&key.public(), b"input", &other), None, "bit {bit}");
        }
        // The identity, and a point of order two.
        let one = [&[1][..], &[0; 31]].concat();
        let two = [&[0xec][..], &[0xff; 30], &[0x7f]].concat();
        for small in [one, two] {
            assert_eq!(verify(&PublicKey(small.try_into().unwrap()), b"input", &proof), None);
        }
    }
}
