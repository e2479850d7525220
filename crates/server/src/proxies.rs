//! Who asks, when a proxy stands in between.
//!
//! Everyone can send the headers `Forwarded` and `X-Forwarded-For`. They are read only from a proxy that the server was
//! told to trust, and from the right: each proxy adds whom it got the request from at the end, so that the last address
//! that is no trusted proxy is true, and what stands before it is anyone's claim.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use axum::http::HeaderMap;
use axum::http::header::FORWARDED;
use ipnet::IpNet;

use crate::fleet::targeting::subnets;

const X_FORWARDED_FOR: &str = "x-forwarded-for";
/// Proxies one behind the other; there are never more than three.
const HOPS_MAX: usize = 16;

/// A subnet of proxies whose word is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedProxy(IpNet);

impl FromStr for TrustedProxy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        subnets::parse(text).map(Self)
    }
}

/// The address of whoever asks through `peer`, as far as trusted proxies tell. `peer` itself, if it is none of them, if
/// it tells nothing, or if its two headers contradict each other: then one of them is the caller's own.
pub(crate) fn client_address(
    peer: IpAddr,
    headers: &HeaderMap,
    proxies: &[TrustedProxy],
) -> IpAddr {
    let peer = peer.to_canonical();
    let trusted = |address: IpAddr| proxies.iter().any(|proxy| proxy.0.contains(&address));
    if !trusted(peer) {
        return peer;
    }
    let told = |name: &str, hop: fn(&str) -> Option<IpAddr>| {
        headers
            .contains_key(name)
            .then(|| last_untrusted(peer, hops(headers, name).map(hop), trusted))
    };
    let forwarded = told(FORWARDED.as_str(), forwarded_for);
    let x_forwarded_for = told(X_FORWARDED_FOR, node);
    match (forwarded, x_forwarded_for) {
        (Some(one), Some(other)) if one != other => peer,
        (one, other) => one.or(other).unwrap_or(peer),
    }
}

/// All elements of a header, the last one first.
fn hops<'h>(headers: &'h HeaderMap, name: &str) -> impl Iterator<Item = &'h str> {
    let lines: Vec<_> = headers.get_all(name).iter().collect();
    let elements = |line: &'h axum::http::HeaderValue| {
        // What is no text is an element that says nothing.
        line.to_str().unwrap_or("?").rsplit(',')
    };
    lines.into_iter().rev().flat_map(elements)
}

/// Goes from proxy to proxy. One that doesn't say whom it got the request from is as far as is known.
fn last_untrusted(
    peer: IpAddr,
    hops: impl Iterator<Item = Option<IpAddr>>,
    trusted: impl Fn(IpAddr) -> bool,
) -> IpAddr {
    let mut known = peer;
    for hop in hops.take(HOPS_MAX) {
        match hop {
            Some(proxy) if trusted(proxy) => known = proxy,
            Some(client) => return client,
            None => return known,
        }
    }
    known
}

/// The address in `for=192.0.2.60;proto=https;by=203.0.113.43`, see RFC 7239.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let mut pairs = element.split(';').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
    node(value.trim().trim_matches('"'))
}

