//! Tables record by record: CSV (RFC 4180) with or without a heading, JSONL (an object a line), Parquet. Owns the formats; what a
//! column means is decided in [`super::columns`].

use std::{
    fs::File,
    io::Read,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use parquet::{
    file::reader::{FileReader as _, SerializedFileReader},
    record::Field,
};
use serde_json::Value;
use zero2ai_proto::local::LocalData;

use super::{
    BYTES, Dataset, DatasetError, FEATURES, NUMBERS, SAMPLES,
    columns::{Builder, Cell},
    shown,
};

/// Columns of a table: features, and what stands beside them.
const COLUMNS: usize = FEATURES + 16;
/// Bytes that a Parquet file says it unpacks to.
const UNPACKED: u64 = 1024 * 1024 * 1024;

/// Reads a table by its ending.
pub(super) fn read(path: &Path, data: &LocalData) -> Result<Dataset, DatasetError> {
    let name = shown(path);
    let fail = |why: String| DatasetError::new(&name, why);
    let file = File::open(path).map_err(|e| fail(e.to_string()))?;
    let size = file.metadata().map_err(|e| fail(e.to_string()))?.len();
    if size > BYTES {
        return Err(fail(format!("longer than {BYTES} bytes: split it")));
    }
    let ending = path.extension().map(|e| e.to_ascii_lowercase());
    let ending = ending.as_deref().and_then(|e| e.to_str());
    let ordered = !matches!(ending, Some("jsonl" | "ndjson"));
    let mut builder = Builder::new(data, &name, path.parent().unwrap_or(Path::new(".")), ordered);
    match ending {
        Some("csv") => csv(file, &mut builder)?,
        Some("jsonl" | "ndjson") => jsonl(&file, &mut builder)?,
        // The reader is others' code: where a damaged file makes it panic, this file is not read, and nothing else happens.
        Some("parquet") => catch_unwind(AssertUnwindSafe(|| columnar(file, &mut builder)))
            .unwrap_or_else(|_| Err(fail("it is damaged: its reader gave up".into())))?,
        _ => return Err(fail("a table's name ends in .csv, .jsonl or .parquet; else give a folder".into())),
    }
    builder.finish()
}

fn csv(file: File, builder: &mut Builder<'_>) -> Result<(), DatasetError> {
    let name = builder.name().to_owned();
    let place = |line: u64| format!("{name} line {line}");
    csv_records(
        file,
        COLUMNS,
        |line, why| DatasetError::new(place(line), why),
        |line, names, cells| {
            let cells = cells.iter().map(|cell| Cell::Text((*cell).into()));
            let cells: Vec<(&str, Cell<'_>)> = names.iter().map(String::as_str).zip(cells).collect();
            builder.add(&place(line), &cells)
        },
    )
}

/// Reads CSV (RFC 4180) record by record: `each` is given the line, counted from 1, the names of the columns, and the cells without the
/// spaces around them. A first line that is not all numbers names the columns; else they are called 1, 2, 3 and so on.
///
/// # Errors
/// What `fail` makes of a line that is not UTF-8, has more than `columns` cells, or not as many as the first; and what `each` gives.
pub fn csv_records<E>(
    from: impl Read,
    columns: usize,
    fail: impl Fn(u64, String) -> E,
    mut each: impl FnMut(u64, &[String], &[&str]) -> Result<(), E>,
) -> Result<(), E> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).trim(csv::Trim::All).from_reader(from);
    let mut record = csv::StringRecord::new();
    let (mut names, mut first): (Vec<String>, bool) = (Vec::new(), true);
    loop {
        let line = reader.position().line();
        let more = reader.read_record(&mut record);
        let at = record.position().map_or(line, csv::Position::line);
        if !more.map_err(|e| fail(at, csv_words(&e)))? {
            return Ok(());
        }
        if record.len() > columns {
            return Err(fail(at, format!("more than {columns} columns")));
        }
        if std::mem::take(&mut first) {
            let heading = record.iter().any(|c| c.parse::<f32>().is_err());
            names = match heading {
                true => record.iter().map(str::to_owned).collect(),
                false => (1..=record.len()).map(|n| n.to_string()).collect(),
            };
            if heading {
                continue;
            }
        }
        if record.len() != names.len() {
            let why = format!("{} cells where the lines before have {}", record.len(), names.len());
            return Err(fail(at, why));
        }
        each(at, &names, &record.iter().collect::<Vec<_>>())?;
    }
}

fn csv_words(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::Utf8 { .. } => "it is not UTF-8: save it as such".to_owned(),
        _ => error.to_string(),
    }
}

