//! Which addresses are out in the world, and which are somebody's own. Everything that the registries of the IANA keep
//! for a special purpose is refused, and so is every part of IPv6 that nobody has been given yet.

use core::fmt;
use core::str::FromStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{Code, Error, Result};

/// What an address is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Somewhere in the world.
    Global,
    /// This machine, or a network of one's own: refused unless private addresses are allowed.
    Private,
    /// Never a receiver: link-local (where clouds tell secrets), multicast, reserved, for documents, a tunnel to
    /// another address.
    Forbidden,
}

/// IANA IPv4 Special-Purpose Address Registry, multicast and the reserved space, without what [`PRIVATE_V4`] names.
const FORBIDDEN_V4: &[(&str, u32)] = &[
    ("0.0.0.0", 8),
    ("169.254.0.0", 16),
    ("192.0.0.0", 24),
    ("192.0.2.0", 24),
    ("192.31.196.0", 24),
    ("192.52.193.0", 24),
    ("192.88.99.0", 24),
    ("192.175.48.0", 24),
    ("198.18.0.0", 15),
    ("198.51.100.0", 24),
    ("203.0.113.0", 24),
    ("224.0.0.0", 4),
    ("240.0.0.0", 4),
    // Where clouds tell their machines secrets: Alibaba, Azure.
    ("100.100.100.200", 32),
    ("168.63.129.16", 32),
];

const PRIVATE_V4: &[(&str, u32)] =
    &[("10.0.0.0", 8), ("100.64.0.0", 10), ("127.0.0.0", 8), ("172.16.0.0", 12), ("192.168.0.0", 16)];

/// Inside of 2000::/3, the only part of IPv6 that is given out: Teredo, ORCHID and their kin; documentation; 6to4; the
/// anycast servers of AS 112.
const FORBIDDEN_V6: &[(&str, u32)] =
    &[("2001::", 23), ("2001:db8::", 32), ("2002::", 16), ("2620:4f:8000::", 48), ("3fff::", 20)];

const PRIVATE_V6: &[(&str, u32)] = &[("::1", 128), ("fc00::", 7)];

/// The metadata service of a cloud, in an otherwise private network.
const METADATA_V6: &str = "fd00:ec2::254";

/// What an address is for. An IPv4 address in IPv6 clothes (`::ffff:0:0/96`) is judged as what it is.
pub fn class(address: IpAddr) -> Class {
    match address.to_canonical() {
        IpAddr::V4(address) => class_v4(address),
        IpAddr::V6(address) => class_v6(address),
    }
}

fn class_v4(address: Ipv4Addr) -> Class {
    let within = |nets: &[(&str, u32)]| {
        nets.iter().any(|(net, bits)| {
            let net = net.parse::<Ipv4Addr>().map_or(0, u32::from);
            (u32::from(address) ^ net).checked_shr(32 - bits).unwrap_or(0) == 0
        })
    };
    match () {
        () if within(FORBIDDEN_V4) => Class::Forbidden,
        () if within(PRIVATE_V4) => Class::Private,
        () => Class::Global,
    }
}

fn class_v6(address: Ipv6Addr) -> Class {
    let number = |text: &str| text.parse::<Ipv6Addr>().map_or(0, u128::from);
    let within = |nets: &[(&str, u32)]| {
        let inside = |net: &str, bits: u32| (u128::from(address) ^ number(net)) >> (128 - bits) == 0;
        nets.iter().any(|(net, bits)| inside(net, *bits))
    };
    match () {
        () if u128::from(address) == number(METADATA_V6) => Class::Forbidden,
        () if within(PRIVATE_V6) => Class::Private,
        () if !within(&[("2000::", 3)]) || within(FORBIDDEN_V6) => Class::Forbidden,
        () => Class::Global,
    }
}

/// A network: `10.1.0.0/16`, `2001:4860::/32`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Net {
    address: IpAddr,
    bits: u32,
}

impl Net {
    /// Whether the address lies in it. IPv4 in IPv6 clothes counts as IPv4.
    pub fn holds(&self, address: IpAddr) -> bool {
        let cut = |number: u128, width: u32| number.checked_shr(width - self.bits).unwrap_or(0);
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(address)) => {
                cut(u32::from(net).into(), 32) == cut(u32::from(address).into(), 32)
            }
            (IpAddr::V6(net), IpAddr::V6(address)) => cut(net.into(), 128) == cut(address.into(), 128),
            _ => false,
        }
    }
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl FromStr for Net {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refused = || {
            let why = format!("{:?} is not a network: write it like 10.1.0.0/16", shown(text));
            Error::new(Code::HostNotAllowed, why)
        };
        let (address, bits) = text.split_once('/').map_or((text, None), |(net, bits)| (net, Some(bits)));
        let address: IpAddr = address.trim_matches(['[', ']']).parse().map_err(|_| refused())?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(width), str::parse).map_err(|_| refused())?;
        if bits > width {
            return Err(refused());
        }
        Ok(Self { address, bits })
    }
}

