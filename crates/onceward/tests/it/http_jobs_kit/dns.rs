//! A name server of the test, over UDP: it says what it is told to, something else each time if need be, with a time to
//! live of zero, and counts how often it is asked. And whoever asks it, in place of the system.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use onceward::http_jobs::Resolve;

const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;
/// No such name.
const NXDOMAIN: u8 = 3;

type Answers = Arc<Mutex<HashMap<String, Vec<Vec<IpAddr>>>>>;

#[derive(Clone)]
pub(crate) struct Names {
    answers: Answers,
    asked: Arc<AtomicUsize>,
    server: SocketAddr,
}

impl Default for Names {
    fn default() -> Self {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let server = socket.local_addr().unwrap();
        let (answers, asked) = (Answers::default(), Arc::<AtomicUsize>::default());
        let (says, counts) = (Arc::clone(&answers), Arc::clone(&asked));
        std::thread::spawn(move || serve(&socket, &says, &counts));
        Self { answers, asked, server }
    }
}

impl Names {
    /// Answers with each of these in turn, and then with the last one for ever.
    pub(crate) fn say(&self, name: &str, answers: &[&[&str]]) {
        let parse = |answer: &&[&str]| answer.iter().map(|address| address.parse().unwrap()).collect();
        self.answers.lock().unwrap().insert(name.to_owned(), answers.iter().map(parse).collect());
    }

    /// How often somebody has looked a name up.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// Answers until the socket breaks. The question about IPv4 comes first, and takes the next answer; the one about IPv6
/// is answered out of the same one.
fn serve(socket: &std::net::UdpSocket, answers: &Answers, asked: &AtomicUsize) {
    let mut current: HashMap<String, Vec<IpAddr>> = HashMap::new();
    let mut buffer = [0; 1024];
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        let query = &buffer[..length];
        let (name, end) = read_name(query, 12);
        let kind = u16::from_be_bytes([query[end], query[end + 1]]);
        if kind == A {
            asked.fetch_add(1, Ordering::SeqCst);
            let mut answers = answers.lock().unwrap();
            let next = answers.get_mut(&name).map(|answers| match answers.len() {
                1 => answers[0].clone(),
                _ => answers.remove(0),
            });
            match next {
                Some(next) => drop(current.insert(name.clone(), next)),
                None => drop(current.remove(&name)),
            }
        }
        let found = current.get(&name);
        let records: Vec<Vec<u8>> = found
            .into_iter()
            .flatten()
            .filter_map(|address| match address {
                IpAddr::V4(address) if kind == A => Some(address.octets().to_vec()),
                IpAddr::V6(address) if kind == AAAA => Some(address.octets().to_vec()),
                _ => None,
            })
            .collect();
        let code = if found.is_some() { 0 } else { NXDOMAIN };
        // A name that begins with "alias" is another name for one that has the addresses.
        let alias = name.starts_with("alias").then(|| format!("inside.{name}"));
        let _ = socket.send_to(&response(query, end, code, kind, alias.as_deref(), &records), from);
    }
}

fn response(
    query: &[u8],
    end: usize,
    code: u8,
    kind: u16,
    alias: Option<&str>,
    records: &[Vec<u8>],
) -> Vec<u8> {
    let count = u16::try_from(records.len() + usize::from(alias.is_some())).unwrap();
    let mut out = [&query[..2], &[0x85, 0x80 | code, 0, 1], &count.to_be_bytes(), &[0; 4]].concat();
    out.extend_from_slice(&query[12..end + 4]);
    let mut add = |owner: &[u8], kind: u16, data: &[u8]| {
        out.extend_from_slice(owner);
        out.extend_from_slice(&kind.to_be_bytes());
        // Of the internet, with a time to live of zero.
        out.extend_from_slice(&[0, 1, 0, 0, 0, 0]);
        out.extend_from_slice(&u16::try_from(data.len()).unwrap().to_be_bytes());
        out.extend_from_slice(data);
    };
    // A name may stand for itself by where it stood.
    let question = [0xc0, 12];
    let owner = alias.map_or(question.to_vec(), write_name);
    if alias.is_some() {
        add(&question, CNAME, &owner);
    }
    records.iter().for_each(|data| add(&owner, kind, data));
    out
}

fn write_name(name: &str) -> Vec<u8> {
    let label = |label: &str| [&[u8::try_from(label.len()).unwrap()], label.as_bytes()].concat();
    let mut out: Vec<u8> = name.split('.').flat_map(label).collect();
    out.push(0);
    out
}

/// The name that stands there, and where what follows begins.
fn read_name(message: &[u8], mut at: usize) -> (String, usize) {
    let mut labels = Vec::new();
    loop {
        let length = usize::from(message[at]);
        if length >= 0xc0 {
            return (String::new(), at + 2);
        }
        at += 1;
        if length == 0 {
            return (labels.join("."), at);
        }
        labels.push(String::from_utf8_lossy(&message[at..at + length]).into_owned());
        at += length;
    }
}

impl Resolve for Names {
    fn resolve(&self, host: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let server = self.server;
        async move {
            let mut found = ask(server, &host, A).await?;
            found.extend(ask(server, &host, AAAA).await?);
            Ok(found)
        }
        .boxed()
    }
}

async fn ask(server: SocketAddr, host: &str, kind: u16) -> io::Result<Vec<IpAddr>> {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await?;
    socket.connect(server).await?;
    let head = [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    socket.send(&[&head[..], &write_name(host), &kind.to_be_bytes(), &[0, 1]].concat()).await?;
    let mut buffer = vec![0; 64 * 1024];
    let length = socket.recv(&mut buffer).await?;
    let message = &buffer[..length];
    if message[3] & 0xf != 0 {
        return Err(io::Error::other("there is no such name"));
    }
    let count = u16::from_be_bytes([message[6], message[7]]);
    let mut at = read_name(message, 12).1 + 4;
    let mut found = Vec::new();
    for _ in 0..count {
        at = read_name(message, at).1;
        let kind = u16::from_be_bytes([message[at], message[at + 1]]);
        let length = usize::from(u16::from_be_bytes([message[at + 8], message[at + 9]]));
        let data = &message[at + 10..at + 10 + length];
        at += 10 + length;
        match kind {
            A => found.push(IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(data).unwrap()))),
            AAAA => found.push(IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(data).unwrap()))),
            _ => {}
        }
    }
    Ok(found)
}
