//! What a publication is made of: one file, or the files of a folder. A folder is listed without hidden files and without
//! following links, in the order of its paths; every file is opened below the folder, component by component, so that
//! nothing outside of it is ever published.

mod list;
mod whole;

use std::{fs::File, io, os::fd::OwnedFd, path::Path};

use rustix::fs::{Mode, OFlags, open, openat};
use zero2ai_chunk::{cut::is_pickle, detect_format, named_format};
use zero2ai_proto::{
    limits::MANIFEST_FILES,
    manifest::{Format, path_is_usable},
    rpc::RpcError,
};

use crate::{jobs::load::is_loaded, serve::errors::invalid};

/// One file of a publication.
pub(super) struct SourceFile {
    /// Relative path, as it stands in the manifest.
    pub(super) path: String,
    pub(super) size: u64,
    pub(super) format: Format,
}

/// The files of a publication, in the order of their paths.
pub(super) struct Source {
    folder: OwnedFd,
    /// A file that comes from no folder: its path and bytes.
    made: Option<(String, Vec<u8>)>,
    pub(super) files: Vec<SourceFile>,
    /// Format of the model as a whole.
    pub(super) format: Format,
    /// Which files a worker loads, or why none can.
    pub(super) run: Result<Vec<usize>, String>,
    /// Bytes of all files.
    pub(super) bytes: u64,
}

