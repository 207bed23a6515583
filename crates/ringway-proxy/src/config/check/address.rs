//! Addresses from their text: of frontends, of backends and of the admin interface.
//!
//! Each error is the pair (what was expected, what to do about it).

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use ringway::SocketAddress;

use crate::model::Target;

/// Longest path of a Unix socket: `sun_path` has 108 bytes, the last of them zero (unix(7)).
const UNIX_PATH_BYTES_MAX: usize = 107;

/// What is wrong with the text of an address.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::config) enum AddressError {
    /// Not an address: what one looks like, and advice.
    Malformed { expected: &'static str, hint: Option<String> },
    /// An address of a kind that is planned.
    NotSupportedYet,
}

fn malformed(expected: &'static str, hint: impl Into<Option<&'static str>>) -> AddressError {
    AddressError::Malformed { expected, hint: hint.into().map(str::to_owned) }
}

const FRONTEND: &str = "an address such as \"0.0.0.0:443\", \"[::]:443\", \":443\" or \"unix:/path\"";
const BACKEND: &str =
    "an address such as \"10.0.0.1:5432\", \"db.internal:5432\", \"[::1]:5432\" or \"unix:/path\"";

/// Most ports of one range: each costs a socket for each worker.
const RANGE_PORTS_MAX: u16 = 10_000;

/// Where to listen: the name of each address, the address, and whether that is dual stack. A range of ports is an
/// address for each.
pub(in crate::config) fn frontends(
    text: &str,
    base_dir: &Path,
) -> Result<Vec<(String, SocketAddress, bool)>, AddressError> {
    let range = match text.rsplit_once(':').and_then(|(host, ports)| Some((host, ports.split_once('-')?))) {
        Some((host, ports)) if !text.starts_with("unix:") => Some((host, ports)),
        _ => None,
    };
    let Some((host, (first, last))) = range else {
        let (address, dual_stack) = frontend(text, base_dir)?;
        return Ok(vec![(text.to_owned(), address, dual_stack)]);
    };
    let (Some(first), Some(last)) = (port_number(first), port_number(last)) else {
        return Err(malformed(FRONTEND, "a port is a number up to 65535"));
    };
    if first == 0 || first > last {
        return Err(malformed(FRONTEND, "a range of ports goes from 1 or more up, as \":7000-7010\""));
    }
    if last - first >= RANGE_PORTS_MAX {
        return Err(malformed(FRONTEND, "a range has at most 10000 ports"));
    }
    (first..=last)
        .map(|port| {
            let name = format!("{host}:{port}");
            let (address, dual_stack) = frontend(&name, base_dir)?;
            Ok((name, address, dual_stack))
        })
        .collect()
}

/// Where to listen, and whether that is dual stack.
fn frontend(text: &str, base_dir: &Path) -> Result<(SocketAddress, bool), AddressError> {
    if let Some(path) = text.strip_prefix("unix:") {
        return Ok((unix(path, base_dir)?, false));
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok((address.into(), false));
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        let hint = if text.parse::<u16>().is_ok() {
            Some("a port of all addresses is written \":443\"")
        } else if text.parse::<IpAddr>().is_ok() {
            Some("the port is missing")
        } else {
            None
        };
        return Err(malformed(FRONTEND, hint));
    };
    let Some(port) = port_number(port) else {
        return Err(malformed(FRONTEND, "a port is a number up to 65535"));
    };
    if host.is_empty() {
        return Ok((SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into(), true));
    }
    let hint = if host == "*" {
        "all addresses are written \":443\""
    } else if text.parse::<IpAddr>().is_ok() || host.parse::<IpAddr>().is_ok() {
        "an IPv6 address stands in brackets, as \"[::1]:443\""
    } else {
        "a frontend listens on an IP address and not on a name"
    };
    Err(malformed(FRONTEND, hint))
}

