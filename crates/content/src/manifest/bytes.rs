//! Reads and writes the integers and texts of manifests and patches; the reader never goes beyond its bytes.

use crate::error::ContentError;

pub(crate) fn bad(rule: &'static str) -> ContentError {
    ContentError::BadManifest { rule }
}

/// Takes a manifest apart, front to back.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], ContentError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or(bad("it is cut off"))?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], ContentError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(bad("it is cut off"))?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, ContentError> {
        self.array().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, ContentError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, ContentError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, ContentError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, ContentError> {
        self.array().map(i64::from_le_bytes)
    }

    /// A count of things that take at least `bytes_each`: refused if the rest can't hold them.
    pub(crate) fn count(&mut self, bytes_each: usize) -> Result<usize, ContentError> {
        let count = self.u32()? as usize;
        if count > self.rest.len() / bytes_each {
            return Err(bad("a count is larger than the manifest"));
        }
        Ok(count)
    }

    /// Bytes with their length in front.
    pub(crate) fn text(&mut self, bytes_max: usize) -> Result<&'a [u8], ContentError> {
        let count = usize::from(self.u16()?);
        if count > bytes_max {
            return Err(bad("a name is too long"));
        }
        self.take(count)
    }

    pub(crate) fn end(&self) -> Result<(), ContentError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(bad("bytes follow its end"))
        }
    }
}

/// Writes bytes with their length in front. The length was checked when the text was made.
pub(crate) fn put_text(to: &mut Vec<u8>, text: &[u8]) {
    to.extend_from_slice(&u16::try_from(text.len()).unwrap_or(u16::MAX).to_le_bytes());
    to.extend_from_slice(text);
}

/// Writes a count. There are never more than `u32::MAX` things: that many wouldn't fit into the largest manifest.
pub(crate) fn put_count(to: &mut Vec<u8>, count: usize) {
    to.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
}
