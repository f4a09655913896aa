//! A receiver that does what it is told, the good and the bad, and remembers what it has seen; and a name server.
#![allow(dead_code, reason = "each test file uses a part of it")]

mod dns;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use onceward::http_jobs::{HttpDelivery, HttpJob, HttpPolicy};
use onceward::jobs::{Enqueued, Record, State};
use onceward::{Onceward, Result};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

#[allow(unused_imports, reason = "each test file uses a part of it")]
pub(crate) use dns::Names;

/// A request as it came in.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) line: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Over which connection, from 1.
    pub(crate) connection: usize,
    /// The number of the request on its connection, from 1.
    pub(crate) nth: usize,
    pub(crate) at: Instant,
}

impl Received {
    pub(crate) fn path(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        let mut values = self.headers.iter().filter(|(header, _)| header.eq_ignore_ascii_case(name));
        let value = values.next().map_or("", |(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} is there twice");
        value
    }
}

/// What a receiver does.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// Answers with this status and body.
    Status(u16, &'static str),
    /// Answers with this status and header.
    With(u16, String),
    /// Answers with this status, after this time.
    After(Duration, u16),
    /// Answers with this status and header, and a body of many megabytes.
    Long(u16, &'static str),
    /// Begins an answer of this status and sends a byte from time to time.
    Slow(u16, Duration),
    /// Says exactly this, and waits for the next request.
    Raw(Vec<u8>),
    /// Never answers.
    Hang,
    /// Closes without a word.
    Close,
    /// Says this, and closes.
    Last(&'static str),
    /// Sends chunks for ever.
    Endless,
    /// Sends interim answers for ever, after such pauses.
    Flood(Duration),
    /// Begins headers that never end.
    Headers,
}

type Behaviour = Arc<dyn Fn(&Received) -> Reply + Send + Sync>;

pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Received>>>,
    pub(crate) connections: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Receiver {
    pub(crate) async fn new(behaviour: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        Self::at("127.0.0.1:0", behaviour).await
    }

    pub(crate) async fn at(
        address: &str,
        behaviour: impl Fn(&Received) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, connections) = (Arc::default(), Arc::<AtomicUsize>::default());
        let behaviour: Behaviour = Arc::new(behaviour);
        let task = tokio::spawn({
            let (seen, connections) = (Arc::clone(&seen), Arc::clone(&connections));
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let connection = connections.fetch_add(1, Ordering::SeqCst) + 1;
                    tokio::spawn(serve(stream, connection, Arc::clone(&seen), Arc::clone(&behaviour)));
                }
            }
        });
        Self { address, seen, connections, task }
    }

    /// One that answers 200 to everything.
    pub(crate) async fn good() -> Self {
        Self::new(|_| Reply::Status(200, "thanks")).await
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn seen(&self) -> Vec<Received> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn seen_at(&self, path: &str) -> Vec<Received> {
        self.seen().into_iter().filter(|received| received.path() == path).collect()
    }
}

/// Serves one connection.
pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    connection: usize,
    seen: Arc<Mutex<Vec<Received>>>,
    behaviour: Behaviour,
) {
    for nth in 1.. {
        let Some((line, headers, body)) = read(&mut stream).await else { return };
        let received = Received { line, headers, body, connection, nth, at: Instant::now() };
        let reply = behaviour(&received);
        seen.lock().unwrap().push(received);
        if act(&mut stream, reply).await.is_err() {
            return;
        }
    }
}

type Parts = (String, Vec<(String, String)>, Vec<u8>);

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<Parts> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return None,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let line = lines.next().unwrap().to_owned();
    let header = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned()));
    let headers: Vec<(String, String)> = lines.filter_map(header).collect();
    let length = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length: usize = length.map_or(0, |(_, value)| value.parse().unwrap());
    let mut body = bytes.split_off(end + 4);
    while body.len() < length {
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return None,
            Ok(count) => body.extend_from_slice(&buffer[..count]),
        }
    }
    Some((line, headers, body))
}

