//! Cards, bank accounts and national numbers: how they are written and which checksum they carry.

use super::{Hit, Kind};

/// A run of digits with no letter, digit or decimal point beside it.
#[derive(Clone, Copy)]
struct Group {
    start: usize,
    end: usize,
}

/// One way of writing a number: the lengths of its groups, and what may stand between them.
struct Form {
    kind: Kind,
    groups: &'static [usize],
    between: &'static [u8],
    passes: fn(&[u8]) -> bool,
}

const fn form(kind: Kind, groups: &'static [usize], between: &'static [u8], passes: fn(&[u8]) -> bool) -> Form {
    Form { kind, groups, between, passes }
}

/// Cards of 12 to 19 digits without marks are found by [`is_card`] apart from this table.
const FORMS: &[Form] = &[
    form(Kind::Card, &[4, 4, 4, 4], b" -", is_card),
    form(Kind::Card, &[4, 6, 5], b" -", is_card),
    form(Kind::Card, &[4, 6, 4], b" -", is_card),
    form(Kind::Nhs, &[10], b"", is_nhs),
    form(Kind::Nhs, &[3, 3, 4], b" -", is_nhs),
    form(Kind::Aadhaar, &[12], b"", is_aadhaar),
    form(Kind::Aadhaar, &[4, 4, 4], b" -:", is_aadhaar),
    form(Kind::Pesel, &[11], b"", is_pesel),
    form(Kind::Tfn, &[9], b"", is_tfn),
    form(Kind::Tfn, &[3, 3, 3], b" ", is_tfn),
    form(Kind::Ssn, &[3, 2, 4], b"-", is_ssn),
];

/// Everything of the form of one of these kinds.
#[must_use]
pub fn scan(text: &str) -> Vec<Hit> {
    let bytes = text.as_bytes();
    let groups = groups(bytes);
    let mut hits = Vec::new();
    for first in 0..groups.len() {
        for form in FORMS {
            if let Some(end) = written(bytes, &groups[first..], form) {
                let digits = digits(&bytes[groups[first].start..end]);
                if form.kind != Kind::Ssn || is_ssn(&digits) {
                    hits.push(Hit { start: groups[first].start, end, kind: form.kind, passes: (form.passes)(&digits) });
                }
            }
        }
        let Group { start, end } = groups[first];
        let digits = digits(&bytes[start..end]);
        if (12..=19).contains(&digits.len()) && has_card_prefix(&digits) && stands_alone(bytes, start, end) {
            hits.push(Hit { start, end, kind: Kind::Card, passes: is_card(&digits) });
        }
        hits.extend(nif(bytes, groups[first]));
    }
    hits.extend(ibans(bytes));
    hits
}

fn groups(bytes: &[u8]) -> Vec<Group> {
    let mut groups = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        if !bytes[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        let end = at + bytes[at..].iter().take_while(|b| b.is_ascii_digit()).count();
        let letter = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_alphabetic() || *b == b'_' || *b >= 0x80);
        if !letter(at.checked_sub(1).and_then(|i| bytes.get(i))) {
            groups.push(Group { start: at, end });
        }
        at = end;
    }
    groups
}

/// Not within a longer number, a decimal or a word.
fn stands_alone(bytes: &[u8], start: usize, end: usize) -> bool {
    let at = |i: Option<usize>| i.and_then(|i| bytes.get(i)).copied().unwrap_or(b' ');
    let (before, after, beyond) = (at(start.checked_sub(1)), at(Some(end)), at(Some(end + 1)));
    let joins = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b >= 0x80;
    let decimal = before == b'.' || (after == b'.' && beyond.is_ascii_digit());
    !joins(before) && !joins(after) && !decimal
}

/// Where a number of this form ends, if the groups begin with one: the right lengths with one and the same mark between.
fn written(bytes: &[u8], groups: &[Group], form: &Form) -> Option<usize> {
    let taken = groups.get(..form.groups.len())?;
    let lengths = taken.iter().zip(form.groups).all(|(g, n)| g.end - g.start == *n);
    let mark = bytes.get(taken.first()?.end).copied();
    let marks = taken.windows(2).all(|w| {
        w[1].start == w[0].end + 1
            && bytes.get(w[0].end).copied() == mark
            && mark.is_some_and(|m| form.between.contains(&m))
    });
    let (start, end) = (taken.first()?.start, taken.last()?.end);
    // A chain of the same mark goes on (an IPv6 address, say): these groups are a part of something longer.
    let beside = |mark_at: Option<usize>, next: Option<usize>| {
        let at = |i: Option<usize>| i.and_then(|i| bytes.get(i)).copied();
        at(mark_at) == mark && mark != Some(b' ') && at(next).is_some_and(|b| b.is_ascii_alphanumeric())
    };
    let longer =
        taken.len() > 1 && (beside(start.checked_sub(1), start.checked_sub(2)) || beside(Some(end), Some(end + 1)));
    (lengths && marks && !longer && stands_alone(bytes, start, end)).then_some(end)
}

