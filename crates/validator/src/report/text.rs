//! Text for a page: escaped, and numbers as people read them.

/// Escapes what means something in HTML and XML. Characters that XML does not allow, and those that turn the direction of
/// writing around (with which a name could look like another), become the replacement character.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\t' | '\n' => out.push(c),
            '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{FFFE}' | '\u{FFFF}' => out.push('\u{FFFD}'),
            c if c.is_control() => out.push('\u{FFFD}'),
            c => out.push(c),
        }
    }
    out
}

/// A word as the first of a line.
#[must_use]
pub fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// A figure with three decimals, or three digits where it is small or large; a dash for what is no number.
#[must_use]
pub fn number(value: f64) -> String {
    let size = value.abs();
    match () {
        () if !value.is_finite() => "–".to_owned(),
        () if value == value.trunc() && size < 1e7 => format!("{value:.0}"),
        () if !(1e-3..1e6).contains(&size) => format!("{value:.2e}"),
        () if size >= 100.0 => format!("{value:.1}"),
        () => format!("{value:.3}"),
    }
}

/// A number on an axis: at most two decimals, none that is 0.
#[must_use]
pub fn short(value: f64) -> String {
    let text = if value.abs() >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") };
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A share as percent with one decimal.
#[must_use]
pub fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// Microseconds in the unit that fits.
#[must_use]
pub fn micros(micros: u64) -> String {
    match micros {
        0..=999 => format!("{micros} µs"),
        1_000..=999_999 => format!("{:.2} ms", micros as f64 / 1e3),
        _ => format!("{:.2} s", micros as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_name_becomes_a_tag() {
        assert_eq!(
            escaped("<b a='1' & \"2\">\u{0}\u{202E}x"),
            "&lt;b a=&#39;1&#39; &amp; &quot;2&quot;&gt;\u{FFFD}\u{FFFD}x"
        );
        let numbers = [0.5, 3.0, 123.42, 1e-4, f64::NAN].map(number);
        assert_eq!(numbers, ["0.500", "3", "123.4", "1.00e-4", "–"]);
        assert_eq!([0.0, 0.5, 1.25, 250.4].map(short), ["0", "0.5", "1.25", "250"]);
        assert_eq!([micros(5), micros(1_500), micros(2_000_000)], ["5 µs", "1.50 ms", "2.00 s"]);
    }
}
