//! Content from outside: real folders, real files, cuts and flipped bits.

#![expect(clippy::unwrap_used, reason = "this is all test code")]

mod bundle;
mod fixtures;
mod image;
mod library;
mod support;
mod tree;