impl Source {
    /// Looks at a file or a folder, and at every header in it.
    pub(super) fn look(path: &Path) -> Result<Self, RpcError> {
        let fail = |e: &dyn std::fmt::Display| invalid(format!("{} cannot be read: {e}", path.display()));
        let meta = std::fs::metadata(path).map_err(|e| fail(&e))?;
        let (folder, names) = if meta.is_dir() {
            (path, list::paths(path)?)
        } else {
            let name = path.file_name().and_then(|n| n.to_str()).filter(|n| path_is_usable(n));
            let name = name.ok_or_else(|| invalid(format!("{} has no usable file name", path.display())))?;
            (path.parent().unwrap_or(Path::new("/")), vec![name.to_owned()])
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = open(folder, flags, Mode::empty()).map_err(|e| fail(&e))?;
        let (format, run) = (Format::Opaque, Ok(Vec::new()));
        let mut source = Self { folder, made: None, files: Vec::new(), format, run, bytes: 0 };
        for name in names {
            let file = source.look_at(name)?;
            source.bytes = source.bytes.saturating_add(file.size);
            source.files.push(file);
        }
        if source.bytes == 0 {
            return Err(invalid(format!("{} is empty", path.display())));
        }
        let external = whole::check(&source)?;
        let kind = whole::kind(&source)?;
        (source.format, source.run) = decide(&source.files, external, kind.as_deref());
        Ok(source)
    }

    /// True if a file is of a model's format.
    pub(super) fn has_model(&self) -> bool {
        self.format != Format::Opaque
    }

    /// Adds a file that was made for the publication, behind all others. No worker loads it.
    pub(super) fn add(&mut self, path: &str, bytes: Vec<u8>) -> Result<(), RpcError> {
        if self.files.iter().any(|f| f.path == path) {
            return Err(invalid(format!(
                "there is a file {path} already, from an earlier version: take it out of the folder"
            )));
        }
        let size = bytes.len() as u64;
        self.bytes = self.bytes.saturating_add(size);
        self.files.push(SourceFile { path: path.to_owned(), size, format: Format::Opaque });
        self.made = Some((path.to_owned(), bytes));
        Ok(())
    }

    /// Opens a file again. What is no plain file any more is refused.
    pub(super) fn open(&self, index: usize) -> Result<File, RpcError> {
        if let Some((_, bytes)) = self.made.as_ref().filter(|(path, _)| *path == self.files[index].path) {
            return in_memory(bytes).map_err(|e| invalid(format!("{}: {e}", self.files[index].path)));
        }
        self.open_path(&self.files[index].path).map(|(file, _)| file)
    }

    fn open_path(&self, path: &str) -> Result<(File, u64), RpcError> {
        let fail = |e: io::Error| match rustix::io::Errno::from_io_error(&e) {
            Some(rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR) => invalid(list::link(path)),
            _ => invalid(format!("{path} cannot be read: {e}")),
        };
        let file = open_below(&self.folder, path).map_err(|e| fail(e.into()))?;
        let meta = file.metadata().map_err(fail)?;
        if meta.is_file() { Ok((file, meta.len())) } else { Err(invalid(list::no_file(path))) }
    }

    fn look_at(&self, path: String) -> Result<SourceFile, RpcError> {
        let (mut file, size) = self.open_path(&path)?;
        let format = detect_format(&mut file).map_err(|e| invalid(format!("{path}: {e}")))?;
        if format == Format::Opaque && is_pickle(&mut file).map_err(|e| invalid(format!("{path}: {e}")))? {
            return Err(invalid(format!(
                "{path} is a Python pickle, or an archive with one: whoever reads it runs what is in it, so none is published. Save \
                 its tensors as safetensors, and leave it out of the folder"
            )));
        }
        if let Some(named) = named_format(&path).filter(|named| *named != format) {
            return Err(invalid(format!("{path}: {}", whole::mistaken(&mut file, named))));
        }
        Ok(SourceFile { path, size, format })
    }
}

/// A file that is in memory alone.
fn in_memory(bytes: &[u8]) -> io::Result<File> {
    use io::{Seek as _, Write as _};
    let mut file = File::from(rustix::fs::memfd_create("publication", rustix::fs::MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}

/// Opens `path` below `folder`, following no link on the way and not waiting for a pipe's other end.
fn open_below(folder: &OwnedFd, path: &str) -> rustix::io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY;
    let (folders, name) = path.rsplit_once('/').map_or((None, path), |(f, n)| (Some(f), n));
    let mut inner: Option<OwnedFd> = None;
    for part in folders.into_iter().flat_map(|f| f.split('/')) {
        inner = Some(openat(inner.as_ref().unwrap_or(folder), part, flags | OFlags::DIRECTORY, Mode::empty())?);
    }
    openat(inner.as_ref().unwrap_or(folder), name, flags | OFlags::NONBLOCK, Mode::empty()).map(File::from)
}

/// The format of the whole, and what of it a worker loads: one GGUF file, else an embedder's folder (of the `kind` that its
/// settings name), else one ONNX file that needs no other. What else lies beside it (cards, weights in other formats) is
/// published and not run.
fn decide(files: &[SourceFile], external: bool, kind: Option<&str>) -> (Format, Result<Vec<usize>, String>) {
    let of = |format: Format| -> Vec<usize> {
        (0..files.len()).filter(|i| files[*i].format == format && is_loaded(format, &files[*i].path)).collect()
    };
    let (gguf, onnx) = (of(Format::Gguf), of(Format::Onnx));
    let has = |format: Format| files.iter().any(|f| f.format == format);
    if gguf.len() == 1 {
        return (Format::Gguf, Ok(gguf));
    }
    let there = |path: &str| files.iter().any(|f| f.path == path);
    if kind == Some("bert") && !of(Format::Safetensors).is_empty() && there("tokenizer.json") {
        let embedder = (0..files.len()).filter(|i| is_loaded(Format::Safetensors, &files[*i].path)).collect();
        return (Format::Safetensors, Ok(embedder));
    }
    if onnx.len() == 1 && !external {
        return (Format::Onnx, Ok(onnx));
    }
    let not_run = "is stored, named, replicated and fetched, but not run by this version";
    if has(Format::Safetensors) {
        let kind = kind.map(|kind| format!(" of the architecture '{kind}'")).unwrap_or_default();
        (Format::Safetensors, Err(format!("a model in safetensors{kind} {not_run}")))
    } else if has(Format::Gguf) {
        (Format::Gguf, Err(format!("a model of several GGUF files {not_run}")))
    } else if has(Format::Onnx) {
        let why = if external { "an ONNX model with tensors in other files" } else { "a model of several ONNX files" };
        (Format::Onnx, Err(format!("{why} {not_run}")))
    } else {
        (Format::Opaque, Err("no file here is of a format that this program runs: ONNX or GGUF".into()))
    }
}

/// For a folder with more files than a manifest may name.
fn too_many(folder: &Path) -> RpcError {
    invalid(format!(
        "{} has more than {MANIFEST_FILES} files, which is more than a model may have. Is it the right folder?",
        folder.display()
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::{fs, os::unix::fs::symlink};

    use super::*;

    /// A safetensors file of one tensor of bytes.
    fn safetensors(bytes: &[u8]) -> Vec<u8> {
        let json = format!(r#"{{"w":{{"dtype":"U8","shape":[{0}],"data_offsets":[0,{0}]}}}}"#, bytes.len());
        [&(json.len() as u64).to_le_bytes()[..], json.as_bytes(), bytes].concat()
    }

    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, u8::try_from(content.len()).unwrap()], content].concat()
    }

    /// An ONNX model with one tensor at `location`.
    fn onnx(location: &str, length: &str) -> Vec<u8> {
        let pair = |key: &str, value: &str| field(13, &[field(1, key.as_bytes()), field(2, value.as_bytes())].concat());
        let tensor =
            [pair("location", location), pair("offset", "4"), pair("length", length), vec![14 << 3, 1]].concat();
        [vec![8, 9], field(7, &field(5, &tensor))].concat()
    }

    fn refused(path: &Path, word: &str) {
        let error =
            Source::look(path).err().unwrap_or_else(|| panic!("{} was taken, without '{word}'", path.display()));
        assert!(error.message.contains(word), "'{word}' is not in: {}", error.message);
    }

    fn paths(source: &Source) -> Vec<&str> {
        source.files.iter().map(|f| f.path.as_str()).collect()
    }

    #[test]
    fn a_folder_of_shards_is_taken_whole_in_order_and_without_what_is_hidden() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        put("model-2.safetensors", &safetensors(b"two"));
        put("model-1.safetensors", &safetensors(b"one"));
        put("model.safetensors.index.json", br#"{"weight_map":{"a":"model-1.safetensors","b":"model-2.safetensors"}}"#);
        put("config.json", b"{}");
        put("empty.txt", b"");
        put("sub/tokenizer.json", b"{}");
        put(".gitattributes", b"hidden");
        put(".git/config", b"hidden");
        let source = Source::look(dir.path()).unwrap();
        assert_eq!(
            paths(&source),
            [
                "config.json",
                "empty.txt",
                "model-1.safetensors",
                "model-2.safetensors",
                "model.safetensors.index.json",
                "sub/tokenizer.json"
            ]
        );
        assert_eq!(source.format, Format::Safetensors);
        assert!(source.run.is_err() && source.has_model());
        fs::remove_file(dir.path().join("model-2.safetensors")).unwrap();
        refused(dir.path(), "model-2.safetensors");
    }

    #[test]
    fn nothing_outside_the_folder_is_published() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("model");
        fs::create_dir_all(folder.join("sub")).unwrap();
        fs::write(dir.path().join("secret"), b"secret").unwrap();
        fs::write(folder.join("model.safetensors"), safetensors(b"w")).unwrap();
        fs::write(folder.join("sub/a"), b"a").unwrap();
        let source = Source::look(&folder).unwrap();
        // Swapped for a link after it was looked at.
        fs::remove_file(folder.join("sub/a")).unwrap();
        symlink("../../secret", folder.join("sub/a")).unwrap();
        assert!(source.open(1).unwrap_err().message.contains("link"));
        refused(&folder, "sub/a");
        fs::remove_dir_all(folder.join("sub")).unwrap();
        symlink("..", folder.join("sub")).unwrap();
        assert!(source.open(1).unwrap_err().message.contains("link"));
        refused(&folder, "sub");
        fs::remove_file(folder.join("sub")).unwrap();
        let pipe = rustix::fs::mknodat(rustix::fs::CWD, folder.join("pipe"), rustix::fs::FileType::Fifo, Mode::RWXU, 0);
        if pipe.is_ok() {
            refused(&folder, "pipe");
            refused(&folder.join("pipe"), "pipe");
        }
    }

    #[test]
    fn external_tensors_are_files_of_the_folder_or_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let model = dir.path().join("sub/model.onnx");
        fs::create_dir_all(model.parent().unwrap()).unwrap();
        for location in ["../model.data", "/etc/passwd", "a/b", "..", ".hidden", "C:\\x", ""] {
            fs::write(&model, onnx(location, "4")).unwrap();
            refused(dir.path(), &format!("'{}'", location.escape_default()));
        }
        fs::write(&model, onnx("model.data", "4")).unwrap();
        refused(dir.path(), "model.data");
        fs::write(dir.path().join("sub/model.data"), b"1234567").unwrap();
        refused(dir.path(), "8 bytes");
        fs::write(dir.path().join("sub/model.data"), b"12345678").unwrap();
        let source = Source::look(dir.path()).unwrap();
        assert_eq!((paths(&source), source.format), (vec!["sub/model.data", "sub/model.onnx"], Format::Onnx));
        assert!(source.run.is_err_and(|why| why.contains("other files")));
        refused(&model, "folder");
        fs::write(&model, onnx("model.data", "18446744073709551615")).unwrap();
        refused(dir.path(), "beyond any file");
    }

