//! Content from outside: real folders, real files, cuts and flipped bits.

#![expect(clippy::unwrap_used, reason = "this is all test code")]

mod bundle;
mod collect;
mod fixtures;
mod flipped_bits;
mod image;
mod keep;
mod library;
mod patch;
mod random;
mod settled;
mod support;
mod tree;
