//! The examples of leases and once as a reader runs them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use crate::examples_durable::example;

/// The payment service, running until it is dropped.
struct Service {
    child: Child,
    address: String,
    // A program that writes to a pipe nobody reads would be ended by that.
    _said: BufReader<ChildStdout>,
}

impl Service {
    fn start(store: &str) -> Self {
        let mut command = Command::new(example("payment_api"));
        let mut child = command.args([store, "127.0.0.1:0"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        let address =
            line.strip_prefix("POST http://").and_then(|rest| rest.split('/').next()).unwrap().to_owned();
        Self { child, address, _said: said }
    }

    /// Sends a request, and returns its whole answer; empty where nobody answers.
    fn send(&self, head: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let length = body.len();
        let request =
            format!("{head}Host: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.to_lowercase()
    }

    fn pay(&self, key: &str, cents: u32, card: &str) -> (u16, String) {
        let head = format!(
            "POST /payments HTTP/1.1\r\nX-Customer: alice\r\nIdempotency-Key: \"{key}\"\r\n\
             Content-Type: application/json\r\n"
        );
        let answer = self.send(&head, &format!(r#"{{"cents":{cents},"card":"{card}"}}"#));
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.unwrap_or_else(|| panic!("{answer}")), answer)
    }

    fn charges(&self) -> usize {
        self.send("GET /charges HTTP/1.1\r\nX-Customer: alice\r\n", "").matches("ch_").count()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// What its first comment says, in that order.
#[test]
fn the_payment_service_charges_once_whatever_is_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = format!("sqlite://{}", folder.path().join("shop.db").display());
    let service = Service::start(&store);
    let (status, receipt) = service.pay("order-17", 4200, "4242");
    assert!(status == 201 && receipt.contains("ch_1 of 4200 cents"), "{receipt}");
    let (status, again) = service.pay("order-17", 4200, "4242");
    assert!(status == 201 && again.contains("ch_1 of 4200 cents"), "{again}");
    assert!(again.contains("idempotent-replayed: true"), "{again}");
    assert_eq!(service.pay("order-17", 9900, "4242").0, 422);
    for _ in 0..2 {
        assert_eq!(
            service.pay("order-19", 4200, "offline").0,
            503,
            "nothing was charged, and it may be tried again"
        );
    }
    assert_eq!(service.pay("order-19", 4200, "declined").0, 402, "the key was free for any request");
    assert_eq!(service.charges(), 1);

    assert_eq!(service.pay("order-20", 4200, "lost").0, 502);
    let began = Instant::now();
    loop {
        let (status, answer) = service.pay("order-20", 4200, "lost");
        match status {
            409 => {
                assert!(began.elapsed() < Duration::from_secs(30), "nobody asks the card company: {answer}")
            }
            200 => break assert!(answer.contains("ch_2 of 4200 cents"), "{answer}"),
            other => panic!("{other}: {answer}"),
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(service.charges(), 2, "every order once");

    // Killed and started again, it has the receipts still.
    drop(service);
    let service = Service::start(&store);
    let (status, receipt) = service.pay("order-17", 4200, "4242");
    assert!(status == 201 && receipt.contains("ch_1 of 4200 cents"), "{receipt}");
    assert_eq!(service.charges(), 0, "nothing was charged anew");
}

/// Of three machines one writes; the one that was paused is refused.
#[test]
fn the_guarded_report_is_written_once_and_not_by_a_zombie() {
    let output = Command::new(example("guarded_cron")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    for expected in [
        "1 of them wrote it: report by machine-",
        "Does it still trust its lease? false",
        "accepted? false",
        "what is kept: report by machine-b",
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
}

/// What a program prints that runs to its end by itself.
fn printed(name: &str) -> String {
    let ended = Command::new(example(name)).stderr(Stdio::inherit()).output().unwrap();
    let said = String::from_utf8(ended.stdout).unwrap();
    assert!(ended.status.success(), "{said}");
    said
}

/// The lines of its table, as its receiver behaves.
#[test]
fn the_webhook_sender_says_what_became_of_each() {
    let said = printed("webhook_sender");
    assert!(said.contains("refused: "), "{said}");
    for (what, became) in [
        ("answers 200", "succeeded after 1 "),
        ("breaks off the first time", "succeeded after 2 "),
        ("answers 302 to the metadata service", "dead after 1 "),
        ("never answers", "dead after 3 "),
        ("answers 410", "dead after 1 "),
        ("a payment, answers 200", "succeeded after 1 "),
        ("a payment, never answers", "uncertain after 1 "),
    ] {
        let line = said.lines().find(|line| line.starts_with(what) && !line.starts_with(&format!("{what},")));
        assert!(line.is_some_and(|line| line.contains(became)), "{what}: {said}");
    }
}

/// One event goes to whoever wants it, and what is hostile is given up.
#[test]
fn the_sender_of_events_reaches_all_but_the_hostile_one() {
    let said = printed("webhook_events");
    assert!(said.contains("signature fits: true") && !said.contains("signature fits: false"), "{said}");
    assert!(said.contains("hostile is disabled") || said.contains("hostile fails"), "{said}");
}