/// Does it; an error ends the connection.
async fn act(stream: &mut (impl AsyncWrite + Unpin), reply: Reply) -> io::Result<()> {
    let over = || io::Error::other("over");
    match reply {
        Reply::Status(status, body) => {
            let text = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            stream.write_all(text.as_bytes()).await
        }
        Reply::With(status, header) => {
            let text = format!("HTTP/1.1 {status} X\r\n{header}\r\ncontent-length: 0\r\n\r\n");
            stream.write_all(text.as_bytes()).await
        }
        Reply::After(time, status) => {
            tokio::time::sleep(time).await;
            stream.write_all(format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n").as_bytes()).await
        }
        Reply::Long(status, header) => {
            let text = format!("HTTP/1.1 {status} X\r\n{header}\r\ncontent-length: 67108864\r\n\r\n");
            stream.write_all(text.as_bytes()).await?;
            for _ in 0..4096 {
                stream.write_all(&[b'x'; 0x4000]).await?;
            }
            Ok(())
        }
        Reply::Raw(bytes) => stream.write_all(&bytes).await,
        Reply::Hang => std::future::pending().await,
        Reply::Close => Err(over()),
        Reply::Last(text) => {
            stream.write_all(text.as_bytes()).await?;
            stream.shutdown().await?;
            Err(over())
        }
        Reply::Slow(status, pause) => {
            let text = format!("HTTP/1.1 {status} X\r\ncontent-length: 1000\r\n\r\n");
            stream.write_all(text.as_bytes()).await?;
            loop {
                stream.write_all(b"x").await?;
                tokio::time::sleep(pause).await;
            }
        }
        Reply::Endless => {
            stream.write_all(b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n").await?;
            let chunk = format!("4000\r\n{}\r\n", "a".repeat(0x4000));
            loop {
                stream.write_all(chunk.as_bytes()).await?;
            }
        }
        Reply::Flood(pause) => loop {
            stream.write_all(b"HTTP/1.1 103 Early\r\nlink: </a>\r\n\r\n").await?;
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
        },
        Reply::Headers => {
            stream.write_all(b"HTTP/1.1 200 X\r\n").await?;
            for number in 0.. {
                stream.write_all(format!("x-{number}: {}\r\n", "a".repeat(8_000)).as_bytes()).await?;
            }
            Ok(())
        }
    }
}

/// What becomes of a request that is sent at most once, where [`once`] answers.
pub(crate) const ONCE: [(&str, State); 12] = [
    ("/200", State::Succeeded),
    ("/201", State::Succeeded),
    ("/hang", State::Uncertain),
    ("/close", State::Uncertain),
    ("/bye", State::Uncertain),
    ("/drip", State::Uncertain),
    ("/endless", State::Uncertain),
    ("/middle", State::Uncertain),
    ("/500", State::Uncertain),
    ("/302", State::Uncertain),
    ("/429", State::Dead),
    ("/402", State::Dead),
];

pub(crate) fn once(received: &Received) -> Reply {
    match received.path() {
        "/hang" => Reply::Hang,
        "/close" => Reply::Close,
        // In order: over TLS it says that it closes.
        "/bye" => Reply::Last(""),
        "/drip" => DRIP,
        "/endless" => Reply::Endless,
        "/middle" => Reply::Last("HTTP/1.1 200 X\r\ncontent-length: 100\r\n\r\nhalf"),
        "/429" => Reply::With(429, "retry-after: 1".to_owned()),
        path => Reply::Status(path[1..].parse().unwrap(), "over"),
    }
}

/// An answer that comes a byte at a time.
pub(crate) const DRIP: Reply = Reply::Slow(200, Duration::from_millis(100));

/// Everything on this machine is allowed, in the clear, also the receivers of the test itself.
pub(crate) fn open() -> HttpPolicy {
    let (allow_http, allow_private, allow_own_listeners) = (true, true, true);
    HttpPolicy { allow_http, allow_private, allow_own_listeners, ..HttpPolicy::default() }
}

pub(crate) fn delivery() -> HttpDelivery {
    HttpDelivery::new().policy(open())
}

/// A webhook to a receiver of the test, that is tried again at once.
pub(crate) fn hook(url: impl Into<String>) -> HttpJob {
    HttpJob::post(url).json(&serde_json::json!({ "n": 1 })).policy(open())
}

pub(crate) async fn send(ow: &Onceward, job: HttpJob, attempts: u32) -> Result<Enqueued> {
    let retry = "fixed 20ms".parse().unwrap();
    ow.enqueue_http(job).retry(retry).max_attempts(attempts).timeout(Duration::from_secs(2)).await
}

/// The statuses of the attempts of a job.
pub(crate) fn statuses(row: &Record) -> Vec<Option<u16>> {
    row.attempts().iter().map(|attempt| attempt.http.as_ref().and_then(|seen| seen.status)).collect()
}
