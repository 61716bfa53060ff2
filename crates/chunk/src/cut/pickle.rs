//! Files that Python's pickle made, told by their content whatever their name: reading one runs what is in it, on the machine of
//! whoever fetched the model. Nothing here reads one further than it takes to tell.

use std::io::{self, Read, Seek, SeekFrom};

use super::size_of;

/// Bytes looked at from the start, and as many from the end: a ZIP archive has its list of names there, which of a model's
/// some hundred tensors has some ten thousand bytes.
const LOOKED_AT: u64 = 256 * 1024;
/// How an archive starts.
const ZIP: &[u8] = b"PK\x03\x04";
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
    let names = |bytes: &[u8]| bytes.windows(IN_ZIP.len()).any(|w| w.eq_ignore_ascii_case(IN_ZIP));
    Ok(names(&start) || names(&part(size.saturating_sub(LOOKED_AT))?))
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
    named
        && lines.next().is_some_and(|rest| matches!(rest.first(), Some(b'(' | b'p' | b'q' | b')' | b'S' | b'V' | b'.')))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Cursor;

    use super::*;

    #[test]
    fn pickles_are_told_by_their_content() {
        let far = [b"PK\x03\x04model/weights.bin".as_slice(), &vec![7; 600_000], b"PK\x01\x02model/data.pkl"].concat();
        let pickles: [&[u8]; 8] = [
            b"\x80\x02}q\x00X\x01\x00\x00\x00aq\x01K\x01s.",
            b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94",
            // As PyTorch saved until 1.5, and what a bad one looks like, whole and cut short.
            b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.",
            b"cos\nsystem\n(S'id'\ntR.",
            b"(cposix\nsystem\nq\x00(X\x02\x00\x00\x00id",
            b"c__builtin__\neval\np0\n(Vprint()\np1\ntp2\nRp3\n.",
            b"PK\x03\x04\0\0\0\0archive/data.PKL",
            &far,
        ];
        for bytes in pickles {
            assert!(is_pickle(&mut Cursor::new(bytes)).unwrap(), "{:?}", &bytes[..bytes.len().min(40)]);
        }
        let others: [&[u8]; 9] = [
            b"",
            b"\x80",
            b"\x80\x02",
            b"\x80\x00\x00\x00\x00\x00\x00\x00{}",
            b"PK\x03\x04readme.txt",
            b"{\"a\": 1}",
            b"copyright\nby nobody\n",
            b"changes\nlicence\nreadme\n",
            b"c\n\n(",
        ];
        for bytes in others {
            assert!(!is_pickle(&mut Cursor::new(bytes)).unwrap(), "{bytes:?}");
        }
    }
}
