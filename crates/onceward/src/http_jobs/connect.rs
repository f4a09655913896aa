//! New connections. This is the only place where names are looked up and addresses are dialled: every address of a name
//! is checked, and what is dialled is one of those that were checked. Proxies of the environment are not asked.

use core::time::Duration;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use onceward_core::http::{Broken, Host, Policy, Scheme, Seen, Stage, Target, Timings};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_rustls::TlsConnector;

use super::own::OwnListeners;
use super::resolve::Resolve;
use super::wire::{Stream, Traffic, Wire};

/// How long each step may take, within what the whole exchange may.
const RESOLVE: Duration = Duration::from_secs(5);
const CONNECT: Duration = Duration::from_secs(10);
const TLS: Duration = Duration::from_secs(10);
/// How long one address is tried before the next one is tried beside it (RFC 8305).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// What dials.
pub(super) struct Connector {
    pub(super) policy: Policy,
    pub(super) resolver: Arc<dyn Resolve>,
    pub(super) tls: Arc<ClientConfig>,
    /// Where our own database listens, by name or address: nobody sends a request there.
    pub(super) own: Vec<(String, u16)>,
    /// Where this very process listens.
    pub(super) listeners: OwnListeners,
}

/// A connection that was made.
pub(super) struct Connected {
    pub(super) wire: Wire,
    pub(super) traffic: Arc<Traffic>,
    pub(super) address: SocketAddr,
}

impl Connector {
    /// Connects to a target that the policy allows. How long the steps took, and to which address they went, is written
    /// into `seen`, also of those that fail.
    pub(super) async fn connect(
        &self,
        target: &Target,
        deadline: Instant,
        seen: &mut Seen,
    ) -> Result<Connected, Broken> {
        self.policy.check_target(target).map_err(|error| refused(&error))?;
        let addresses = self.resolve(target, deadline, &mut seen.timings).await?;
        self.policy.check_addresses(target, &addresses).map_err(|error| refused(&error))?;
        self.check_own(target, &addresses, deadline).await?;
        for address in addresses.iter().filter(|address| address.to_canonical().is_loopback()) {
            self.check_listeners(SocketAddr::new(*address, target.port)).await?;
        }
        let began = Instant::now();
        let (dialled, last) = dial(&addresses, target.port, deadline.min(began + CONNECT)).await;
        seen.timings.connect_us = Some(micros(began));
        seen.address = last.map(|address| address.to_string());
        let stream = dialled.map_err(|error| Broken::new(Stage::Connect, words(&error)))?;
        let checked = self.check(&stream, &addresses).await;
        if matches!(&checked, Err(broken) if broken.stage == Stage::Refused) {
            // Which address it was is none of the business of whoever chose the URL.
            seen.address = None;
        }
        let address = checked?;
        let stream = match target.scheme {
            Scheme::Http => Stream::Plain(stream),
            Scheme::Https => self.secure(stream, target, deadline, &mut seen.timings).await?,
        };
        let (wire, traffic) = Wire::new(stream);
        Ok(Connected { wire, traffic, address })
    }

    async fn resolve(
        &self,
        target: &Target,
        deadline: Instant,
        timings: &mut Timings,
    ) -> Result<Vec<IpAddr>, Broken> {
        let name = match &target.host {
            Host::Address(address) => return Ok(vec![*address]),
            Host::Name(name) => name.clone(),
        };
        let began = Instant::now();
        let found = timeout_at(deadline.min(began + RESOLVE), self.resolver.resolve(name)).await;
        timings.dns_us = Some(micros(began));
        let found = found.map_err(|_| Broken::new(Stage::Resolve, "no answer in time"))?;
        let mut found = found.map_err(|error| Broken::new(Stage::Resolve, words(&error)))?;
        let mut seen = std::collections::HashSet::new();
        found.retain(|address| seen.insert(*address));
        if found.is_empty() { Err(Broken::new(Stage::Resolve, "it has no address")) } else { Ok(found) }
    }

    /// Refuses where our own database listens, whatever name it was called by. Its name is looked up only for requests
    /// to its port.
    async fn check_own(
        &self,
        target: &Target,
        addresses: &[IpAddr],
        deadline: Instant,
    ) -> Result<(), Broken> {
        let refuse = || Err(our_own());
        for (host, _) in self.own.iter().filter(|(_, port)| *port == target.port) {
            let host = host.trim_matches(['[', ']']);
            let own = match host.parse::<IpAddr>() {
                Ok(address) => vec![address],
                Err(_) => {
                    let by = deadline.min(Instant::now() + RESOLVE);
                    // Of one that can't be found nobody knows where it is: then nothing goes to its port, for now.
                    match timeout_at(by, self.resolver.resolve(host.to_owned())).await {
                        Ok(Ok(found)) => found,
                        Ok(Err(_)) | Err(_) => return Err(Broken::new(Stage::Resolve, OWN_UNKNOWN)),
                    }
                }
            };
            let is_own = |address: &IpAddr| {
                let same = |own: &IpAddr| own.to_canonical() == address.to_canonical();
                // This machine is one place, by whichever of its addresses.
                own.iter().any(same) || (is_here(*address) && own.iter().any(|own| is_here(*own)))
            };
            if addresses.iter().any(is_own) {
                return refuse();
            }
        }
        Ok(())
    }

