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

/// A receiver that is allowed by name or by address, at every port or at one: `hooks.example.com`, `*.example.com`
/// (every name below it), `203.0.114.0/24`, `[2001:4860::]/32`, one address; and each of them with `:8443` behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRule {
    whom: Whom,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Whom {
    Name(String),
    Below(String),
    Net(Net),
}

impl FromStr for HostRule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim().to_ascii_lowercase();
        let refused = || {
            let why = format!("{:?} is neither a host, nor *.DOMAIN, nor a network", shown(&text));
            Error::new(Code::HostNotAllowed, why)
        };
        let (host, port) = split_port(&text);
        let port = match port.map(str::parse::<u16>) {
            None => None,
            Some(Ok(port)) if port > 0 => Some(port),
            Some(_) => return Err(refused()),
        };
        let name = host.strip_suffix('.').unwrap_or(host);
        if name.contains('/') || name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
            return Ok(Self { whom: Whom::Net(name.parse()?), port });
        }
        let (below, rest) = name.strip_prefix("*.").map_or((false, name), |rest| (true, rest));
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let labels = rest.split('.').all(|label| !label.is_empty() && label.bytes().all(letter));
        if !labels || rest.len() > 253 {
            return Err(refused());
        }
        let whom = if below { Whom::Below(rest.to_owned()) } else { Whom::Name(rest.to_owned()) };
        Ok(Self { whom, port })
    }
}

/// What stands before the port, and the port. The colons of an address are none of one; behind brackets and behind the
/// size of a network they are.
fn split_port(text: &str) -> (&str, Option<&str>) {
    let from = text.find('/').or_else(|| text.rfind(']')).unwrap_or(0);
    let is_address = from == 0 && text.parse::<IpAddr>().is_ok();
    match text[from..].find(':').filter(|_| !is_address) {
        Some(at) => (&text[..from + at], Some(&text[from + at + 1..])),
        None => (text, None),
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
    /// If not empty: only these receivers. A rule with a port allows its host at that port only; a port that is not
    /// one of the usual ones has to be among the [`ports`](Self::ports) all the same.
    pub hosts: Vec<HostRule>,
    /// Ports that are allowed beside the usual ones.
    pub ports: Vec<u16>,
    /// Where nobody may go: one's own listeners, one's own database. An unspecified address stands for all addresses of
    /// this machine.
    pub refused: Vec<SocketAddr>,
    /// Also ports of this machine at which this very process listens, where the system tells which those are: for
    /// tests, and for programs that are their own receiver.
    pub allow_own_listeners: bool,
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
        let can_be = self.hosts.is_empty()
            || match &target.host {
                Host::Address(address) => self.lists(*address, target.port),
                // Its addresses decide, where a network is on the list.
                Host::Name(name) => self.at(target.port).any(|whom| whom.names(name) || whom.is_net()),
            };
        if can_be { Ok(()) } else { Err(not_listed(target)) }
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
            Host::Name(name) => self.at(target.port).any(|whom| whom.names(name)),
            Host::Address(_) => false,
        };
        let listed = |address: &IpAddr| self.lists(*address, target.port);
        if self.hosts.is_empty() || named || addresses.iter().all(listed) {
            return Ok(());
        }
        Err(not_listed(target))
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

    /// Who is on the list at this port.
    fn at(&self, port: u16) -> impl Iterator<Item = &Whom> {
        self.hosts.iter().filter(move |rule| rule.port.is_none_or(|only| only == port)).map(|rule| &rule.whom)
    }

    fn lists(&self, address: IpAddr, port: u16) -> bool {
        self.at(port).any(|whom| matches!(whom, Whom::Net(net) if net.holds(address)))
    }
}

impl Whom {
    fn names(&self, name: &str) -> bool {
        match self {
            Self::Name(allowed) => allowed == name,
            Self::Below(domain) => name.strip_suffix(domain.as_str()).is_some_and(|rest| rest.ends_with('.')),
            Self::Net(_) => false,
        }
    }

    fn is_net(&self) -> bool {
        matches!(self, Self::Net(_))
    }
}

fn not_listed(target: &Target) -> Error {
    let host = shown(&target.host.to_string());
    Error::new(
        Code::HostNotAllowed,
        format!("{host:?} is not on the list of allowed hosts, at port {}", target.port),
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

    /// W68.
    #[test]
    fn w68_a_rule_with_a_port_allows_its_host_at_that_port_only() {
        let at = |host: &str, port| {
            let host = host.parse().map_or_else(|_| Host::name(host), Host::Address);
            target(Scheme::Https, host, port)
        };
        for (rule, host, port, other) in [
            ("hooks.example.com:8443", "hooks.example.com", 8443, 443),
            ("*.example.com:443", "eu.example.com", 443, 8443),
            ("8.8.0.0/16:8443", "8.8.8.8", 8443, 443),
            ("8.8.8.8:443", "8.8.8.8", 443, 8443),
            ("[2001:4860::]/32:443", "2001:4860::1", 443, 8443),
            ("2001:4860::/32:443", "2001:4860::1", 443, 8443),
            ("[2001:4860::1]:443", "2001:4860::1", 443, 8443),
        ] {
            let policy = Policy { hosts: vec![rule.parse().unwrap()], ..Policy::default() };
            assert_eq!(refusal(&policy, &at(host, port)), None, "{rule}");
            assert_eq!(refusal(&policy, &at(host, other)), Some(Code::HostNotAllowed), "{rule}");
        }
        for rule in ["2001:4860::1", "[2001:4860::1]", "2001:4860::/32", "[2001:4860::]/32"] {
            let policy = Policy { hosts: vec![rule.parse().unwrap()], ..Policy::default() };
            assert_eq!(refusal(&policy, &at("2001:4860::1", 443)), None, "{rule}");
            assert_eq!(refusal(&policy, &at("2001:4860::1", 8443)), None, "{rule}");
        }
        // What a name stands for decides, at the port that the network is listed with.
        let policy = Policy { hosts: vec!["8.8.0.0/16:443".parse().unwrap()], ..Policy::default() };
        let found = ["8.8.8.8".parse().unwrap()];
        policy.check_addresses(&at("a.com", 443), &found).unwrap();
        let error = policy.check_addresses(&at("a.com", 8443), &found).unwrap_err();
        assert_eq!(error.code(), Code::HostNotAllowed);
        // It narrows all the same: a port that nobody has allowed is refused on the list, too.
        let ssh = Policy { hosts: vec!["a.com:22".parse().unwrap()], ..Policy::default() };
        assert_eq!(refusal(&ssh, &at("a.com", 22)), Some(Code::PortRefused));
        let ssh = Policy { ports: vec![22], ..ssh };
        assert_eq!(refusal(&ssh, &at("a.com", 22)), None);
        for bad in ["a.com:", "a.com:0", "a.com:65536", "a.com:x", "[::1]:", "::/32:x", "10.0.0.0/8:"] {
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
