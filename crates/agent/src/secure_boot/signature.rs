//! Signatures as firmware checks them: PKCS #7 over an Authenticode digest, RSA with SHA-256, and certificates that lead
//! to one the firmware knows. Validity in time isn't looked at, as firmware doesn't.

use ring::digest::{SHA256, digest};
use ring::signature::{
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RsaParameters, UnparsedPublicKey,
};

use super::der::{
    BIT_STRING, CONTEXT_0, Element, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, Reader, SEQUENCE, SET,
};

/// Debian's kernels have one certificate with them, Microsoft's programs three.
const CERTIFICATES_MAX: usize = 16;
/// From a signer to an authority, there are two or three.
const CHAIN_MAX: usize = 8;
const NAME_CHARS_MAX: usize = 80;

// Object identifiers, without tag and length.
const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
const INDIRECT_DATA: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x02, 0x01, 0x04];
const CONTENT_TYPE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x03];
const MESSAGE_DIGEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x04];
const WITH_SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const RSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b];
const RSA_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c];
const RSA_SHA512: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0d];
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// A certificate, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Certificate<'a> {
    /// All of it.
    pub(super) der: &'a [u8],
    /// What is signed.
    signed: &'a [u8],
    serial: &'a [u8],
    issuer: &'a [u8],
    subject: Element<'a>,
    /// The RSA key (PKCS #1).
    key: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Certificate<'a> {
    pub(super) fn parse(der: &'a [u8]) -> Option<Self> {
        let mut outer = Reader(der);
        let whole = outer.take(SEQUENCE)?;
        let mut parts = whole.inside();
        let signed = parts.take(SEQUENCE)?;
        let algorithm = parts.take(SEQUENCE)?.inside().take(OBJECT_IDENTIFIER)?;
        let signature = bits(parts.take(BIT_STRING)?)?;
        let mut inner = signed.inside();
        let _version = inner.take_if(CONTEXT_0);
        let serial = inner.take(INTEGER)?;
        let _algorithm = inner.take(SEQUENCE)?;
        let issuer = inner.take(SEQUENCE)?;
        let _validity = inner.take(SEQUENCE)?;
        let subject = inner.take(SEQUENCE)?;
        let mut key = inner.take(SEQUENCE)?.inside();
        let kind = key.take(SEQUENCE)?.inside().take(OBJECT_IDENTIFIER)?;
        if kind.body != RSA {
            return None;
        }
        Some(Self {
            der: whole.whole,
            signed: signed.whole,
            serial: serial.whole,
            issuer: issuer.whole,
            subject,
            key: bits(key.take(BIT_STRING)?)?,
            algorithm: algorithm.body,
            signature,
        })
    }

    /// The digest by which `dbx` may name it.
    pub(super) fn digest(&self) -> [u8; 32] {
        sha256(self.signed)
    }

    /// What people call it: its common name, in printable characters.
    pub(super) fn name(&self) -> String {
        let mut names = self.subject.inside();
        let mut found = None;
        while let Some(set) = names.take(SET) {
            let mut pair = set.inside().take(SEQUENCE).map(|pair| pair.inside());
            if let Some(pair) = &mut pair
                && pair
                    .take(OBJECT_IDENTIFIER)
                    .is_some_and(|kind| kind.body == COMMON_NAME)
            {
                found = pair.any();
            }
        }
        let text = found.map_or_else(
            || "somebody without a name".into(),
            |name| String::from_utf8_lossy(name.body).into_owned(),
        );
        let printable = text.chars().filter(|char| !char.is_control());
        printable.take(NAME_CHARS_MAX).collect()
    }

    /// Whether `authority` vouches for it.
    fn is_issued_by(&self, authority: &Certificate<'_>) -> bool {
        let algorithm = match self.algorithm {
            RSA_SHA256 => &RSA_PKCS1_2048_8192_SHA256,
            RSA_SHA384 => &RSA_PKCS1_2048_8192_SHA384,
            RSA_SHA512 => &RSA_PKCS1_2048_8192_SHA512,
            _ => return false,
        };
        self.issuer == authority.subject.whole
            && is_signed(algorithm, authority.key, self.signed, self.signature)
    }
}

fn is_signed(algorithm: &'static RsaParameters, key: &[u8], text: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(algorithm, key)
        .verify(text, signature)
        .is_ok()
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut sum = [0; 32];
    sum.copy_from_slice(digest(&SHA256, bytes).as_ref());
    sum
}

/// The bytes of a bit string of whole bytes.
fn bits(element: Element<'_>) -> Option<&[u8]> {
    let (unused, bytes) = element.body.split_first()?;
    (*unused == 0).then_some(bytes)
}

/// A signature whose mathematics are right: who made it, and who vouches for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Signature<'a> {
    pub(super) signer: Certificate<'a>,
    with_it: Vec<Certificate<'a>>,
}

/// Why a signature is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoSignature {
    #[error("its signature is damaged, or of a kind that isn't known here (RSA with SHA-256 is)")]
    Unknown,
    #[error("its signature is that of another image: it was altered after it was signed")]
    OfAnother,
    #[error("its signature doesn't fit the certificate that it names")]
    Wrong,
}

