//! Samples of what is shown to a jury.

use zero2ai_proto::{
    Digest, calls as c,
    sample::{Sample, ShownSample},
};

use super::{Vectors, bytes, ledger};

pub(crate) fn add(v: &mut Vectors) {
    v.add("calls/show_sample", &c::ShowSampleCall { leaf: ledger::disputed() });
    let row = Sample::Row { features: bytes(0x31, 8), label: 3 };
    v.add("sample/row", &row);
    v.add("sample/picture", &Sample::Picture { file: bytes(0x32, 5), label: 1 });
    let span = Some((0.5f64.to_bits(), 1.25f64.to_bits()));
    v.add("sample/sound", &Sample::Sound { file: bytes(0x33, 5), span, label: 0 });
    v.add("sample/prompt", &Sample::Prompt { prompt: "2 + 2 =".into(), expected: vec!["4".into(), "four".into()] });
    v.add("sample/shown", &ShownSample { salt: Digest([0x34; 32]), sample: row });
}