/// What somebody typed, as it may stand in an error.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(text: &str) -> Class {
        class(text.parse().unwrap())
    }

    #[test]
    fn the_first_and_the_last_address_of_every_special_range_are_refused() {
        for (nets, width, expected) in [
            (FORBIDDEN_V4, 32, Class::Forbidden),
            (PRIVATE_V4, 32, Class::Private),
            (FORBIDDEN_V6, 128, Class::Forbidden),
            (PRIVATE_V6, 128, Class::Private),
        ] {
            for (net, bits) in nets {
                let rest = if width - bits == 128 { u128::MAX } else { (1_u128 << (width - bits)) - 1 };
                let (first, last) = match net.parse::<IpAddr>().unwrap() {
                    IpAddr::V4(first) => {
                        let last = u32::from(first) | u32::try_from(rest).unwrap();
                        (IpAddr::V4(first), IpAddr::V4(last.into()))
                    }
                    IpAddr::V6(first) => (IpAddr::V6(first), IpAddr::V6((u128::from(first) | rest).into())),
                };
                assert_eq!((class(first), class(last)), (expected, expected), "{net}/{bits}");
            }
        }
    }

    #[test]
    fn neighbours_of_special_ranges_are_out_in_the_world() {
        for address in [
            "1.0.0.0",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "8.8.8.8",
            "2001:200::",
            "2001:db9::",
            "2003::",
            "2606:4700::1111",
            "3ffe::",
            "2620:4f:8001::",
        ] {
            assert_eq!(of(address), Class::Global, "{address}");
        }
    }

    #[test]
    fn an_ipv4_address_in_other_clothes_is_not_let_through() {
        assert_eq!(of("::ffff:127.0.0.1"), Class::Private);
        assert_eq!(of("::ffff:169.254.169.254"), Class::Forbidden);
        assert_eq!(of("::ffff:8.8.8.8"), Class::Global);
        let forms = ["::127.0.0.1", "::8.8.8.8", "64:ff9b::8.8.8.8", "64:ff9b:1::1", "2002:7f00:1::"];
        let more = ["2001:0:7f00:1::", "::", "100::1", "fe80::1", "fec0::1", "ff02::1", "5f00::1", "4000::1"];
        for address in forms.into_iter().chain(more).chain(["fd00:ec2::254"]) {
            assert_eq!(of(address), Class::Forbidden, "{address}");
        }
        assert_eq!((of("::1"), of("fd00::1")), (Class::Private, Class::Private));
    }

    #[test]
    fn a_network_holds_what_lies_in_it() {
        let net: Net = "10.1.0.0/16".parse().unwrap();
        assert!(net.holds("10.1.255.255".parse().unwrap()) && net.holds("::ffff:10.1.2.3".parse().unwrap()));
        assert!(!net.holds("10.2.0.0".parse().unwrap()) && !net.holds("::1".parse().unwrap()));
        assert!("0.0.0.0/0".parse::<Net>().unwrap().holds("8.8.8.8".parse().unwrap()));
        assert!("::/0".parse::<Net>().unwrap().holds("2003::".parse().unwrap()));
        assert!("127.0.0.1".parse::<Net>().unwrap().holds("127.0.0.1".parse().unwrap()));
        for bad in ["", "10.1/16", "10.0.0.0/33", "::/129", "10.0.0.0/x", "example.com"] {
            assert_eq!(bad.parse::<Net>().unwrap_err().code(), Code::HostNotAllowed, "{bad}");
        }
    }

    proptest! {
        /// Default deny: outside of 2000::/3 nothing of IPv6 is let through, whatever it is, except IPv4 in disguise.
        #[test]
        fn nothing_outside_of_what_is_given_out_is_global(number in any::<u128>()) {
            let address = Ipv6Addr::from(number);
            if class_v6(address) == Class::Global {
                prop_assert_eq!(number >> 125, 1);
            }
        }

        #[test]
        fn a_mapped_address_is_what_it_hides(number in any::<u32>()) {
            let address = Ipv4Addr::from(number);
            prop_assert_eq!(class(IpAddr::V6(address.to_ipv6_mapped())), class(IpAddr::V4(address)));
        }
    }
}
