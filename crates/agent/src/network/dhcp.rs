//! DHCP for IPv4 (RFC 2131, RFC 2132): asking for an address and reading the answer. No I/O; every byte of an answer is
//! hostile.

use std::net::Ipv4Addr;

/// The fixed part of a message, up to and with the magic cookie.
const FIXED_BYTES: usize = 240;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// Old relays drop messages shorter than this (RFC 1542, section 2.1).
const MESSAGE_BYTES_MIN: usize = 300;
/// Name servers we use; a resolver asks three at most.
const SERVERS_MAX: usize = 3;

/// The kinds of message we send and read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Discover,
    Offer,
    Request,
    Ack,
    Nak,
}

impl Kind {
    const fn code(self) -> u8 {
        match self {
            Self::Discover => 1,
            Self::Offer => 2,
            Self::Request => 3,
            Self::Ack => 5,
            Self::Nak => 6,
        }
    }

    const fn from_code(code: u8) -> Option<Self> {
        match code {
            2 => Some(Self::Offer),
            5 => Some(Self::Ack),
            6 => Some(Self::Nak),
            _ => None,
        }
    }
}

/// What a server offers or grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) address: Ipv4Addr,
    pub(crate) prefix: u8,
    pub(crate) gateway: Option<Ipv4Addr>,
    pub(crate) name_servers: Vec<Ipv4Addr>,
    pub(crate) server: Ipv4Addr,
    pub(crate) seconds: u32,
}

/// A message to the server. `offer` is what is being requested.
pub(crate) fn message(
    kind: Kind,
    transaction: u32,
    mac: [u8; 6],
    offer: Option<&Lease>,
) -> Vec<u8> {
    let mut bytes = vec![0; FIXED_BYTES];
    // Request, Ethernet, six bytes of address.
    bytes[..3].copy_from_slice(&[1, 1, 6]);
    bytes[4..8].copy_from_slice(&transaction.to_be_bytes());
    // We have no address yet: the answer is to be broadcast.
    bytes[10] = 0x80;
    bytes[28..34].copy_from_slice(&mac);
    bytes[236..240].copy_from_slice(&COOKIE);
    let mut option = |code: u8, value: &[u8]| {
        bytes.push(code);
        bytes.push(u8::try_from(value.len()).unwrap_or(0));
        bytes.extend_from_slice(value);
    };
    option(53, &[kind.code()]);
    if let Some(offer) = offer {
        option(50, &offer.address.octets());
        option(54, &offer.server.octets());
    }
    option(57, &1400_u16.to_be_bytes());
    option(60, b"forestage");
    option(55, &[1, 3, 6, 51, 54]);
    bytes.push(255);
    bytes.resize(bytes.len().max(MESSAGE_BYTES_MIN), 0);
    bytes
}

/// Reads an answer to `transaction`; `None` if it is none, or makes no sense.
pub(crate) fn parse(bytes: &[u8], transaction: u32, mac: [u8; 6]) -> Option<(Kind, Lease)> {
    let fixed = bytes.get(..FIXED_BYTES)?;
    if fixed[0] != 2
        || fixed[4..8] != transaction.to_be_bytes()
        || fixed[28..34] != mac
        || fixed[236..240] != COOKIE
    {
        return None;
    }
    let mut lease = Lease {
        address: address(&fixed[16..20])?,
        prefix: 24,
        gateway: None,
        name_servers: Vec::new(),
        server: Ipv4Addr::UNSPECIFIED,
        seconds: 0,
    };
    let mut kind = None;
    let mut rest = &bytes[FIXED_BYTES..];
    while let Some((code, after)) = rest.split_first() {
        match code {
            0 => rest = after,
            255 => break,
            _ => {
                let (length, after) = after.split_first()?;
                let (value, after) = after.split_at_checked(usize::from(*length))?;
                rest = after;
                read_option(*code, value, &mut kind, &mut lease)?;
            }
        }
    }
    Some((kind?, lease))
}

