//! The address of a client in 20 bytes, and what does not fit into them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ringway::SocketAddress;

use super::Slab;

/// The address of a client, kept small. Read it through the [`PeerTable`] that stored it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    host: Host,
    port: u16,
}

/// Bytes and not numbers, so that the tag takes one byte and not four.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Host {
    V4([u8; 4]),
    V6([u8; 16]),
    UnnamedUnix,
    /// Place in the table of whole addresses.
    Stored([u8; 4]),
}

const _: () = assert!(size_of::<Peer>() <= 20);

/// Addresses that do not fit into a [`Peer`]: Unix sockets with a path, IPv6 with a scope or flow.
#[derive(Debug, Default)]
pub struct PeerTable {
    whole: Slab<SocketAddress>,
}

impl PeerTable {
    /// Keeps an address. IPv4 that came to an IPv6 socket is kept as IPv4.
    pub fn store(&mut self, address: SocketAddress) -> Peer {
        if let SocketAddress::Unix(None) = address {
            return Peer { host: Host::UnnamedUnix, port: 0 };
        }
        if let Some(addr) = address.inet() {
            match addr.ip().to_canonical() {
                IpAddr::V4(ip) => return Peer { host: Host::V4(ip.octets()), port: addr.port() },
                IpAddr::V6(ip) if SocketAddr::from((ip, addr.port())) == addr => {
                    return Peer { host: Host::V6(ip.octets()), port: addr.port() };
                }
                IpAddr::V6(_) => {}
            }
        }
        Peer { host: Host::Stored(self.whole.insert(address).to_ne_bytes()), port: 0 }
    }

    /// The whole address, which this table keeps.
    pub fn address(&self, peer: Peer) -> SocketAddress {
        let inet = |ip: IpAddr| SocketAddr::from((ip, peer.port)).into();
        match peer.host {
            Host::V4(octets) => inet(Ipv4Addr::from(octets).into()),
            Host::V6(octets) => inet(Ipv6Addr::from(octets).into()),
            Host::UnnamedUnix => SocketAddress::Unix(None),
            Host::Stored(place) => {
                self.whole.get(u32::from_ne_bytes(place)).cloned().unwrap_or(SocketAddress::Unix(None))
            }
        }
    }

    /// The whole address, which is forgotten by this table.
    pub fn take(&mut self, peer: Peer) -> SocketAddress {
        let address = self.address(peer);
        if let Host::Stored(place) = peer.host {
            self.whole.remove(u32::from_ne_bytes(place));
        }
        address
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddrV6;

    use super::*;

    #[test]
    fn every_kind_of_address_comes_back_as_it_was() {
        let mut table = PeerTable::default();
        let scoped = SocketAddrV6::new(Ipv6Addr::LOCALHOST, 443, 0, 3);
        for address in [
            SocketAddress::Inet("192.0.2.1:65535".parse().expect("address")),
            SocketAddress::Inet("[2001:db8::1]:1".parse().expect("address")),
            SocketAddress::Inet(scoped.into()),
            SocketAddress::Unix(None),
            SocketAddress::unix("/run/client.sock"),
        ] {
            let peer = table.store(address.clone());
            assert_eq!(table.address(peer), address);
            assert_eq!(table.take(peer), address);
        }
        assert!(table.whole.is_empty());
    }

    #[test]
    fn ipv4_client_of_a_dual_stack_frontend_is_an_ipv4_client() {
        let mut table = PeerTable::default();
        let peer = table.store(SocketAddress::Inet("[::ffff:192.0.2.1]:80".parse().expect("address")));
        assert_eq!(table.take(peer).to_string(), "192.0.2.1:80");
    }
}
