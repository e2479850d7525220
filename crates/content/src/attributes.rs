//! Extended attributes: access control lists, capabilities, and what users and programs note about files.
//!
//! Which ones are content, how a manifest tells them, and how they are read and set. Those that belong to the machine, not to the
//! file (SELinux labels, measurements), are neither captured nor touched.

use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::error::ContentError;
use crate::manifest::bytes::{Reader, bad, put_text};

/// A thing has a handful at most; the kernel's list of names ends soon after.
pub const ATTRIBUTES_MAX: usize = 256;
/// The longest value; what Linux holds, but for one byte.
pub const ATTRIBUTE_BYTES_MAX: usize = 65535;
/// The longest name; what Linux holds.
const NAME_BYTES_MAX: usize = 255;

/// Captured, and set by whoever owns the file.
const OF_USERS: [&[u8]; 2] = [b"system.posix_acl_access", b"system.posix_acl_default"];
/// What their names begin with.
const BEGIN_OF_USERS: &[u8] = b"user.";
/// Captured, and set by root alone.
const BEGIN_OF_ROOT: [&[u8]; 2] = [b"trusted.", b"security."];
/// Of the machine, not of the file.
const LEFT_OUT: [&[u8]; 4] = [
    b"security.selinux",
    b"security.ima",
    b"security.evm",
    b"security.SMACK64",
];

/// An extended attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    /// Its name, with the part that says what kind it is.
    pub name: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
}

impl Attribute {
    fn is_for(&self, is_root: bool) -> bool {
        is_root || is_of_users(&self.name)
    }
}

fn is_of_users(name: &[u8]) -> bool {
    OF_USERS.contains(&name) || name.starts_with(BEGIN_OF_USERS)
}

fn is_content(name: &[u8]) -> bool {
    let is_of_root = BEGIN_OF_ROOT.iter().any(|begin| name.starts_with(begin));
    is_of_users(name) || (is_of_root && !LEFT_OUT.contains(&name))
}

/// Checks the attributes of an entry of a manifest.
pub(crate) fn check(attributes: &[Attribute]) -> Result<(), ContentError> {
    if attributes.len() > ATTRIBUTES_MAX {
        return Err(bad("something has too many attributes"));
    }
    for Attribute { name, value } in attributes {
        if name.len() > NAME_BYTES_MAX || name.contains(&0) || !is_content(name) {
            return Err(bad("the name of an attribute is none that is content"));
        }
        if value.len() > ATTRIBUTE_BYTES_MAX {
            return Err(bad("an attribute is too long"));
        }
    }
    let is_in_order = attributes.is_sorted_by(|left, right| left.name < right.name);
    match is_in_order {
        true => Ok(()),
        false => Err(bad("attributes are not in order, or one comes twice")),
    }
}

pub(crate) fn encode(attributes: &[Attribute], to: &mut Vec<u8>) {
    // There are never more than `ATTRIBUTES_MAX`.
    let count = u16::try_from(attributes.len()).unwrap_or(u16::MAX);
    to.extend_from_slice(&count.to_le_bytes());
    for Attribute { name, value } in attributes {
        put_text(to, name);
        put_text(to, value);
    }
}

pub(crate) fn decode(from: &mut Reader<'_>) -> Result<Vec<Attribute>, ContentError> {
    let count = usize::from(from.u16()?);
    if !(1..=ATTRIBUTES_MAX).contains(&count) {
        return Err(bad("something has no attributes after all, or too many"));
    }
    let mut attributes = Vec::new();
    for _ in 0..count {
        attributes.push(Attribute {
            name: from.text(NAME_BYTES_MAX)?.to_vec(),
            value: from.text(ATTRIBUTE_BYTES_MAX)?.to_vec(),
        });
    }
    Ok(attributes)
}

/// What has attributes: an open file, or whatever has this name. A symbolic link isn't followed.
#[derive(Clone, Copy)]
pub(crate) enum Holder<'a> {
    Open(BorrowedFd<'a>),
    Named(&'a Path),
}

impl Holder<'_> {
    /// Those that are content, by name.
    pub(crate) fn attributes(self) -> Result<Vec<Attribute>, Errno> {
        let mut found = Vec::new();
        for name in self.names()?.split(|byte| *byte == 0) {
            if is_content(name) {
                found.push(Attribute {
                    name: name.to_vec(),
                    value: self.value(name)?,
                });
            }
        }
        found.sort_unstable_by(|left, right| left.name.cmp(&right.name));
        Ok(found)
    }

    /// Whether it has these and no others, as far as we may set them.
    pub(crate) fn has(self, wanted: &[Attribute], is_root: bool) -> Result<bool, Errno> {
        let there = self.attributes()?;
        let ours = |attribute: &&Attribute| attribute.is_for(is_root);
        Ok(there.iter().filter(ours).eq(wanted.iter().filter(ours)))
    }

    /// Makes it have these and no others, as far as we may set them.
    pub(crate) fn make_have(self, wanted: &[Attribute], is_root: bool) -> Result<(), Errno> {
        let there = self.attributes()?;
        let ours = |attribute: &&Attribute| attribute.is_for(is_root);
        for attribute in there.iter().filter(ours) {
            if wanted.iter().all(|wanted| wanted.name != attribute.name) {
                self.remove(&attribute.name)?;
            }
        }
        for attribute in wanted.iter().filter(ours) {
            if !there.contains(attribute) {
                self.set(attribute)?;
            }
        }
        Ok(())
    }

    /// The names of all attributes, a NUL behind each.
    fn names(self) -> Result<Vec<u8>, Errno> {
        let length = match self {
            Self::Open(file) => rustix::fs::flistxattr_query(file),
            Self::Named(path) => rustix::fs::llistxattr_query(path),
        };
        let mut names = match length {
            // Nearly nothing has any.
            Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            Ok(length) => vec![0; length],
            Err(error) => return Err(error),
        };
        let length = match self {
            Self::Open(file) => rustix::fs::flistxattr(file, &mut names[..]),
            Self::Named(path) => rustix::fs::llistxattr(path, &mut names[..]),
        }?;
        names.truncate(length);
        Ok(names)
    }

    fn value(self, name: &[u8]) -> Result<Vec<u8>, Errno> {
        let length = match self {
            Self::Open(file) => rustix::fs::fgetxattr_query(file, name),
            Self::Named(path) => rustix::fs::lgetxattr_query(path, name),
        }?;
        let mut value = vec![0; length];
        let length = match self {
            Self::Open(file) => rustix::fs::fgetxattr(file, name, &mut value[..]),
            Self::Named(path) => rustix::fs::lgetxattr(path, name, &mut value[..]),
        }?;
        value.truncate(length);
        Ok(value)
    }

    fn set(self, attribute: &Attribute) -> Result<(), Errno> {
        let Attribute { name, value } = attribute;
        let (name, any) = (name.as_slice(), XattrFlags::empty());
        match self {
            Self::Open(file) => rustix::fs::fsetxattr(file, name, value, any),
            Self::Named(path) => rustix::fs::lsetxattr(path, name, value, any),
        }
    }

    fn remove(self, name: &[u8]) -> Result<(), Errno> {
        match self {
            Self::Open(file) => rustix::fs::fremovexattr(file, name),
            Self::Named(path) => rustix::fs::lremovexattr(path, name),
        }
    }
}
