//! An IP network in CIDR notation.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// All addresses with the same leading bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// What is wrong with the text of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkError {
    /// It is no IP address with or without a prefix length.
    Malformed,
    /// There are bits behind the prefix; this network was meant.
    HostBits(Network),
}

impl Network {
    /// The network of the first `prefix` bits of `address`; what is behind them is cleared.
    pub fn new(address: IpAddr, prefix: u8) -> Self {
        let (address, prefix) = match address {
            IpAddr::V4(ip) => {
                let prefix = prefix.min(32);
                (IpAddr::from(Ipv4Addr::from(u32::from(ip) & mask_v4(prefix))), prefix)
            }
            IpAddr::V6(ip) => {
                let prefix = prefix.min(128);
                (IpAddr::from(Ipv6Addr::from(u128::from(ip) & mask_v6(prefix))), prefix)
            }
        };
        Self { address, prefix }
    }

    /// `"10.0.0.0/8"`, `"2001:db8::/32"`, or a single address.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkError::Malformed)?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => longest,
            Some(digits) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().ok().filter(|prefix| *prefix <= longest).ok_or(NetworkError::Malformed)?
            }
            Some(_) => return Err(NetworkError::Malformed),
        };
        let network = Self::new(address, prefix);
        if network.address == address { Ok(network) } else { Err(NetworkError::HostBits(network)) }
    }

    /// Its lowest address.
    pub fn first(&self) -> IpAddr {
        self.address
    }

    /// Its highest address.
    pub fn last(&self) -> IpAddr {
        match self.address {
            IpAddr::V4(ip) => Ipv4Addr::from(u32::from(ip) | !mask_v4(self.prefix)).into(),
            IpAddr::V6(ip) => Ipv6Addr::from(u128::from(ip) | !mask_v6(self.prefix)).into(),
        }
    }

    /// Whether `ip`, as it stands, is in it.
    pub fn contains(&self, ip: IpAddr) -> bool {
        ip.is_ipv4() == self.address.is_ipv4() && Self::new(ip, self.prefix).address == self.address
    }
}

fn mask_v4(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

fn mask_v6(prefix: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0)
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_a_network_is_an_address_with_or_without_a_prefix() {
        for (text, first, last) in [
            ("10.0.0.0/8", "10.0.0.0", "10.255.255.255"),
            ("0.0.0.0/0", "0.0.0.0", "255.255.255.255"),
            ("192.0.2.1", "192.0.2.1", "192.0.2.1"),
            ("2001:db8::/32", "2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("::/0", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("::1/128", "::1", "::1"),
        ] {
            let network = Network::parse(text).expect(text);
            assert_eq!(
                (network.first().to_string(), network.last().to_string()),
                (first.into(), last.into())
            );
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/+8", "10.0.0/8", "::/129", "a", "10.0.0.1:80"]
        {
            assert_eq!(Network::parse(text), Err(NetworkError::Malformed), "{text}");
        }
        let meant = Network::parse("10.0.0.0/8").expect("a network");
        assert_eq!(Network::parse("10.1.2.3/8"), Err(NetworkError::HostBits(meant)));
    }
}
