//! Boot images, boot media, OS images and packages made from Debian's, assembled without root where that is possible.
//!
//! Blocking code; it writes files and runs a few trusted programs (`apt-get`, `dpkg-deb`, `mmdebstrap`, `mke2fs`,
//! `qemu-img`, `wimlib-imagex`, `mkntfs`, `tar`, `openssl`, `sbsigntool`'s), all through one module. It captures no content and publishes nothing: its callers do, with what it prepared.

pub mod boot_image;
pub mod command;
pub mod cpio;
mod deb;
mod debian;
mod disk_image;
pub mod elf;
pub mod error;
pub mod medium;
pub mod modinfo;
pub mod os_image;
pub mod package_definition;
mod partition_table;
pub mod progress;
pub mod secure_boot;
mod tree;
pub mod uki;
mod window;
mod windows_image;
mod yaml;
