//! Where requests may go. The default is: over TLS, to public addresses, at the usual ports.

use core::str::FromStr;
use std::net::{IpAddr, SocketAddr};

use super::address::{Class, Net, class, shown};
use super::{Host, Scheme, Target};
use crate::{Code, Error, Result, limits};

/// Ports from 1024 on at which things listen that are no receivers: databases, caches, brokers, desktops, clusters.
const SERVICES: &[u16] = &[
    1433, 1521, 1883, 2049, 2181, 2375, 2376, 2379, 2380, 3306, 3389, 4369, 5432, 5433, 5671, 5672, 5900,
    5984, 6000, 6379, 6380, 6432, 6443, 7000, 7001, 7199, 9042, 9092, 9093, 9160, 9200, 9300, 10250, 10255,
    10256, 11211, 15672, 25672, 26379, 27017, 27018, 27019, 28017, 50070,
];

/// Names that lead into one's own machine or network wherever they are asked for.
const OWN_NAMES: &[&str] = &["localhost", "local", "internal", "home.arpa", "lan", "intranet", "corp"];

/// Names of metadata services and of control planes: refused whatever is allowed.
const METADATA_NAMES: &[&str] = &[
    "metadata",
    "metadata.google.internal",
    "metadata.goog",
    "metadata.azure.internal",
    "instance-data",
    "instance-data.ec2.internal",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
];

/// A receiver that is allowed by name or by address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostRule {
    /// `hooks.example.com`.
    Name(String),
    /// `*.example.com`: every name below it.
    Below(String),
    /// `203.0.114.0/24`, `2001:4860::/32`, or one address.
    Net(Net),
}

impl FromStr for HostRule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim().to_ascii_lowercase();
        let name = text.strip_suffix('.').unwrap_or(&text);
        if name.contains('/') || name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
            return name.parse().map(Self::Net);
        }
        let (below, rest) = name.strip_prefix("*.").map_or((false, name), |rest| (true, rest));
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let labels = rest.split('.').all(|label| !label.is_empty() && label.bytes().all(letter));
        if !labels || rest.len() > 253 {
            let why = format!("{:?} is neither a host, nor *.DOMAIN, nor a network", shown(&text));
            return Err(Error::new(Code::HostNotAllowed, why));
        }
        Ok(if below { Self::Below(rest.to_owned()) } else { Self::Name(rest.to_owned()) })
    }
}

/// Where requests may go.
///
/// What is allowed adds up in one way only: [`hosts`](Self::hosts) narrows and never widens. Link-local addresses,
/// multicast, reserved ranges, tunnels and metadata services stay out of reach whatever is said here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Also requests in the clear.
    pub allow_http: bool,
    /// Also this machine, and networks of one's own.
    pub allow_private: bool,
    /// If not empty: only these receivers.
    pub hosts: Vec<HostRule>,
    /// Ports that are allowed beside the usual ones.
    pub ports: Vec<u16>,
    /// Where nobody may go: one's own listeners, one's own database. An unspecified address stands for all addresses of
    /// this machine.
    pub refused: Vec<SocketAddr>,
}

impl Policy {
    /// Checks what the URL alone shows.
    ///
    /// # Errors
    /// [`UrlSchemeRefused`](Code::UrlSchemeRefused), [`PortRefused`](Code::PortRefused),
    /// [`AddressRefused`](Code::AddressRefused), [`HostNotAllowed`](Code::HostNotAllowed).
    pub fn check_target(&self, target: &Target) -> Result<()> {
        if target.scheme == Scheme::Http && !self.allow_http {
            let why =
                "plain http shows the request to everybody on its way; it has to be allowed (--allow-http)";
            return Err(Error::new(Code::UrlSchemeRefused, why));
        }
        self.check_port(target.port)?;
        match &target.host {
            Host::Address(address) => self.check_address(*address, target.port)?,
            Host::Name(name) => self.check_name(name)?,
        }
        let named = |name: &str| self.hosts.iter().any(|rule| rule.names(name));
        let can_be = self.hosts.is_empty()
            || match &target.host {
                Host::Address(address) => self.lists(*address),
                // Its addresses decide, where a network is on the list.
                Host::Name(name) => {
                    named(name) || self.hosts.iter().any(|rule| matches!(rule, HostRule::Net(_)))
                }
            };
        if can_be { Ok(()) } else { Err(not_listed(&target.host)) }
    }

