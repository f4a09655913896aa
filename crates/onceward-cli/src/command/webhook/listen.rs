//! `onceward webhook listen`: a receiver for trying out. It listens on this machine only.

use core::convert::Infallible;
use core::time::Duration;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use onceward::webhook::{Verifier, VerifyingKey};
use onceward::{Code, Error, Result, limits};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore};

use crate::delivery::lines;
use crate::process::Signals;
use crate::{exit, output, report};

/// How many connections are served at the same time.
const CONNECTIONS: usize = 256;
/// How long a client has for its headers, and for all of a request.
const HEADERS: Duration = Duration::from_secs(10);
const REQUEST: Duration = Duration::from_secs(30);
/// How long the last answer has to be sent.
const ANSWER: Duration = Duration::from_millis(200);

/// Receive webhooks on this machine, for trying out, and print a line of JSON for each
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where to listen; port 0 takes one that is free
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Check signatures with the secrets in this file, and answer 401 where none fits
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// The status to answer with
    #[arg(long, value_name = "STATUS", default_value_t = 200, value_parser = clap::value_parser!(u16).range(200..=599))]
    status: u16,
    /// End after so many requests
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

struct Receiver {
    verifier: Option<Verifier>,
    status: u16,
    count: Option<u64>,
    received: AtomicU64,
    over: Notify,
}

pub(super) async fn run(args: &Args) -> Result<ExitCode> {
    if !args.listen.ip().is_loopback() {
        let why =
            "this receiver is for trying out: it listens on this machine only, such as at 127.0.0.1:8080";
        return Err(Error::new(Code::UsageInvalid, why));
    }
    let keys = args.secret_file.as_deref().map(lines).transpose()?;
    let read =
        |lines: Vec<String>| lines.iter().map(|line| line.parse()).collect::<Result<Vec<VerifyingKey>>>();
    let keys = keys.map(read).transpose()?;
    let listener = TcpListener::bind(args.listen).await.map_err(|error| {
        Error::new(Code::UsageInvalid, format!("nobody can listen at {}", args.listen)).with_source(error)
    })?;
    let at = listener.local_addr().unwrap_or(args.listen);
    output::text(&format!("{}\n", output::json_line(&json!({ "listening": format!("http://{at}/") }))?))?;
    let signals = Signals::catch()?;
    let receiver = Arc::new(Receiver {
        verifier: keys.map(|keys| Verifier::new(&keys)),
        status: args.status,
        count: args.count,
        received: AtomicU64::new(0),
        over: Notify::new(),
    });
    tokio::select! {
        () = serve(listener, Arc::clone(&receiver)) => {}
        // The last one wants its answer as well.
        () = receiver.over.notified() => tokio::time::sleep(ANSWER).await,
        _ = signals.next() => {}
    }
    Ok(ExitCode::from(exit::DONE))
}

async fn serve(listener: TcpListener, receiver: Arc<Receiver>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let receiver = Arc::clone(&receiver);
        tokio::spawn(async move {
            let _place = place;
            let service = service_fn(|request| answer(Arc::clone(&receiver), request));
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEADERS);
            // A client that goes away is no news.
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(
    receiver: Arc<Receiver>,
    request: Request<Incoming>,
) -> core::result::Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = Limited::new(body, 2 * limits::PAYLOAD_BYTES_MAX).collect();
    let status = match tokio::time::timeout(REQUEST, body).await {
        Ok(Ok(body)) => receiver.take(&parts, &body.to_bytes()),
        Ok(Err(_)) => 413,
        Err(_) => 408,
    };
    let mut response = Response::new(Full::default());
    *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or_default();
    Ok(response)
}

impl Receiver {
    /// Prints what came, and says what to answer.
    fn take(&self, parts: &hyper::http::request::Parts, body: &[u8]) -> u16 {
        let verified = self
            .verifier
            .as_ref()
            .map(|verifier| verifier.verify_request(&parts.headers, body, SystemTime::now().into()));
        let header = |name: &str| {
            let value = parts.headers.get(name).and_then(|value| value.to_str().ok());
            value.map_or(Value::Null, |value| json!(value))
        };
        let content_type = parts.headers.get("content-type").and_then(|value| value.to_str().ok());
        let line = json!({
            "method": parts.method.as_str(),
            "path": parts.uri.path_and_query().map(|path| path.as_str()),
            "webhook_id": header("webhook-id"),
            "idempotency_key": header("idempotency-key"),
            "job": header("onceward-job-id"),
            "attempt": header("onceward-attempt"),
            "verified": verified.as_ref().map(Result::is_ok),
            "refusal": verified.as_ref().and_then(|verified| verified.as_ref().err()).map(|error| error.to_string()),
            "body": output::bytes_value(content_type.unwrap_or_default(), body.len() as u64, Some(body)),
        });
        if output::json_line(&line).and_then(|line| output::text(&format!("{line}\n"))).is_err() {
            report::note("what was received can't be printed");
        }
        let received = self.received.fetch_add(1, Ordering::SeqCst) + 1;
        if self.count.is_some_and(|count| received >= count) {
            self.over.notify_one();
        }
        if verified.is_some_and(|verified| verified.is_err()) { 401 } else { self.status }
    }
}