    #[test]
    fn what_is_no_whole_file_is_told_by_name() {
        let dir = tempfile::tempdir().unwrap();
        refused(dir.path(), "no files");
        let model = dir.path().join("m.safetensors");
        fs::write(&model, b"").unwrap();
        refused(&model, "cut short");
        fs::write(&model, b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n").unwrap();
        refused(dir.path(), "git lfs pull");
        fs::write(&model, &safetensors(b"weights")[..50]).unwrap();
        refused(dir.path(), "m.safetensors");
        fs::write(&model, safetensors(b"weights")).unwrap();
        fs::write(dir.path().join("bad\nname"), b"x").unwrap();
        refused(dir.path(), "name");
        fs::remove_file(dir.path().join("bad\nname")).unwrap();
        for n in 0..MANIFEST_FILES {
            fs::write(dir.path().join(format!("f{n}")), b"x").unwrap();
        }
        refused(dir.path(), "more than");
        let deep = dir.path().join("d/".repeat(20));
        fs::create_dir_all(&deep).unwrap();
        refused(&dir.path().join("d"), "deeper");
    }

    #[test]
    fn a_pickle_is_refused_by_its_content_whatever_its_name_and_place() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("model.safetensors"), safetensors(b"w")).unwrap();
        for name in ["pytorch_model.bin", "model.onnx", "notes.txt", "weights.gguf"] {
            let archive = [b"PK\x03\x04".as_slice(), &[0; 22], &[16, 0, 0, 0], b"archive/data.pkl"].concat();
            for bytes in [b"\x80\x02}q\x00.".as_slice(), b"cos\nsystem\n(S'id'\ntR.", &archive] {
                fs::write(dir.path().join(name), bytes).unwrap();
                refused(dir.path(), "pickle");
                refused(&dir.path().join(name), "pickle");
            }
            fs::remove_file(dir.path().join(name)).unwrap();
        }
        Source::look(dir.path()).unwrap();
    }

    #[test]
    fn one_model_file_is_run_and_the_rest_is_not() {
        let file = |path: &str, format| SourceFile { path: path.into(), size: 1, format };
        let (gguf, onnx, tensors) =
            (file("m.gguf", Format::Gguf), file("m.onnx", Format::Onnx), file("m", Format::Safetensors));
        assert_eq!(decide(&[tensors, onnx, gguf], false, None), (Format::Gguf, Ok(vec![2])));
        let card = || file("README.md", Format::Opaque);
        assert_eq!(decide(&[card(), file("a.onnx", Format::Onnx)], false, None), (Format::Onnx, Ok(vec![1])));
        let two = [file("a.gguf", Format::Gguf), file("b.gguf", Format::Gguf)];
        assert!(matches!(decide(&two, false, None), (Format::Gguf, Err(_))));
        assert!(matches!(decide(&[card()], false, None), (Format::Opaque, Err(_))));
        let folder = || {
            let settings = |path| file(path, Format::Opaque);
            let weights = file("model.safetensors", Format::Safetensors);
            vec![
                settings("README.md"),
                settings("config.json"),
                weights,
                file("o.onnx", Format::Onnx),
                settings("tokenizer.json"),
            ]
        };
        assert_eq!(decide(&folder(), false, Some("bert")), (Format::Safetensors, Ok(vec![1, 2, 4])));
        assert_eq!(decide(&folder(), false, Some("llama")), (Format::Onnx, Ok(vec![3])));
        let without = |name: &str| folder().into_iter().filter(|f| f.path != name).collect::<Vec<_>>();
        assert_eq!(decide(&without("tokenizer.json"), false, Some("bert")).0, Format::Onnx);
        let llama = decide(&without("o.onnx"), false, Some("llama"));
        assert!(matches!(llama, (Format::Safetensors, Err(why)) if why.contains("'llama'")));
    }
}