impl<'a> Signature<'a> {
    /// Reads a signature of the image with this digest, and checks it.
    pub(super) fn verify(bytes: &'a [u8], image: &[u8; 32]) -> Result<Self, NoSignature> {
        let parts = Parts::parse(bytes).ok_or(NoSignature::Unknown)?;
        if parts.image != image {
            return Err(NoSignature::OfAnother);
        }
        if parts.content_digest != sha256(parts.content) {
            return Err(NoSignature::Wrong);
        }
        let is_signers = |certificate: &&Certificate<'_>| {
            certificate.issuer == parts.issuer && certificate.serial == parts.serial
        };
        let signer = *parts
            .certificates
            .iter()
            .find(is_signers)
            .ok_or(NoSignature::Wrong)?;
        // They are signed as the set that they are, whatever tag they have here.
        let mut attributes = parts.attributes.whole.to_vec();
        attributes[0] = SET;
        if !is_signed(
            &RSA_PKCS1_2048_8192_SHA256,
            signer.key,
            &attributes,
            parts.signature,
        ) {
            return Err(NoSignature::Wrong);
        }
        Ok(Self {
            signer,
            with_it: parts.certificates,
        })
    }

    /// The certificates from the signer's to one that is among `anchors`, both included; `None` if none leads there.
    pub(super) fn chain_to(&self, anchors: &[Certificate<'a>]) -> Option<Vec<Certificate<'a>>> {
        let mut chain = vec![self.signer];
        while let Some(last) = chain.last().copied() {
            if anchors.iter().any(|anchor| anchor.der == last.der) {
                return Some(chain);
            }
            if let Some(anchor) = anchors.iter().find(|anchor| last.is_issued_by(anchor)) {
                chain.push(*anchor);
                return Some(chain);
            }
            let next = self
                .with_it
                .iter()
                .find(|next| !chain.contains(next) && last.is_issued_by(next));
            if chain.len() == CHAIN_MAX {
                return None;
            }
            chain.push(*next?);
        }
        None
    }

    /// The certificates that came with it.
    pub(super) fn certificates(&self) -> &[Certificate<'a>] {
        &self.with_it
    }
}

/// The parts of a PKCS #7 that firmware looks at.
struct Parts<'a> {
    /// The digest of the image it is a signature of.
    image: &'a [u8],
    /// What the attributes have a digest of.
    content: &'a [u8],
    content_digest: &'a [u8],
    certificates: Vec<Certificate<'a>>,
    issuer: &'a [u8],
    serial: &'a [u8],
    attributes: Element<'a>,
    signature: &'a [u8],
}

impl<'a> Parts<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut outer = Reader(bytes).take(SEQUENCE)?.inside();
        if outer.take(OBJECT_IDENTIFIER)?.body != SIGNED_DATA {
            return None;
        }
        let mut data = outer.take(CONTEXT_0)?.inside().take(SEQUENCE)?.inside();
        let _version = data.take(INTEGER)?;
        let _digests = data.take(SET)?;
        let mut described = data.take(SEQUENCE)?.inside();
        if described.take(OBJECT_IDENTIFIER)?.body != INDIRECT_DATA {
            return None;
        }
        let content = described.take(CONTEXT_0)?.inside().take(SEQUENCE)?;
        let mut indirect = content.inside();
        let _kind = indirect.take(SEQUENCE)?;
        let mut image = indirect.take(SEQUENCE)?.inside();
        let image_algorithm = image.take(SEQUENCE)?.inside().take(OBJECT_IDENTIFIER)?;
        let image = image.take(OCTET_STRING)?.body;
        let mut certificates = Vec::new();
        let mut listed = data.take(CONTEXT_0)?.inside();
        while !listed.is_empty() {
            let der = listed.take(SEQUENCE)?.whole;
            if certificates.len() == CERTIFICATES_MAX {
                return None;
            }
            // Of other kinds there may be some, which lead nowhere for us.
            certificates.extend(Certificate::parse(der));
        }
        let mut signer = data.take(SET)?.inside().take(SEQUENCE)?.inside();
        let _version = signer.take(INTEGER)?;
        let mut named = signer.take(SEQUENCE)?.inside();
        let (issuer, serial) = (named.take(SEQUENCE)?, named.take(INTEGER)?);
        let algorithm = signer.take(SEQUENCE)?.inside().take(OBJECT_IDENTIFIER)?;
        let attributes = signer.take(CONTEXT_0)?;
        let scheme = signer.take(SEQUENCE)?.inside().take(OBJECT_IDENTIFIER)?;
        let signature = signer.take(OCTET_STRING)?;
        let is_known = algorithm.body == WITH_SHA256
            && image_algorithm.body == WITH_SHA256
            && [RSA, RSA_SHA256].contains(&scheme.body)
            && attribute(attributes, CONTENT_TYPE)?.body == INDIRECT_DATA;
        is_known.then_some(Self {
            image,
            content: content.body,
            content_digest: attribute(attributes, MESSAGE_DIGEST)?.body,
            certificates,
            issuer: issuer.whole,
            serial: serial.whole,
            attributes,
            signature: signature.body,
        })
    }
}

/// The one value of an attribute.
fn attribute<'a>(attributes: Element<'a>, kind: &[u8]) -> Option<Element<'a>> {
    let mut all = attributes.inside();
    while let Some(pair) = all.take(SEQUENCE) {
        let mut pair = pair.inside();
        if pair.take(OBJECT_IDENTIFIER)?.body == kind {
            return pair.take(SET)?.inside().any();
        }
    }
    None
}
