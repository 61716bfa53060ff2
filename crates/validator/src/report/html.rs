//! The page of a report: the grade and why first, then what it rests on. Sections without content are left out, and what was
//! not measured is said.

use std::{collections::BTreeMap, fmt::Write as _};

use zero2ai_trust::{
    gate::{Check, Gate, Outcome, listed},
    load::{Percentile, Scenario},
    metrics::interval::Method,
    report::{Better, Curve, Decision, Domain, Report},
};

use super::{
    svg,
    text::{capital, escaped, micros, number, percent, short},
};

const STYLE: &str = include_str!("style.css");

/// The whole page. It is a function of the report alone: two equal reports give the same bytes.
#[must_use]
pub fn page(report: &Report) -> String {
    let title = escaped(&report.subject.model);
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\" xmlns=\"http://www.w3.org/1999/xhtml\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<title>Validation of {title}</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n"
    );
    for section in [
        head(report),
        metrics(report),
        classes(report),
        slices(report),
        calibration(report),
        robustness(report),
        load(report),
        tokens(report),
        dataset(report),
        checks("Checks of the model's answers", &report.model_checks),
        notes(report),
        foot(report),
    ] {
        out.push_str(&section);
    }
    out.push_str("</body>\n</html>\n");
    out
}

fn head(report: &Report) -> String {
    let s = &report.subject;
    let (class, word) = match report.grade.decision {
        Decision::Positive => ("positive", "Positive"),
        Decision::Negative => ("negative", "Negative"),
        Decision::Abstain => ("abstain", "Undecided"),
        Decision::Void => ("void", "Void: the dataset fails"),
        Decision::Ungraded => ("ungraded", "Not graded"),
    };
    let quality =
        report.grade.quality_ppm.map_or(String::new(), |q| format!(" · quality {}", number(f64::from(q) / 1e6)));
    let reasons: String = report.grade.reasons.iter().map(|r| format!("<li>{}</li>", escaped(r))).collect();
    format!(
        "<header>\n<h1>{}</h1>\n<p class=\"soft\">{}, {} samples of {}</p>\n\
         <div class=\"grade {class}\"><strong>{word}</strong>{quality}<ul>{reasons}</ul></div>\n</header>\n",
        escaped(&s.model),
        domain(s.domain),
        s.samples,
        escaped(&s.dataset)
    )
}

/// What a model is for, in words.
fn domain(of: Domain) -> &'static str {
    match of {
        Domain::Text => "Writes text",
        Domain::Embedding => "Embeds texts",
        Domain::Image => "Classifies pictures",
        Domain::Audio => "Classifies sounds",
        Domain::Tabular => "Classifies rows of numbers",
        Domain::Unknown => "Of no known domain",
    }
}

fn metrics(report: &Report) -> String {
    if report.metrics.is_empty() {
        return "<h2>Figures</h2>\n<p>None could be computed; see the notes.</p>\n".to_owned();
    }
    let mut rows = String::new();
    for m in &report.metrics {
        let e = &m.estimate;
        let how = match e.method {
            Method::Wilson => "Wilson".to_owned(),
            Method::Bootstrap(n) => format!("bootstrap, {n}"),
        };
        let within = e.low >= 0.0 && e.high <= 1.0;
        let _ = writeln!(
            rows,
            "<tr><th scope=\"row\">{}</th><td class=\"n\">{}</td><td class=\"n\">{} to {}</td><td>{}</td><td>{}</td><td>{how}</td></tr>",
            escaped(&m.name),
            number(e.value),
            number(e.low),
            number(e.high),
            if within { svg::interval(e) } else { String::new() },
            if m.better == Better::Higher { "more" } else { "less" },
        );
    }
    table(
        "Figures",
        "The grade counts the worse end of each 95 % interval. Between 0 and 1 none is narrower than Wilson's on as many samples.",
        &["figure", "#value", "#95 % interval", "", "better", "interval by"],
        &rows,
    )
}

fn classes(report: &Report) -> String {
    let row = |c: &zero2ai_trust::report::Class| {
        format!(
            "<tr><th scope=\"row\">{}</th><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>\n",
            escaped(&c.name),
            c.samples,
            number(c.prf.precision),
            number(c.prf.recall),
            number(c.prf.f1)
        )
    };
    let rows: String = report.classes.iter().map(row).collect();
    table("Classes", "", &["class", "#samples", "#precision", "#recall", "#F1"], &rows)
}

