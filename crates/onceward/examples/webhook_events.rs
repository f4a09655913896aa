//! Events for whoever wants them: two endpoints that subscribe, one that is hostile, and what comes of it.
//!
//! ```console
//! $ cargo run -p onceward --example webhook_events --features http-jobs
//! ```
//!
//! Three receivers have a name and say which events they want. Two of them answer and check what they got; the third
//! one never does, is left alone, and delays nobody. All of them are a few lines of TCP in this program.

use std::time::{Duration, Instant, SystemTime};

use onceward::endpoints::GiveUp;
use onceward::http_jobs::{HttpDelivery, HttpPolicy, SealKeys};
use onceward::webhook::{Secret, Verifier};
use onceward::{EndpointName, JobFilter, Onceward};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What the secrets of endpoints are encrypted with: 32 random bytes in base64, out of your store of secrets.
const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let keys = SealKeys::new(KEY)?;
    let ow = Onceward::connect("memory:").await?;
    // The receivers are this very program, in the clear.
    let policy = HttpPolicy {
        allow_http: true,
        allow_private: true,
        allow_own_listeners: true,
        ..HttpPolicy::default()
    };
    for (name, events) in [("shop", "order.*"), ("books", "*"), ("hostile", "*")] {
        let secret = Secret::generate()?;
        let url = receiver(name, secret.clone()).await?;
        let endpoint = ow.endpoint(name).url(url).events([events]).secret(&secret).seal_keys(&keys);
        let endpoint = endpoint.timeout(Duration::from_secs(1)).max_attempts(2).retry("fixed 200ms".parse()?);
        // After three failures in a row it gets nothing more; in real life this takes days.
        let rule = GiveUp { after: Duration::ZERO, failures: 3 };
        endpoint.give_up(Some(rule)).policy(policy.clone()).add().await?;
    }

    for (event, key) in [("order.paid", "17-paid"), ("order.shipped", "17-shipped"), ("invoice.made", "9")] {
        ow.event(event).json(&json!({ "type": event, "number": key })).key(key).send().await?;
    }
    // The same key is the same event.
    assert!(
        !ow.event("invoice.made")
            .json(&json!({ "type": "invoice.made", "number": "9" }))
            .key("9")
            .await?
            .created
    );

    let began = Instant::now();
    let delivery = HttpDelivery::new().policy(policy).seal_keys(keys);
    ow.worker().http(delivery).run_until_empty(Duration::from_secs(2)).await?;
    println!("after {:.1} s:", began.elapsed().as_secs_f32());

    for job in ow.admin().jobs(&JobFilter::default(), None, 100).await?.rows {
        let about = job.metadata.as_deref().unwrap_or("an event");
        println!("{:>10} after {} attempt(s): {about}", job.state_now().as_str(), job.attempt);
    }
    let hostile = ow.admin().endpoint(&EndpointName::new("hostile")?).await?;
    match hostile.disabled.and_then(|disabled| disabled.reason) {
        Some(why) => println!("hostile is disabled: {why}"),
        None => println!("hostile fails: {:?}", hostile.health),
    }
    Ok(())
}

/// A receiver, and its URL. The hostile one reads and never answers.
async fn receiver(name: &'static str, secret: Secret) -> std::io::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/{name}", listener.local_addr()?);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(name, stream, secret.clone()));
        }
    });
    Ok(url)
}

async fn serve(name: &str, mut stream: TcpStream, secret: Secret) -> std::io::Result<()> {
    let mut bytes = [0; 16 * 1024];
    loop {
        // Our requests are small: one read has all of it.
        let count = stream.read(&mut bytes).await?;
        if count == 0 || name == "hostile" {
            return std::future::pending().await;
        }
        let request = String::from_utf8_lossy(&bytes[..count]);
        let (head, body) = request.split_once("\r\n\r\n").unwrap_or_default();
        let header = |wanted: &str| {
            let mut headers = head.lines().filter_map(|line| line.split_once(": "));
            headers.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map_or("", |(_, value)| value)
        };
        let [id, time, signature] = ["webhook-id", "webhook-timestamp", "webhook-signature"].map(header);
        let verifier = Verifier::new([&secret.verifying()]);
        let fits = verifier.verify(id, time, signature, body.as_bytes(), SystemTime::now().into()).is_ok();
        println!("{name} got {} (signature fits: {fits})", header("onceward-event"));
        let status = if fits { "200 OK" } else { "401 Unauthorized" };
        stream.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").as_bytes()).await?;
    }
}