/// Where a backend is.
pub(in crate::config) fn backend(text: &str, base_dir: &Path) -> Result<Target, AddressError> {
    if let Some(path) = text.strip_prefix("unix:") {
        return Ok(Target::Address(unix(path, base_dir)?));
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        if address.port() == 0 {
            return Err(malformed(BACKEND, "a backend has a port from 1 to 65535"));
        }
        if address.ip().is_unspecified() {
            return Err(malformed(BACKEND, "the unspecified address is nowhere to connect to"));
        }
        return Ok(Target::Address(address.into()));
    }
    if text.contains("://") {
        return Err(malformed(BACKEND, "leave out what stands before the host"));
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(malformed(BACKEND, "the port is missing"));
    };
    match port_number(port) {
        Some(1..) => {}
        Some(0) | None => return Err(malformed(BACKEND, "a backend has a port from 1 to 65535")),
    }
    if host.contains(':') {
        return Err(malformed(BACKEND, "an IPv6 address stands in brackets, as \"[::1]:5432\""));
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    check_host_name(name)?;
    let port = port_number(port).unwrap_or_default();
    // Names are the same in any case (RFC 4343), and the same backend twice is a fault.
    Ok(Target::Host { name: name.to_ascii_lowercase(), port })
}

/// The name of a service.
pub(in crate::config) fn service(text: &str, _: &Path) -> Result<Target, AddressError> {
    const SERVICE: &str = "the name of a service such as \"_pg._tcp.db.internal\"";
    if text.contains(':') {
        return Err(malformed(SERVICE, "its records say which ports it has"));
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    match check_host_name(name) {
        Ok(()) => Ok(Target::Service { name: name.to_ascii_lowercase() }),
        Err(AddressError::Malformed { hint, .. }) => Err(AddressError::Malformed { expected: SERVICE, hint }),
        Err(AddressError::NotSupportedYet) => Err(AddressError::NotSupportedYet),
    }
}

/// Where the admin interface listens: on loopback or a Unix socket, as it has no authentication.
pub(in crate::config) fn admin(text: &str, base_dir: &Path) -> Result<SocketAddress, AddressError> {
    const ADMIN: &str = "a loopback address such as \"127.0.0.1:9900\", or \"unix:/path\"";
    let hint = "whoever reaches it controls the proxy, so it is never open to the network";
    match frontend(text, base_dir) {
        Ok((SocketAddress::Inet(address), dual_stack)) if dual_stack || !address.ip().is_loopback() => {
            Err(malformed(ADMIN, hint))
        }
        Ok((address, _)) => Ok(address),
        Err(AddressError::Malformed { hint, .. }) => Err(AddressError::Malformed { expected: ADMIN, hint }),
        Err(AddressError::NotSupportedYet) => Err(AddressError::NotSupportedYet),
    }
}

fn unix(path: &str, base_dir: &Path) -> Result<SocketAddress, AddressError> {
    const UNIX: &str = "the path of a Unix socket, as \"unix:/run/app.sock\"";
    if path.is_empty() || path.contains('\0') {
        return Err(malformed(UNIX, None));
    }
    if path.starts_with('@') {
        return Err(AddressError::NotSupportedYet);
    }
    if path.ends_with('/') {
        return Err(malformed(UNIX, "this is a directory"));
    }
    let path: PathBuf = base_dir.join(path);
    if path.as_os_str().len() > UNIX_PATH_BYTES_MAX {
        return Err(malformed(UNIX, "from the root it has more than the 107 bytes that the kernel takes"));
    }
    Ok(SocketAddress::unix(path))
}

/// A decimal number up to 65535 without a sign.
fn port_number(text: &str) -> Option<u16> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// RFC 1123, and underscores, which container networks use.
fn check_host_name(name: &str) -> Result<(), AddressError> {
    if !name.is_ascii() {
        return Err(malformed(BACKEND, "an international name is written in its \"xn--\" form"));
    }
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.len() > 253 || !name.split('.').all(is_label) {
        return Err(malformed(BACKEND, None));
    }
    // A name cannot end in a number (RFC 3696, section 2): this is a mistyped IPv4 address.
    if name.rsplit('.').next().is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit())) {
        return Err(malformed(BACKEND, "this is neither an IPv4 address nor a name"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown<T: std::fmt::Debug>(result: Result<T, AddressError>) -> String {
        match result {
            Ok(value) => format!("{value:?}"),
            Err(AddressError::Malformed { hint, .. }) => format!("malformed: {}", hint.unwrap_or_default()),
            Err(AddressError::NotSupportedYet) => "not supported yet".to_owned(),
        }
    }

    #[test]
    fn frontends_listen_on_addresses_ports_and_paths() {
        for (text, expected) in [
            ("0.0.0.0:443", "(Inet(0.0.0.0:443), false)"),
            ("[::]:443", "(Inet([::]:443), false)"),
            (":443", "(Inet([::]:443), true)"),
            ("127.0.0.1:0", "(Inet(127.0.0.1:0), false)"),
            ("unix:/run/a.sock", "(Unix(Some(\"/run/a.sock\")), false)"),
            ("unix:a.sock", "(Unix(Some(\"/etc/ringway/a.sock\")), false)"),
            ("unix:", "malformed: "),
            ("unix:@a", "not supported yet"),
            ("443", "malformed: a port of all addresses is written \":443\""),
            ("127.0.0.1", "malformed: the port is missing"),
            ("::1:443", "malformed: an IPv6 address stands in brackets, as \"[::1]:443\""),
            ("*:443", "malformed: all addresses are written \":443\""),
            ("localhost:443", "malformed: a frontend listens on an IP address and not on a name"),
            (":65536", "malformed: a port is a number up to 65535"),
            (":+1", "malformed: a port is a number up to 65535"),
            ("", "malformed: "),
            ("0.0.0.0:7000-7010", "malformed: a port is a number up to 65535"),
        ] {
            assert_eq!(shown(frontend(text, Path::new("/etc/ringway"))), expected, "{text:?}");
        }
    }

    #[test]
    fn a_range_of_ports_is_a_frontend_for_each() {
        let names = |text: &str| {
            match frontends(text, Path::new("/")) {
                Ok(frontends) => {
                    frontends.iter().map(|(name, address, _)| format!("{name}={address}")).collect::<Vec<_>>()
                }
                Err(error) => vec![shown::<()>(Err(error))],
            }
            .join(" ")
        };
        for (text, expected) in [
            ("10.0.0.1:7000-7001", "10.0.0.1:7000=10.0.0.1:7000 10.0.0.1:7001=10.0.0.1:7001"),
            (":7000-7000", ":7000=[::]:7000"),
            ("[::1]:65534-65535", "[::1]:65534=[::1]:65534 [::1]:65535=[::1]:65535"),
            ("unix:/run/a:1-2", "unix:/run/a:1-2=unix:/run/a:1-2"),
            (":7010-7000", "malformed: a range of ports goes from 1 or more up, as \":7000-7010\""),
            (":0-5", "malformed: a range of ports goes from 1 or more up, as \":7000-7010\""),
            (":1-65536", "malformed: a port is a number up to 65535"),
            (":1-", "malformed: a port is a number up to 65535"),
            (":7000-7010-7020", "malformed: a port is a number up to 65535"),
            (":1-10001", "malformed: a range has at most 10000 ports"),
            ("localhost:1-2", "malformed: a frontend listens on an IP address and not on a name"),
        ] {
            assert_eq!(names(text), expected, "{text:?}");
        }
        assert_eq!(frontends(":1-10000", Path::new("/")).map(|all| all.len()), Ok(10_000));
    }

    #[test]
    fn backends_are_addresses_names_and_paths() {
        for (text, expected) in [
            ("10.0.0.1:80", "Address(Inet(10.0.0.1:80))"),
            ("[::1]:80", "Address(Inet([::1]:80))"),
            ("unix:b.sock", "Address(Unix(Some(\"/etc/ringway/b.sock\")))"),
            ("localhost:10002", "Host { name: \"localhost\", port: 10002 }"),
            ("db_1.internal.:80", "Host { name: \"db_1.internal\", port: 80 }"),
            ("DB.Internal:80", "Host { name: \"db.internal\", port: 80 }"),
            ("badroute:6003", "Host { name: \"badroute\", port: 6003 }"),
            ("10.0.0.1:0", "malformed: a backend has a port from 1 to 65535"),
            ("db:0", "malformed: a backend has a port from 1 to 65535"),
            ("db", "malformed: the port is missing"),
            ("0.0.0.0:80", "malformed: the unspecified address is nowhere to connect to"),
            ("10.0.0.300:80", "malformed: this is neither an IPv4 address nor a name"),
            ("::1:80", "malformed: an IPv6 address stands in brackets, as \"[::1]:5432\""),
            ("http://db:80", "malformed: leave out what stands before the host"),
            ("dä:80", "malformed: an international name is written in its \"xn--\" form"),
            ("-a:80", "malformed: "),
            ("a..b:80", "malformed: "),
            (":80", "malformed: "),
        ] {
            assert_eq!(shown(backend(text, Path::new("/etc/ringway"))), expected, "{text:?}");
        }
    }

    #[test]
    fn the_admin_interface_is_never_open_to_the_network() {
        for (text, expected) in [
            ("127.0.0.1:9900", "Inet(127.0.0.1:9900)"),
            ("[::1]:9900", "Inet([::1]:9900)"),
            ("unix:/a", "Unix(Some(\"/a\"))"),
        ] {
            assert_eq!(shown(admin(text, Path::new("/"))), expected, "{text:?}");
        }
        for text in [":9900", "0.0.0.0:9900", "10.0.0.1:9900", "localhost:9900", "9900"] {
            assert!(shown(admin(text, Path::new("/"))).starts_with("malformed"), "{text:?}");
        }
    }
}
