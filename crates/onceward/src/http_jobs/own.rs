//! Where this very process listens: what nobody sends a request to, unless that is allowed.

use core::time::Duration;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::Mutex;
use tokio::time::Instant;

/// For how long is known what was read. Only connections to this machine ask.
const FRESH: Duration = Duration::from_secs(1);

/// The listeners of this process, as the system tells them. Where it does not, there are none.
#[derive(Default)]
pub(super) struct OwnListeners {
    known: Mutex<Option<(Instant, Arc<Vec<SocketAddr>>)>>,
}

impl OwnListeners {
    /// Whether this process listens at this address, which is one of this machine.
    pub(super) async fn hold(&self, address: SocketAddr) -> bool {
        let listeners = self.all().await;
        let same = |own: &SocketAddr| {
            let ip = own.ip().to_canonical();
            own.port() == address.port() && (ip.is_unspecified() || ip == address.ip().to_canonical())
        };
        listeners.iter().any(same)
    }

    async fn all(&self) -> Arc<Vec<SocketAddr>> {
        let mut known = self.known.lock().await;
        if let Some((_, all)) = known.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            return Arc::clone(all);
        }
        let at = Instant::now();
        // The system tells it in files that may be long.
        let all = Arc::new(tokio::task::spawn_blocking(system::listeners).await.unwrap_or_default());
        *known = Some((at, Arc::clone(&all)));
        all
    }
}

#[cfg(target_os = "linux")]
mod system {
    use std::collections::HashSet;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

    /// The state of a socket that listens, as the kernel writes it.
    const LISTENS: &str = "0A";

    /// The sockets of this machine that listen, of those the ones that this process holds.
    pub(super) fn listeners() -> Vec<SocketAddr> {
        let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
        let mut all = listening(&read("/proc/self/net/tcp"));
        all.extend(listening(&read("/proc/self/net/tcp6")));
        if all.is_empty() {
            return Vec::new();
        }
        let own = own_sockets();
        all.into_iter().filter(|(_, inode)| own.contains(inode)).map(|(address, _)| address).collect()
    }

    /// The sockets that this process holds, by their inodes.
    fn own_sockets() -> HashSet<u64> {
        let inode = |entry: std::io::Result<std::fs::DirEntry>| {
            let link = std::fs::read_link(entry.ok()?.path()).ok()?;
            link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
        };
        std::fs::read_dir("/proc/self/fd").map(|all| all.filter_map(inode).collect()).unwrap_or_default()
    }

    /// Those that listen, of a table of the kernel: where, and their inodes.
    pub(super) fn listening(table: &str) -> Vec<(SocketAddr, u64)> {
        let row = |line: &str| {
            let columns: Vec<&str> = line.split_ascii_whitespace().collect();
            let [_, local, _, state, _, _, _, _, _, inode, ..] = columns[..] else { return None };
            if state != LISTENS {
                return None;
            }
            let (ip, port) = local.split_once(':')?;
            let port = u16::from_str_radix(port, 16).ok()?;
            Some((SocketAddr::new(address(ip)?, port), inode.parse().ok()?))
        };
        table.lines().skip(1).filter_map(row).collect()
    }

    /// An address in words of four bytes, each of them as the machine keeps it.
    fn address(hex: &str) -> Option<IpAddr> {
        let word = |at: usize| {
            let word = u32::from_str_radix(hex.get(8 * at..8 * at + 8)?, 16).ok()?;
            Some(u32::from_be_bytes(word.to_ne_bytes()))
        };
        match hex.len() {
            8 => Some(Ipv4Addr::from(word(0)?).into()),
            32 => {
                let number = (0..4).try_fold(0_u128, |all, at| Some(all << 32 | u128::from(word(at)?)))?;
                Some(Ipv6Addr::from(number).into())
            }
            _ => None,
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::net::SocketAddr;

    /// Nobody tells.
    pub(super) fn listeners() -> Vec<SocketAddr> {
        Vec::new()
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn what_this_process_listens_at_is_known_and_what_others_do_is_not() {
        let own = OwnListeners::default();
        let four = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let all = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let six = std::net::TcpListener::bind("[::1]:0").ok();
        let at = |text: String| text.parse::<SocketAddr>().unwrap();
        let port = four.local_addr().unwrap().port();
        assert!(own.hold(at(format!("127.0.0.1:{port}"))).await);
        assert!(own.hold(at(format!("[::ffff:127.0.0.1]:{port}"))).await);
        assert!(!own.hold(at(format!("127.0.0.2:{port}"))).await, "nobody listens there");
        assert!(own.hold(at(format!("127.9.9.9:{}", all.local_addr().unwrap().port()))).await);
        if let Some(six) = &six {
            assert!(own.hold(six.local_addr().unwrap()).await);
        }
        // Another process, which holds none of our sockets, listens for itself.
        drop(four);
        tokio::time::sleep(FRESH).await;
        assert!(!own.hold(at(format!("127.0.0.1:{port}"))).await, "not any more");
    }

    #[test]
    fn a_table_of_the_kernel_is_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
                        0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0  0 77 1 0\n\
                        1: 0100007F:1F91 0100007F:9999 01 00000000:00000000 00:00000000 00000000  0  0 78 1 0\n\
                        2: nonsense";
        if cfg!(target_endian = "little") {
            assert_eq!(system::listening(table), [("127.0.0.1:8080".parse().unwrap(), 77)]);
        }
    }
}