fn read_option(code: u8, value: &[u8], kind: &mut Option<Kind>, lease: &mut Lease) -> Option<()> {
    match code {
        53 => *kind = Some(Kind::from_code(*value.first()?)?),
        1 => {
            let mask = u32::from(address(value)?);
            // A mask with holes is no mask.
            if mask.leading_ones() + mask.trailing_zeros() != 32 {
                return None;
            }
            lease.prefix = u8::try_from(mask.leading_ones()).ok()?;
        }
        3 => {
            lease.gateway =
                Some(address(value.get(..4)?)?).filter(|gateway| !gateway.is_unspecified())
        }
        6 => {
            let servers = value.chunks_exact(4).take(SERVERS_MAX).filter_map(address);
            lease.name_servers = servers.filter(|server| !server.is_unspecified()).collect();
        }
        51 => lease.seconds = u32::from_be_bytes(value.try_into().ok()?),
        54 => lease.server = address(value)?,
        _ => {}
    }
    Some(())
}

fn address(bytes: &[u8]) -> Option<Ipv4Addr> {
    let octets: [u8; 4] = bytes.try_into().ok()?;
    Some(octets.into())
}

/// Whether the address is one that a machine can have.
pub(crate) fn is_usable(lease: &Lease) -> bool {
    let address = lease.address;
    !(address.is_unspecified()
        || address.is_broadcast()
        || address.is_multicast()
        || address.is_loopback())
        && (1..=32).contains(&lease.prefix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAC: [u8; 6] = [0x52, 0x54, 0, 1, 2, 3];

    fn answer(options: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; FIXED_BYTES];
        bytes[..3].copy_from_slice(&[2, 1, 6]);
        bytes[4..8].copy_from_slice(&7_u32.to_be_bytes());
        bytes[16..20].copy_from_slice(&[10, 0, 2, 15]);
        bytes[28..34].copy_from_slice(&MAC);
        bytes[236..240].copy_from_slice(&COOKIE);
        bytes.extend_from_slice(options);
        bytes
    }

    const GOOD: &[u8] = &[
        53, 1, 2, 1, 4, 255, 255, 255, 0, 0, 3, 4, 10, 0, 2, 2, 6, 8, 10, 0, 2, 3, 0, 0, 0, 0, 51,
        4, 0, 1, 81, 128, 54, 4, 10, 0, 2, 2, 255, 9,
    ];

    #[test]
    fn an_offer_is_read() {
        let (kind, lease) = parse(&answer(GOOD), 7, MAC).unwrap();
        assert_eq!(kind, Kind::Offer);
        assert_eq!(lease.address, Ipv4Addr::new(10, 0, 2, 15));
        assert_eq!((lease.prefix, lease.seconds), (24, 86_400));
        assert_eq!(lease.gateway, Some(Ipv4Addr::new(10, 0, 2, 2)));
        assert_eq!(lease.name_servers, [Ipv4Addr::new(10, 0, 2, 3)]);
        assert!(is_usable(&lease));
        assert!(
            parse(&answer(GOOD), 8, MAC).is_none(),
            "someone else's answer"
        );
        assert!(
            parse(&answer(GOOD), 7, [0; 6]).is_none(),
            "someone else's answer"
        );
        assert!(
            parse(&answer(&[53, 1, 2, 1, 4, 255, 0, 255, 0, 255]), 7, MAC).is_none(),
            "a mask with holes"
        );
        assert!(
            parse(&answer(&[53, 1, 2, 3, 40, 1]), 7, MAC).is_none(),
            "an option beyond the end"
        );
    }

    #[test]
    fn a_request_names_what_was_offered() {
        let (_, lease) = parse(&answer(GOOD), 7, MAC).unwrap();
        let bytes = message(Kind::Request, 7, MAC, Some(&lease));
        assert!(bytes.len() >= MESSAGE_BYTES_MIN);
        assert_eq!(
            bytes[FIXED_BYTES..FIXED_BYTES + 15],
            [53, 1, 3, 50, 4, 10, 0, 2, 15, 54, 4, 10, 0, 2, 2]
        );
        assert_eq!(message(Kind::Discover, 7, MAC, None)[10], 0x80);
    }

    proptest! {
        #[test]
        fn garbage_and_damage_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64), cut in 0_usize..300) {
            let message = answer(&bytes);
            let _ = parse(&message, 7, MAC);
            let _ = parse(&message[..cut.min(message.len())], 7, MAC);
        }
    }
}
