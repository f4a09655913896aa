//! `onceward jobs enqueue http`, the stock worker that delivers, `onceward webhook`.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use onceward::Onceward;
use onceward::http_jobs::{HttpJob, HttpPolicy};
use onceward::jobs::{JobId, State};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::place::{Place, wait_until};

/// Which requests a receiver has seen: the webhook-id and Idempotency-Key, and how often; and under which ids each body
/// came to each path.
#[derive(Default)]
struct Ledger {
    seen: Mutex<HashMap<(String, String), u32>>,
    bodies: Mutex<HashMap<(String, String), HashSet<String>>>,
    signatures: Mutex<Vec<String>>,
    /// The names of all headers.
    headers: Mutex<HashSet<String>>,
}

impl Ledger {
    fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

/// Answers 200 after a while, and writes down what it was asked.
struct Receiver {
    port: u16,
    ledger: Arc<Ledger>,
}

impl Receiver {
    fn new(after: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, ledger) = (listener.local_addr().unwrap().port(), Arc::<Ledger>::default());
        let all = Arc::clone(&ledger);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let ledger = Arc::clone(&all);
                std::thread::spawn(move || serve(stream, &ledger, after));
            }
        });
        Self { port, ledger }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }
}

fn serve(stream: TcpStream, ledger: &Ledger, after: Duration) {
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    loop {
        let (mut id, mut key, mut length) = (String::new(), String::new(), 0);
        let (mut line, mut path, mut signature) = (String::new(), String::new(), String::new());
        while reader.read_line(&mut line).is_ok_and(|count| count > 2) {
            let (name, value) = line.trim_end().split_once(": ").unwrap_or_default();
            match name.to_ascii_lowercase().as_str() {
                "" => path = line.split(' ').nth(1).unwrap_or_default().to_owned(),
                "webhook-signature" => signature = value.to_owned(),
                "webhook-id" => id = value.to_owned(),
                "idempotency-key" => key = value.to_owned(),
                "content-length" => length = value.parse().unwrap(),
                _ => {}
            }
            ledger.headers.lock().unwrap().insert(name.to_ascii_lowercase());
            line.clear();
        }
        let mut body = vec![0; length];
        if id.is_empty() || reader.read_exact(&mut body).is_err() {
            return;
        }
        let body = String::from_utf8(body).unwrap();
        ledger.bodies.lock().unwrap().entry((path, body)).or_default().insert(id.clone());
        ledger.signatures.lock().unwrap().push(signature);
        *ledger.seen.lock().unwrap().entry((id, key)).or_default() += 1;
        std::thread::sleep(after);
        if writer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_err() {
            return;
        }
    }
}

const OPEN: [&str; 2] = ["--allow-http", "--allow-private"];

fn enqueue(place: &Place, args: &[&str]) -> String {
    let seen = place.run(&[&["jobs", "enqueue", "http"], args].concat());
    assert_eq!(seen.code, 0, "{args:?}: {}", seen.stderr);
    seen.text().trim().to_owned()
}

fn work(place: &Place, flags: &[&str]) {
    let seen =
        place.run(&[&["worker", "--queues", "default", "--until-empty", "--horizon", "5s"], flags].concat());
    assert_eq!(seen.code, 0, "{}", seen.stderr);
}

fn state(place: &Place, id: &str) -> Value {
    place.json(&["jobs", "show", id])["state"].clone()
}

