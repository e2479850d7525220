//! The network of the boot image: every wired interface with a link asks for an address, for as long as it takes.
//!
//! In an installed OS the network is the OS's own business; there this module only reports.

pub(crate) mod dhcp;
mod netlink;

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::json;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::machine::facts::Kernel;
use crate::{clock, log};

const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;
/// Answers come within a second; a busy relay gets three.
const ANSWER_WAIT: Duration = Duration::from_secs(3);
/// Discovers per round; then the other interfaces have their turn.
const TRIES: u32 = 2;
/// How often links are looked at.
const ROUND_PAUSE: Duration = Duration::from_secs(2);
/// More than any answer: an Ethernet frame.
const ANSWER_BYTES_MAX: usize = 1500;

#[derive(Debug, Default)]
struct State {
    /// Interface and address.
    up: Vec<(String, Ipv4Addr)>,
    problem: String,
}

/// What is known of the network.
#[derive(Debug)]
pub(crate) struct Network {
    kernel: Kernel,
    is_ours: bool,
    state: Mutex<State>,
}

impl Network {
    /// Starts looking for a network, in a thread of its own.
    pub(crate) fn start(kernel: Kernel) -> Arc<Self> {
        let network = Arc::new(Self {
            kernel,
            is_ours: true,
            state: Mutex::default(),
        });
        let worker = Arc::clone(&network);
        if let Err(error) = std::thread::Builder::new()
            .name("network".into())
            .spawn(move || worker.keep_up())
        {
            network.lock().problem = format!("no thread for the network: {error}");
        }
        network
    }

    /// The network of an installed OS.
    pub(crate) fn of_os(kernel: Kernel) -> Arc<Self> {
        Arc::new(Self {
            kernel,
            is_ours: false,
            state: Mutex::default(),
        })
    }

    /// Whether it makes sense to talk to a server.
    pub(crate) fn is_up(&self) -> bool {
        !self.is_ours || !self.lock().up.is_empty()
    }

    /// Our address, for the screen.
    pub(crate) fn address(&self) -> String {
        self.lock()
            .up
            .first()
            .map(|(_, address)| address.to_string())
            .unwrap_or_default()
    }

    /// Why there is none, in words.
    pub(crate) fn problem(&self) -> String {
        self.lock().problem.clone()
    }

    /// Bytes received and sent by all interfaces since power-on.
    pub(crate) fn interface_bytes(&self) -> u64 {
        self.kernel.interface_bytes()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // The state is replaced as a whole; a panic can't leave it half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep_up(&self) {
        let mut leased: Vec<(String, Ipv4Addr)> = Vec::new();
        loop {
            leased.retain(|(name, _)| self.kernel.has_carrier(name));
            let names = self.kernel.interface_names();
            let mut problem = "no network interface was found".to_owned();
            for (order, name) in (0_u32..).zip(&names) {
                if leased.iter().any(|(known, _)| known == name) {
                    continue;
                }
                match self.bring_up(name, order) {
                    Ok(Some(address)) => {
                        log::milestone(
                            "network-up",
                            json!({ "interface": name, "address": address.to_string() }),
                        );
                        leased.push((name.clone(), address));
                        *self.lock() = State {
                            up: leased.clone(),
                            problem: String::new(),
                        };
                    }
                    Ok(None) => problem = format!("no cable in {name}"),
                    Err(error) => problem = format!("{name}: {error:#}"),
                }
            }
            *self.lock() = State {
                up: leased.clone(),
                problem,
            };
            clock::pause(ROUND_PAUSE);
        }
    }

    /// Asks for an address if the interface has a link.
    fn bring_up(&self, name: &str, order: u32) -> Result<Option<Ipv4Addr>> {
        let text = |file: &str| {
            std::fs::read_to_string(self.kernel.sys.join("class/net").join(name).join(file))
                .map(|text| text.trim().to_owned())
                .with_context(|| format!("cannot read {file} of {name}"))
        };
        let index: u32 = text("ifindex")?
            .parse()
            .context("an interface without a number")?;
        netlink::set_up(index).context("cannot switch the interface on")?;
        if !clock::wait_until(Duration::from_secs(2), || self.kernel.has_carrier(name)) {
            return Ok(None);
        }
        let mac = parse_mac(&text("address")?).context("no Ethernet address")?;
        let lease = ask(name, mac)?;
        netlink::add_address(index, lease.address, lease.prefix)
            .context("cannot set the address")?;
        if let Some(gateway) = lease.gateway {
            netlink::add_default_route(index, gateway, 100 + order)
                .context("cannot set the route")?;
        }
        write_resolv_conf(&lease.name_servers)?;
        log::note(&format!(
            "{name}: {}/{} for {} s",
            lease.address, lease.prefix, lease.seconds
        ));
        Ok(Some(lease.address))
    }
}