    /// Checks what the name of a receiver stands for: every one of its addresses has to be allowed.
    ///
    /// # Errors
    /// [`AddressRefused`](Code::AddressRefused), which does not say which one, and
    /// [`HostNotAllowed`](Code::HostNotAllowed).
    pub fn check_addresses(&self, target: &Target, addresses: &[IpAddr]) -> Result<()> {
        if addresses.len() > limits::HTTP_ADDRESSES_MAX {
            let (max, has) = (limits::HTTP_ADDRESSES_MAX, addresses.len());
            let why = format!("the name stands for {has} addresses; {max} are the most");
            return Err(Error::new(Code::AddressRefused, why));
        }
        addresses.iter().try_for_each(|address| self.check_address(*address, target.port))?;
        let named = match &target.host {
            Host::Name(name) => self.hosts.iter().any(|rule| rule.names(name)),
            Host::Address(_) => false,
        };
        if self.hosts.is_empty() || named || addresses.iter().all(|address| self.lists(*address)) {
            return Ok(());
        }
        Err(not_listed(&target.host))
    }

    fn check_address(&self, address: IpAddr, port: u16) -> Result<()> {
        let refused = match class(address) {
            Class::Global => false,
            Class::Private => !self.allow_private,
            Class::Forbidden => true,
        };
        // Which address it was is none of the business of whoever chose the URL.
        if refused {
            let why = "the receiver has an address that is not allowed (private, local, or kept for a special purpose)";
            return Err(Error::new(Code::AddressRefused, why));
        }
        if self.is_own(address, port, false) { Err(own()) } else { Ok(()) }
    }

    /// Checks a connection that has been made: whether its other end is one of those where nobody may go. `here`: both
    /// of its ends are at the same address, so that whatever listens at all addresses of this machine listens there.
    ///
    /// # Errors
    /// [`AddressRefused`](Code::AddressRefused).
    pub fn check_peer(&self, peer: SocketAddr, here: bool) -> Result<()> {
        self.check_address(peer.ip(), peer.port())?;
        if self.is_own(peer.ip(), peer.port(), here) { Err(own()) } else { Ok(()) }
    }

    fn is_own(&self, address: IpAddr, port: u16, here: bool) -> bool {
        let address = address.to_canonical();
        let here = here || address.is_loopback();
        let same = |own: &SocketAddr| {
            own.port() == port && (own.ip().to_canonical() == address || (own.ip().is_unspecified() && here))
        };
        self.refused.iter().any(same)
    }

    fn check_port(&self, port: u16) -> Result<()> {
        let usual = port == 443 || port == 80 || (port > 1023 && !SERVICES.contains(&port));
        if usual || self.ports.contains(&port) {
            return Ok(());
        }
        Err(Error::new(Code::PortRefused, format!("port {port} is not one that receivers listen at")))
    }

    fn check_name(&self, name: &str) -> Result<()> {
        let refused = |why: &str| Err(Error::new(Code::AddressRefused, why));
        if METADATA_NAMES.contains(&name) {
            return refused("this is the name of a metadata service, or of a control plane");
        }
        let is_own =
            |own: &str| name.strip_suffix(own).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        let private = !name.contains('.') || OWN_NAMES.iter().any(|own| is_own(own));
        if private && !self.allow_private {
            return refused("this name leads into one's own machine or network");
        }
        Ok(())
    }

    fn lists(&self, address: IpAddr) -> bool {
        self.hosts.iter().any(|rule| matches!(rule, HostRule::Net(net) if net.holds(address)))
    }
}

impl HostRule {
    fn names(&self, name: &str) -> bool {
        match self {
            Self::Name(allowed) => allowed == name,
            Self::Below(domain) => name.strip_suffix(domain.as_str()).is_some_and(|rest| rest.ends_with('.')),
            Self::Net(_) => false,
        }
    }
}

fn not_listed(host: &Host) -> Error {
    Error::new(
        Code::HostNotAllowed,
        format!("{:?} is not on the list of allowed hosts", shown(&host.to_string())),
    )
}

