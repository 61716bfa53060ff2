//! What goes to standard output: tables for people, one JSON value for programs. Nothing else prints there.

use serde_json::Value;
use zero2ai_proto::state::Rights;

/// Where results go, and in which form.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// JSON instead of tables.
    pub(crate) json: bool,
}

impl Output {
    /// Prints a result: the JSON value, or what `human` makes of it.
    pub(crate) fn result(self, json: &Value, human: impl FnOnce() -> String) {
        if self.json {
            print_line(&json.to_string());
        } else {
            print_line(human().trim_end());
        }
    }
}

/// Prints a line; a closed pipe (`zero2ai status | head -1`) is no error.
pub(crate) fn print_line(line: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// Prints text without a line's end, at once: tokens of a stream.
pub(crate) fn print_piece(piece: &str) {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(piece.as_bytes()).and_then(|()| out.flush());
}

/// A table of left-aligned columns; columns whose heading starts with `>` are right-aligned.
#[derive(Debug)]
pub(crate) struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with these headings.
    pub(crate) fn new(head: &[&str]) -> Self {
        Self { head: head.iter().map(|h| (*h).to_owned()).collect(), rows: Vec::new() }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The table as lines, each behind `indent` spaces.
    pub(crate) fn render(&self, indent: usize) -> String {
        let names: Vec<String> = self.head.iter().map(|h| h.trim_start_matches('>').to_owned()).collect();
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|r| r.get(column)).chain(names.get(column));
            cells.map(|c| c.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..names.len()).map(width).collect();
        let mut text = String::new();
        for row in std::iter::once(&names).chain(&self.rows) {
            let mut line = " ".repeat(indent);
            for ((cell, width), head) in row.iter().zip(&widths).zip(&self.head) {
                let pad = " ".repeat(width.saturating_sub(cell.chars().count()));
                line += &if head.starts_with('>') { format!("{pad}{cell}  ") } else { format!("{cell}{pad}  ") };
            }
            text += line.trim_end();
            text.push('\n');
        }
        text
    }
}

/// `name  value` lines with the values in one column.
pub(crate) fn facts(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|r| r.0.len()).max().unwrap_or(0);
    rows.iter().map(|(name, value)| format!("{name:width$}  {value}\n")).collect()
}

/// Bytes for people, in decimal units.
pub(crate) fn bytes(n: u64) -> String {
    #[allow(clippy::cast_precision_loss)] // three digits are shown
    let value = n as f64;
    match n {
        0..1_000 => format!("{n} B"),
        1_000..1_000_000 => format!("{:.1} kB", value / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", value / 1e6),
        _ => format!("{:.2} GB", value / 1e9),
    }
}

/// Millionths as a fraction with four digits.
pub(crate) fn ppm(n: u32) -> String {
    format!("{:.4}", f64::from(n) / 1e6)
}

/// A duration in milliseconds, as a number.
pub(crate) fn millis(d: std::time::Duration) -> f64 {
    (d.as_secs_f64() * 1e6).round() / 1e3
}

/// A time, milliseconds since 1970, as `2026-08-21 09:30:00` UTC (the civil calendar from days, after Howard Hinnant).
pub(crate) fn utc(ms: u64) -> String {
    let secs = ms / 1000;
    let z = (secs / 86_400).min(10_000_000) + 719_468;
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + u64::from(month <= 2);
    let s = secs % 86_400;
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
}

/// An age in milliseconds, for people.
pub(crate) fn age(ms: u64) -> String {
    match ms {
        0..10_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        10_000..120_000 => format!("{} s", ms / 1000),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        _ => format!("{} h", ms / 3_600_000),
    }
}

/// Rights as a list that the command line reads again: `member` for all that it stands for, `none` if there are none.
pub(crate) fn rights(r: Rights) -> String {
    let member = r.has(Rights::MEMBER);
    let rest = if member { Rights(r.0 & !Rights::MEMBER.0) } else { r };
    let names: Vec<&str> = member.then_some("member").into_iter().chain(rest.names()).collect();
    if names.is_empty() { "none".into() } else { names.join(",") }
}

/// `word`, with an `s` unless there is one of it.
pub(crate) fn plural(n: u64, word: &str) -> String {
    format!("{n} {word}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_line_up() {
        let mut table = Table::new(&["node", ">ms"]);
        table.row(["a".into(), "1.5".into()]);
        table.row(["long".into(), "10".into()]);
        assert_eq!(table.render(1), " node   ms\n a     1.5\n long   10\n");
    }

    #[test]
    fn dates_are_right() {
        assert_eq!(utc(0), "1970-01-01 00:00:00");
        assert_eq!(utc(951_782_399_000), "2000-02-28 23:59:59");
        assert_eq!(utc(951_868_800_123), "2000-03-01 00:00:00");
        assert_eq!(utc(1_787_304_600_000), "2026-08-21 09:30:00");
        assert!(!utc(u64::MAX).is_empty());
    }

    #[test]
    fn rights_are_read_as_they_are_written() {
        for set in 1..128 {
            assert_eq!(Rights::parse(&rights(Rights(set))), Some(Rights(set)));
        }
        assert_eq!(rights(Rights::MEMBER.with(Rights::ADMIN)), "member,admin");
    }

    #[test]
    fn sizes_read_well() {
        assert_eq!(
            (bytes(999), bytes(20_480), bytes(98_362_432)),
            ("999 B".into(), "20.5 kB".into(), "98.4 MB".into())
        );
        assert_eq!(ppm(956_789), "0.9568");
    }
}
