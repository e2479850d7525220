//! Whether this machine has a network, and whether a server takes a connection. In the boot image the network is ours, in
//! the OS it is the OS's; the kernel's routing tables are the same in both.

use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sequence::ports::{Progress, ServerAddress, StepError};
use wire::event::ProgressUnit;

use super::facts::Kernel;
use crate::clock;

/// A server at the other end of the country answers in a tenth of this.
const CONNECT_WAIT: Duration = Duration::from_secs(3);
/// A name may have many addresses; the first ones tell enough.
const ADDRESSES_MAX: usize = 4;
/// How long to wait before asking once more.
const ROUND_PAUSE: Duration = Duration::from_secs(1);
/// A laptop has a handful of routes; a machine with more than this fits in has one that leads out.
const ROUTES_CHARS_MAX: usize = 1 << 20;

/// Waits until there is a network that leads to `server`.
pub(crate) fn wait(
    kernel: &Kernel,
    server: Option<&ServerAddress>,
    timeout: Duration,
    progress: &dyn Progress,
) -> Result<(), StepError> {
    let end = clock::uptime_ms()
        .saturating_add(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX / 2));
    loop {
        let Err(error) = look(kernel, server) else {
            return Ok(());
        };
        if clock::uptime_ms() >= end || progress.is_cancelled() {
            let (what, hint) = match server {
                None => (
                    "the machine has no network".to_owned(),
                    "check the cable or the Wi-Fi, and `timeout`",
                ),
                Some(server) => (
                    format!("cannot reach {server}"),
                    "check the cable or the Wi-Fi, the name of the server and its firewall, and `timeout`",
                ),
            };
            return Err(StepError::new(what).because(error).hint(hint));
        }
        progress.report(0, 0, ProgressUnit::Items, &format!("{error:#}"));
        clock::wait_until(ROUND_PAUSE, || progress.is_cancelled());
    }
}

/// One look, with what is missing as the error.
fn look(kernel: &Kernel, server: Option<&ServerAddress>) -> Result<()> {
    let names = kernel.interface_names();
    ensure!(!names.is_empty(), "no network interface was found");
    let linked: Vec<&str> = names
        .iter()
        .map(String::as_str)
        .filter(|name| kernel.has_carrier(name))
        .collect();
    ensure!(!linked.is_empty(), "no interface has a link");
    ensure!(
        has_default_route(
            &kernel.routes("net/route"),
            &kernel.routes("net/ipv6_route"),
            &linked
        ),
        "no interface with a link has a way out yet"
    );
    match server {
        Some(server) => connect(server),
        None => Ok(()),
    }
}

fn connect(server: &ServerAddress) -> Result<()> {
    let addresses = (server.host(), server.port())
        .to_socket_addrs()
        .with_context(|| format!("cannot find the address of {}", server.host()))?;
    let mut last = None;
    for address in addresses.take(ADDRESSES_MAX) {
        match TcpStream::connect_timeout(&address, CONNECT_WAIT) {
            Ok(_) => return Ok(()),
            Err(error) => last = Some(error),
        }
    }
    let error = last.with_context(|| format!("{} has no address", server.host()))?;
    Err(error).with_context(|| format!("{server} doesn't answer"))
}

impl Kernel {
    fn routes(&self, path: &str) -> String {
        let mut text = std::fs::read_to_string(self.proc.join(path)).unwrap_or_default();
        text.truncate(text.floor_char_boundary(ROUTES_CHARS_MAX));
        text
    }
}

/// Whether one of the interfaces has a route to everywhere, in the kernel's tables for IPv4 and IPv6 (proc_net(5)).
fn has_default_route(ipv4: &str, ipv6: &str, interfaces: &[&str]) -> bool {
    let is_ipv4 = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // Interface, destination, gateway, flags, three more, mask.
        matches!(fields.as_slice(), [name, "00000000", _, _, _, _, _, "00000000", ..] if interfaces.contains(name))
    };
    let is_ipv6 = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // Destination and its length, source and its length, next hop, four more, interface.
        matches!(
            fields.as_slice(),
            [to, "00", _, _, _, _, _, _, _, name] if to.bytes().all(|byte| byte == b'0') && interfaces.contains(name)
        )
    };
    ipv4.lines().any(is_ipv4) || ipv6.lines().any(is_ipv6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use wire::event::LogLevel;

    const IPV4: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
        enp0s2\t00000000\t0202000A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
        enp0s2\t0002000A\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n";
    const IPV6: &str = "00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
        fe800000000000000000000000000001 00000400 00000002 00000000 00000003   wlp1s0\n\
        00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
        00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo\n";

    struct Impatient;

    impl Progress for Impatient {
        fn report(&self, _: u64, _: u64, _: ProgressUnit, _: &str) {}
        fn log(&self, _: LogLevel, _: &str) {}
        fn is_cancelled(&self) -> bool {
            true
        }
    }

    fn put(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn missing(kernel: &Kernel, server: Option<&ServerAddress>) -> String {
        let error = wait(kernel, server, Duration::from_secs(60), &Impatient).unwrap_err();
        assert!(!error.is_final);
        error.chain().join(": ")
    }

    #[test]
    fn only_a_route_to_everywhere_leads_out() {
        assert!(has_default_route(IPV4, "", &["enp0s2"]));
        assert!(!has_default_route(IPV4, IPV6, &["enp0s3"]));
        assert!(has_default_route("", IPV6, &["wlp1s0"]));
        let local = IPV4.replace("enp0s2\t00000000", "enp0s2\t0000A8C0");
        assert!(!has_default_route(&local, "", &["enp0s2"]));
        assert!(!has_default_route("x\n\n", "0 00\n", &["x"]));
    }

    #[test]
    fn what_is_missing_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let kernel = Kernel {
            sys: root.join("sys"),
            dev: root.join("dev"),
            proc: root.join("proc"),
        };
        assert!(missing(&kernel, None).contains("no network interface"));
        put(root, "sys/class/net/enp0s2/device/x", "");
        put(root, "sys/class/net/enp0s2/carrier", "0\n");
        assert!(missing(&kernel, None).contains("has a link"));
        put(root, "sys/class/net/enp0s2/carrier", "1\n");
        assert!(missing(&kernel, None).contains("way out"));
        put(root, "proc/net/route", IPV4);
        wait(&kernel, None, Duration::ZERO, &Impatient).unwrap();

        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = ServerAddress::try_from(address).unwrap();
        wait(&kernel, Some(&server), Duration::ZERO, &Impatient).unwrap();
        drop(listener);
        assert!(missing(&kernel, Some(&server)).contains("doesn't answer"));
    }
}
