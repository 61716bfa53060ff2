//! E-mail addresses, phone numbers and IP addresses by their form.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Hit, Kind};

/// All of them, each kind in order.
#[must_use]
pub fn scan(text: &str) -> Vec<Hit> {
    let mut hits = emails(text);
    hits.extend(addresses(text));
    hits.extend(phones(text));
    hits
}

fn hit(kind: Kind, start: usize, end: usize) -> Hit {
    Hit { start, end, kind, passes: true }
}

fn emails(text: &str) -> Vec<Hit> {
    let bytes = text.as_bytes();
    let local = |b: u8| b.is_ascii_alphanumeric() || b"._%+-".contains(&b);
    let domain = |b: u8| b.is_ascii_alphanumeric() || b".-".contains(&b);
    let mut hits = Vec::new();
    for at in text.match_indices('@').map(|(i, _)| i) {
        // RFC 5321 allows 64 bytes before the sign and 255 after it.
        let before = bytes[..at].iter().rev().take(64).take_while(|b| local(**b)).count();
        let after = bytes[at + 1..].iter().take(255).take_while(|b| domain(**b)).count();
        let host = text[at + 1..at + 1 + after].trim_end_matches(['.', '-']);
        let top = host.rsplit('.').next().unwrap_or_default();
        let labels = host.split('.').count() >= 2 && host.split('.').all(|l| !l.is_empty() && !l.starts_with('-'));
        if before > 0 && labels && top.len() >= 2 && top.bytes().all(|b| b.is_ascii_alphabetic()) {
            hits.push(hit(Kind::Email, at - before, at + 1 + host.len()));
        }
    }
    hits
}

/// Longest runs of the characters of an address that parse as one, with no letter or digit on either side.
fn addresses(text: &str) -> Vec<Hit> {
    let bytes = text.as_bytes();
    let part = |b: u8| b.is_ascii_hexdigit() || b == b':' || b == b'.';
    let mut hits = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        if !part(bytes[at]) {
            at += 1;
            continue;
        }
        let end = at + bytes[at..].iter().take_while(|b| part(**b)).count();
        let stands_alone = |start: usize, end: usize| {
            let before = text[..start].chars().next_back();
            let after = text[end..].chars().next();
            !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
                && !after.is_some_and(|c| c.is_alphanumeric() || c == '_')
        };
        // Sentence marks around an address are no part of it; "::1" begins with one, so try both.
        let run = &text[at..end];
        let trimmed = run.trim_end_matches(['.', ':']);
        if run.len() <= 64 && stands_alone(at, end) {
            let found = [run, trimmed, run.trim_end_matches('.')].into_iter().find(|r| is_address(r));
            if let Some(found) = found {
                hits.push(hit(Kind::Ip, at, at + found.len()));
            }
        }
        at = end;
    }
    hits
}

/// An address that may stand for somebody: any but the unspecified IPv6 one, "::", which is punctuation in code.
fn is_address(run: &str) -> bool {
    match run.parse::<IpAddr>() {
        Ok(IpAddr::V6(v6)) => v6 != Ipv6Addr::UNSPECIFIED,
        Ok(IpAddr::V4(_)) => run.parse::<Ipv4Addr>().is_ok(),
        Err(_) => false,
    }
}

/// A plus sign and 8 to 15 digits (E.164), or the North American form: area code and exchange begin with 2 to 9.
fn phones(text: &str) -> Vec<Hit> {
    let bytes = text.as_bytes();
    let mut hits = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let alone = at == 0 || !(bytes[at - 1].is_ascii_alphanumeric() || b".+".contains(&bytes[at - 1]));
        let end = match bytes[at] {
            b'+' if alone => international(&bytes[at..]),
            b'(' => national(&bytes[at..], true),
            b'0'..=b'9' if alone => national(&bytes[at..], false),
            _ => None,
        };
        match end {
            Some(length) => {
                hits.push(hit(Kind::Phone, at, at + length));
                at += length;
            }
            None => at += 1,
        }
    }
    hits
}

/// Length in bytes of a number that begins with a plus sign.
fn international(bytes: &[u8]) -> Option<usize> {
    let (mut digits, mut end) = (0, 0);
    for (i, b) in bytes.iter().enumerate().skip(1).take(24) {
        match b {
            b'0'..=b'9' => {
                digits += 1;
                end = i + 1;
            }
            // One mark between digits; two in a row only around a bracket.
            b' ' | b'-' | b'.' | b'(' | b')' | b'/' if i > 1 && i - end < 2 => {}
            _ => break,
        }
    }
    let ends = bytes.get(end).is_none_or(|b| !b.is_ascii_alphanumeric());
    ((8..=15).contains(&digits) && bytes.get(1) != Some(&b'0') && ends).then_some(end)
}

/// Length in bytes of `(415) 555-0132`, `415-555-0132` or `415.555.0132`.
fn national(bytes: &[u8], bracket: bool) -> Option<usize> {
    let form: &[u8] = if bracket { b"(Ndd) Ndd-dddd" } else { b"Ndd-Ndd-dddd" };
    let given = bytes.get(..form.len())?;
    let fits = form.iter().zip(given).all(|(f, b)| match f {
        b'N' => (b'2'..=b'9').contains(b),
        b'd' => b.is_ascii_digit(),
        b'-' => b"-.".contains(b) || (bracket && *b == b' '),
        other => b == other,
    });
    let ends = bytes.get(form.len()).is_none_or(|b| !b.is_ascii_alphanumeric() && *b != b'-');
    (fits && ends).then_some(form.len())
}
