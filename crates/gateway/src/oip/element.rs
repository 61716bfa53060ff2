//! Tensors in JSON, flat or nested, and in little-endian bytes: the elements of one are the elements of the other. The JSON
//! reader may miss a double by its last bit; whoever needs every bit sends binary data.

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeSeed, SeqAccess, Visitor},
};
use zero2ai_proto::tensor::{DType, Tensor};

/// The protocol's name of a type.
pub(super) fn datatype(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "FP32",
        DType::F64 => "FP64",
        DType::F16 => "FP16",
        DType::I64 => "INT64",
        DType::I32 => "INT32",
        DType::U8 => "UINT8",
        DType::Bool => "BOOL",
    }
}

/// The type of a name; an error names those that there are.
pub(super) fn dtype(name: &str) -> Result<DType, String> {
    const ALL: [DType; 7] = [DType::Bool, DType::U8, DType::I32, DType::I64, DType::F16, DType::F32, DType::F64];
    ALL.into_iter().find(|d| datatype(*d) == name).ok_or_else(|| {
        let name: String = name.chars().take(32).collect();
        format!("its datatype is '{name}'; {} are supported", ALL.map(datatype).join(", "))
    })
}

/// One number of a JSON tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Number {
    Int(i64),
    Float(f64),
    Bool(bool),
}

/// The elements of a JSON tensor in row-major order. How they were nested is not kept: the shape says it.
#[derive(Debug, Default)]
pub(super) struct Elements(Vec<Number>);

impl Elements {
    /// As bytes of this type.
    pub(super) fn to_bytes(&self, dtype: DType) -> Result<Vec<u8>, String> {
        let mut out = Vec::with_capacity(self.0.len().saturating_mul(dtype.size()));
        for (i, number) in self.0.iter().enumerate() {
            push(&mut out, *number, dtype).map_err(|why| format!("element {i} {why} {}", datatype(dtype)))?;
        }
        Ok(out)
    }
}

#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // what a float cannot hold exactly is rounded, as anywhere
fn push(out: &mut Vec<u8>, number: Number, dtype: DType) -> Result<(), &'static str> {
    const KIND: &str = "is of another kind than";
    const RANGE: &str = "is out of the range of";
    let float = match number {
        Number::Int(i) => Some(i as f64),
        Number::Float(f) => Some(f),
        Number::Bool(_) => None,
    };
    let int = match number {
        Number::Int(i) => Ok(i),
        Number::Float(_) | Number::Bool(_) => Err(KIND),
    };
    match dtype {
        DType::F64 => out.extend(float.ok_or(KIND)?.to_le_bytes()),
        DType::F32 => {
            let value = float.ok_or(KIND)? as f32;
            out.extend(Some(value).filter(|v| v.is_finite()).ok_or(RANGE)?.to_le_bytes());
        }
        DType::F16 => return Err("cannot be sent in JSON: send binary data for"),
        DType::I64 => out.extend(int?.to_le_bytes()),
        DType::I32 => out.extend(i32::try_from(int?).map_err(|_| RANGE)?.to_le_bytes()),
        DType::U8 => out.push(u8::try_from(int?).map_err(|_| RANGE)?),
        DType::Bool => out.push(match number {
            Number::Bool(b) => u8::from(b),
            Number::Int(0) => 0,
            Number::Int(1) => 1,
            Number::Int(_) | Number::Float(_) => return Err(KIND),
        }),
    }
    Ok(())
}

impl<'de> Deserialize<'de> for Elements {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let mut elements = Self::default();
        Flatten(&mut elements.0).deserialize(d)?;
        Ok(elements)
    }
}

/// Puts numbers, or lists of them at any depth that the JSON reader bears, behind each other.
struct Flatten<'a>(&'a mut Vec<Number>);

impl<'de> DeserializeSeed<'de> for Flatten<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Flatten<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("numbers, true or false, or lists of them (text, BYTES, is not supported)")
    }
    fn visit_bool<E>(self, v: bool) -> Result<(), E> {
        self.0.push(Number::Bool(v));
        Ok(())
    }
    fn visit_i64<E>(self, v: i64) -> Result<(), E> {
        self.0.push(Number::Int(v));
        Ok(())
    }
    fn visit_u64<E: serde::de::Error>(self, v: u64) -> Result<(), E> {
        self.0.push(Number::Int(i64::try_from(v).map_err(|_| E::custom("a whole number beyond 64 signed bits"))?));
        Ok(())
    }
    fn visit_f64<E>(self, v: f64) -> Result<(), E> {
        self.0.push(Number::Float(v));
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Flatten(self.0))?.is_some() {}
        Ok(())
    }
}

