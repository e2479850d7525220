//! Reads a TPM's answers. A TPM is another computer, and some have had odd firmware: nothing is taken that isn't as the
//! standard has it.

use super::command::{ECDSA, HEADER_BYTES, SHA256, public_area};
use super::{Point, Scalar};

/// The kernel takes no longer answer (`TPM_BUFSIZE`).
pub(crate) const ANSWER_BYTES_MAX: usize = 4096;
const SESSIONS: u16 = 0x8002;
/// Places for keys that aren't stored in the TPM (Part 2, section 7.3).
const TRANSIENT: u8 = 0x80;

/// What is wrong with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("it is cut off")]
    CutOff,
    #[error("it is longer than {ANSWER_BYTES_MAX} bytes")]
    TooLong,
    #[error("it goes on behind its end")]
    GoesOn,
    #[error("its length is another than it says")]
    Length,
    #[error("it has no session")]
    NoSession,
    #[error("the key isn't where keys are put")]
    Handle,
    #[error("the key isn't of the kind that was asked for")]
    OtherKey,
    #[error("the signature isn't of the kind that was asked for")]
    OtherSignature,
    #[error("a number is longer than the curve's")]
    LongNumber,
}

/// The response code; 0 is success.
pub(super) fn code(answer: &[u8]) -> Result<u32, Malformed> {
    if answer.len() > ANSWER_BYTES_MAX {
        return Err(Malformed::TooLong);
    }
    let mut rest = answer;
    let _tag = number16(&mut rest)?;
    let says = number32(&mut rest)?;
    if usize::try_from(says) != Ok(answer.len()) {
        return Err(Malformed::Length);
    }
    number32(&mut rest)
}

/// The answer to `CreatePrimary`: where the key is, and its public half.
pub(crate) fn read_created(answer: &[u8]) -> Result<(u32, Point), Malformed> {
    let mut body = body_with_session(answer)?;
    let handle = take(&mut body, 4)?;
    if handle[0] != TRANSIENT {
        return Err(Malformed::Handle);
    }
    let handle = number32(&mut &*handle)?;
    let mut parameters = parameters(body)?;
    let area = sized(&mut parameters)?;
    // Creation data, its digest, a ticket (tag, hierarchy, digest), the key's name: of no use to us.
    sized(&mut parameters)?;
    sized(&mut parameters)?;
    take(&mut parameters, 6)?;
    sized(&mut parameters)?;
    sized(&mut parameters)?;
    at_end(parameters)?;
    let mut point = area
        .strip_prefix(&*public_area())
        .ok_or(Malformed::OtherKey)?;
    let (x, y) = (scalar(&mut point)?, scalar(&mut point)?);
    at_end(point)?;
    let mut key = [0; 64];
    key[..32].copy_from_slice(&x);
    key[32..].copy_from_slice(&y);
    Ok((handle, key))
}

/// The answer to `Sign`: r and s.
pub(crate) fn read_signed(answer: &[u8]) -> Result<(Scalar, Scalar), Malformed> {
    let mut signature = parameters(body_with_session(answer)?)?;
    for expected in [ECDSA, SHA256] {
        if number16(&mut signature)? != expected {
            return Err(Malformed::OtherSignature);
        }
    }
    let numbers = (scalar(&mut signature)?, scalar(&mut signature)?);
    at_end(signature)?;
    Ok(numbers)
}

/// An answer that says no more than that it was done.
pub(super) fn read_nothing(answer: &[u8]) -> Result<(), Malformed> {
    at_end(answer.get(HEADER_BYTES..).ok_or(Malformed::CutOff)?)
}

fn body_with_session(answer: &[u8]) -> Result<&[u8], Malformed> {
    code(answer)?;
    let mut rest = answer;
    if number16(&mut rest)? != SESSIONS {
        return Err(Malformed::NoSession);
    }
    answer.get(HEADER_BYTES..).ok_or(Malformed::CutOff)
}

/// The parameters, in front of the answer of our one session, which is empty but for its attributes.
fn parameters(mut body: &[u8]) -> Result<&[u8], Malformed> {
    let length = number32(&mut body)?;
    let length = usize::try_from(length).map_err(|_| Malformed::Length)?;
    let parameters = take(&mut body, length)?;
    sized(&mut body)?;
    take(&mut body, 1)?;
    sized(&mut body)?;
    at_end(body)?;
    Ok(parameters)
}

/// A number of the curve. Some TPMs leave out zeros in front.
fn scalar(bytes: &mut &[u8]) -> Result<Scalar, Malformed> {
    let number = sized(bytes)?;
    let mut scalar = [0; 32];
    let zeros = scalar
        .len()
        .checked_sub(number.len())
        .ok_or(Malformed::LongNumber)?;
    scalar[zeros..].copy_from_slice(number);
    Ok(scalar)
}

