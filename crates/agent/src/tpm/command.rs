//! The three commands (Part 3), as bytes. All of them are public: whoever watches the bus learns no secret.

/// A command with a session, here one with an empty password; and one without (Part 2, section 6.9).
const SESSIONS: u16 = 0x8002;
const NO_SESSIONS: u16 = 0x8001;
const HASH_CHECK: u16 = 0x8024;
/// Tag, length and code, of a command as of an answer.
pub(super) const HEADER_BYTES: usize = 10;
const CREATE_PRIMARY: u32 = 0x131;
const SIGN: u32 = 0x15d;
const FLUSH_CONTEXT: u32 = 0x165;
/// The storage hierarchy: cleared when the TPM is, as before it is given away.
const OWNER: u32 = 0x4000_0001;
const NO_HIERARCHY: u32 = 0x4000_0007;
const PASSWORD: u32 = 0x4000_0009;

pub(super) const ECC: u16 = 0x23;
pub(super) const SHA256: u16 = 0x0b;
pub(super) const ECDSA: u16 = 0x18;
pub(super) const P256: u16 = 0x03;
/// No algorithm.
pub(super) const NULL: u16 = 0x10;
/// fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, sign: made inside, never given out, without a password.
pub(super) const ATTRIBUTES: u32 = 0x0004_0472;

/// Part of what the key is derived from: with another label it is another key.
const LABEL: &[u8; 32] = b"forestage device key 1\0\0\0\0\0\0\0\0\0\0";

/// What the answer to [`create_primary`] must begin its public area with, up to the point.
pub(super) fn public_area() -> Vec<u8> {
    let mut area = Vec::new();
    for number in [ECC, SHA256] {
        area.extend(number.to_be_bytes());
    }
    area.extend(ATTRIBUTES.to_be_bytes());
    // No policy, no encryption of children, the scheme and its digest, the curve, no derivation.
    for number in [0, NULL, ECDSA, SHA256, P256, NULL] {
        area.extend(number.to_be_bytes());
    }
    area
}

/// Has the key made, and put into one of the TPM's places.
pub(super) fn create_primary() -> Vec<u8> {
    let mut area = public_area();
    sized(&mut area, LABEL);
    sized(&mut area, &[0; 32]);
    let mut body = OWNER.to_be_bytes().to_vec();
    empty_password(&mut body);
    // No password for the key, nothing to seal.
    sized(&mut body, &[0; 4]);
    sized(&mut body, &area);
    // Nothing to be put into the creation data: no text, no registers.
    sized(&mut body, &[]);
    body.extend(0_u32.to_be_bytes());
    command(SESSIONS, CREATE_PRIMARY, &body)
}

/// Signs a digest with the key's own scheme.
pub(super) fn sign(handle: u32, digest: &[u8]) -> Vec<u8> {
    let mut body = handle.to_be_bytes().to_vec();
    empty_password(&mut body);
    sized(&mut body, digest);
    body.extend(NULL.to_be_bytes());
    // The digest needn't come from the TPM: a ticket that says nothing.
    body.extend(HASH_CHECK.to_be_bytes());
    body.extend(NO_HIERARCHY.to_be_bytes());
    sized(&mut body, &[]);
    command(SESSIONS, SIGN, &body)
}

/// Takes a key out of the place it is in.
pub(super) fn flush_context(handle: u32) -> Vec<u8> {
    command(NO_SESSIONS, FLUSH_CONTEXT, &handle.to_be_bytes())
}

fn empty_password(body: &mut Vec<u8>) {
    let mut session = PASSWORD.to_be_bytes().to_vec();
    // No nonce, no attributes, no password.
    session.extend([0; 5]);
    body.extend(length::<4>(session.len()));
    body.extend(session);
}

/// Bytes behind their length in two bytes.
fn sized(body: &mut Vec<u8>, bytes: &[u8]) {
    body.extend(length::<2>(bytes.len()));
    body.extend(bytes);
}

fn command(tag: u16, code: u32, body: &[u8]) -> Vec<u8> {
    let mut command = tag.to_be_bytes().to_vec();
    command.extend(length::<4>(HEADER_BYTES + body.len()));
    command.extend(code.to_be_bytes());
    command.extend(body);
    command
}

/// The last bytes of a length; what we send has some hundred bytes.
fn length<const WIDTH: usize>(bytes: usize) -> [u8; WIDTH] {
    let all = bytes.to_be_bytes();
    std::array::from_fn(|at| all[all.len() - WIDTH + at])
}
