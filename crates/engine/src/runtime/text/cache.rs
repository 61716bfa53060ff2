//! Keys and values of sequences, in pages that sequences with the same beginning share.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use zero2ai_kernels::{KernelError, KeyValues};

use super::{gguf::Config, linear::broken};
use crate::error::EngineError;

/// Positions of one page: as many as the kernels take together. Only whole pages are shared, so smaller is better for reuse;
/// larger would spare little.
pub(super) const PAGE: usize = 16;

/// Keys and values of [`PAGE`] positions in every layer. Once it is shared it is never written again.
pub(super) struct Page {
    layers: Vec<KeyValues>,
    counted: Pages,
}

/// How many pages there are.
#[derive(Clone, Default)]
pub(super) struct Pages(Arc<AtomicUsize>);

impl Pages {
    pub(super) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.counted.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Page {
    /// Bytes of a page.
    pub(super) fn bytes(config: &Config) -> u64 {
        KeyValues::bytes(config.kv_heads, config.head_dim, PAGE).saturating_mul(config.layers as u64).max(1)
    }

    fn new(config: &Config, pages: &Pages) -> Result<Self, KernelError> {
        let layer = |_| KeyValues::new(config.kv_heads, config.head_dim, PAGE);
        let layers = (0..config.layers).map(layer).collect::<Result<_, _>>()?;
        pages.0.fetch_add(1, Ordering::Relaxed);
        Ok(Self { layers, counted: pages.clone() })
    }
}

/// One sequence's keys and values.
#[derive(Default)]
pub(super) struct Cache {
    pages: Vec<Arc<Page>>,
    len: usize,
}

impl Cache {
    /// A sequence that starts with these pages, all of them full.
    pub(super) const fn starting_with(pages: Vec<Arc<Page>>) -> Self {
        let len = pages.len().saturating_mul(PAGE);
        Self { pages, len }
    }

    /// Makes room for so many rows more; answers how many pages that took.
    pub(super) fn grow(&mut self, rows: usize, config: &Config, pages: &Pages) -> Result<usize, EngineError> {
        let before = self.pages.len();
        while self.pages.len().saturating_mul(PAGE) < self.len.saturating_add(rows) {
            let page = Page::new(config, pages).map_err(|_| {
                EngineError::worker("there is no memory for another text of this length now; try again soon")
            })?;
            self.pages.push(Arc::new(page));
        }
        Ok(self.pages.len().saturating_sub(before))
    }

    /// Forgets the last positions, which are in no page that is shared.
    pub(super) fn cut(&mut self, rows: usize) {
        self.len = self.len.saturating_sub(rows);
    }

    /// Positions held.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// The pages, the last of them perhaps not full.
    pub(super) fn pages(&self) -> &[Arc<Page>] {
        &self.pages
    }

    /// Puts a page with the same content in a full one's place.
    pub(super) fn replace(&mut self, index: usize, page: Arc<Page>) {
        if let Some(place) = self.pages.get_mut(index) {
            *place = page;
        }
    }

    /// Writes rows of one layer after the positions held; there is room for them.
    pub(super) fn store(
        &mut self,
        layer: usize,
        keys: &[f32],
        values: &[f32],
        width: usize,
    ) -> Result<(), EngineError> {
        let foreign = || EngineError::worker("a text's memory is of another model, too small, or shared");
        let (mut at, mut from) = (self.len, 0_usize);
        while from < keys.len() {
            let place = at % PAGE;
            let to = from.saturating_add(PAGE.saturating_sub(place).saturating_mul(width)).min(keys.len());
            let page = self.pages.get_mut(at / PAGE).and_then(Arc::get_mut).and_then(|p| p.layers.get_mut(layer));
            let (Some(page), Some(keys), Some(values)) = (page, keys.get(from..to), values.get(from..to)) else {
                return Err(foreign());
            };
            page.store(place, keys, values).map_err(broken)?;
            at = at.saturating_add(PAGE.saturating_sub(place));
            from = to;
        }
        Ok(())
    }

    /// One layer's part of all pages.
    pub(super) fn layer(&self, layer: usize) -> Vec<&KeyValues> {
        self.pages.iter().filter_map(|page| page.layers.get(layer)).collect()
    }

    /// Counts rows stored in every layer as held.
    pub(super) const fn advance(&mut self, rows: usize) {
        self.len = self.len.saturating_add(rows);
    }
}