/// The way of a webhook from the shell to its receiver, as the documentation has it.
pub(crate) fn the_whole_way(place: &Place) {
    let receiver = Receiver::new(Duration::ZERO);
    let url = receiver.url("/in?x=1");
    let args = ["--url", &url, "--method", "POST", "--json", r#"{"n":1}"#, "--idempotency-key", "order-17"];
    let id = enqueue(place, &[&args[..], &OPEN].concat());
    assert_eq!(enqueue(place, &[&args[..], &OPEN].concat()), id, "the same key is the same job");
    work(place, &OPEN);
    assert_eq!(state(place, &id), "succeeded");
    let seen = receiver.ledger.seen.lock().unwrap().clone();
    assert_eq!(seen, HashMap::from([((id.clone(), id.clone()), 1)]));
    let [attempt] =
        <[Value; 1]>::try_from(place.json(&["jobs", "attempts", &id]).as_array().unwrap().clone()).unwrap();
    assert_eq!((&attempt["status"], &attempt["excerpt"]), (&json!(200), &json!("ok")));
    assert_eq!(attempt["address"], json!(format!("127.0.0.1:{}", receiver.port)));
    assert!(attempt["timings"]["total_us"].as_u64() >= attempt["timings"]["first_byte_us"].as_u64());
    assert!(attempt["timings"]["connect_us"].is_u64() && attempt["timings"]["dns_us"].is_null());
    let table = place.run(&["jobs", "attempts", &id]).text();
    assert!(table.contains("STATUS") && table.contains("200"), "{table}");
}

#[test]
fn a_webhook_goes_from_the_shell_to_its_receiver() {
    the_whole_way(&Place::new());
}

#[test]
fn a_worker_refuses_what_its_flags_do_not_allow() {
    let place = Place::new();
    let receiver = Receiver::new(Duration::ZERO);
    let url = receiver.url("/");
    for (flags, code) in [
        (&[][..], "OW0802"),
        (&["--allow-private"], "OW0802"),
        (&["--allow-http"], "OW0805"),
        (&["--allow-http", "--allow-private", "--allow-host", "hooks.example.com"], "OW0806"),
        (&["--allow-http", "--allow-host", "127.0.0.1"], "OW0805"),
    ] {
        let id = enqueue(&place, &[&["--url", &url, "--json", "1"], &OPEN[..]].concat());
        work(&place, flags);
        let shown = place.json(&["jobs", "show", &id]);
        assert_eq!(shown["state"], "dead", "{flags:?}");
        assert!(shown["error"].as_str().unwrap().contains(code), "{flags:?}: {shown}");
        // What the URL shows is refused where it is enqueued already, under the same flags.
        let args = [&["jobs", "enqueue", "http", "--url", &url, "--json", "1"], flags].concat();
        place.run(&args).refused(2, code);
    }
    assert_eq!(receiver.ledger.count(), 0, "nothing was sent");
    let id = enqueue(&place, &[&["--url", &url, "--json", "1"], &OPEN[..]].concat());
    work(&place, &[&OPEN[..], &["--allow-host", "127.0.0.0/8"]].concat());
    assert_eq!((state(&place, &id), receiver.ledger.count()), (json!("succeeded"), 1));
}

#[test]
fn what_can_not_be_meant_is_refused_with_its_code() {
    let place = Place::new();
    fs::write(place.path("token"), "Bearer s3cret\n").unwrap();
    fs::write(place.path("none.secret"), "hello\n").unwrap();
    let url = ["jobs", "enqueue", "http", "--url", "https://example.com/"];
    let with = |more: &[&'static str]| [&url[..], more].concat();
    for (args, code) in [
        (vec!["jobs", "enqueue", "http", "--json", "1"], "OW0601"),
        (vec!["jobs", "enqueue", "mail", "--url", "https://example.com/"], "OW0601"),
        (vec!["jobs", "enqueue", "mail", "--allow-http"], "OW0601"),
        (vec!["jobs", "enqueue", "http", "--url", "example.com"], "OW0801"),
        (vec!["jobs", "enqueue", "http", "--url", "ftp://example.com/"], "OW0802"),
        (vec!["jobs", "enqueue", "http", "--url", "https://a:b@example.com/"], "OW0803"),
        (vec!["jobs", "enqueue", "http", "--url", "https://example.com:25/"], "OW0804"),
        (vec!["jobs", "enqueue", "http", "--url", "https://[::1]/"], "OW0805"),
        (with(&["--allow-host", "other.com"]), "OW0806"),
        (with(&["--allow-host", "a b"]), "OW0806"),
        (with(&["--method", "TRACE"]), "OW0807"),
        (with(&["--header", "no colon"]), "OW0808"),
        (with(&["--header", "Host: evil.test"]), "OW0808"),
        (with(&["--header", "Authorization: x"]), "OW0809"),
        (with(&["--method", "GET", "--json", "1"]), "OW0810"),
        (with(&["--json", "{"]), "OW0707"),
        (with(&["--timeout", "1h"]), "OW0124"),
        (with(&["--timeout", "15m"]), "OW0124"),
        (vec!["jobs", "enqueue", "http", "--endpoint", "shop", "--timeout", "15m"], "OW0124"),
        (with(&["--secret-header", "authorization=token"]), "OW0816"),
        (vec!["worker", "--allow-host", "a b"], "OW0806"),
        (vec!["worker", "--no-http", "--allow-http"], "OW0601"),
        (vec!["worker", "--signing-secret-file", "none.secret"], "OW0813"),
        (vec!["worker", "--ca-file", "none.secret"], "OW0818"),
        (vec!["webhook", "listen", "--listen", "0.0.0.0:0"], "OW0601"),
    ] {
        place.run(&args).refused(2, code);
    }
    assert_eq!(place.json(&["jobs", "list"]), json!([]));
}

/// W63: in production nothing is delivered to wherever somebody says.
#[test]
fn w63_in_production_the_hosts_have_to_be_named() {
    let place = Place::new();
    let run = |profile: &str, flags: &[&str]| {
        let args = [&["worker", "--until-empty"], flags].concat();
        let output = place.command(&args).env("ONCEWARD_PROFILE", profile).output().unwrap();
        crate::place::Seen::from(output)
    };
    run("production", &[]).refused(2, "OW0812");
    run("produktion", &[]).refused(2, "OW0601");
    run("production", &["--allow-host", "*.example.com"]).printed(0, "");
    run("development", &[]).printed(0, "");
}

/// S-list of SSRF, 37: proxies of the environment are not asked, and names and passwords that lie on the machine are
/// not sent.
#[test]
fn proxies_and_passwords_of_the_environment_are_not_used() {
    let place = Place::new();
    let (receiver, proxy) = (Receiver::new(Duration::ZERO), Receiver::new(Duration::ZERO));
    let id = enqueue(&place, &[&["--url", &receiver.url("/"), "--json", "1"], &OPEN[..]].concat());
    let mut command = place.command(&[&["worker", "--until-empty"], &OPEN[..]].concat());
    for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY"] {
        command.env(name, proxy.url(""));
    }
    fs::write(place.path(".netrc"), "machine 127.0.0.1 login ada password s3cret-canary\n").unwrap();
    command.env("NO_PROXY", "example.com").env("HOME", place.path(".")).env("NETRC", place.path(".netrc"));
    assert!(command.output().unwrap().status.success());
    assert_eq!(state(&place, &id), "succeeded");
    assert_eq!((receiver.ledger.count(), proxy.ledger.count()), (1, 0));
    assert!(!receiver.ledger.headers.lock().unwrap().contains("authorization"));
}

/// A webhook waits in the queue that was said, and one that goes at most once is not sent again.
#[test]
fn h2_a_webhook_at_most_once_in_a_queue_of_its_own_is_sent_once() {
    let place = Place::new();
    let receiver = Receiver::new(Duration::ZERO);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            // It has seen the request, and says nothing.
            let _ = BufReader::new(stream).read_line(&mut String::new());
            let _ = tell.send(());
        }
    });
    let said = ["--json", "1", "--queue", "hooks", "--at-most-once", "--max-attempts", "5"];
    let said = [&said[..], &["--retry", "fixed 50ms"], &OPEN].concat();
    let silent = enqueue(&place, &[&["--url", &url], &said[..]].concat());
    let good = enqueue(&place, &[&["--url", &receiver.url("/")], &said[..]].concat());
    work(&place, &OPEN);
    assert_eq!([&silent, &good].map(|id| state(&place, id)), ["ready"; 2].map(Value::from));
    let args = ["worker", "--queues", "hooks", "--until-empty", "--horizon", "5s"];
    assert_eq!(place.run(&[&args[..], &OPEN].concat()).code, 0);
    assert_eq!([&silent, &good].map(|id| state(&place, id)), ["uncertain", "succeeded"].map(Value::from));
    assert_eq!((told.try_iter().count(), receiver.ledger.count()), (1, 1));
    let shown = place.json(&["jobs", "show", &silent]);
    assert_eq!((&shown["queue"], &shown["at_most_once"]), (&json!("hooks"), &json!(true)), "{shown}");
}

