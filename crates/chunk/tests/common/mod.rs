//! Small model files, made by hand.
#![allow(dead_code)] // each test file uses some of them

pub(crate) fn gguf(tensors: &[(&str, &[u8])]) -> Vec<u8> {
    let text = |out: &mut Vec<u8>, s: &str| {
        out.extend((s.len() as u64).to_le_bytes());
        out.extend(s.as_bytes());
    };
    let mut out = b"GGUF\x03\0\0\0".to_vec();
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend(3u64.to_le_bytes());
    text(&mut out, "general.alignment");
    out.extend(4u32.to_le_bytes());
    out.extend(64u32.to_le_bytes());
    text(&mut out, "tokens");
    out.extend([9u32, 8].map(u32::to_le_bytes).concat());
    out.extend(2u64.to_le_bytes());
    text(&mut out, "a");
    text(&mut out, "bc");
    text(&mut out, "scores");
    out.extend([9u32, 6].map(u32::to_le_bytes).concat());
    out.extend(2u64.to_le_bytes());
    out.extend([0; 8]);
    let mut offset = 0u64;
    for (name, bytes) in tensors {
        text(&mut out, name);
        out.extend(1u32.to_le_bytes());
        out.extend((bytes.len() as u64).to_le_bytes());
        out.extend(24u32.to_le_bytes());
        out.extend(offset.to_le_bytes());
        offset = (offset + bytes.len() as u64).next_multiple_of(64);
    }
    for (_, bytes) in tensors {
        out.resize(out.len().next_multiple_of(64), 0);
        out.extend(*bytes);
    }
    out
}

pub(crate) fn safetensors(tensors: &[(&str, &[u8])]) -> Vec<u8> {
    let mut offset = 0;
    let mut entries = vec![r#""__metadata__":{"format":"pt"}"#.to_string()];
    for (name, bytes) in tensors {
        let end = offset + bytes.len();
        entries.push(format!(r#""{name}":{{"dtype":"U8","shape":[{}],"data_offsets":[{offset},{end}]}}"#, bytes.len()));
        offset = end;
    }
    let json = format!("{{{}}}", entries.join(","));
    let mut out = (json.len() as u64).to_le_bytes().to_vec();
    out.extend(json.as_bytes());
    out.extend(tensors.iter().flat_map(|(_, b)| b.iter()));
    out
}

pub(crate) fn noise(len: usize, seed: u8) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}