/// An address with or without a port, IPv6 with or without brackets. `unknown` and made-up names are none.
fn node(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let is_port = |port: &str| port.parse::<u16>().is_ok();
    let address = if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        if !(port.is_empty() || port.strip_prefix(':').is_some_and(is_port)) {
            return None;
        }
        IpAddr::V6(address.parse::<Ipv6Addr>().ok()?)
    } else if let Ok(address) = text.parse::<IpAddr>() {
        address
    } else {
        let (address, port) = text.split_once(':')?;
        IpAddr::V4(address.parse::<Ipv4Addr>().ok().filter(|_| is_port(port))?)
    };
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::{HOPS_MAX, TrustedProxy, client_address};
    use axum::http::{HeaderMap, HeaderName, HeaderValue};

    const PROXY: &str = "10.0.0.1";

    fn check(peer: &str, lines: &[(&str, &[u8])]) -> String {
        let proxies: Vec<TrustedProxy> = ["10.0.0.0/24", "2001:db8:ff::/48"]
            .map(|net| net.parse().unwrap())
            .into();
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_bytes(value).unwrap());
        }
        client_address(peer.parse().unwrap(), &headers, &proxies).to_string()
    }

    fn x(peer: &str, value: &str) -> String {
        check(peer, &[("X-Forwarded-For", value.as_bytes())])
    }

    fn forwarded(value: &str) -> String {
        check(PROXY, &[("Forwarded", value.as_bytes())])
    }

    #[test]
    fn a_header_from_anyone_else_says_nothing() {
        assert_eq!(x("192.0.2.9", "203.0.113.5"), "192.0.2.9");
        assert_eq!(x("10.0.1.1", "203.0.113.5"), "10.0.1.1");
        let both: [(&str, &[u8]); 2] = [
            ("Forwarded", b"for=203.0.113.5"),
            ("X-Forwarded-For", b"203.0.113.5"),
        ];
        assert_eq!(check("192.0.2.9", &both), "192.0.2.9");
        assert_eq!(check(PROXY, &both), "203.0.113.5");
    }

    #[test]
    fn the_last_address_that_is_no_proxy_asks() {
        for (value, expected) in [
            ("203.0.113.5", "203.0.113.5"),
            ("203.0.113.5:4711", "203.0.113.5"),
            // The first one is what the caller made up.
            ("10.17.0.1, 203.0.113.5", "203.0.113.5"),
            ("1.1.1.1, 203.0.113.5, 10.0.0.7,10.0.0.8", "203.0.113.5"),
            ("10.0.0.9, 10.0.0.8", "10.0.0.9"),
            ("2001:db8::5", "2001:db8::5"),
            ("[2001:db8::5]:443, 2001:db8:ff::1", "2001:db8::5"),
            ("::ffff:203.0.113.5", "203.0.113.5"),
            ("::ffff:203.0.113.5, ::ffff:10.0.0.8", "203.0.113.5"),
        ] {
            assert_eq!(x(PROXY, value), expected, "{value}");
        }
        assert_eq!(x("::ffff:10.0.0.1", "203.0.113.5"), "203.0.113.5");
        let lines: [(&str, &[u8]); 2] = [
            ("X-Forwarded-For", b"1.1.1.1"),
            ("x-forwarded-for", b"203.0.113.5, 10.0.0.2"),
        ];
        assert_eq!(check(PROXY, &lines), "203.0.113.5");
    }

    #[test]
    fn forwarded_is_read_as_its_standard_says() {
        for (value, expected) in [
            ("for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60"),
            (
                "proto=https;For=\"[2001:db8:cafe::17]:4711\"",
                "2001:db8:cafe::17",
            ),
            ("for=192.0.2.43, for=198.51.100.17", "198.51.100.17"),
            ("for=192.0.2.43, for=10.0.0.2", "192.0.2.43"),
            ("for=unknown", PROXY),
            ("for=192.0.2.43, for=_hidden", PROXY),
            ("for=192.0.2.43, proto=https", PROXY),
            // A quote that is never closed swallows nothing that a proxy added.
            ("for=\"1.1.1.1, for=198.51.100.17", "198.51.100.17"),
        ] {
            assert_eq!(forwarded(value), expected, "{value}");
        }
    }

    #[test]
    fn garbage_and_contradictions_end_at_the_proxy() {
        for value in [
            "",
            ",",
            "unknown",
            "1.2.3",
            "1.2.3.4:x",
            "1.2.3.4:99999",
            "[::1",
            "[1.2.3.4]",
            "::1]",
            "203.0.113.5,",
            "203.0.113.5, nonsense",
            "203.0.113.5 203.0.113.6",
        ] {
            assert_eq!(x(PROXY, value), PROXY, "{value}");
        }
        let lines: [(&str, &[u8]); 2] = [
            ("X-Forwarded-For", b"203.0.113.5"),
            ("X-Forwarded-For", b"caf\xe9"),
        ];
        assert_eq!(check(PROXY, &lines), PROXY);
        let lines: [(&str, &[u8]); 2] = [
            ("Forwarded", b"for=203.0.113.5"),
            ("X-Forwarded-For", b"203.0.113.6"),
        ];
        assert_eq!(check(PROXY, &lines), PROXY);
    }

    #[test]
    fn a_long_header_changes_nothing_at_its_end() {
        let long = "1.1.1.1, ".repeat(50_000);
        assert_eq!(x(PROXY, &format!("{long}203.0.113.5")), "203.0.113.5");
        assert_eq!(
            x(PROXY, &format!("{}203.0.113.5", "9".repeat(1 << 20))),
            PROXY
        );
        // A row of proxies that has no end is one that ends at a proxy.
        let proxies = ", 10.0.0.2".repeat(HOPS_MAX);
        assert_eq!(x(PROXY, &format!("203.0.113.5{proxies}")), "10.0.0.2");
    }
}
