//! The `Machine` port: one file per platform, and what it is made of.

pub(crate) mod boot;
pub(crate) mod command;
pub(crate) mod disk;
pub(crate) mod facts;
pub(crate) mod linux;
#[cfg(test)]
pub(crate) mod made_of_files;
mod reach;
pub(crate) mod target;
pub(crate) mod volumes;
