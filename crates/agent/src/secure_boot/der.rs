//! DER, as far as certificates and signatures need it: elements with one-byte tags and definite lengths.

/// A signature with its certificates has a few KiB.
const ELEMENT_BYTES_MAX: usize = 1 << 20;

pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;
/// `[0]` and what is in it.
pub(super) const CONTEXT_0: u8 = 0xa0;

/// An element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    /// With tag and length.
    pub(super) whole: &'a [u8],
    /// Without.
    pub(super) body: &'a [u8],
}

impl<'a> Element<'a> {
    /// What is in it.
    pub(super) fn inside(&self) -> Reader<'a> {
        Reader(self.body)
    }
}

/// Reads elements one behind the other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    /// The next element; `None` if there is no sound one.
    pub(super) fn any(&mut self) -> Option<Element<'a>> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        // All ones in the tag: it goes on behind, which none of ours does.
        if tag & 0x1f == 0x1f {
            return None;
        }
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                let length = bytes
                    .iter()
                    .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
                // The shortest form only.
                if bytes[0] == 0 || length < 0x80 {
                    return None;
                }
                (length, rest)
            }
            _ => return None,
        };
        if length > ELEMENT_BYTES_MAX {
            return None;
        }
        let (body, behind) = rest.split_at_checked(length)?;
        let whole = &self.0[..self.0.len() - behind.len()];
        self.0 = behind;
        Some(Element { tag, whole, body })
    }

    /// The next element, which must have this tag.
    pub(super) fn take(&mut self, tag: u8) -> Option<Element<'a>> {
        self.any().filter(|element| element.tag == tag)
    }

    /// The next element if it has this tag; otherwise it is left for later.
    pub(super) fn take_if(&mut self, tag: u8) -> Option<Element<'a>> {
        let mut ahead = *self;
        let element = ahead.take(tag)?;
        *self = ahead;
        Some(element)
    }

    pub(super) fn is_empty(self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_read_in_their_shortest_form_only() {
        let read = |bytes: &[u8]| Reader(bytes).any().map(|element| element.body.len());
        assert_eq!(read(&[SEQUENCE, 0]), Some(0));
        assert_eq!(read(&[SEQUENCE, 2, 1, 2, 3]), Some(2));
        assert_eq!(
            read(&[&[SET, 0x81, 0x80][..], &[0; 128]].concat()),
            Some(128)
        );
        assert_eq!(
            read(&[&[SET, 0x82, 1, 0][..], &[0; 256]].concat()),
            Some(256)
        );
        for bad in [
            &[][..],
            &[SEQUENCE],
            &[SEQUENCE, 2, 1],
            &[SEQUENCE, 0x80, 0, 0],
            &[SEQUENCE, 0x81, 1, 0],
            &[SEQUENCE, 0x82, 0, 0x80],
            &[SEQUENCE, 0x84, 0xff, 0xff, 0xff, 0xff],
            &[SEQUENCE, 0x85, 0, 0, 0, 0, 0],
            &[0x3f, 0x01, 0],
        ] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn what_is_optional_is_left_for_later() {
        let mut reader = Reader(&[INTEGER, 1, 7, OCTET_STRING, 0]);
        assert!(reader.take_if(CONTEXT_0).is_none());
        assert_eq!(reader.take_if(INTEGER).unwrap().whole, [INTEGER, 1, 7]);
        assert!(reader.take(INTEGER).is_none());
    }
}
