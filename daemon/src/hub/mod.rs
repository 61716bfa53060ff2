//! Models from a hub that speaks Hugging Face's protocol: a repository's files at one commit, downloaded into a folder of the
//! home, every byte checked against what the hub lists. This process downloads, never the node: no peer can make a node
//! ask a server for anything.
//!
//! | module | owns |
//! |---|---|
//! | [`place`] | `hf:org/repo@revision`, as it is typed |
//! | [`listing`] | what the hub says is there: names, sizes and hashes, each checked before it is used |
//! | [`http`] | requests and their patience |
//! | [`transfer`] | one file: resumed, hashed, renamed |
//! | [`folder`] | where it goes: room, one download at a time, nothing left over |
//!
//! What the hashes are worth: that the bytes are those of the commit which the hub lists. Who made that commit, and whether
//! the hub is honest, they do not say.

mod folder;
mod http;
mod listing;
mod place;
mod transfer;

use std::path::{Path, PathBuf};

use tokio::sync::mpsc;
use zero2ai_proto::local::Progress as Step;

pub(crate) use self::place::Place;
use self::{folder::Folder, http::Http};
use crate::{
    exit::{Exit, Failure, Outcome},
    output::plural,
    progress::Progress,
};

/// Words of progress on their way to the terminal; when full, one is dropped.
const PROGRESS: usize = 16;

/// What is wanted of a hub.
pub(crate) struct Wanted {
    /// Repository and revision.
    pub(crate) place: Place,
    /// Base address of the hub.
    pub(crate) endpoint: String,
    /// Patterns of which a file must match one; none is every file.
    pub(crate) only: Vec<String>,
    /// Home folder, below which downloads lie.
    pub(crate) home: PathBuf,
}

/// A repository's files on this machine.
#[derive(Debug)]
pub(crate) struct Downloaded {
    folder: Folder,
    /// `hf:org/repo@commit`.
    pub(crate) source: String,
}

impl Downloaded {
    /// The folder with the files.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Removes the files. What cannot be removed stays and is no failure of what was done with it.
    pub(crate) fn remove(self) {
        self.folder.remove();
    }
}

/// Downloads what is wanted, or what an earlier try left undone of it.
pub(crate) async fn download(wanted: Wanted, progress: &mut Progress) -> Outcome<Downloaded> {
    let (tell, mut heard) = mpsc::channel(PROGRESS);
    let work = tokio::task::spawn_blocking(move || {
        fetch(&wanted, &mut |what, done, total| {
            let _ = tell.try_send(Step { what: what.to_owned(), done, total }); // full: the next one says it
        })
    });
    while let Some(step) = heard.recv().await {
        progress.step(&step);
    }
    work.await.map_err(|e| Failure::new(Exit::Internal, format!("The download ended unexpectedly: {e}.")))?
}

fn fetch(wanted: &Wanted, tell: &mut dyn FnMut(&str, u64, u64)) -> Outcome<Downloaded> {
    let Wanted { place, endpoint, only, home } = wanted;
    let http = Http::new(endpoint)?;
    tell("asking the hub what is there", 0, 0);
    let listing = listing::read(&http.listing(place)?, only).map_err(|why| {
        let why = format!("{place} of {endpoint} cannot be used: {why}");
        Failure::new(Exit::Invalid, why)
    })?;
    let folder = Folder::open(home, place, &listing)?;
    let (total, files) = (listing.bytes(), listing.files.len() as u64);
    let what = format!("bytes downloaded in {}", plural(files, "file"));
    let mut before = 0u64;
    for file in &listing.files {
        let mut told = |done: u64| tell(&what, before.saturating_add(done), total);
        transfer::bring(&http, &http.file(place, &listing.commit, &file.path), file, folder.path(), &mut told)?;
        before = before.saturating_add(file.size);
    }
    Ok(Downloaded { folder, source: place.at(&listing.commit) })
}
