//! The ground floor: identifiers, page numbers, time and entropy as arguments.
//!
//! Nothing here knows what a repository is. Everything above may use it.

pub mod clock;
pub mod entropy;
pub mod error_text;
pub mod id;
pub mod image_tree;
pub mod page;
pub mod page_set;
pub mod units;