/// Signed by the worker, checked by our receiver and by `verify`; secrets in no output.
#[test]
fn webhooks_are_signed_and_checked() {
    let place = Place::new();
    let secret = place.run(&["webhook", "secret"]);
    assert!(secret.text().starts_with("whsec_"), "{secret:?}");
    fs::write(place.path("new.secret"), secret.text()).unwrap();
    fs::write(place.path("old.secret"), place.run(&["webhook", "secret", "--pair"]).text()).unwrap();
    fs::write(place.path("token"), "Bearer s3cret-canary\n").unwrap();
    let listen = ["webhook", "listen", "--secret-file", "new.secret", "--count", "1"];
    let mut listener = place.command(&listen).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(listener.stdout.take().unwrap()).lines().map(Result::unwrap);
    let first: Value = serde_json::from_str(&lines.next().unwrap()).unwrap();
    let url = first["listening"].as_str().unwrap().to_owned();
    let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let args = ["jobs", "enqueue", "http", "--url", &url, "--json", r#"{ "n": 1 }"#, "--secret-header"];
    let args = [&args[..], &["authorization=token"], &OPEN].concat();
    let seen = place.command(&args).env("ONCEWARD_SECRET_KEY", key).output().unwrap();
    assert!(seen.status.success(), "{seen:?}");
    let id = String::from_utf8(seen.stdout).unwrap().trim().to_owned();
    let secrets = ["--signing-secret-file", "new.secret", "--signing-secret-file", "old.secret"];
    let args = [&["worker", "--until-empty"], &secrets[..], &OPEN].concat();
    let worked = place.command(&args).env("ONCEWARD_SECRET_KEY", key).output().unwrap();
    assert!(worked.status.success(), "{worked:?}");
    let got: Value = serde_json::from_str(&lines.next().unwrap()).unwrap();
    assert_eq!(
        (&got["verified"], &got["webhook_id"], &got["body"]["text"]),
        (&json!(true), &json!(id), &json!(r#"{ "n": 1 }"#))
    );
    assert!(listener.wait().unwrap().success());
    let shown = format!("{}{}", place.json(&["jobs", "show", &id]), place.json(&["jobs", "attempts", &id]));
    assert!(!shown.contains("s3cret-canary") && !shown.contains("whsec_"), "{shown}");
    let store = fs::read(place.path("store.db")).unwrap();
    assert!(!store.windows(13).any(|window| window == b"s3cret-canary"), "not on the disk either");
}

/// The published test vector of Standard Webhooks, and what was changed.
#[test]
fn verify_tells_the_right_one_from_the_wrong_ones() {
    let place = Place::in_memory();
    fs::write(place.path("secret"), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
    fs::write(place.path("body"), r#"{"test": 2432232314}"#).unwrap();
    fs::write(place.path("other"), r#"{"test": 2432232315}"#).unwrap();
    let run = |body: &str, more: &[&str]| {
        let signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        let args = ["webhook", "verify", "--secret-file", "secret", "--id", "msg_p5jXN8AQM9LWM0D4loKWxJek"];
        let rest = ["--timestamp", "1614265330", "--signature", signature, "--body-file", body];
        place.run(&[&args[..], &rest, more].concat())
    };
    let at = ["--at", "2021-02-25T15:02:10Z"];
    run("body", &at).printed(0, "the signature fits\n");
    run("other", &at).refused(1, "OW0814");
    run("body", &[]).refused(1, "OW0815");
    run("missing", &at).refused(2, "OW0601");
}

#[test]
fn proof_every_webhook_arrives_though_workers_are_killed() {
    workers_are_killed_and_every_webhook_arrives(&Place::new());
}

/// J2, H2, N57: workers are killed with SIGKILL all the time (every second, in the long version), and every webhook
/// arrives, those to URLs, those to endpoints and those of events, each under one webhook-id and Idempotency-Key; at
/// most once, none arrives twice, and those that were interrupted are uncertain.
pub(crate) fn workers_are_killed_and_every_webhook_arrives(place: &Place) {
    let long = std::env::var("ONCEWARD_PROVE").is_ok_and(|how| how == "long");
    let (hooks, kills) = if long { (2_000, 60) } else { (400, 4) };
    let receiver = Receiver::new(Duration::from_millis(if long { 50 } else { 100 }));
    let sent = enqueue_many(place, &receiver, hooks);
    let args = ["worker", "--concurrency", "16", "--session-ttl", "1s", "--grace", "1s"];
    let args = [&args[..], &OPEN].concat();
    let mut killed = 0;
    while killed < kills && receiver.ledger.count() < hooks * 9 / 10 {
        let before = receiver.ledger.count();
        let worker = place.start(&args);
        let began = Instant::now();
        // In the midst of its work.
        wait_until("it delivers", || {
            let in_the_midst = receiver.ledger.count() > before + 20 && !long;
            in_the_midst || began.elapsed() > Duration::from_secs(if long { 1 } else { 5 })
        });
        worker.signal(Signal::KILL);
        worker.end();
        killed += 1;
    }
    let last =
        [&["worker", "--until-empty", "--concurrency", "64", "--session-ttl", "1s"], &OPEN[..]].concat();
    let seen = place.run(&last);
    assert_eq!(seen.code, 0, "{}", seen.stderr);
    let ledger = receiver.ledger.seen.lock().unwrap();
    let (mut twice, mut uncertain) = (0, 0);
    for (id, once, state) in states(place, &sent.direct) {
        let arrived = ledger.get(&(id.clone(), id.clone())).copied().unwrap_or(0);
        if once {
            assert!(arrived <= 1, "{id} arrived {arrived} times");
            let ended = state == State::Uncertain || (state == State::Succeeded && arrived == 1);
            assert!(ended, "{id}: {state}, {arrived}");
            uncertain += u32::from(state == State::Uncertain);
        } else {
            assert!(arrived >= 1 && state == State::Succeeded, "{id}: {state}, {arrived} times");
            twice += u32::from(arrived > 1);
        }
    }
    let bodies = receiver.ledger.bodies.lock().unwrap();
    for event in 0..sent.events {
        for endpoint in ["/a", "/b"] {
            let ids = bodies.get(&(endpoint.to_owned(), format!("\"event {event}\"")));
            assert_eq!(ids.map_or(0, HashSet::len), 1, "event {event} at {endpoint}: {ids:?}");
        }
    }
    assert_eq!(ledger.len(), ledger.keys().filter(|(id, key)| id == key).count());
    assert!(ledger.len() <= hooks, "{} ids of {hooks} webhooks", ledger.len());
    // What was interrupted is uncertain, and nothing else.
    assert!(uncertain > 0, "the kills hit nothing");
    assert!(uncertain <= killed * 16, "{uncertain} uncertain after {killed} kills");
    assert!(twice > 0 || !long, "the kills hit nothing that may arrive twice");
    println!("{hooks} webhooks, {killed} kills: {twice} arrived more than once, {uncertain} are uncertain");
}

/// What was sent: those to a URL or an endpoint with whether they go at most once, and how many events, each of which
/// makes two deliveries.
struct Sent {
    direct: Vec<(JobId, bool)>,
    events: usize,
}

/// Enqueues so many webhooks: a half goes to URLs, a quarter to endpoints, each second of both at most once, and a
/// quarter comes of events.
fn enqueue_many(place: &Place, receiver: &Receiver, hooks: usize) -> Sent {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let ow = Onceward::connect(place.store()).await.unwrap();
        let open = HttpPolicy { allow_http: true, allow_private: true, ..HttpPolicy::default() };
        for name in ["a", "b"] {
            let endpoint = ow.endpoint(name).url(receiver.url(&format!("/{name}"))).policy(open.clone());
            endpoint.events(["*"]).retry("fixed 100ms".parse().unwrap()).await.unwrap();
        }
        let direct = (0..hooks * 3 / 4).map(|number| {
            let job = match number % 3 {
                0 => HttpJob::to_endpoint(if number % 2 == 0 { "a" } else { "b" }),
                _ => HttpJob::post(receiver.url(&format!("/{}", number % 20))),
            };
            let hook = ow.enqueue_http(job.json(&number).policy(open.clone()));
            let hook = hook.retry("fixed 100ms".parse().unwrap());
            if number % 2 == 0 { hook.at_most_once() } else { hook }
        });
        let enqueued = ow.enqueue_many(direct).await.unwrap();
        let direct = enqueued.iter().enumerate().map(|(number, job)| (job.id, number % 2 == 0)).collect();
        let events = hooks / 8;
        let all = (0..events).map(|number| ow.event("order.paid").json(&format!("event {number}")));
        ow.enqueue_many(all).await.unwrap();
        ow.shutdown().await;
        Sent { direct, events }
    })
}

/// What has become of jobs.
fn states(place: &Place, jobs: &[(JobId, bool)]) -> Vec<(String, bool, State)> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let ow = Onceward::connect(place.store()).await.unwrap();
        let mut all = Vec::new();
        for (id, once) in jobs {
            all.push((id.to_string(), *once, ow.admin().job(*id).await.unwrap().state_now()));
        }
        ow.shutdown().await;
        all
    })
}

/// S-list of SSRF, 37: what a file of the machine says of a name is looked at like what a name server says. Needs to be
/// root, and a mount namespace of its own for the file.
#[cfg(target_os = "linux")]
#[test]
fn a_name_that_the_hosts_file_leads_inside_is_refused() {
    let place = Place::new();
    let receiver = Receiver::new(Duration::ZERO);
    fs::write(place.path("hosts"), "127.0.0.1 localhost evil.test\n").unwrap();
    let url = format!("http://evil.test:{}/", receiver.port);
    let script = "mount --bind hosts /etc/hosts && exec \"$@\"";
    let apart = |args: &[&str]| {
        let binary = env!("CARGO_BIN_EXE_onceward");
        let mut command = place.command_of("unshare");
        command.args(["--mount", "sh", "-c", script, "sh", binary]).args(args);
        command.output().map(crate::place::Seen::from)
    };
    let allowed = apart(&["--version"]);
    if !allowed.as_ref().is_ok_and(|seen| seen.code == 0) {
        println!("no mount namespace here: {allowed:?}");
        assert!(!rustix::process::getuid().is_root(), "root can make one");
        return;
    }
    for (flags, state, count) in [(&OPEN[..1], "dead", 0), (&OPEN[..], "succeeded", 1)] {
        let id = enqueue(&place, &[&["--url", &url, "--json", "1"], &OPEN[..]].concat());
        let seen = apart(&[&["worker", "--until-empty"], flags].concat()).unwrap();
        assert_eq!(seen.code, 0, "{}", seen.stderr);
        let shown = place.json(&["jobs", "show", &id]);
        assert_eq!((shown["state"].as_str(), receiver.ledger.count()), (Some(state), count), "{shown}");
        assert!(count == 1 || shown["error"].as_str().unwrap().contains("OW0805"), "{shown}");
    }
}

/// W68: hosts at one port only, and ports beside the usual ones.
#[test]
fn w68_hosts_and_ports_are_allowed_by_flags() {
    let place = Place::new();
    let receiver = Receiver::new(Duration::ZERO);
    let url = receiver.url("/");
    let host = format!("127.0.0.0/8:{}", receiver.port);
    for (flags, state) in
        [(["--allow-host", "127.0.0.0/8:443"], "dead"), (["--allow-host", &host], "succeeded")]
    {
        let id = enqueue(&place, &[&["--url", &url, "--json", "1"], &OPEN[..]].concat());
        work(&place, &[&OPEN[..], &flags].concat());
        let shown = place.json(&["jobs", "show", &id]);
        assert_eq!(shown["state"], state, "{shown}");
    }
    // A service of the test listens where a database usually does.
    let odd = "https://hooks.example.com:5432/";
    place.run(&["jobs", "enqueue", "http", "--url", odd, "--json", "1"]).refused(2, "OW0804");
    let args =
        ["jobs", "enqueue", "http", "--url", odd, "--json", "1", "--allow-port", "5432", "--delay", "1h"];
    assert_eq!(place.run(&args).code, 0);
    place.run(&["worker", "--until-empty", "--allow-port", "0"]).refused(2, "OW0601");
    assert_eq!(place.run(&["worker", "--until-empty", "--horizon", "0s", "--allow-port", "25"]).code, 0);
}

/// Requests that name a key are signed with that, the others with the keys that have no name.
#[test]
fn requests_are_signed_with_the_key_that_they_name() {
    let place = Place::new();
    let receiver = Receiver::new(Duration::ZERO);
    for file in ["usual.secret", "billing.secret"] {
        fs::write(place.path(file), place.run(&["webhook", "secret"]).text()).unwrap();
    }
    fs::write(place.path("empty"), "\n").unwrap();
    let url = receiver.url("/");
    let enqueue =
        |more: &[&str]| enqueue(&place, &[&["--url", &url, "--json", "1"], &OPEN[..], more].concat());
    let plain = enqueue(&[]);
    let named = enqueue(&["--sign-with", "billing"]);
    let unknown = enqueue(&["--sign-with", "other", "--max-attempts", "1"]);
    let keys = ["--signing-secret-file", "usual.secret", "--signing-secret-file", "billing=billing.secret"];
    work(&place, &[&OPEN[..], &keys].concat());
    let states = [&plain, &named, &unknown].map(|id| state(&place, id));
    assert_eq!(states, ["succeeded", "succeeded", "dead"].map(Value::from));
    assert!(place.json(&["jobs", "show", &unknown])["error"].as_str().unwrap().contains("OW0819"));
    let signatures = receiver.ledger.signatures.lock().unwrap().clone();
    assert!(
        signatures.len() == 2 && signatures.iter().all(|one| one.starts_with("v1,") && !one.contains(' '))
    );
    let args = ["jobs", "enqueue", "http", "--url", &url, "--json", "1", "--sign-with", "a b"];
    place.run(&[&args[..], &OPEN].concat()).refused(2, "OW0827");
    place.run(&["worker", "--signing-secret-file", "empty"]).refused(2, "OW0813");
    place.run(&["worker", "--signing-secret-file", "billing=empty"]).refused(2, "OW0813");
    let secret = ["--secret-header", "authorization=empty"];
    let args = [&["jobs", "enqueue", "http", "--url", &url, "--json", "1"], &secret[..], &OPEN].concat();
    keyed(&place, &args).refused(2, "OW0808");
}

/// W63: what looks like a secret in a URL is said, and not shown where endpoints are listed.
#[test]
fn w63_a_secret_in_a_url_is_warned_of_and_not_shown() {
    let place = Place::new();
    let url = "https://hooks.example.com/in?token=s3cret-canary";
    let add = ["endpoints", "add", "shop", "--unsigned", "--url", url];
    for args in [&add[..], &["jobs", "enqueue", "http", "--url", url, "--json", "1"]] {
        let seen = place.run(args);
        assert!(seen.code == 0 && seen.stderr.contains("token="), "{seen:?}");
        assert!(!seen.stderr.contains("s3cret-canary") && !seen.text().contains("s3cret-canary"), "{seen:?}");
    }
    for args in [
        &["endpoints", "list"][..],
        &["endpoints", "show", "shop"],
        &["endpoints", "list", "--output", "json"],
    ] {
        let text = place.run(args).text();
        assert!(text.contains("hooks.example.com") && !text.contains("s3cret-canary"), "{text}");
    }
}

/// An old key can be put away once everything was encrypted anew.
#[test]
fn secrets_are_encrypted_anew_under_another_key() {
    let place = Place::new();
    let old = "HxwdHhsaGRgXFhUUExIREA8ODQwLCgkIBwYFBAMCAQA=";
    let run = |keys: &str, args: &[&str]| {
        let output = place.command(args).env("ONCEWARD_SECRET_KEY", keys).output().unwrap();
        crate::place::Seen::from(output)
    };
    let add = |name: &str| run(old, &["endpoints", "add", name, "--url", "https://hooks.example.com/"]);
    assert_eq!((add("shop").code, add("till").code), (0, 0));
    let both = format!("{KEY},{old}");
    let reseal = ["endpoints", "reseal", "--output", "json"];
    let dry: Value =
        serde_json::from_slice(&run(&both, &[&reseal[..], &["--dry-run"]].concat()).stdout).unwrap();
    let changed = json!([{ "name": "shop", "secrets": 1 }, { "name": "till", "secrets": 1 }]);
    let expected =
        |dry_run: bool| json!({ "dry_run": dry_run, "changed": changed, "unchanged": 0, "failed": [] });
    assert_eq!(dry, expected(true));
    run(KEY, &reseal).refused(1, "OW0817");
    let done: Value = serde_json::from_slice(&run(&both, &reseal).stdout).unwrap();
    assert_eq!(done, expected(false));
    let again = run(KEY, &["endpoints", "reseal"]);
    assert!(again.code == 0 && again.stderr.contains("2 had no need to"), "{again:?}");
    let history = place.json(&["endpoints", "history", "till"]);
    assert!(history[0]["reason"].as_str().unwrap().contains("encrypted anew"), "{history}");
    place.run(&reseal).refused(2, "OW0816");
}

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// Runs it with the key that secrets are encrypted with.
fn keyed(place: &Place, args: &[&str]) -> crate::place::Seen {
    place.command(args).env("ONCEWARD_SECRET_KEY", KEY).output().unwrap().into()
}

#[test]
fn an_event_goes_from_the_shell_to_whoever_wants_it() {
    let place = Place::new();
    let secret = the_way_of_an_event(&place);
    let store = fs::read(place.path("store.db")).unwrap();
    assert!(!store.windows(20).any(|window| window == &secret.as_bytes()[..20]), "not on the disk");
}

/// The way of an event from the shell to those who want it, as the documentation has it. Returns the secret of the
/// endpoint.
pub(crate) fn the_way_of_an_event(place: &Place) -> String {
    let receiver = Receiver::new(Duration::ZERO);
    let url = receiver.url("/shop");
    let add = ["endpoints", "add", "shop", "--url", &url, "--event", "order.*", "--concurrency", "4"];
    let add = [&add[..], &OPEN].concat();
    place.run(&add).refused(2, "OW0816");
    let added = keyed(place, &add);
    assert_eq!(added.code, 0, "{}", added.stderr);
    let secret = added.text().trim().to_owned();
    assert!(secret.starts_with("whsec_"), "it is shown this once: {added:?}");
    keyed(place, &add).refused(2, "OW0822");
    let listed = place.json(&["endpoints", "list"]);
    assert_eq!((&listed[0]["name"], &listed[0]["state"]), (&json!("shop"), &json!("enabled")));
    assert_eq!((&listed[0]["events"], &listed[0]["concurrency"]), (&json!(["order.*"]), &json!(4)));
    let shown = place.run(&["endpoints", "show", "shop"]).text();
    assert!(
        shown.contains("order.*") && shown.contains("20 failures over 5d") && !shown.contains("whsec_"),
        "{shown}"
    );

    let send = ["events", "send", "order.paid", "--json", r#"{"n":1}"#, "--idempotency-key", "order-17"];
    let id = place.run(&send).text();
    assert_eq!(place.run(&send).text(), id, "the same key is the same event");
    let other = place.json(&["events", "send", "invoice.paid", "--json", "1"]);
    assert_eq!(other["created"], json!(true));
    let work = |flags: &[&str]| {
        let args = ["worker", "--until-empty", "--horizon", "0s"];
        let seen = keyed(place, &[&args[..], flags].concat());
        assert_eq!(seen.code, 0, "{}", seen.stderr);
    };
    work(&OPEN);
    assert_eq!(receiver.ledger.count(), 1);
    let test = place.json(&["endpoints", "test", "shop"])["job"].as_str().unwrap().to_owned();
    let direct = enqueue(place, &["--endpoint", "shop", "--json", "2"]);
    work(&OPEN);
    assert_eq!(
        (receiver.ledger.count(), state(place, &test), state(place, &direct)),
        (3, json!("succeeded"), json!("succeeded"))
    );

    assert_eq!(place.run(&["endpoints", "disable", "shop", "--reason", "they move"]).code, 0);
    let direct = enqueue(place, &["--endpoint", "shop", "--json", "3"]);
    work(&OPEN);
    assert_eq!((receiver.ledger.count(), state(place, &direct)), (3, json!("scheduled")));
    let table = place.run(&["endpoints", "list"]).text();
    assert!(table.contains("disabled") && table.contains("they move"), "{table}");
    assert_eq!(place.run(&["endpoints", "enable", "shop"]).code, 0);
    assert_eq!(place.run(&["jobs", "retry", &direct]).code, 0);
    work(&OPEN);
    assert_eq!(state(place, &direct), "succeeded");

    let rotate = ["endpoints", "rotate-secret", "shop", "--pair", "--overlap", "1h", "--output", "json"];
    let rotated: Value = serde_json::from_slice(&keyed(place, &rotate).stdout).unwrap();
    assert!(rotated["secret"].as_str().unwrap().starts_with("whpk_"), "{rotated}");
    let keys = rotated["keys"].as_array().unwrap();
    assert_eq!((keys.len(), &keys[0]["version"], &keys[0]["until"]), (2, &json!("v1a"), &json!(null)));
    assert!(keys[1]["until"].is_string());
    let set = place.json(&[
        "endpoints",
        "set",
        "shop",
        "--event",
        "*",
        "--rate",
        "10/s",
        "--give-up-after",
        "never",
    ]);
    assert_eq!(
        (&set["events"], &set["rate"], &set["give_up"]),
        (&json!(["*"]), &json!("10/1s"), &json!(null))
    );
    let history = place.json(&["endpoints", "history", "shop"]);
    let told: Vec<&str> =
        history.as_array().unwrap().iter().map(|entry| entry["event"].as_str().unwrap()).collect();
    assert_eq!(told, ["changed", "rotated", "enabled", "disabled", "added"]);
    assert_eq!(place.run(&["endpoints", "rm", "shop"]).code, 0);
    for word in ["show", "rm", "test", "disable", "enable", "set"] {
        place.run(&["endpoints", word, "shop"]).refused(2, "OW0821");
    }
    place.run(&["endpoints", "disable", "shop", "--reason", ""]).refused(2, "OW0115");
    secret
}

#[test]
fn what_can_not_be_an_endpoint_is_refused_with_its_code() {
    let place = Place::new();
    fs::write(place.path("none.secret"), "hello\n").unwrap();
    let add = ["endpoints", "add", "shop", "--unsigned", "--url", "https://example.com/"];
    let with = |more: &[&'static str]| [&add[..], more].concat();
    for (args, code) in [
        (vec!["endpoints", "add", "", "--unsigned", "--url", "https://example.com/"], "OW0820"),
        (vec!["endpoints", "add", "shop"], "OW0601"),
        (vec!["endpoints", "add", "shop", "--unsigned", "--url", "http://example.com/"], "OW0802"),
        (vec!["endpoints", "add", "shop", "--unsigned", "--url", "https://[::1]/"], "OW0805"),
        (
            vec!["endpoints", "add", "shop", "--url", "https://a.com/", "--secret-file", "none.secret"],
            "OW0816",
        ),
        (with(&["--pair"]), "OW0601"),
        (with(&["--event", "or*"]), "OW0825"),
        (with(&["--header", "Host: evil.test"]), "OW0808"),
        (with(&["--header", "Idempotency-Key: order-17"]), "OW0808"),
        (with(&["--header", "Authorization: x"]), "OW0809"),
        (with(&["--timeout", "1h"]), "OW0124"),
        (with(&["--rate", "often"]), "OW0127"),
        (with(&["--concurrency", "0"]), "OW0127"),
        (with(&["--give-up-failures", "0"]), "OW0823"),
        (vec!["events", "send", "order paid"], "OW0825"),
        (vec!["events", "send", "a", "--json", "{"], "OW0707"),
        (vec!["jobs", "enqueue", "http", "--endpoint", "a", "--url", "https://a.com/"], "OW0601"),
    ] {
        place.run(&args).refused(2, code);
    }
    assert_eq!((place.json(&["endpoints", "list"]), place.json(&["jobs", "list"])), (json!([]), json!([])));
}
