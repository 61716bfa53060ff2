//! Privacy: personal data that can be told by its form and, where there is one, by its checksum.
//!
//! **Names, postal addresses, dates of birth, faces and voices are not found**; a pass says so. Nothing that was found is
//! kept: a finding is a kind and a place.
//!
//! Digits alone are no proof: one random ten-digit number in eleven passes the checksum of a British health number. So for
//! kinds with a checksum both the numbers of the right form and those that pass are counted over the whole dataset, and a
//! kind counts as found only where more pass than chance explains (the lower end of Wilson's interval against the
//! checksum's rate). A single number of the right form that passes counts: better one false alarm than one card.
//!
//! | module | owns |
//! |---|---|
//! | [`numbers`] | cards, IBAN, national numbers: forms and checksums |
//! | [`contact`] | e-mail, phone and IP addresses: forms |
#![allow(clippy::float_arithmetic)]

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Check, Criterion, listed};
use crate::metrics::interval;

pub mod contact;
pub mod numbers;

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// An e-mail address.
    Email,
    /// A phone number with its country code, or in the North American form.
    Phone,
    /// An IPv4 or IPv6 address.
    Ip,
    /// A payment card: prefix, length, Luhn's checksum.
    Card,
    /// A bank account: country, length, remainder 1 modulo 97 (ISO 13616).
    Iban,
    /// A British NHS number (modulo 11).
    Nhs,
    /// An Indian Aadhaar number (Verhoeff).
    Aadhaar,
    /// A Polish PESEL (weights modulo 10, and a date).
    Pesel,
    /// An Australian tax file number (modulo 11).
    Tfn,
    /// A Spanish NIF (letter by modulo 23).
    Nif,
    /// A number of the US social security's form; it has no checksum.
    Ssn,
}

impl Kind {
    /// How often a random number of the form passes as this kind.
    #[must_use]
    pub fn chance(self) -> f64 {
        match self {
            Self::Email | Self::Phone | Self::Ip | Self::Ssn => 0.0,
            Self::Card | Self::Aadhaar | Self::Pesel => 0.1,
            Self::Iban => 1.0 / 97.0,
            Self::Nhs | Self::Tfn => 1.0 / 11.0,
            Self::Nif => 1.0 / 23.0,
        }
    }

    /// For people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Email => "e-mail addresses",
            Self::Phone => "phone numbers",
            Self::Ip => "IP addresses",
            Self::Card => "payment cards",
            Self::Iban => "bank accounts (IBAN)",
            Self::Nhs => "British NHS numbers",
            Self::Aadhaar => "Indian Aadhaar numbers",
            Self::Pesel => "Polish PESEL numbers",
            Self::Tfn => "Australian tax file numbers",
            Self::Nif => "Spanish NIF numbers",
            Self::Ssn => "numbers of the US social security's form",
        }
    }
}

/// Something of the form of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hit {
    /// First byte in the text.
    pub start: usize,
    /// First byte after it.
    pub end: usize,
    /// Of what form.
    pub kind: Kind,
    /// It passes the checksum (always true for kinds without one).
    pub passes: bool,
}

/// Bytes of one text that are searched.
pub const TEXT: usize = 1 << 20;

/// Everything in a text that has the form of a kind, overlapping or not: the same digits may have the form of two. Only
/// the first [`TEXT`] bytes are searched.
#[must_use]
pub fn candidates(text: &str) -> Vec<Hit> {
    let text = &text[..text.floor_char_boundary(TEXT)];
    let mut hits = contact::scan(text);
    hits.extend(numbers::scan(text));
    hits
}

/// What passes in a text, in order; where two overlap, the longer one.
#[must_use]
pub fn scan(text: &str) -> Vec<Hit> {
    let mut hits = candidates(text);
    hits.retain(|h| h.passes);
    hits.sort_by_key(|h| (std::cmp::Reverse(h.end - h.start), h.start, h.kind));
    let mut kept: BTreeMap<usize, Hit> = BTreeMap::new();
    for hit in hits {
        let before = kept.range(..hit.end).next_back();
        if before.is_none_or(|(_, k)| k.end <= hit.start) {
            kept.insert(hit.start, hit);
        }
    }
    kept.into_values().collect()
}

/// Judges texts (a record or a cell each). `allowed` is how many finds may be there at all, usually 0.
#[must_use]
pub fn check<'a>(texts: impl IntoIterator<Item = &'a str>, allowed: u64) -> Check {
    let mut tally: BTreeMap<Kind, (u64, u64)> = BTreeMap::new();
    let (mut places, mut records, mut cut): (Vec<(usize, Kind)>, usize, usize) = (Vec::new(), 0, 0);
    for (record, text) in texts.into_iter().enumerate() {
        records += 1;
        cut += usize::from(text.len() > TEXT);
        for hit in candidates(text) {
            let counts = tally.entry(hit.kind).or_default();
            counts.0 += 1;
            counts.1 += u64::from(hit.passes);
            if hit.passes && places.iter().filter(|p| p.1 == hit.kind).count() < 10 {
                places.push((record, hit.kind));
            }
        }
    }
    if records == 0 {
        let why = "there is no text in this dataset: pictures, sounds and plain numbers are not searched";
        return Check::not_assessable(Criterion::Privacy, why);
    }
    let mut check = Check::new(Criterion::Privacy);
    for (kind, (formed, passed)) in tally {
        let (low, _) = interval::wilson(passed, formed, interval::Z95);
        if passed > 0 && low > kind.chance() {
            check.at_most(kind.name(), passed as f64, allowed as f64);
            let at: Vec<usize> = places.iter().filter(|p| p.1 == kind).map(|p| p.0).collect();
            check.notes.push(format!(
                "{}: records {}, counted from 0; ten are named at most.",
                kind.name(),
                listed(&at)
            ));
        } else if formed > 0 {
            check.tell(format!("{}: right form, no more right checksums than chance", kind.name()), formed as f64);
        }
    }
    if cut > 0 {
        check.notes.push(format!("{cut} records are longer than 1 MiB; only the first 1 MiB of them was searched."));
    }
    check.notes.push(
        "Names, postal addresses, dates of birth and national phone numbers without a country code are not found."
            .to_owned(),
    );
    check
}
