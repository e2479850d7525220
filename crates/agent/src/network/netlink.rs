//! The three things we tell the kernel about a network interface: up, this address, this route (RFC 3549).

use std::io;
use std::net::Ipv4Addr;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

const NEW_LINK: u16 = 16;
const NEW_ADDRESS: u16 = 20;
const NEW_ROUTE: u16 = 24;
/// Request, acknowledge, replace, create.
const FLAGS: u16 = 0x1 | 0x4 | 0x100 | 0x400;
const HEADER_BYTES: usize = 16;
const MESSAGE_ERROR: u16 = 2;
const FAMILY_IPV4: u8 = 2;
/// Answers to requests like ours are below a hundred bytes.
const ANSWER_BYTES_MAX: usize = 8192;

/// Switches an interface on.
pub(crate) fn set_up(index: u32) -> io::Result<()> {
    const UP: u32 = 1;
    let mut body = vec![0; 4];
    body.extend_from_slice(&index.to_ne_bytes());
    body.extend_from_slice(&UP.to_ne_bytes());
    body.extend_from_slice(&UP.to_ne_bytes());
    // Never create an interface, only change one.
    request(&message(NEW_LINK, 0x1 | 0x4, &body))
}

/// Gives an interface an address.
pub(crate) fn add_address(index: u32, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
    request(&address_message(index, address, prefix))
}

/// Sends everything for elsewhere to `gateway`.
pub(crate) fn add_default_route(index: u32, gateway: Ipv4Addr, metric: u32) -> io::Result<()> {
    request(&route_message(index, gateway, metric))
}

fn address_message(index: u32, address: Ipv4Addr, prefix: u8) -> Vec<u8> {
    let host_bits = 32 - u32::from(prefix.min(32));
    let broadcast =
        u32::from(address) | u32::try_from((1_u64 << host_bits) - 1).unwrap_or(u32::MAX);
    let mut body = vec![FAMILY_IPV4, prefix, 0, 0];
    body.extend_from_slice(&index.to_ne_bytes());
    // 1: the other end (the same for Ethernet), 2: our own, 4: broadcast.
    attribute(&mut body, 1, &address.octets());
    attribute(&mut body, 2, &address.octets());
    attribute(&mut body, 4, &Ipv4Addr::from(broadcast).octets());
    message(NEW_ADDRESS, FLAGS, &body)
}

fn route_message(index: u32, gateway: Ipv4Addr, metric: u32) -> Vec<u8> {
    // To everywhere, in the main table (254), from DHCP (16), for the universe (0), unicast (1).
    let mut body = vec![FAMILY_IPV4, 0, 0, 0, 254, 16, 0, 1];
    // A gateway outside our subnet (some clouds, some schools) is still on this link.
    body.extend_from_slice(&4_u32.to_ne_bytes());
    attribute(&mut body, 4, &index.to_ne_bytes());
    attribute(&mut body, 5, &gateway.octets());
    attribute(&mut body, 6, &metric.to_ne_bytes());
    message(NEW_ROUTE, FLAGS, &body)
}

fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    body.extend_from_slice(&length.to_ne_bytes());
    body.extend_from_slice(&kind.to_ne_bytes());
    body.extend_from_slice(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER_BYTES + body.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&1_u32.to_ne_bytes());
    bytes.extend_from_slice(&0_u32.to_ne_bytes());
    bytes.extend_from_slice(body);
    bytes
}

fn request(message: &[u8]) -> io::Result<()> {
    // No protocol is protocol 0, which is NETLINK_ROUTE.
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None,
    )?;
    rustix::net::send(&socket, message, SendFlags::empty())?;
    let mut answer = vec![0; ANSWER_BYTES_MAX];
    let (length, _) = rustix::net::recv(&socket, &mut answer[..], RecvFlags::empty())?;
    parse_answer(&answer[..length.min(ANSWER_BYTES_MAX)])
}

/// An acknowledgement is an error message with error 0.
fn parse_answer(bytes: &[u8]) -> io::Result<()> {
    let invalid = || {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "the kernel's answer makes no sense",
        )
    };
    let kind: [u8; 2] = bytes
        .get(4..6)
        .and_then(|kind| kind.try_into().ok())
        .ok_or_else(invalid)?;
    let error: [u8; 4] = bytes
        .get(16..20)
        .and_then(|error| error.try_into().ok())
        .ok_or_else(invalid)?;
    match (u16::from_ne_bytes(kind), i32::from_ne_bytes(error)) {
        (MESSAGE_ERROR, 0) => Ok(()),
        (MESSAGE_ERROR, error) => Err(io::Error::from_raw_os_error(error.saturating_neg())),
        _ => Err(invalid()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_as_the_kernel_wants_them() {
        let bytes = address_message(2, Ipv4Addr::new(10, 0, 2, 15), 24);
        assert_eq!(bytes.len(), 16 + 8 + 3 * 8);
        assert_eq!(
            u32::from_ne_bytes(bytes[..4].try_into().unwrap()) as usize,
            bytes.len()
        );
        assert_eq!(bytes[bytes.len() - 4..], [10, 0, 2, 255]);
        let bytes = route_message(2, Ipv4Addr::new(10, 0, 2, 2), 100);
        assert_eq!(bytes.len(), 16 + 12 + 3 * 8);
        address_message(1, Ipv4Addr::new(10, 0, 0, 1), 0);
    }

    #[test]
    fn answers_are_checked() {
        let mut answer = message(MESSAGE_ERROR, 0, &0_i32.to_ne_bytes());
        assert!(parse_answer(&answer).is_ok());
        answer[16..20].copy_from_slice(&(-17_i32).to_ne_bytes());
        assert_eq!(parse_answer(&answer).unwrap_err().raw_os_error(), Some(17));
        assert!(parse_answer(&answer[..18]).is_err());
        assert!(parse_answer(&[]).is_err());
    }
}