fn jsonl(file: &File, builder: &mut Builder<'_>) -> Result<(), DatasetError> {
    use std::io::BufRead as _;
    for (line, text) in std::io::BufReader::new(file).lines().enumerate() {
        let place = format!("{} line {}", builder.name(), line.saturating_add(1));
        let text = text.map_err(|e| DatasetError::new(&place, e.to_string()))?;
        if text.trim().is_empty() {
            continue;
        }
        let value: serde_json::Map<String, Value> =
            serde_json::from_str(&text).map_err(|e| DatasetError::new(&place, format!("no JSON object: {e}")))?;
        if value.len() > COLUMNS {
            return Err(DatasetError::new(&place, format!("more than {COLUMNS} columns")));
        }
        let cells: Result<Vec<(&str, Cell<'_>)>, String> = value
            .iter()
            .map(|(name, value)| {
                json_cell(value).map(|c| (name.as_str(), c)).map_err(|why| format!("column '{name}': {why}"))
            })
            .collect();
        builder.add(&place, &cells.map_err(|why| DatasetError::new(&place, why))?)?;
    }
    Ok(())
}

fn json_cell(value: &Value) -> Result<Cell<'_>, String> {
    let list = |all: &[Value]| -> Option<Cell<'_>> {
        let numbers: Option<Vec<f64>> = all.iter().map(Value::as_f64).collect();
        let texts = || all.iter().map(|v| v.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>();
        numbers.map(Cell::Numbers).or_else(|| texts().map(Cell::Texts))
    };
    Ok(match value {
        Value::Null => Cell::Missing,
        Value::Bool(b) => Cell::Number(f64::from(u8::from(*b))),
        Value::Number(n) => Cell::Number(n.as_f64().ok_or("a number beyond double precision")?),
        Value::String(text) => Cell::Text(text.as_str().into()),
        Value::Array(all) => list(all).ok_or("a list of other things than numbers or texts")?,
        Value::Object(_) => return Err("an object inside an object: put its fields into columns".into()),
    })
}

fn columnar(file: File, builder: &mut Builder<'_>) -> Result<(), DatasetError> {
    let fail = |why: String| DatasetError::new(builder.name(), why);
    let reader = SerializedFileReader::new(file).map_err(|e| fail(e.to_string()))?;
    let groups = reader.metadata().row_groups();
    let sum = |of: fn(&parquet::file::metadata::RowGroupMetaData) -> i64| {
        groups.iter().map(of).try_fold(0u64, |sum, n| sum.checked_add(u64::try_from(n).ok()?))
    };
    if sum(|g| g.num_rows()).is_none_or(|n| n > SAMPLES as u64) {
        return Err(fail(format!("more than {SAMPLES} rows: split it")));
    }
    if sum(|g| g.total_byte_size()).is_none_or(|n| n > UNPACKED) {
        return Err(fail(format!("it unpacks to more than {UNPACKED} bytes: split it")));
    }
    let rows = reader.get_row_iter(None).map_err(|e| fail(e.to_string()))?;
    let name = builder.name().to_owned();
    for (number, row) in rows.enumerate() {
        let place = format!("{name} row {}", number.saturating_add(1));
        let row = row.map_err(|e| DatasetError::new(&place, e.to_string()))?;
        if row.len() > COLUMNS {
            return Err(DatasetError::new(&place, format!("more than {COLUMNS} columns")));
        }
        let mut cells = Vec::with_capacity(row.len());
        for (column, field) in row.get_column_iter() {
            let cell = parquet_cell(field).ok_or_else(|| {
                DatasetError::new(
                    &place,
                    format!("column '{column}' holds other things than numbers, texts and lists of them"),
                )
            })?;
            cells.push((column.as_str(), cell));
        }
        builder.add(&place, &cells)?;
    }
    Ok(())
}

fn parquet_number(field: &Field) -> Option<f64> {
    Some(match field {
        Field::Bool(b) => f64::from(u8::from(*b)),
        Field::Byte(n) => f64::from(*n),
        Field::Short(n) => f64::from(*n),
        Field::Int(n) => f64::from(*n),
        Field::Long(n) => *n as f64,
        Field::UByte(n) => f64::from(*n),
        Field::UShort(n) => f64::from(*n),
        Field::UInt(n) => f64::from(*n),
        Field::ULong(n) => *n as f64,
        Field::Float16(n) => f64::from(*n),
        Field::Float(n) => f64::from(*n),
        Field::Double(n) => *n,
        _ => return None,
    })
}

fn parquet_cell(field: &Field) -> Option<Cell<'_>> {
    Some(match field {
        Field::Null => Cell::Missing,
        Field::Str(text) => Cell::Text(text.as_str().into()),
        Field::ListInternal(list) if list.len() <= NUMBERS => {
            let numbers: Option<Vec<f64>> = list.elements().iter().map(parquet_number).collect();
            let text = |f: &Field| if let Field::Str(text) = f { Some(text.clone()) } else { None };
            match numbers {
                Some(numbers) => Cell::Numbers(numbers),
                None => Cell::Texts(list.elements().iter().map(text).collect::<Option<_>>()?),
            }
        }
        other => Cell::Number(parquet_number(other)?),
    })
}