fn slices(report: &Report) -> String {
    let row = |s: &zero2ai_trust::report::Slice| {
        format!(
            "<tr><th scope=\"row\">{}</th><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{} to {}</td><td>{}</td></tr>\n",
            escaped(&s.name),
            s.accuracy.samples,
            percent(s.accuracy.value),
            percent(s.accuracy.low),
            percent(s.accuracy.high),
            svg::interval(&s.accuracy)
        )
    };
    let rows: String = report.slices.iter().map(row).collect();
    table("Parts of the data", "", &["part", "#samples", "#accuracy", "#95 % interval", ""], &rows)
}

fn calibration(report: &Report) -> String {
    let Some(c) = &report.calibration else { return String::new() };
    format!(
        "<h2>Calibration</h2>\n<figure>{}<figcaption>When the model says 0.8, is it right in 80 %? On the dashed line it is. \
         Bars show where its answers lie. Expected calibration error {}, over {} bins.</figcaption></figure>\n",
        svg::calibration(c),
        number(c.ece),
        c.bins.len()
    )
}

fn robustness(report: &Report) -> String {
    if report.robustness.is_empty() {
        return String::new();
    }
    let mut by_unit: BTreeMap<&str, Vec<&Curve>> = BTreeMap::new();
    for curve in &report.robustness {
        by_unit.entry(&curve.unit).or_default().push(curve);
    }
    let mut out =
        "<h2>Robustness</h2>\n<p>Black-box attacks bound robustness only <em>from above</em>: a better attack may \
                   leave less than these curves show, and what held is not proven to hold.</p>\n<div class=\"plots\">\n"
            .to_owned();
    for (unit, curves) in by_unit {
        // Six curves can be told apart; the rest is in the table.
        for part in curves.chunks(6) {
            let names: Vec<&str> = part.iter().map(|c| c.attack.as_str()).collect();
            let _ = writeln!(
                out,
                "<figure>{}<figcaption>{}</figcaption></figure>",
                svg::robustness(unit, part),
                svg::key(&names)
            );
        }
    }
    out.push_str("</div>\n");
    let row = |c: &Curve| {
        let points: Vec<String> =
            c.points.iter().map(|p| format!("{}: ≤ {}", short(p.strength), percent(p.accuracy.0))).collect();
        format!(
            "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td></tr>\n",
            escaped(&c.attack),
            escaped(&c.unit),
            points.join(", ")
        )
    };
    let rows: String = report.robustness.iter().map(row).collect();
    out + &bare("Accuracy left at each strength", &["attack", "unit", "strength: accuracy"], &rows)
}

fn load(report: &Report) -> String {
    if report.load.is_empty() {
        return String::new();
    }
    let mut out =
        "<h2>Load and latency</h2>\n<p class=\"soft\">Measured on one machine; another validator's differ. Under \
                   Server, latency counts from when a query was due.</p>\n<div class=\"plots\">\n"
            .to_owned();
    let mut rows = String::new();
    for run in &report.load {
        let name = match run.scenario {
            Scenario::SingleStream => "SingleStream".to_owned(),
            Scenario::MultiStream(n) => format!("MultiStream, {n} at once"),
            Scenario::Server(rate) => format!("Server, {} a second", number(rate)),
            Scenario::Offline => "Offline".to_owned(),
        };
        if run.scenario != Scenario::Offline && !run.percentiles.is_empty() {
            let _ = writeln!(out, "<figure>{}<figcaption>{name}</figcaption></figure>", svg::latency(&run.percentiles));
        }
        let each: Vec<String> = run
            .percentiles
            .iter()
            .map(|p| {
                format!(
                    "{} %: {}{}",
                    f64::from(p.percentile) / 100.0,
                    micros(p.micros),
                    if p.enough { "" } else { "*" }
                )
            })
            .collect();
        let _ = writeln!(
            rows,
            "<tr><th scope=\"row\">{name}</th><td class=\"n\">{}</td><td class=\"n\">{}</td><td>{}</td><td>{}</td></tr>",
            run.queries,
            number(run.samples_per_second),
            if run.scenario == Scenario::Offline { "–".to_owned() } else { each.join(", ") },
            if run.enough { "yes" } else { "no" }
        );
    }
    out.push_str("</div>\n");
    let columns = ["scenario", "#queries", "#samples a second", "percentiles", "long enough"];
    out + &bare("* from fewer samples than MLPerf's rule asks for", &columns, &rows)
}