/// The whole exchange: discover, offer, request, acknowledgement.
fn ask(interface: &str, mac: [u8; 6]) -> Result<dhcp::Lease> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))
        .context("cannot open a socket")?;
    socket.set_reuse_address(true)?;
    socket.set_broadcast(true)?;
    socket
        .bind_device(Some(interface.as_bytes()))
        .context("cannot bind to the interface")?;
    socket
        .bind(&SockAddr::from(SocketAddrV4::new(
            Ipv4Addr::UNSPECIFIED,
            CLIENT_PORT,
        )))
        .context("cannot bind to port 68")?;
    let socket = std::net::UdpSocket::from(socket);
    let mut random = [0; 4];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
    let transaction = u32::from_ne_bytes(random);
    for _ in 0..TRIES {
        let discover = dhcp::message(dhcp::Kind::Discover, transaction, mac, None);
        let Some((dhcp::Kind::Offer, offer)) =
            exchange(&socket, &discover, transaction, mac, dhcp::Kind::Offer)?
        else {
            continue;
        };
        let request = dhcp::message(dhcp::Kind::Request, transaction, mac, Some(&offer));
        match exchange(&socket, &request, transaction, mac, dhcp::Kind::Ack)? {
            Some((dhcp::Kind::Ack, lease)) if dhcp::is_usable(&lease) => return Ok(lease),
            _ => {}
        }
    }
    bail!("no DHCP server gave us an address")
}

/// Sends a message and waits for an answer of `wanted` kind (or a refusal).
fn exchange(
    socket: &std::net::UdpSocket,
    message: &[u8],
    transaction: u32,
    mac: [u8; 6],
    wanted: dhcp::Kind,
) -> Result<Option<(dhcp::Kind, dhcp::Lease)>> {
    let everyone = SocketAddr::from((Ipv4Addr::BROADCAST, SERVER_PORT));
    socket.send_to(message, everyone).context("cannot send")?;
    let end = clock::uptime_ms() + u64::try_from(ANSWER_WAIT.as_millis()).unwrap_or(0);
    let mut buffer = [0; ANSWER_BYTES_MAX];
    loop {
        let left = end.saturating_sub(clock::uptime_ms());
        if left == 0 {
            return Ok(None);
        }
        socket.set_read_timeout(Some(Duration::from_millis(left)))?;
        match socket.recv_from(&mut buffer) {
            Ok((length, _)) => {
                if let Some((kind, lease)) = dhcp::parse(&buffer[..length], transaction, mac)
                    && (kind == wanted || kind == dhcp::Kind::Nak)
                {
                    return Ok(Some((kind, lease)));
                }
            }
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                ) => {}
            Err(error) => return Err(error).context("cannot receive"),
        }
    }
}

fn write_resolv_conf(servers: &[Ipv4Addr]) -> Result<()> {
    if servers.is_empty() {
        return Ok(());
    }
    let text: String = servers
        .iter()
        .map(|server| format!("nameserver {server}\n"))
        .collect();
    std::fs::create_dir_all("/etc")
        .and_then(|()| std::fs::write("/etc/resolv.conf", text))
        .context("/etc/resolv.conf")
}

fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

#[cfg(test)]
mod tests {
    use super::parse_mac;

    #[test]
    fn only_ethernet_addresses_are_read() {
        assert_eq!(
            parse_mac("52:54:00:ab:00:01"),
            Some([0x52, 0x54, 0, 0xab, 0, 1])
        );
        assert_eq!(parse_mac("52:54:00:ab:00"), None);
        assert_eq!(parse_mac("00:00:00:00:fe:80:00:00"), None);
        assert_eq!(parse_mac(""), None);
    }
}