fn digits(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().filter(|b| b.is_ascii_digit()).map(|b| b - b'0').collect()
}

/// Prefixes that issuers have: 1 (airlines, 15 digits), 2221–2720, 3 to 6.
fn has_card_prefix(digits: &[u8]) -> bool {
    let four = digits.iter().take(4).fold(0u32, |n, d| n * 10 + u32::from(*d));
    match digits.first() {
        Some(1) => digits.len() == 15,
        Some(2) => (2_221..=2_720).contains(&four) && digits.len() == 16,
        Some(3..=6) => true,
        _ => false,
    }
}

/// Luhn's checksum (US patent 2,950,048) and a prefix.
fn is_card(digits: &[u8]) -> bool {
    let doubled = |d: u8| if d > 4 { 2 * d - 9 } else { 2 * d };
    let sum: u32 =
        (digits.iter().rev().enumerate()).map(|(i, d)| u32::from(if i % 2 == 1 { doubled(*d) } else { *d })).sum();
    has_card_prefix(digits) && sum.is_multiple_of(10)
}

fn weighted(digits: &[u8], weights: &[u32]) -> u32 {
    digits.iter().zip(weights).map(|(d, w)| u32::from(*d) * w).sum()
}

/// Weights 10 to 1, modulo 11 (NHS data dictionary).
fn is_nhs(digits: &[u8]) -> bool {
    digits.len() == 10 && weighted(digits, &[10, 9, 8, 7, 6, 5, 4, 3, 2, 1]).is_multiple_of(11) && varied(digits)
}

/// Verhoeff 1969; the first digit is 2 to 9, and no palindrome is given out.
fn is_aadhaar(digits: &[u8]) -> bool {
    const PRODUCT: [[u8; 10]; 10] = [
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
        [1, 2, 3, 4, 0, 6, 7, 8, 9, 5],
        [2, 3, 4, 0, 1, 7, 8, 9, 5, 6],
        [3, 4, 0, 1, 2, 8, 9, 5, 6, 7],
        [4, 0, 1, 2, 3, 9, 5, 6, 7, 8],
        [5, 9, 8, 7, 6, 0, 4, 3, 2, 1],
        [6, 5, 9, 8, 7, 1, 0, 4, 3, 2],
        [7, 6, 5, 9, 8, 2, 1, 0, 4, 3],
        [8, 7, 6, 5, 9, 3, 2, 1, 0, 4],
        [9, 8, 7, 6, 5, 4, 3, 2, 1, 0],
    ];
    const STEP: [u8; 10] = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4];
    let mut check = 0u8;
    for (i, d) in digits.iter().rev().enumerate() {
        let permuted = (0..i % 8).fold(*d, |d, _| STEP[usize::from(d)]);
        check = PRODUCT[usize::from(check)][usize::from(permuted)];
    }
    let palindrome = digits.iter().eq(digits.iter().rev());
    digits.len() == 12 && digits[0] >= 2 && check == 0 && !palindrome
}

/// Weights 1 3 7 9 modulo 10, and a month and day that exist; the century is added to the month.
fn is_pesel(digits: &[u8]) -> bool {
    if digits.len() != 11 {
        return false;
    }
    let (month, day) = ((digits[2] * 10 + digits[3]) % 20, digits[4] * 10 + digits[5]);
    let sum = weighted(digits, &[1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1]);
    sum.is_multiple_of(10) && (1..=12).contains(&month) && (1..=31).contains(&day)
}

/// Weights 1 4 3 7 5 8 6 9 10, modulo 11 (Australian Taxation Office).
fn is_tfn(digits: &[u8]) -> bool {
    digits.len() == 9 && weighted(digits, &[1, 4, 3, 7, 5, 8, 6, 9, 10]).is_multiple_of(11) && varied(digits)
}