/// Bytes behind their length in two bytes.
fn sized<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], Malformed> {
    let length = number16(bytes)?;
    take(bytes, usize::from(length))
}

fn number16(bytes: &mut &[u8]) -> Result<u16, Malformed> {
    Ok(take(bytes, 2)?
        .iter()
        .fold(0, |sum, byte| sum << 8 | u16::from(*byte)))
}

fn number32(bytes: &mut &[u8]) -> Result<u32, Malformed> {
    Ok(take(bytes, 4)?
        .iter()
        .fold(0, |sum, byte| sum << 8 | u32::from(*byte)))
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8], Malformed> {
    let (taken, rest) = bytes.split_at_checked(length).ok_or(Malformed::CutOff)?;
    *bytes = rest;
    Ok(taken)
}

const fn at_end(rest: &[u8]) -> Result<(), Malformed> {
    if rest.is_empty() {
        Ok(())
    } else {
        Err(Malformed::GoesOn)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer(body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(HEADER_BYTES + body.len()).unwrap();
        let header = [&[0x80, 0x02][..], &length.to_be_bytes(), &[0; 4]].concat();
        [&header, body].concat()
    }

    fn behind_length(bytes: &[u8]) -> Vec<u8> {
        let length = u16::try_from(bytes.len()).unwrap();
        [&length.to_be_bytes()[..], bytes].concat()
    }

    fn with_parameters(before: &[u8], parameters: &[u8]) -> Vec<u8> {
        let length = u32::try_from(parameters.len()).unwrap().to_be_bytes();
        answer(&[before, &length, parameters, &[0, 0, 1, 0, 0]].concat())
    }

    fn signed(r: &[u8], s: &[u8]) -> Vec<u8> {
        let kind = [0, 0x18, 0, 0x0b];
        let parameters = [&kind[..], &behind_length(r), &behind_length(s)].concat();
        with_parameters(&[], &parameters)
    }

    fn created(area: &[u8], x: &[u8], y: &[u8]) -> Vec<u8> {
        let area = [area, &behind_length(x), &behind_length(y)].concat();
        let data = behind_length(&[7; 55]);
        let digest = behind_length(&[8; 32]);
        let ticket = [&[0x80, 0x21, 0x40, 0, 0, 1][..], &digest].concat();
        let name = behind_length(&[9; 34]);
        let parameters = [behind_length(&area), data, digest, ticket, name].concat();
        with_parameters(&[0x80, 0xff, 0xff, 0xff], &parameters)
    }

    #[test]
    fn zeros_in_front_may_be_left_out() {
        let (r, s) = read_signed(&signed(&[5], &[6; 32])).unwrap();
        assert_eq!((r[..31].to_vec(), r[31], s), (vec![0; 31], 5, [6; 32]));
        let answer = signed(&[1; 33], &[6; 32]);
        assert_eq!(read_signed(&answer), Err(Malformed::LongNumber));
    }

    #[test]
    fn another_key_than_was_asked_for_is_refused() {
        let good = created(&public_area(), &[1; 32], &[2; 32]);
        let (handle, key) = read_created(&good).unwrap();
        assert_eq!((handle, key[31], key[32]), (0x80ff_ffff, 1, 2));
        for at in 0..public_area().len() {
            let mut area = public_area();
            area[at] ^= 1;
            let answer = created(&area, &[1; 32], &[2; 32]);
            assert_eq!(read_created(&answer), Err(Malformed::OtherKey), "byte {at}");
        }
    }

    #[test]
    fn whatever_is_cut_off_or_goes_on_is_refused() {
        for good in [
            created(&public_area(), &[1; 32], &[2; 32]),
            signed(&[5; 32], &[6; 32]),
        ] {
            let body = &good[HEADER_BYTES..];
            for length in 0..body.len() {
                let cut = answer(&body[..length]);
                assert!(read_created(&cut).is_err() && read_signed(&cut).is_err());
            }
            let longer = answer(&[body, &[0]].concat());
            assert!(read_created(&longer).is_err() && read_signed(&longer).is_err());
            let wrong = &good[..good.len() - 1];
            assert_eq!(code(wrong), Err(Malformed::Length));
        }
        assert_eq!(
            code(&answer(&[0; ANSWER_BYTES_MAX])),
            Err(Malformed::TooLong)
        );
    }

    proptest! {
        #[test]
        fn no_answer_panics(body in proptest::collection::vec(any::<u8>(), 0..300), whole in any::<bool>()) {
            let bytes = if whole { answer(&body) } else { body };
            let _ = (code(&bytes), read_created(&bytes), read_signed(&bytes), read_nothing(&bytes));
        }
    }
}
