//! The files that are moved, and the folders they go to.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

/// One mebibyte: what files are written and read by.
pub(crate) const MIB: usize = 1024 * 1024;

/// A number of bytes as people write it: `1GiB`, `256MiB`, `4096`.
pub(crate) fn size(text: &str) -> Result<u64> {
    let lower = text.to_lowercase();
    let (number, unit) = lower.split_at(lower.find(|c: char| c.is_alphabetic()).unwrap_or(lower.len()));
    let factor = match unit {
        "" | "b" => 1,
        "kib" | "k" => 1 << 10,
        "mib" | "m" => 1 << 20,
        "gib" | "g" => 1u64 << 30,
        _ => bail!("the size {text} is not understood: write 256MiB or 1GiB"),
    };
    let number: u64 = number.trim().parse().with_context(|| format!("the size {text}"))?;
    number.checked_mul(factor).context("that size is too large")
}

/// A folder of a bench's own, emptied at the start and removed at the end.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(path: PathBuf) -> Result<Self> {
        empty(&path)?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(e) = fs::remove_dir_all(&self.0) {
            eprintln!("{} could not be removed: {e}", self.0.display());
        }
    }
}

/// Makes `path` an empty folder.
pub(crate) fn empty(path: &Path) -> Result<()> {
    if path.exists() {
        fs::remove_dir_all(path).with_context(|| format!("empty {}", path.display()))?;
    }
    fs::create_dir_all(path).with_context(|| format!("create {}", path.display()))
}

/// Takes `path` out of the way: its files stay, emptied. ext4 does not give a removed file's inode to a new file for
/// minutes, and looks at each of them whenever one is made: removing a thousand files here would slow down the next tool.
pub(crate) fn retire(path: &Path, to: &Path) -> Result<()> {
    fn shorten(dir: &Path) -> io::Result<()> {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            match entry.file_type()? {
                kind if kind.is_dir() => shorten(&entry.path())?,
                kind if kind.is_file() => OpenOptions::new().write(true).open(entry.path())?.set_len(0)?,
                _ => {}
            }
        }
        Ok(())
    }
    shorten(path).with_context(|| format!("empty the files of {}", path.display()))?;
    fs::rename(path, to).with_context(|| format!("move {} away", path.display()))
}

/// Bytes that look random and follow from `seed` alone.
pub(crate) struct Random(blake3::OutputReader);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("zero2ai bench bytes v1");
        hasher.update(&seed.to_le_bytes());
        Self(hasher.finalize_xof())
    }

    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill(bytes);
    }
}

/// Writes `len` random bytes to `path`, durably.
pub(crate) fn random_file(path: &Path, len: u64, seed: u64) -> Result<()> {
    let mut file = File::create(path).with_context(|| format!("create {}", path.display()))?;
    write_random(&mut file, len, seed)?;
    Ok(file.sync_all()?)
}

/// A safetensors file of `tensors` random tensors, about `len` bytes in all. With `sparse`, each mebibyte of them is a
/// hole behind 4 KiB of random bytes: as many distinct chunks, made in no time.
pub(crate) fn model_file(path: &Path, len: u64, tensors: u64, sparse: bool) -> Result<()> {
    let each = (len / tensors.max(1)).max(MIB as u64);
    let entries: Vec<String> = (0..tensors)
        .map(|n| {
            let (start, end) = (n * each, (n + 1) * each);
            format!(r#""model.layers.{n}.weight":{{"dtype":"U8","shape":[{each}],"data_offsets":[{start},{end}]}}"#)
        })
        .collect();
    let header = format!("{{{}}}", entries.join(","));
    let mut file = File::create(path).with_context(|| format!("create {}", path.display()))?;
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    let start = 8 + header.len() as u64;
    if sparse {
        let (mut random, mut bytes) = (Random::new(2), [0u8; 4096]);
        for at in (0..each * tensors).step_by(MIB) {
            random.fill(&mut bytes);
            file.seek(SeekFrom::Start(start + at))?;
            file.write_all(&bytes)?;
        }
        file.set_len(start + each * tensors)?;
    } else {
        write_random(&mut file, each * tensors, 1)?;
    }
    Ok(file.sync_all()?)
}

fn write_random(file: &mut File, len: u64, seed: u64) -> Result<()> {
    let (mut random, mut piece, mut left) = (Random::new(seed), vec![0u8; MIB], len);
    while left > 0 {
        let now = usize::try_from(left.min(MIB as u64))?;
        random.fill(&mut piece[..now]);
        file.write_all(&piece[..now])?;
        left -= now as u64;
    }
    Ok(())
}

/// Makes everything below `path` durable.
pub(crate) fn sync_all(path: &Path) -> Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            sync_all(&entry?.path())?;
        }
    }
    File::open(path).and_then(|f| f.sync_all()).with_context(|| format!("sync {}", path.display()))
}

/// Fails unless both files hold the same bytes.
pub(crate) fn same(a: &Path, b: &Path) -> Result<()> {
    let open = |p: &Path| File::open(p).with_context(|| format!("open {}", p.display()));
    let (mut a_file, mut b_file) = (BufReader::new(open(a)?), BufReader::new(open(b)?));
    let (mut x, mut y) = (Vec::with_capacity(MIB), Vec::with_capacity(MIB));
    loop {
        x.clear();
        y.clear();
        a_file.by_ref().take(MIB as u64).read_to_end(&mut x)?;
        b_file.by_ref().take(MIB as u64).read_to_end(&mut y)?;
        if x != y {
            bail!("{} is not the file that was sent", b.display());
        }
        if x.is_empty() {
            return Ok(());
        }
    }
}
