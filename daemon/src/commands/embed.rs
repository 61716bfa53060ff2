//! `embed`: texts to rows of numbers at the nearest endpoint; the signed receipt is checked before anything is shown.

use std::path::Path;

use serde_json::json;
use zero2ai_client::Embedded;
use zero2ai_proto::{limits::EMBED_TEXTS, manifest::Task, texts::Texts};

use super::{read_file, resolve::lookup_served};
use crate::{
    cli::EmbedArgs,
    exit::{Exit, Failure, Outcome},
    input::INPUT_BYTES,
    output::{Output, Table, millis},
    session::Session,
};

/// Texts of one call: fewer than a call may have, so that a long file keeps no node busy for long.
const AT_ONCE: usize = 64;
const _: () = assert!(AT_ONCE <= EMBED_TEXTS);
/// Numbers of a row shown as text; `--json` gives all.
const SHOWN: usize = 6;

/// The command.
pub(crate) async fn embed(home: &Path, args: EmbedArgs, out: Output) -> Outcome {
    let texts = match &args.lines {
        Some(file) => lines(file)?, // before any connection: a mistake in the file is told at once
        None => args.texts,
    };
    let session = Session::open(home).await?;
    let found = lookup_served(&session, &args.name).await?;
    let context = match found.entry.task {
        Task::Embed { context, .. } => u64::from(context),
        _ => u64::MAX, // the client says what is wrong
    };
    let mut answers = Vec::new();
    for part in texts.chunks(AT_ONCE) {
        let part = Texts { truncate: args.truncate, ..Texts::new(part) };
        answers.push(session.client.embed(&found, &part, args.timeout).await?);
    }
    let rows = || answers.iter().flat_map(|a| a.embeddings.rows().zip(&a.embeddings.tokens));
    let receipts = answers.iter().map(|a| a.receipt.id().map(|id| id.to_string())).collect::<Result<Vec<_>, _>>()?;
    let ms: f64 = answers.iter().map(|a| millis(a.took)).sum();
    let node = answers.last().map(|a| a.node);
    let json = json!({
        "name": found.name.to_string(), "version": found.version, "node": node.map(|n| n.to_string()), "ms": ms,
        "receipts": receipts, "width": answers.first().map(|a| a.embeddings.width),
        "tokens": answers.iter().flat_map(|a| &a.embeddings.tokens).collect::<Vec<_>>(),
        "embeddings": rows().map(|(row, _)| row).collect::<Vec<_>>(),
    });
    out.result(&json, || {
        let mut text = table(rows(), context);
        let (node, receipt) =
            (node.map(|n| n.short()).unwrap_or_default(), receipts.last().cloned().unwrap_or_default());
        let width = answers.first().map_or(0, width);
        text += &format!("\n{width} numbers a row, answered by {node} in {ms:.1} ms, receipt {receipt}");
        text
    });
    Ok(())
}

fn width(answer: &Embedded) -> usize {
    answer.embeddings.width
}

fn table<'a>(rows: impl Iterator<Item = (&'a [f32], &'a u64)>, context: u64) -> String {
    let mut table = Table::new(&[">text", ">tokens", ">length", "numbers"]);
    for (index, (row, tokens)) in rows.enumerate() {
        let length = row.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>().sqrt();
        let shown: Vec<String> = row.iter().take(SHOWN).map(|v| format!("{v:9.6}")).collect();
        let more = if row.len() > SHOWN { " ..." } else { "" };
        let cut = if *tokens > context { " (cut)" } else { "" };
        table.row([(index + 1).to_string(), format!("{tokens}{cut}"), format!("{length:.4}"), shown.join(" ") + more]);
    }
    table.render(0)
}

/// The lines of a file, without empty ones.
fn lines(file: &Path) -> Outcome<Vec<String>> {
    let bytes = if file == Path::new("-") {
        read_file("read standard input, through", Path::new("/dev/stdin"), INPUT_BYTES)?
    } else {
        read_file("read", file, INPUT_BYTES)?
    };
    let text = String::from_utf8(bytes)
        .map_err(|_| Failure::new(Exit::Invalid, "The input is not UTF-8 text; give one text a line."))?;
    let lines: Vec<String> = text.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned).collect();
    if lines.is_empty() {
        return Err(Failure::new(Exit::Invalid, "The input has no text; give one text a line."));
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_told_by_its_tokens_length_and_first_numbers() {
        let (rows, tokens) = ([[0.6_f32, -0.8], [3.0, 4.0]], [5_u64, 9]);
        let text = table(rows.iter().map(<[f32; 2]>::as_slice).zip(&tokens), 8);
        assert!(text.contains("1.0000") && text.contains("-0.800000") && text.contains("9 (cut)"), "{text}");
    }
}