fn own() -> Error {
    Error::new(Code::AddressRefused, "this is an address of our own")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(scheme: Scheme, host: Host, port: u16) -> Target {
        Target { scheme, host, port, path: "/".to_owned() }
    }

    fn https(name: &str) -> Target {
        target(Scheme::Https, Host::name(name), 443)
    }

    fn refusal(policy: &Policy, target: &Target) -> Option<Code> {
        policy.check_target(target).err().map(|error| error.code())
    }

    fn open() -> Policy {
        Policy { allow_http: true, allow_private: true, ..Policy::default() }
    }

    #[test]
    fn by_default_only_tls_to_public_names_at_usual_ports() {
        let policy = Policy::default();
        assert_eq!(refusal(&policy, &https("hooks.example.com")), None);
        let plain = target(Scheme::Http, Host::name("example.com"), 80);
        assert_eq!(refusal(&policy, &plain), Some(Code::UrlSchemeRefused));
        for port in [0, 22, 25, 81, 5432, 6379, 11211] {
            let target = target(Scheme::Https, Host::name("example.com"), port);
            assert_eq!(refusal(&policy, &target), Some(Code::PortRefused), "{port}");
        }
        for name in
            ["localhost", "LOCALHOST.", "a.localhost", "printer", "db.internal", "nas.local", "metadata"]
        {
            assert_eq!(refusal(&policy, &https(name)), Some(Code::AddressRefused), "{name}");
        }
        assert_eq!(refusal(&policy, &https("internal.example.com")), None);
        assert_eq!(refusal(&policy, &https("mylocalhost.com")), None);
    }

    #[test]
    fn what_is_never_a_receiver_stays_out_of_reach() {
        for name in METADATA_NAMES {
            assert_eq!(refusal(&open(), &https(name)), Some(Code::AddressRefused), "{name}");
        }
        for address in ["169.254.169.254", "fe80::1", "0.0.0.0", "::", "224.0.0.1", "100.100.100.200"] {
            let target = target(Scheme::Http, Host::Address(address.parse().unwrap()), 80);
            assert_eq!(refusal(&open(), &target), Some(Code::AddressRefused), "{address}");
        }
    }

    #[test]
    fn one_refused_address_among_many_refuses_them_all() {
        let mixed = ["8.8.8.8", "10.0.0.1"].map(|address| address.parse().unwrap());
        let error = Policy::default().check_addresses(&https("example.com"), &mixed).unwrap_err();
        assert_eq!(error.code(), Code::AddressRefused);
        assert!(!error.to_string().contains("10.0.0.1"), "{error}");
        let many: Vec<IpAddr> = (0..500_u32).map(|last| IpAddr::V4((0x0808_0000 + last).into())).collect();
        assert_eq!(
            Policy::default().check_addresses(&https("a.com"), &many).unwrap_err().code(),
            Code::AddressRefused
        );
    }

    #[test]
    fn a_list_of_hosts_narrows_and_never_widens() {
        let rules = ["hooks.example.com", "*.shop.example", "10.1.0.0/16"];
        let hosts: Vec<HostRule> = rules.iter().map(|rule| rule.parse().unwrap()).collect();
        let narrow = Policy { hosts: hosts[..2].to_vec(), ..Policy::default() };
        assert_eq!(refusal(&narrow, &https("hooks.example.com")), None);
        assert_eq!(refusal(&narrow, &https("eu.shop.example")), None);
        for name in ["shop.example", "evilshop.example", "example.com", "hooks.example.com.evil.com"] {
            assert_eq!(refusal(&narrow, &https(name)), Some(Code::HostNotAllowed), "{name}");
        }
        let inside = ["10.1.2.3".parse().unwrap()];
        let listed = Policy { hosts, ..Policy::default() };
        let error = listed.check_addresses(&https("a.com"), &inside).unwrap_err();
        assert_eq!(error.code(), Code::AddressRefused, "a network on the list does not make it public");
        let listed = Policy { allow_private: true, ..listed };
        listed.check_addresses(&https("a.com"), &inside).unwrap();
        let outside = ["10.2.0.1".parse().unwrap()];
        assert_eq!(
            listed.check_addresses(&https("a.com"), &outside).unwrap_err().code(),
            Code::HostNotAllowed
        );
        for bad in ["", "*", "*.", "a..b", "http://a.com", "a b", "10.0.0.0/40"] {
            assert!(bad.parse::<HostRule>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn our_own_listeners_are_refused_at_every_name_they_have() {
        let own = Policy { refused: vec!["0.0.0.0:8080".parse().unwrap()], ..open() };
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert_eq!(own.check_peer(at("127.0.0.1:8080"), false).unwrap_err().code(), Code::AddressRefused);
        assert_eq!(own.check_peer(at("10.0.0.5:8080"), true).unwrap_err().code(), Code::AddressRefused);
        own.check_peer(at("10.0.0.5:8080"), false).unwrap();
        own.check_peer(at("127.0.0.1:8081"), true).unwrap();
    }
}
