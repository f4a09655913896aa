//! One request and its answer, within bounds: of time, of size, and of what may be said about it afterwards.

use core::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Uri;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use onceward_core::http::{Answer, Broken, Method, Seen, Stage, Target};
use onceward_core::limits;
use tokio::time::{Instant, timeout_at};

use super::connect::{Connector, micros, words};
use super::pool::{Link, Pool, Task};

/// How much of the head of an answer is read. There may be no more headers than that, either.
const HEAD_BYTES_MAX: usize = 64 * 1024;
const HEADERS_MAX: usize = 100;
/// How much of the body is looked at for the excerpt: what is kept, and a secret that begins in it, to its end.
const LOOKED_AT: usize = limits::HTTP_EXCERPT_BYTES_MAX + limits::HTTP_HEADER_VALUE_BYTES_MAX + 1024;
/// How much is read, and for how long, of an answer whose status says all there is to know: enough to keep the
/// connection of a receiver that behaves.
const ASIDE_BYTES: u64 = 64 * 1024;
const ASIDE: Duration = Duration::from_secs(2);

/// What is sent.
pub(super) struct Outgoing {
    pub(super) method: Method,
    pub(super) target: Target,
    /// Path and query.
    pub(super) path: Uri,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) deadline: Instant,
    /// Whether it may not be sent over a connection that was used before: nobody could tell whether the receiver had
    /// closed it just then, or has seen the request.
    pub(super) afresh: bool,
}

/// An exchange. What was seen of it stays here, so that it can be told also of one that was given up on its way.
pub(super) struct Exchange<'a> {
    connector: &'a Connector,
    pool: &'a Pool,
    outgoing: &'a Outgoing,
    began: Instant,
    seen: Seen,
    /// The beginning of the answer, as it came.
    pub(super) beginning: BytesMut,
    /// Whether anything came of an answer that never was one.
    has_begun: bool,
}

impl<'a> Exchange<'a> {
    pub(super) fn new(connector: &'a Connector, pool: &'a Pool, outgoing: &'a Outgoing) -> Self {
        let (began, seen, beginning) = (Instant::now(), Seen::default(), BytesMut::new());
        Self { connector, pool, outgoing, began, seen, beginning, has_begun: false }
    }

    /// What was seen of it until now.
    pub(super) fn seen(&self) -> Seen {
        let mut seen = self.seen.clone();
        seen.timings.total_us = Some(micros(self.began));
        seen
    }

    /// Sends the request, once; over a connection that turns out to be dead before anything has come back, once more.
    pub(super) async fn run(&mut self) -> Result<Answer, Broken> {
        let outgoing = self.outgoing;
        let kept = if outgoing.afresh { None } else { self.pool.take(&outgoing.target.origin()).await };
        let Some(link) = kept else { return self.afresh().await };
        self.seen.reused = true;
        let result = self.over(link).await;
        // The receiver may have closed it in the moment it was used: that says nothing about the request (W55).
        let stale = matches!(&result, Err(broken) if broken.stage <= Stage::Sent)
            && self.seen.status.is_none()
            && !self.has_begun
            && Instant::now() < outgoing.deadline;
        if !stale {
            return result;
        }
        self.seen = Seen::default();
        self.afresh().await
    }

    async fn afresh(&mut self) -> Result<Answer, Broken> {
        let (target, deadline) = (&self.outgoing.target, self.outgoing.deadline);
        let connected = self.connector.connect(target, deadline, &mut self.seen).await?;
        let mut builder = http1::Builder::new();
        builder.max_buf_size(HEAD_BYTES_MAX).max_headers(HEADERS_MAX).writev(false);
        let handshake = builder.handshake(TokioIo::new(connected.wire)).await;
        let (sender, connection) = handshake.map_err(|error| Broken::new(Stage::Unsent, words(&error)))?;
        let task = Task(tokio::spawn(async move {
            // Whoever waits for the answer is told as well.
            let _ = connection.await;
        }));
        let (traffic, address) = (connected.traffic, connected.address);
        let link = Link { sender, traffic, address, born: Instant::now(), task };
        self.over(link).await
    }

