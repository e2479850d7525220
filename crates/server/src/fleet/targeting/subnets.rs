//! Which site an address belongs to. The longest prefix wins, so a school may lie inside the county's network.

use std::net::IpAddr;

use ipnet::IpNet;

/// Reads a subnet. A single address is a subnet of one.
///
/// # Errors
/// Says what is wrong with the text, and what was probably meant.
pub(crate) fn parse(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    let net = match text.parse::<IpNet>() {
        Ok(net) => net,
        Err(_) => match text.parse::<IpAddr>() {
            Ok(address) => IpNet::from(address),
            Err(_) => {
                return Err(format!(
                    "{text:?} is no subnet such as 10.17.0.0/16 or 2001:db8:17::/48"
                ));
            }
        },
    };
    if net.addr() == net.network() {
        Ok(net)
    } else {
        Err(format!(
            "{text} is an address inside a subnet; the subnet itself is {}",
            net.trunc()
        ))
    }
}

/// The site with the longest of the subnets that hold `address`.
pub(crate) fn site_of(address: IpAddr, subnets: &[(IpNet, String)]) -> Option<&str> {
    let address = address.to_canonical();
    subnets
        .iter()
        .filter(|(net, _)| net.contains(&address))
        .max_by_key(|(net, _)| net.prefix_len())
        .map(|(_, site)| site.as_str())
}

#[cfg(test)]
mod tests {
    use super::{parse, site_of};
    use proptest::prelude::*;

    fn check(address: &str) -> Option<String> {
        let subnets: Vec<_> = [
            ("10.0.0.0/8", "county"),
            ("10.17.0.0/16", "BJO"),
            ("10.17.9.0/24", "lab"),
            ("2001:db8:17::/48", "BJO"),
            ("192.0.2.7", "one"),
        ]
        .into_iter()
        .map(|(net, site)| (parse(net).unwrap(), site.to_owned()))
        .collect();
        site_of(address.parse().unwrap(), &subnets).map(str::to_owned)
    }

    #[test]
    fn the_longest_prefix_wins() {
        for (address, site) in [
            ("10.1.2.3", Some("county")),
            ("10.17.200.1", Some("BJO")),
            ("10.17.9.255", Some("lab")),
            ("::ffff:10.17.9.1", Some("lab")),
            ("2001:db8:17:1::5", Some("BJO")),
            ("2001:db8:18::5", None),
            ("192.0.2.7", Some("one")),
            ("192.0.2.8", None),
        ] {
            assert_eq!(check(address).as_deref(), site, "{address}");
        }
    }

    #[test]
    fn an_address_inside_a_subnet_is_refused_with_the_subnet() {
        assert!(
            parse("10.17.3.4/16")
                .unwrap_err()
                .ends_with("is 10.17.0.0/16")
        );
        for text in ["", "10.17.0.0/33", "10.17", "school", "10.17.0.0/16/2"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn garbage_is_refused_or_means_itself(text in "[0-9a-f:./ ]{0,30}") {
            if let Ok(net) = parse(&text) {
                prop_assert_eq!(parse(&net.to_string()), Ok(net));
            }
        }
    }
}