/// Area, group and serial that are given out (20 CFR 422.103): there is no checksum.
fn is_ssn(digits: &[u8]) -> bool {
    let number = |part: &[u8]| part.iter().fold(0u32, |n, d| n * 10 + u32::from(*d));
    digits.len() == 9
        && !matches!(number(&digits[..3]), 0 | 666 | 900..)
        && number(&digits[3..5]) != 0
        && number(&digits[5..]) != 0
}

/// A column of equal digits is filler.
fn varied(digits: &[u8]) -> bool {
    digits.iter().any(|d| Some(d) != digits.first())
}

/// Seven or eight digits, perhaps a dash, and the letter that their remainder by 23 names.
fn nif(bytes: &[u8], group: Group) -> Option<Hit> {
    const LETTERS: &[u8; 23] = b"TRWAGMYFPDXBNJZSQVHLCKE";
    if !(7..=8).contains(&(group.end - group.start)) {
        return None;
    }
    let dash = usize::from(bytes.get(group.end) == Some(&b'-'));
    let letter = bytes.get(group.end + dash).filter(|b| b.is_ascii_uppercase())?;
    let end = group.end + dash + 1;
    let number = digits(&bytes[group.start..group.end]).iter().fold(0usize, |n, d| n * 10 + usize::from(*d));
    let passes = LETTERS[number % 23] == *letter;
    stands_alone(bytes, group.start, end).then_some(Hit { start: group.start, end, kind: Kind::Nif, passes })
}

/// Lengths by country, from the IBAN registry.
const IBAN: &[(usize, &str)] = &[
    (15, "NO"),
    (16, "BE"),
    (18, "DK FO FI GL NL SD"),
    (19, "MK SI"),
    (20, "AT BA EE KZ XK LT LU"),
    (21, "HR LV LI CH"),
    (22, "BH BG CR GE DE IE ME RS GB VA"),
    (23, "TL GI IL AE IQ OM SO"),
    (24, "AD CZ MD PK RO SA SK ES SE TN VG"),
    (25, "PT LY ST"),
    (26, "IS TR"),
    (27, "FR GR IT MR MC SM BI DJ"),
    (28, "AL AZ BY CY DO GT HU LB PL NI"),
    (29, "BR PS QA UA EG"),
    (30, "JO KW MU MN YE"),
    (31, "MT SC"),
    (32, "LC"),
    (33, "RU"),
];

fn ibans(bytes: &[u8]) -> Vec<Hit> {
    let mut hits = Vec::new();
    for start in 0..bytes.len() {
        let head = bytes[start..].first_chunk::<4>();
        let is_head =
            head.is_some_and(|h| h[..2].iter().all(u8::is_ascii_uppercase) && h[2..].iter().all(u8::is_ascii_digit));
        if !is_head {
            continue;
        }
        let country = std::str::from_utf8(&bytes[start..start + 2]).unwrap_or_default();
        let Some((length, _)) = IBAN.iter().find(|(_, all)| all.split(' ').any(|c| c == country)) else { continue };
        if let Some((end, letters)) = iban_letters(bytes, start, *length)
            && stands_alone(bytes, start, end)
        {
            hits.push(Hit { start, end, kind: Kind::Iban, passes: is_iban(&letters) });
        }
    }
    hits
}

/// `length` capitals and digits from `start`, without blanks or with one after every four.
fn iban_letters(bytes: &[u8], start: usize, length: usize) -> Option<(usize, Vec<u8>)> {
    let spaced = bytes.get(start + 4) == Some(&b' ');
    let mut letters = Vec::with_capacity(length);
    let mut at = start;
    while letters.len() < length {
        if spaced && !letters.is_empty() && letters.len() % 4 == 0 {
            bytes.get(at).filter(|b| **b == b' ')?;
            at += 1;
        }
        letters.push(*bytes.get(at).filter(|b| b.is_ascii_uppercase() || b.is_ascii_digit())?);
        at += 1;
    }
    Some((at, letters))
}

/// ISO 7064: with the first four behind the rest and letters as 10 to 35, the number leaves 1 modulo 97.
fn is_iban(letters: &[u8]) -> bool {
    let moved = letters[4..].iter().chain(&letters[..4]);
    let rest = moved.fold(0u32, |rest, b| match b {
        b'0'..=b'9' => (rest * 10 + u32::from(b - b'0')) % 97,
        _ => (rest * 100 + u32::from(b - b'A') + 10) % 97,
    });
    rest == 1
}