/// True if the protocol lets this tensor be written in JSON, and JSON can hold its values.
pub(super) fn fits_json(tensor: &Tensor) -> bool {
    let data = &tensor.data;
    match tensor.dtype {
        DType::F16 => false,
        DType::F32 => data.as_chunks().0.iter().all(|b| f32::from_le_bytes(*b).is_finite()),
        DType::F64 => data.as_chunks().0.iter().all(|b| f64::from_le_bytes(*b).is_finite()),
        DType::I64 | DType::I32 | DType::U8 | DType::Bool => true,
    }
}

/// A tensor's elements as a flat JSON list. What does not [`fits_json`] is refused.
#[derive(Debug)]
pub(super) struct Flat<'a>(pub(super) &'a Tensor);

impl Serialize for Flat<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let data = &self.0.data;
        match self.0.dtype {
            DType::F32 => s.collect_seq(data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b))),
            DType::F64 => s.collect_seq(data.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b))),
            DType::I64 => s.collect_seq(data.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b))),
            DType::I32 => s.collect_seq(data.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b))),
            DType::U8 => s.collect_seq(data.iter()),
            DType::Bool => s.collect_seq(data.iter().map(|b| *b != 0)),
            DType::F16 => Err(serde::ser::Error::custom("FP16 has no form in JSON")),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;
    use zero2ai_proto::ByteBuf;

    use super::*;

    fn bytes(json: &str, dtype: DType) -> Result<Vec<u8>, String> {
        serde_json::from_str::<Elements>(json).map_err(|e| e.to_string())?.to_bytes(dtype)
    }

    #[test]
    fn nested_and_flat_are_the_same() {
        assert_eq!(bytes("[[1,2],[3,4]]", DType::U8).unwrap(), [1, 2, 3, 4]);
        assert_eq!(bytes("[1,2,3,4]", DType::U8).unwrap(), [1, 2, 3, 4]);
        assert_eq!(bytes("[true,false,1]", DType::Bool).unwrap(), [1, 0, 1]);
        assert_eq!(bytes("[1]", DType::F32).unwrap(), 1f32.to_le_bytes());
    }

    #[test]
    fn what_does_not_fit_its_type_is_refused() {
        for (json, dtype) in [
            ("[256]", DType::U8),
            ("[-1]", DType::U8),
            ("[1.0]", DType::I64),
            ("[2147483648]", DType::I32),
            ("[2]", DType::Bool),
            ("[true]", DType::F32),
            ("[1e39]", DType::F32),
            ("[1]", DType::F16),
            ("[\"a\"]", DType::F32),
            ("[null]", DType::F32),
            ("[18446744073709551615]", DType::I64),
            ("{}", DType::I64),
            ("[NaN]", DType::F32),
        ] {
            assert!(bytes(json, dtype).is_err(), "{json} {dtype:?}");
        }
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(bytes(&deep, DType::F32).unwrap_err().contains("recursion"));
        assert!(dtype("BYTES").unwrap_err().contains("FP32"));
    }

    proptest! {
        #[test]
        fn json_brings_every_element_back(
            raw in prop::collection::vec(any::<u8>(), 0..256),
            dtype in prop::sample::select(vec![DType::F32, DType::I64, DType::I32, DType::U8]),
        ) {
            let n = raw.len() / dtype.size();
            let data = raw[..n * dtype.size()].to_vec();
            let tensor = Tensor { name: "x".into(), dtype, shape: vec![n as u64], data: ByteBuf::from(data.clone()) };
            prop_assume!(fits_json(&tensor));
            let json = serde_json::to_string(&Flat(&tensor)).unwrap();
            prop_assert_eq!(bytes(&json, dtype).unwrap(), data);
        }

        #[test]
        fn json_brings_doubles_back_bit_for_bit(value in any::<f64>().prop_filter("in JSON", |v| v.is_normal())) {
            let got = bytes(&format!("[{value:e}]"), DType::F64).unwrap();
            let got = f64::from_le_bytes(got.try_into().unwrap());
            prop_assert_eq!(got.to_bits(), value.to_bits(), "{} became {}", value, got);
        }
    }
}