fn tokens(report: &Report) -> String {
    let Some(times) = &report.tokens else { return String::new() };
    let row = |name: &str, all: &[Percentile]| {
        let at = |share: u32| all.iter().find(|p| p.percentile == share).map_or("–".to_owned(), |p| micros(p.micros));
        format!(
            "<tr><th scope=\"row\">{name}</th><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>\n",
            at(5_000),
            at(9_000),
            at(9_900)
        )
    };
    let rows = row("until the first token", &times.first) + &row("from each token to the next", &times.each);
    let caption = format!("Of {} answers, one after the other", times.answers);
    format!("<h2>Tokens</h2>\n{}", bare(&caption, &["", "#50 %", "#90 %", "#99 %"], &rows))
}

fn dataset(report: &Report) -> String {
    let (class, word) = match &report.gate {
        Gate::Sound => ("good", "All criteria hold.".to_owned()),
        Gate::Partial(open) => ("open", format!("None fails; not assessed: {}.", listed(open))),
        Gate::Void(failed) => (
            "bad",
            format!(
                "Fails: {}. Nothing follows from this dataset, and nothing of it is put on the ledger.",
                listed(failed)
            ),
        ),
    };
    let verdict = format!("<p class=\"{class}\">{}</p>\n", escaped(&word));
    checks("The dataset", &report.dataset_checks).replacen("</h2>\n", &format!("</h2>\n{verdict}"), 1)
}

fn checks(title: &str, all: &[Check]) -> String {
    let mut rows = String::new();
    for check in all {
        let (class, word) = match &check.outcome {
            Outcome::Pass => ("good", "pass".to_owned()),
            Outcome::Fail => ("bad", "FAIL".to_owned()),
            Outcome::NotAssessable(why) => ("open", format!("not assessable: {}", escaped(why))),
        };
        let mut said = String::new();
        for f in &check.figures {
            let limit = f.limit.map_or(String::new(), |l| format!(" (limit {})", number(l)));
            let _ = write!(said, "<li>{}: {}{limit}</li>", escaped(&f.name), number(f.value));
        }
        said.extend(check.notes.iter().map(|n| format!("<li class=\"soft\">{}</li>", escaped(n))));
        let list = if said.is_empty() { String::new() } else { format!("<ul>{said}</ul>") };
        let _ = writeln!(
            rows,
            "<tr><th scope=\"row\">{}</th><td class=\"{class}\">{word}</td><td>{list}</td></tr>",
            capital(check.criterion.word())
        );
    }
    table(title, "", &["criterion", "outcome", "figures"], &rows)
}

fn notes(report: &Report) -> String {
    if report.notes.is_empty() {
        return String::new();
    }
    let items: String = report.notes.iter().map(|n| format!("<li>{}</li>\n", escaped(n))).collect();
    format!("<h2>Notes</h2>\n<ul>\n{items}</ul>\n")
}

fn foot(report: &Report) -> String {
    format!(
        "<footer>\n<h2>To repeat it</h2>\n<p>Dataset root <code>{}</code><br/>Seed <code>{}</code></p>\n<p>With the same data \
         and seed every figure but latency comes out the same to the last bit, on any number of threads.</p>\n</footer>\n",
        escaped(&report.subject.dataset_root),
        escaped(&report.subject.seed)
    )
}

/// A section with a table; nothing without rows. A column whose name begins with # holds numbers.
fn table(title: &str, caption: &str, columns: &[&str], rows: &str) -> String {
    if rows.is_empty() {
        return String::new();
    }
    format!("<h2>{title}</h2>\n{}", bare(caption, columns, rows))
}

fn bare(caption: &str, columns: &[&str], rows: &str) -> String {
    let head: String = columns
        .iter()
        .map(|c| match c.strip_prefix('#') {
            Some(name) => format!("<th class=\"n\" scope=\"col\">{name}</th>"),
            None => format!("<th scope=\"col\">{c}</th>"),
        })
        .collect();
    let caption = if caption.is_empty() { String::new() } else { format!("<caption>{caption}</caption>") };
    format!(
        "<div class=\"wide\"><table>{caption}<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody></table></div>\n"
    )
}
