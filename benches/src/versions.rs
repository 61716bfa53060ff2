//! What the second version of a model adds to the store that holds the first: some layers changed, as a fine-tune does it.
//! Deduplication is by tensor, so the bound is the bytes of the tensors that changed.

use std::{
    fs::{self, File},
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use zero2ai_chunk::{ContentSecret, cut, detect_format};
use zero2ai_store::{Store, StoreConfig};

use crate::{
    files::{self, Random, Scratch},
    report,
    results::Results,
    tools,
};

/// Layers of the model made here, if none is given.
const LAYERS: u64 = 32;

/// Settings of `versions`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// A GGUF or safetensors model; else one of random bytes is made
    #[arg(long)]
    model: Option<PathBuf>,
    /// Bytes of the model that is made
    #[arg(long, default_value = "256MiB", value_parser = files::size)]
    size: u64,
    /// Folder for all files
    #[arg(long, default_value = "target/bench")]
    work: PathBuf,
    /// Write the raw figures here
    #[arg(long)]
    json: Option<PathBuf>,
}

/// How the second version differs.
struct Change {
    name: &'static str,
    /// One of so many layers is changed.
    every: usize,
    /// In a changed tensor, one byte of so many gets its lowest bit flipped.
    sparsity: u8,
}

const CHANGES: [Change; 4] = [
    Change { name: "nothing changed", every: 0, sparsity: 1 },
    Change { name: "one layer in ten, half of the bytes", every: 10, sparsity: 2 },
    Change { name: "one layer in ten, one byte in 16", every: 10, sparsity: 16 },
    Change { name: "every layer, one byte in 16", every: 1, sparsity: 16 },
];

/// See the module.
pub(crate) fn run(options: &Options) -> Result<()> {
    fs::create_dir_all(&options.work)?;
    let work = Scratch::new(fs::canonicalize(&options.work)?.join("versions"))?;
    let first = match &options.model {
        Some(model) => model.clone(),
        None => {
            let made = work.join("first.safetensors");
            files::model_file(&made, options.size, LAYERS, false)?;
            made
        }
    };
    let model = options.model.as_ref().and_then(|m| m.file_name()).map(|n| n.to_string_lossy().into_owned());
    let mut results = Results::new("versions", &[("model", model.unwrap_or_else(|| "made here".into()))]);
    for change in &CHANGES {
        let second = work.join("second");
        let changed = alter(&first, &second, change)?;
        let (whole, added) = add(&work, &first, &second, false)?;
        let (_, with_base) = add(&work, &first, &second, true)?;
        results.add(
            change.name,
            1,
            &[
                ("first version, bytes", whole as f64),
                ("bytes of changed tensors", changed as f64),
                ("second version adds, bytes", added as f64),
                ("added / whole", added as f64 / whole as f64),
                ("with --base adds, bytes", with_base as f64),
                ("with --base / whole", with_base as f64 / whole as f64),
            ],
        );
    }
    println!("\n{}", report::versions(&results));
    results.save(options.json.as_deref())
}

/// Stores both versions; the bytes of the first, and those that the second adds, as differences to the first or not.
fn add(work: &Scratch, first: &Path, second: &Path, as_differences: bool) -> Result<(u64, u64)> {
    let home = work.join("store");
    files::empty(&home)?;
    let store = Store::open(&home, StoreConfig::default())?;
    let secret = ContentSecret::generate()?;
    let base = tools::seal_into_store(&store, &secret, first, None)?;
    let before = store.stats().bytes;
    tools::seal_into_store(&store, &secret, second, as_differences.then_some(&base))?;
    Ok((before, store.stats().bytes - before))
}

/// Copies `first` to `second` with `change`; returns the bytes of the tensors changed.
fn alter(first: &Path, second: &Path, change: &Change) -> Result<u64> {
    fs::copy(first, second).with_context(|| format!("copy {}", first.display()))?;
    let mut reader = File::open(first)?;
    let format = detect_format(&mut reader)?;
    let Some(cuts) = cut::cuts(&mut reader, format)? else {
        bail!("a model of tensors is needed: GGUF or safetensors")
    };
    let mut file = File::options().read(true).write(true).open(second)?;
    let (mut random, mut changed) = (Random::new(3), 0);
    for cut in cuts.iter().filter(|c| is_changed(&c.name, change)) {
        let mut bytes = vec![0; usize::try_from(cut.end - cut.start)?];
        file.seek(SeekFrom::Start(cut.start))?;
        file.read_exact(&mut bytes)?;
        let mut noise = vec![0; bytes.len()];
        random.fill(&mut noise);
        for (byte, noise) in bytes.iter_mut().zip(&noise).filter(|(_, noise)| **noise % change.sparsity == 0) {
            *byte ^= u8::from(*noise < 255);
        }
        file.seek(SeekFrom::Start(cut.start))?;
        file.write_all(&bytes)?;
        changed += cut.end - cut.start;
    }
    Ok(changed)
}

/// Layers are numbered in tensor names: `blk.3.attn_q.weight`, `model.layers.3.weight`.
fn is_changed(tensor: &str, change: &Change) -> bool {
    let layer = tensor.split('.').find_map(|part| part.parse::<usize>().ok());
    change.every > 0 && layer.is_some_and(|layer| layer % change.every == 0)
}
