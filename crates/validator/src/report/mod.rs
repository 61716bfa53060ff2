//! A report as a page: HTML with plots drawn as SVG inside it. No script, nothing loaded from anywhere, all text escaped, and
//! well-formed as XML, so that any parser can check it.
//!
//! It lives here and not in `trust`, because the ledger links `trust` and has no use for pages.
//!
//! | module | owns |
//! |---|---|
//! | [`html`] | the page: sections, tables, words |
//! | [`svg`] | the plots |
//! | [`text`] | escaping, and numbers as people read them |

pub mod html;
pub mod svg;
pub mod text;

pub use html::page;
