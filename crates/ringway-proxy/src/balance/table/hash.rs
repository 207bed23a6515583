//! Hashes that are the same in every process, on every machine and in every version: what they decide must be.

use std::net::IpAddr;

/// The finalizer of MurmurHash3 (Appleby), over both numbers: every bit of either reaches every bit of the result.
pub(crate) fn mix(hash: u64, number: u64) -> u64 {
    let mut z = hash ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    z = (z ^ (z >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    z ^ (z >> 33)
}

/// What an endpoint is known by: its address as it is written.
pub(crate) fn hash_of_address(address: &str) -> u64 {
    hash_of_bytes(address.as_bytes())
}

/// What a client is known by: its IP address, the whole of it. All clients without one (those of Unix sockets) are
/// the same client.
pub(crate) fn hash_of_source(source: Option<IpAddr>) -> u64 {
    match source.map(|ip| ip.to_canonical()) {
        Some(IpAddr::V4(ip)) => hash_of_bytes(&ip.octets()),
        Some(IpAddr::V6(ip)) => hash_of_bytes(&ip.octets()),
        None => hash_of_bytes(&[]),
    }
}

/// FNV-1a with 64 bits (Fowler, Noll, Vo), finished by [`mix`], as FNV alone leaves its high bits nearly alike.
fn hash_of_bytes(bytes: &[u8]) -> u64 {
    let fnv = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, fnv), 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_the_same_in_every_version() {
        // Clients of a fleet are sent to the same backends by all of its members, whatever their versions.
        assert_eq!(hash_of_address("10.0.0.1:80"), 0x5ed8_f827_5e47_a14a);
        assert_eq!(hash_of_source(Some("192.0.2.1".parse().expect("address"))), 0x8039_3182_6a22_88ea);
    }

    #[test]
    fn ipv4_client_of_an_ipv6_socket_is_the_same_client() {
        let ip = |text: &str| Some(text.parse().expect("address"));
        assert_eq!(hash_of_source(ip("::ffff:192.0.2.1")), hash_of_source(ip("192.0.2.1")));
        assert_ne!(hash_of_source(ip("2001:db8::1")), hash_of_source(ip("2001:db8::2")));
    }
}