    /// Looks at what was connected to: it is one of the addresses that were checked, and none of our own.
    async fn check(&self, stream: &TcpStream, addresses: &[IpAddr]) -> Result<SocketAddr, Broken> {
        let ends = stream.peer_addr().and_then(|peer| Ok((peer, stream.local_addr()?)));
        let (peer, local) = ends.map_err(|error| Broken::new(Stage::Connect, words(&error)))?;
        if !addresses.iter().any(|address| address.to_canonical() == peer.ip().to_canonical()) {
            return Err(Broken::new(Stage::Connect, "connected to somewhere else than asked for"));
        }
        let here = peer.ip().to_canonical() == local.ip().to_canonical();
        self.policy.check_peer(peer, here).map_err(|error| refused(&error))?;
        if here {
            self.check_listeners(peer).await?;
        }
        Ok(peer)
    }

    /// Refuses an address of this machine at which this very process listens.
    async fn check_listeners(&self, address: SocketAddr) -> Result<(), Broken> {
        let is_own = !self.policy.allow_own_listeners && self.listeners.hold(address).await;
        if is_own { Err(our_own()) } else { Ok(()) }
    }

    async fn secure(
        &self,
        stream: TcpStream,
        target: &Target,
        deadline: Instant,
        timings: &mut Timings,
    ) -> Result<Stream, Broken> {
        let broken = |why: &dyn core::fmt::Display| Broken::new(Stage::Tls, why);
        let name = match &target.host {
            Host::Address(address) => ServerName::IpAddress((*address).into()),
            Host::Name(name) => ServerName::try_from(name.clone()).map_err(|error| broken(&error))?,
        };
        let began = Instant::now();
        let connecting = TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream);
        let secured = timeout_at(deadline.min(began + TLS), connecting).await;
        timings.tls_us = Some(micros(began));
        let secured = secured.map_err(|_| broken(&"no answer in time"))?;
        secured.map(|stream| Stream::Tls(Box::new(stream))).map_err(|error| broken(&words(&error)))
    }
}

/// Connects to the first of the addresses that answers: one after the other, and beside one that takes long, the next.
/// The address is the one that has answered, or else the one that was tried last.
async fn dial(
    addresses: &[IpAddr],
    port: u16,
    deadline: Instant,
) -> (io::Result<TcpStream>, Option<SocketAddr>) {
    let mut waiting = addresses.iter();
    let mut dialling = FuturesUnordered::new();
    let late_error = || io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
    let (mut last, mut tried) = (late_error(), None);
    let late = tokio::time::sleep_until(deadline);
    let mut late = core::pin::pin!(late);
    loop {
        if let Some(address) = waiting.next() {
            let address = SocketAddr::new(*address, port);
            tried = Some(address);
            dialling.push(dial_one(address));
        } else if dialling.is_empty() {
            return (Err(last), tried);
        }
        let more = waiting.len() > 0;
        // Until one has failed, or it is time for the next one.
        loop {
            tokio::select! {
                Some(dialled) = dialling.next() => match dialled {
                    Ok(stream) => {
                        let peer = stream.peer_addr().ok();
                        return (Ok(stream), peer.or(tried));
                    },
                    Err(error) => last = error,
                },
                () = sleep(NEXT_ADDRESS), if more => {}
                () = &mut late => return (Err(late_error()), tried),
            }
            if more || dialling.is_empty() {
                break;
            }
        }
    }
}

async fn dial_one(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_keepalive(true)?;
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Where our own database or Redis is can't be found out, and the request goes to its port.
const OWN_UNKNOWN: &str = "whether this is an address of our own can't be found out now";

/// Whether an address is one of this machine's: a socket can be bound to it.
fn is_here(address: IpAddr) -> bool {
    address.is_loopback() || UdpSocket::bind((address, 0)).is_ok()
}

fn our_own() -> Broken {
    Broken::refused(onceward_core::Code::AddressRefused, "this is an address of our own")
}

pub(super) fn refused(error: &onceward_core::Error) -> Broken {
    Broken::refused(error.code(), error.message())
}

pub(super) fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// What went wrong, with its cause.
pub(super) fn words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !words.contains(&more) {
            words = format!("{words}: {more}");
        }
        source = error.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http_jobs::SystemResolver;

    /// H1: what is written to is one of the addresses that were checked, whatever the system has connected to.
    #[tokio::test]
    async fn h1_a_connection_to_somewhere_else_than_was_checked_is_not_used() {
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap();
        let tls =
            Arc::new(config.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth());
        let policy = Policy { allow_private: true, allow_own_listeners: true, ..Policy::default() };
        let resolver = Arc::new(SystemResolver::default());
        let connector =
            Connector { policy, resolver, tls, own: Vec::new(), listeners: OwnListeners::default() };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let asked = |text: &str| vec![text.parse::<IpAddr>().unwrap()];
        connector.check(&stream, &asked("127.0.0.1")).await.unwrap();
        connector.check(&stream, &asked("::ffff:127.0.0.1")).await.unwrap();
        let broken = connector.check(&stream, &asked("127.0.0.2")).await.unwrap_err();
        assert!(broken.stage == Stage::Connect && broken.why.contains("somewhere else"), "{broken}");
    }
}
