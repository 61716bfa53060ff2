//! From tokens' bytes to text that is certain: no half characters, nothing that may turn out to start a stop string.

use crate::error::EngineError;

/// Stop strings of one call.
const STOPS: usize = 16;
/// Bytes of one stop string.
const STOP_BYTES: usize = 256;

/// Text of one answer.
pub(super) struct Emitter {
    stops: Vec<String>,
    /// Bytes of a character that is not whole yet.
    partial: Vec<u8>,
    /// Whole characters that may yet belong to a stop string.
    held: String,
}

impl Emitter {
    pub(super) fn new(stops: &[String]) -> Result<Self, EngineError> {
        if stops.len() > STOPS || stops.iter().any(|s| s.is_empty() || s.len() > STOP_BYTES) {
            return Err(EngineError::input(format!(
                "at most {STOPS} stop strings of 1 to {STOP_BYTES} bytes each are taken"
            )));
        }
        Ok(Self { stops: stops.to_vec(), partial: Vec::new(), held: String::new() })
    }

    /// Takes a token's bytes; answers the text that became certain, and whether a stop string came up (its own text and
    /// what follows are not given).
    pub(super) fn push(&mut self, bytes: &[u8]) -> (String, bool) {
        self.partial.extend_from_slice(bytes);
        self.take_whole();
        let earliest = self.stops.iter().filter_map(|s| self.held.find(s.as_str())).min();
        if let Some(at) = earliest {
            self.held.truncate(at);
            return (std::mem::take(&mut self.held), true);
        }
        let keep = self.stops.iter().map(|s| overlap(&self.held, s)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len().saturating_sub(keep));
        (std::mem::replace(&mut self.held, rest), false)
    }

    /// What is left at the end; half a character becomes U+FFFD.
    pub(super) fn finish(&mut self) -> String {
        let mut text = std::mem::take(&mut self.held);
        text.push_str(&String::from_utf8_lossy(&std::mem::take(&mut self.partial)));
        text
    }

    /// Moves whole characters from `partial` to `held`; bytes that can never be one become U+FFFD.
    fn take_whole(&mut self) {
        let bytes = std::mem::take(&mut self.partial);
        let mut chunks = bytes.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            self.held.push_str(chunk.valid());
            let invalid = chunk.invalid();
            let may_grow =
                chunks.peek().is_none() && std::str::from_utf8(invalid).is_err_and(|e| e.error_len().is_none());
            if may_grow {
                self.partial = invalid.to_vec();
            } else if !invalid.is_empty() {
                self.held.push(char::REPLACEMENT_CHARACTER);
            }
        }
    }
}

/// Bytes at the end of `text` that `stop` starts with.
fn overlap(text: &str, stop: &str) -> usize {
    let starts = stop.char_indices().map(|(at, _)| at).filter(|at| *at > 0 && *at <= text.len());
    starts.filter(|at| stop.get(..*at).is_some_and(|start| text.ends_with(start))).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn emit(stops: &[&str], pieces: &[&[u8]]) -> (Vec<String>, bool) {
        let stops: Vec<String> = stops.iter().map(|s| (*s).to_owned()).collect();
        let mut emitter = Emitter::new(&stops).unwrap();
        let mut out = Vec::new();
        for piece in pieces {
            let (text, stopped) = emitter.push(piece);
            out.push(text);
            if stopped {
                return (out, true);
            }
        }
        out.push(emitter.finish());
        (out, false)
    }

    #[test]
    fn characters_and_stops_across_tokens() {
        assert_eq!(emit(&[], &[b"a\xe2\x82", b"\xac!"]).0, ["a", "€!", ""]);
        assert_eq!(emit(&[], &[b"\xff", b"\xe2\x82"]).0, ["\u{fffd}", "", "\u{fffd}"]);
        let stop: &[&str] = &["END"];
        assert_eq!(emit(stop, &[b"an E", b"N", b"D of"]), (vec!["an ".into(), String::new(), String::new()], true));
        assert_eq!(emit(stop, &[b"an E", b"nd"]), (vec!["an ".into(), "End".into(), String::new()], false));
        assert_eq!(emit(stop, &[b"EN"]), (vec![String::new(), "EN".into()], false));
        assert!(Emitter::new(&[String::new()]).is_err());
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_doubled(text in "[abé€]{0,40}", stop in "[ab€]{1,3}", cuts in prop::collection::vec(1_usize..5, 40)) {
            let mut pieces = Vec::new();
            let mut rest = text.as_bytes();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                pieces.push(piece);
                rest = after;
            }
            let (out, stopped) = emit(&[&stop], &pieces);
            let expected = text.find(&stop).map_or(text.as_str(), |at| &text[..at]);
            prop_assert_eq!(out.concat(), expected);
            prop_assert_eq!(stopped, text.contains(&stop));
        }
    }
}
