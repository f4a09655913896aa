//! A webhook sender with a hostile receiver: what arrives, what is tried again or given up, and what nobody knows.
//!
//! ```console
//! $ cargo run -p onceward --example webhook_sender --features http-jobs
//! ```
//!
//! The receiver is a few lines of TCP on this machine that misbehaves by path. Each webhook is signed; the last two are
//! payments that must not be made twice.

use std::time::Duration;

use onceward::Onceward;
use onceward::http_jobs::{HttpDelivery, HttpJob, HttpPolicy};
use onceward::webhook::Secret;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What the receiver does, by path.
const PATHS: [(&str, &str); 6] = [
    ("/good", "answers 200"),
    ("/flaky", "breaks off the first time"),
    ("/moved", "answers 302 to the metadata service"),
    ("/endless", "never stops answering"),
    ("/hang", "never answers"),
    ("/gone", "answers 410"),
];

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let base = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(misbehave(stream));
        }
    });

    let ow = Onceward::connect("memory:").await?;
    // The receiver is this very program, in the clear: without this policy nothing below would be sent.
    let policy = HttpPolicy {
        allow_http: true,
        allow_private: true,
        allow_own_listeners: true,
        ..HttpPolicy::default()
    };
    let mut jobs = Vec::new();
    for (path, what) in PATHS {
        let hook =
            HttpJob::post(format!("{base}{path}")).json(&json!({ "order": 17 })).policy(policy.clone());
        let job = ow.enqueue_http(hook).max_attempts(3).retry("fixed 100ms".parse()?);
        jobs.push((job.timeout(Duration::from_secs(1)).await?.id, what));
    }
    for (path, what) in [("/good", "a payment, answers 200"), ("/hang", "a payment, never answers")] {
        let hook =
            HttpJob::post(format!("{base}{path}")).json(&json!({ "cents": 4200 })).policy(policy.clone());
        let job = ow.enqueue_http(hook).at_most_once().timeout(Duration::from_secs(1));
        jobs.push((job.await?.id, what));
    }
    let inside = HttpJob::post("https://169.254.169.254/latest/meta-data/").json(&json!({}));
    if let Err(refusal) = ow.enqueue_http(inside).await {
        println!("refused: {refusal}");
    }

    let delivery = HttpDelivery::new().policy(policy).sign(Secret::generate()?);
    ow.worker().http(delivery).run_until_empty(Duration::from_secs(10)).await?;

    for (id, what) in jobs {
        let job = ow.admin().job(id).await?;
        println!("{:<36} {} after {} attempt(s)", what, job.state, job.attempt);
        for attempt in job.attempts() {
            let seen = attempt.http.as_deref().cloned().unwrap_or_default();
            let status = seen.status.map_or_else(|| "-".to_owned(), |status| status.to_string());
            let took = seen.timings.total_us.unwrap_or_default() / 1000;
            println!("    {status:>3}  {took:>4} ms  {}", attempt.error.unwrap_or_default());
        }
    }
    Ok(())
}

/// One connection of the receiver.
async fn misbehave(mut stream: TcpStream) -> std::io::Result<()> {
    let mut bytes = [0; 16 * 1024];
    loop {
        // Our requests are small: one read has all of it.
        let count = stream.read(&mut bytes).await?;
        let request = String::from_utf8_lossy(&bytes[..count]).to_lowercase();
        let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
        let first = request.contains("onceward-attempt: 1\r\n");
        let answer = match path.as_str() {
            "" => return Ok(()),
            "/flaky" if first => {
                return stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n").await;
            }
            "/moved" => {
                "HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n"
            }
            "/gone" => "HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n",
            "/endless" => {
                stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await?;
                loop {
                    stream.write_all(format!("1000\r\n{}\r\n", "a".repeat(0x1000)).as_bytes()).await?;
                }
            }
            "/hang" => std::future::pending().await,
            _ => "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nthanks",
        };
        stream.write_all(answer.as_bytes()).await?;
    }
}
