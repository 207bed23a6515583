//! Lists of networks, looked up in a few dozen nanoseconds whatever their length.
//!
//! The networks are made into ranges that neither touch nor overlap, sorted, so that one binary search decides.

use std::net::IpAddr;

use crate::model::Network;

/// A set of IP addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressList {
    v4: Ranges<u32>,
    v6: Ranges<u128>,
}

impl AddressList {
    /// All addresses of these networks.
    pub fn new(networks: &[Network]) -> Self {
        let mut v4 = Vec::new();
        let mut v6 = Vec::new();
        for network in networks {
            match (network.first(), network.last()) {
                (IpAddr::V4(first), IpAddr::V4(last)) => v4.push((u32::from(first), u32::from(last))),
                (IpAddr::V6(first), IpAddr::V6(last)) => v6.push((u128::from(first), u128::from(last))),
                _ => unreachable!("both ends of a network are of its family"),
            }
        }
        Self { v4: Ranges::new(v4), v6: Ranges::new(v6) }
    }

    /// Whether there is no address in it.
    pub fn is_empty(&self) -> bool {
        self.v4.starts.is_empty() && self.v6.starts.is_empty()
    }

    /// Whether `ip` is in it. An IPv4-mapped address is the IPv4 address that it maps.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match ip.to_canonical() {
            IpAddr::V4(ip) => self.v4.contains(ip.into()),
            IpAddr::V6(ip) => self.v6.contains(ip.into()),
        }
    }
}

/// Ranges, both ends included, in order. The starts lie by themselves: a search touches no end but one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ranges<T> {
    starts: Vec<T>,
    ends: Vec<T>,
}

impl<T> Default for Ranges<T> {
    fn default() -> Self {
        Self { starts: Vec::new(), ends: Vec::new() }
    }
}

impl<T: Ord + Copy> Ranges<T> {
    fn new(mut ranges: Vec<(T, T)>) -> Self {
        ranges.sort_unstable();
        let mut merged = Self::default();
        for (start, end) in ranges {
            match merged.ends.last_mut() {
                Some(last) if start <= *last => *last = end.max(*last),
                _ => {
                    merged.starts.push(start);
                    merged.ends.push(end);
                }
            }
        }
        merged
    }

    fn contains(&self, value: T) -> bool {
        let after = self.starts.partition_point(|start| *start <= value);
        after > 0 && value <= self.ends[after - 1]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list(networks: &[&str]) -> AddressList {
        let networks: Vec<_> = networks.iter().map(|text| Network::parse(text).expect("a network")).collect();
        AddressList::new(&networks)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn addresses_of_the_networks_are_in_and_their_neighbours_are_not() {
        let list = list(&["10.0.0.0/8", "192.0.2.7", "10.1.0.0/16", "2001:db8::/32"]);
        for inside in ["10.0.0.0", "10.255.255.255", "192.0.2.7", "::ffff:10.1.2.3", "2001:db8:ffff::1"] {
            assert!(list.contains(ip(inside)), "{inside}");
        }
        for outside in ["9.255.255.255", "11.0.0.0", "192.0.2.6", "192.0.2.8", "2001:db9::", "::1"] {
            assert!(!list.contains(ip(outside)), "{outside}");
        }
    }

    #[test]
    fn everything_and_nothing_are_lists_too() {
        assert!(list(&["0.0.0.0/0"]).contains(ip("255.255.255.255")));
        assert!(!list(&["0.0.0.0/0"]).contains(ip("::")));
        assert!(list(&["::/0"]).contains(ip("ffff::")));
        assert!(!list(&[]).contains(ip("0.0.0.0")) && list(&[]).is_empty());
    }

    proptest! {
        #[test]
        fn decides_as_looking_at_every_network_does(
            networks in prop::collection::vec((any::<u32>(), 20_u8..=32), 0..60),
            probes in prop::collection::vec(any::<u32>(), 20),
        ) {
            let cut = |bits: u32, prefix: u8| bits & u32::MAX << (32 - prefix);
            let networks: Vec<_> = networks
                .into_iter()
                // Close together, so that they meet.
                .map(|(bits, prefix)| Network::new(std::net::Ipv4Addr::from(cut(bits & 0xffff, prefix)).into(), prefix))
                .collect();
            let list = AddressList::new(&networks);
            for probe in probes {
                let ip = IpAddr::from(std::net::Ipv4Addr::from(probe & 0xffff));
                prop_assert_eq!(list.contains(ip), networks.iter().any(|network| network.contains(ip)), "{}", ip);
            }
        }
    }
}
