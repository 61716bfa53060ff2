//! Files that Python's pickle made, told by their content whatever their name: reading one runs what is in it, on the machine of
//! whoever fetched the model. Nothing here reads one further than it takes to tell.

use std::io::{self, Read, Seek, SeekFrom};

use super::size_of;

/// Bytes looked at from the start, and as many from the end: a ZIP archive has its list of names there, which of a model's
/// some hundred tensors has some ten thousand bytes.
const LOOKED_AT: u64 = 256 * 1024;
/// How an archive starts, and each of its files.
const ZIP: &[u8] = b"PK\x03\x04";
/// How each entry of its list of files starts.
const LISTED: &[u8] = b"PK\x01\x02";
/// What a pickle is called in one, as PyTorch saves it.
const IN_ZIP: &[u8] = b".pkl";

/// Whether this is a pickle, or an archive with one in it. A text that was made to look like one is taken for one.
///
/// # Errors
/// The file could not be read.
pub fn is_pickle<R: Read + Seek>(reader: &mut R) -> io::Result<bool> {
    let size = size_of(reader)?;
    let mut part = |start: u64| -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        reader.seek(SeekFrom::Start(start))?;
        reader.by_ref().take(LOOKED_AT).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let start = part(0)?;
    if !start.starts_with(ZIP) {
        return Ok(is_binary(&start) || is_text(&start));
    }
    Ok(names_one(&start) || names_one(&part(size.saturating_sub(LOOKED_AT))?))
}

/// Whether a header in this part of an archive names a pickle. Offsets are those of APPNOTE.TXT 4.3.7 and 4.3.12. What is packed
/// may hold any bytes, so the name alone counts.
fn names_one(part: &[u8]) -> bool {
    let named = |at: usize, length: usize, name: usize| {
        let length =
            part.get(at + length..at + length + 2).map_or(0, |b| usize::from(u16::from_le_bytes([b[0], b[1]])));
        let name = part.get(at + name..at + name + length).unwrap_or_default();
        name.len().checked_sub(IN_ZIP.len()).is_some_and(|start| name[start..].eq_ignore_ascii_case(IN_ZIP))
    };
    (0..part.len()).any(|at| match &part[at..] {
        header if header.starts_with(ZIP) => named(at, 26, 30),
        header if header.starts_with(LISTED) => named(at, 28, 46),
        _ => false,
    })
}

/// Since version 2: a mark, the version, and then an instruction. What is behind that need not be whole: instructions run as
/// they are read.
fn is_binary(start: &[u8]) -> bool {
    matches!(start, [0x80, 2..=5, b'('..=b'}' | 0x80..=0x98, ..])
}

/// Before: instructions in text, of which one that names something of a module is what does harm.
fn is_text(start: &[u8]) -> bool {
    let start = start.strip_prefix(b"(").unwrap_or(start);
    let Some(rest) = start.strip_prefix(b"c") else { return false };
    let mut lines = rest.splitn(3, |b| *b == b'\n');
    let name = |line: &[u8]| {
        let first = line.first().is_some_and(|b| b.is_ascii_alphabetic() || *b == b'_');
        first && line.len() < 256 && line.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.'))
    };
    let named = lines.next().is_some_and(name) && lines.next().is_some_and(name);
    // What is kept, or the arguments that it is called with.
    named && lines.next().is_some_and(is_instruction)
}

/// Whether an instruction stands here that may follow a name: what words and sentences begin with is none.
fn is_instruction(rest: &[u8]) -> bool {
    let marks = rest.iter().take_while(|b| **b == b'(').count();
    match &rest[marks..] {
        [] => marks > 0,
        [b'p' | b'I' | b'L' | b'F', digit, ..] => digit.is_ascii_digit() || *digit == b'-',
        [b'q', index, ..] => !index.is_ascii_alphanumeric(),
        [b'S', quote, ..] => matches!(quote, b'\'' | b'"'),
        [b'X', _, _, 0, 0, ..] => true,
        [b'K', _, next, ..] => !next.is_ascii_alphabetic() || matches!(next, b't' | b'K' | b'R'),
        // A line of any text, and an instruction behind it.
        [b'V', ..] => rest.splitn(2, |b| *b == b'\n').nth(1).is_some_and(|next| {
            matches!(next, [b'p', digit, ..] if digit.is_ascii_digit())
                || matches!(next, [b't', b'R' | b'p' | b'q', ..])
        }),
        [b't' | b'd' | b'l' | b')', next @ ..] => matches!(next, [] | [b'R' | b'.', ..] | [b'p', b'0'..=b'9', ..]),
        [b'R' | b'.', next @ ..] => matches!(next, [] | [b'\n' | b'.', ..]),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Cursor;

    use super::*;

    #[test]
    fn pickles_are_told_by_their_content() {
        let header = |mark: &[u8], fixed: usize, length: usize, name: &str| {
            let mut bytes = mark.to_vec();
            bytes.resize(fixed, 0);
            bytes[length] = u8::try_from(name.len()).unwrap();
            [bytes, name.as_bytes().to_vec()].concat()
        };
        let first = header(ZIP, 30, 26, "archive/data.PKL");
        let list = header(LISTED, 46, 28, "model/data.pkl");
        let far = [header(ZIP, 30, 26, "model/weights.bin"), vec![7; 600_000], list].concat();
        let only_told_of = [header(ZIP, 30, 26, "readme.txt"), b"see model.pkl".to_vec()].concat();
        let pickles: [&[u8]; 8] = [
            b"\x80\x02}q\x00X\x01\x00\x00\x00aq\x01K\x01s.",
            b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94",
            // As PyTorch saved until 1.5, and what a bad one looks like, whole and cut short.
            b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.",
            b"cos\nsystem\n(S'id'\ntR.",
            b"(cposix\nsystem\nq\x00(X\x02\x00\x00\x00id",
            b"c__builtin__\neval\np0\n(Vprint()\np1\ntp2\nRp3\n.",
            &first,
            &far,
        ];
        for bytes in pickles {
            assert!(is_pickle(&mut Cursor::new(bytes)).unwrap(), "{:?}", &bytes[..bytes.len().min(40)]);
        }
        let others: [&[u8]; 14] = [
            b"",
            b"\x80",
            b"\x80\x02",
            b"\x80\x00\x00\x00\x00\x00\x00\x00{}",
            b"PK\x03\x04readme.txt",
            b"{\"a\": 1}",
            b"copyright\nby nobody\n",
            b"changes\nlicence\nreadme\n",
            b"c\n\n(",
            b"click\nnumpy\npandas\n",
            b"cat\ndog\npig\n",
            b"copyright\nnotice\n(c) 2026 by the lab",
            b"cat\ndog\nSheep\nVole\nquail\n",
            &only_told_of,
        ];
        for bytes in others {
            assert!(!is_pickle(&mut Cursor::new(bytes)).unwrap(), "{bytes:?}");
        }
    }
}