    /// Sends it over this connection, and reads the answer.
    async fn over(&mut self, mut link: Link) -> Result<Answer, Broken> {
        self.seen.address = Some(link.address.to_string());
        link.traffic.forget();
        let request = self.outgoing.request();
        let sent_at = Instant::now();
        let head = timeout_at(self.outgoing.deadline, link.sender.try_send_request(request)).await;
        let response = match head {
            Ok(Ok(response)) => response,
            Ok(Err(mut error)) => {
                let why = words(error.error());
                drop(error.take_message());
                return Err(self.unanswered(&mut link, why).await);
            }
            Err(_) => {
                let why = self.late();
                return Err(self.unanswered(&mut link, why).await);
            }
        };
        link.traffic.is_answered();
        self.seen.timings.first_byte_us = Some(micros(sent_at));
        self.seen.status = Some(response.status().as_u16());
        let (parts, body) = response.into_parts();
        let retry_after = parts.headers.get(http::header::RETRY_AFTER);
        let retry_after = retry_after.and_then(|value| value.to_str().ok()).map(str::to_owned);
        let read = if parts.status.is_success() {
            self.read(body, limits::HTTP_ANSWER_BYTES_MAX, self.outgoing.deadline).await.map(|()| true)
        } else {
            // Whatever follows: what becomes of the job is known.
            let by = self.outgoing.deadline.min(Instant::now() + ASIDE);
            Ok(self.read(body, ASIDE_BYTES, by).await.is_ok())
        };
        if read? {
            self.pool.put(&self.outgoing.target.origin(), link);
        }
        Ok(Answer { status: parts.status.as_u16(), retry_after })
    }

    /// There is no answer. Only once the connection has ended is it certain what was not sent.
    async fn unanswered(&mut self, link: &mut Link, why: String) -> Broken {
        link.task.end().await;
        let stage = if link.traffic.has_sent() { Stage::Sent } else { Stage::Unsent };
        // Part of an answer is no answer, but the receiver was there.
        self.has_begun = link.traffic.has_received();
        let why = if self.has_begun { format!("{why} (after the answer had begun)") } else { why };
        Broken::new(stage, why)
    }

    /// Reads the body to its end.
    async fn read(&mut self, mut body: Incoming, most: u64, by: Instant) -> Result<(), Broken> {
        loop {
            let frame = timeout_at(by, body.frame()).await;
            let frame = frame.map_err(|_| Broken::new(Stage::Answer, self.late()))?;
            let Some(frame) = frame else { return Ok(()) };
            let frame = frame.map_err(|error| Broken::new(Stage::Answer, words(&error)))?;
            let Some(data) = frame.data_ref() else { continue };
            let room = LOOKED_AT.saturating_sub(self.beginning.len());
            self.beginning.extend_from_slice(&data[..data.len().min(room)]);
            self.seen.body_bytes += data.len() as u64;
            if self.seen.body_bytes > most {
                return Err(Broken::new(Stage::TooLong, format!("more than {most} bytes")));
            }
        }
    }

    fn late(&self) -> String {
        let took: Duration = self.began.elapsed();
        format!("not within {} ms", took.as_millis())
    }
}

impl Outgoing {
    fn request(&self) -> http::Request<Full<Bytes>> {
        let mut request = http::Request::new(Full::new(self.body.clone()));
        *request.method_mut() = match self.method {
            Method::Get => http::Method::GET,
            Method::Post => http::Method::POST,
            Method::Put => http::Method::PUT,
            Method::Patch => http::Method::PATCH,
            Method::Delete => http::Method::DELETE,
        };
        *request.uri_mut() = self.path.clone();
        *request.headers_mut() = self.headers.clone();
        let host = HeaderValue::from_str(&self.target.authority());
        if let Ok(host) = host {
            request.headers_mut().insert(http::header::HOST, host);
        }
        request
    }

    /// Adds a header; `false` if it is none.
    pub(super) fn header(headers: &mut HeaderMap, name: &str, value: &str) -> bool {
        let (name, value) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value));
        match (name, value) {
            (Ok(name), Ok(value)) => {
                headers.insert(name, value);
                true
            }
            _ => false,
        }
    }
}
