//! Where HTTP jobs must not go, against the real connector, with a name server of the test.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::http_jobs_kit::{Names, ONCE, Received, Receiver, Reply, delivery, hook, once, open, send, serve};
use crate::jobs_kit::{client, until};
use onceward::Onceward;
use onceward::http_jobs::{HttpDelivery, HttpJob, HttpPolicy};
use onceward::jobs::{Record, State};
use onceward::worker::WorkerHandle;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

async fn worker(ow: &Onceward, delivery: HttpDelivery) -> WorkerHandle {
    ow.worker().http(delivery).start().await.unwrap()
}

async fn dead(ow: &Onceward, url: String) -> Record {
    let sent = send(ow, hook(url), 5).await.unwrap();
    until(ow, sent.id, State::Dead).await
}

/// S-list of SSRF, 35: what a name stands for is looked at, all of it, each time, and once per connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_leads_inside_is_refused_and_nothing_is_dialled() {
    let (ow, receiver) = (client().await, Receiver::good().await);
    let port = receiver.address.port();
    let names = Names::default();
    let own: [(&str, &[&str]); 9] = [
        ("loopback.test", &["127.0.0.1"]),
        ("mixed.test", &["93.184.216.34", "127.0.0.1"]),
        ("mixed-six.test", &["93.184.216.34", "::1"]),
        ("mapped.test", &["::ffff:127.0.0.1"]),
        ("private.test", &["10.0.0.1"]),
        ("metadata.test", &["169.254.169.254"]),
        ("nat64.test", &["64:ff9b::7f00:1"]),
        ("sixtofour.test", &["2002:7f00:1::"]),
        ("unspecified.test", &["0.0.0.0"]),
    ];
    own.iter().for_each(|(name, answer)| names.say(name, &[answer]));
    let policy = HttpPolicy { allow_http: true, ..HttpPolicy::default() };
    let _worker = worker(&ow, HttpDelivery::new().policy(policy).resolver(names.clone())).await;
    for (asked, (name, _)) in own.iter().enumerate() {
        let row = dead(&ow, format!("http://{name}:{port}/")).await;
        let error = row.error.clone().unwrap();
        assert!(error.contains("OW0805"), "{name}: {error}");
        assert_eq!(row.attempts().len(), 1, "{name}: more attempts are no use");
        assert_eq!(names.asked(), asked + 1, "{name} is looked up once");
        // Whoever chose the URL does not learn which address it was.
        assert!(!error.contains("127.0.0.1") && !error.contains("10.0.0.1"), "{error}");
    }
    let many: Vec<String> = (0..500).map(|last| format!("93.184.{}.{}", last / 250, last % 250)).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    names.say("many.test", &[&many]);
    assert!(dead(&ow, format!("http://many.test:{port}/")).await.error.unwrap().contains("OW0805"));
    assert_eq!(receiver.connections.load(Ordering::SeqCst), 0, "nobody was dialled");
}

/// What is on the list of SSRF, with what it is refused with. `PORT` is where a receiver of the test listens, at all
/// addresses of this machine.
const LIST: [(&str, &str); 78] = [
    ("http://127.0.0.1:PORT/", "OW0805"),
    ("http://127.1:PORT/", "OW0805"),
    ("http://2130706433:PORT/", "OW0805"),
    ("http://0x7f000001:PORT/", "OW0805"),
    ("http://0x7f.1:PORT/", "OW0805"),
    ("http://0177.0.0.1:PORT/", "OW0805"),
    ("http://017700000001:PORT/", "OW0805"),
    ("http://0:PORT/", "OW0805"),
    ("http://0.0.0.0:PORT/", "OW0805"),
    ("http://[::]:PORT/", "OW0805"),
    ("http://[::1]:PORT/", "OW0805"),
    ("http://[::ffff:127.0.0.1]:PORT/", "OW0805"),
    ("http://[::ffff:7f00:1]:PORT/", "OW0805"),
    ("http://[0:0:0:0:0:ffff:a9fe:a9fe]/", "OW0805"),
    ("http://[64:ff9b::169.254.169.254]/", "OW0805"),
    ("http://[2002:7f00:1::]:PORT/", "OW0805"),
    ("http://[2001:0:7f00:1::]:PORT/", "OW0805"),
    ("http://[fe80::1]:PORT/", "OW0805"),
    ("http://[fe80::1%25eth0]/", "OW0801"),
    ("http://[fec0::1]/", "OW0805"),
    ("http://[fd00:ec2::254]/", "OW0805"),
    ("http://169.254.169.254/latest/meta-data/", "OW0805"),
    ("http://2852039166/", "OW0805"),
    ("http://0xa9fea9fe/", "OW0805"),
    ("http://169.254.43518/", "OW0805"),
    ("http://0251.0376.0251.0376/", "OW0805"),
    ("http://１２７.０.０.１:PORT/", "OW0805"),
    ("http://%31%32%37.0.0.1:PORT/", "OW0805"),
    ("http://127.0.0.1.:PORT/", "OW0805"),
    ("http://localhost:PORT/", "OW0805"),
    ("http://LOCALHOST:PORT/", "OW0805"),
    ("http://localhost.:PORT/", "OW0805"),
    ("http://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ:PORT/", "OW0805"),
    ("http://foo.localhost:PORT/", "OW0805"),
    ("http://metadata.google.internal/", "OW0805"),
    ("http://metadata/", "OW0805"),
    ("http://instance-data/", "OW0805"),
    ("http://kubernetes.default.svc/", "OW0805"),
    ("http://good.com@127.0.0.1:PORT/", "OW0803"),
    ("http://good.com:80@127.0.0.1:5432/", "OW0803"),
    ("http://127.0.0.1:PORT#@good.com/", "OW0805"),
    ("http://127.0.0.1:PORT\\@good.com/", "OW0805"),
    ("http:\\\\127.0.0.1:PORT\\", "OW0805"),
    ("http:///127.0.0.1:PORT/", "OW0805"),
    ("http:127.0.0.1:PORT/", "OW0805"),
    ("http://127.0.0.1%00.good.com/", "OW0801"),
    ("http://good.com:0/", "OW0804"),
    ("http://good.com:99999/", "OW0801"),
    ("http://good.com:22/", "OW0804"),
    ("http://good.com:6379/", "OW0804"),
    ("http://good.com:25/", "OW0804"),
    ("http://good.com:5432/", "OW0804"),
    ("http://good.com:11211/", "OW0804"),
    // Names of other alphabets are what they stand for: a full stop of another sort ends a label as well.
    ("http://127。0。0。1:PORT/", "OW0805"),
    ("http://ｍｅｔａｄａｔａ.google.internal/", "OW0805"),
    ("http://kubernetes。default。svc/", "OW0805"),
    ("http://xn--a/", "OW0801"),
    ("http://good..com/", "OW0801"),
    ("file:///etc/passwd", "OW0802"),
    ("gopher://127.0.0.1:6379/_x", "OW0802"),
    ("ftp://good.com/", "OW0802"),
    ("dict://good.com/", "OW0802"),
    ("data:text/plain,x", "OW0802"),
    ("ws://good.com/", "OW0802"),
    ("jar:http://good.com!/a", "OW0802"),
    ("unix:/run/docker.sock", "OW0802"),
    ("http+unix://%2Frun%2Fdocker.sock/", "OW0802"),
    ("http://100.100.100.200/", "OW0805"),
    ("http://100.64.0.1/", "OW0805"),
    ("http://198.18.0.1/", "OW0805"),
    ("http://240.0.0.1/", "OW0805"),
    ("http://255.255.255.255/", "OW0805"),
    ("http://192.88.99.1/", "OW0805"),
    ("http://224.0.0.1/", "OW0805"),
    ("http://192.0.0.192/", "OW0805"),
    ("http://10.0.0.1/", "OW0805"),
    ("http://172.16.0.1/", "OW0805"),
    ("http://192.168.1.1/", "OW0805"),
];

/// The whole list, written into the store by other means than ours, against the real connector and a name server that
/// knows none of it as anything good: nothing is dialled, and what the URL shows is not even looked up.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_the_list_is_dialled_however_it_got_into_the_store() {
    let ow = client().await;
    let four = Receiver::at("0.0.0.0:0", |_| Reply::Status(200, "")).await;
    let port = four.address.port();
    let six = Receiver::at(&format!("[::1]:{port}"), |_| Reply::Status(200, "")).await;
    let names = Names::default();
    let policy = HttpPolicy { allow_http: true, ..HttpPolicy::default() };
    let delivery = HttpDelivery::new().policy(policy).resolver(names.clone());
    let _worker = ow.worker().http(delivery).concurrency(32).start().await.unwrap();
    let mut sent = Vec::new();
    for (url, code) in LIST {
        let url = url.replace("PORT", &port.to_string());
        let payload = serde_json::json!({ "url": url, "json": 1 }).to_string();
        let job = ow.enqueue_raw("http", payload, "application/json").max_attempts(3).await.unwrap();
        sent.push((url, code, job.id));
    }
    for (url, code, id) in sent {
        let row = until(&ow, id, State::Dead).await;
        let error = row.error.unwrap_or_default();
        assert!(error.contains(code) && row.attempt == 1, "{url}: {error}");
        assert!(
            code != "OW0805" || !error.contains("127.0.0.1"),
            "it does not say which address it was: {error}"
        );
    }
    let dialled = [&four, &six].map(|receiver| receiver.connections.load(Ordering::SeqCst));
    assert_eq!((dialled, names.asked()), ([0, 0], 0));
}

/// S-list of SSRF, 35 and 36: another name for one that leads inside; and redirects of every kind, to everywhere.
#[tokio::test(flavor = "multi_thread")]
async fn aliases_and_redirects_lead_nowhere() {
    let ow = client().await;
    let places = ["http://169.254.169.254/", "file:///etc/passwd", "//127.0.0.1/", "/followed"];
    let receiver = Receiver::new(move |received| match received.path().split('/').collect::<Vec<_>>()[..] {
        [_, status, place] => {
            let place = places[place.parse::<usize>().unwrap()];
            Reply::With(status.parse().unwrap(), format!("location: {place}"))
        }
        _ => Reply::Status(200, "<meta http-equiv=refresh content='0;url=http://127.0.0.1/'>"),
    })
    .await;
    let port = receiver.address.port();
    let names = Names::default();
    names.say("alias.test", &[&["127.0.0.1"]]);
    names.say("good.test", &[&["127.0.0.1"]]);
    {
        let policy = HttpPolicy { allow_http: true, ..HttpPolicy::default() };
        let worker = worker(&ow, HttpDelivery::new().policy(policy).resolver(names.clone())).await;
        let row = dead(&ow, format!("http://alias.test:{port}/")).await;
        assert!(row.error.unwrap().contains("OW0805") && receiver.seen().is_empty());
        worker.shutdown().await;
    }
    let _worker = worker(&ow, delivery().resolver(names)).await;
    let mut sent = Vec::new();
    for status in [301, 302, 303, 307, 308] {
        for place in 0..places.len() {
            let url = format!("http://good.test:{port}/{status}/{place}");
            sent.push(send(&ow, hook(url), 3).await.unwrap().id);
        }
    }
    for id in sent {
        let row = until(&ow, id, State::Dead).await;
        assert!(row.attempt == 1 && row.error.as_ref().unwrap().contains("not followed"), "{row:?}");
    }
    let refresh = send(&ow, hook(format!("http://good.test:{port}/refresh")), 1).await.unwrap();
    until(&ow, refresh.id, State::Succeeded).await;
    assert_eq!(receiver.seen().len(), 21);
    assert!(receiver.seen_at("/followed").is_empty());
}

/// S-list of SSRF: a name of another alphabet is looked up in the form that name servers know, and no other one.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_of_another_alphabet_is_looked_up_as_what_it_stands_for() {
    let (ow, good) = (client().await, Receiver::good().await);
    let port = good.address.port();
    let names = Names::default();
    names.say("xn--bcher-kva.test", &[&["127.0.0.1"]]);
    let _worker = worker(&ow, delivery().resolver(names.clone())).await;
    for host in ["bücher.test", "BÜCHER.test", "xn--bcher-kva.test"] {
        let sent = send(&ow, hook(format!("http://{host}:{port}/")), 1).await.unwrap();
        until(&ow, sent.id, State::Succeeded).await;
    }
    let seen = good.seen();
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().all(|one| one.header("host") == format!("xn--bcher-kva.test:{port}")), "{seen:?}");
}

/// S-list of SSRF: a receiver that says where else it can be reached is not followed.
#[tokio::test(flavor = "multi_thread")]
async fn alternative_services_are_not_asked() {
    let (ow, other) = (client().await, Receiver::good().await);
    let alternative =
        format!("alt-svc: http/1.1=\"{}\"; ma=3600, h2=\":{}\"", other.address, other.address.port());
    let receiver = Receiver::new(move |_| Reply::With(200, alternative.clone())).await;
    let _worker = worker(&ow, delivery()).await;
    for _ in 0..3 {
        let sent = send(&ow, hook(receiver.url("/")), 1).await.unwrap();
        until(&ow, sent.id, State::Succeeded).await;
    }
    assert_eq!((receiver.seen().len(), other.connections.load(Ordering::SeqCst)), (3, 0));
}

/// S-list of SSRF, 35: a name that means something else a moment later leads nowhere else.
#[tokio::test(flavor = "multi_thread")]
async fn rebinding_between_check_and_connect_is_not_possible() {
    let ow = client().await;
    // The same port at two addresses: one is allowed, the other is not.
    let good = Receiver::at("127.0.0.1:0", |_| Reply::With(200, "connection: close".to_owned())).await;
    let port = good.address.port();
    let evil = Receiver::at(&format!("127.0.0.2:{port}"), |_| Reply::Status(200, "")).await;
    let names = Names::default();
    names.say("rebinds.test", &[&["127.0.0.1"], &["127.0.0.2"], &["127.0.0.1"], &["127.0.0.2"]]);
    let policy = HttpPolicy { hosts: vec!["127.0.0.1/32".parse().unwrap()], ..open() };
    let _worker = worker(&ow, HttpDelivery::new().policy(policy).resolver(names.clone())).await;
    for (asked, state) in [(1, State::Succeeded), (2, State::Dead), (3, State::Succeeded), (4, State::Dead)] {
        let sent = send(&ow, hook(format!("http://rebinds.test:{port}/")), 1).await.unwrap();
        until(&ow, sent.id, state).await;
        assert_eq!(names.asked(), asked, "exactly one look-up per connection");
    }
    assert_eq!((good.seen().len(), evil.connections.load(Ordering::SeqCst)), (2, 0));
    assert_eq!(good.seen()[0].header("host"), format!("rebinds.test:{port}"));
}

/// A connection that is kept goes where it went; a name is looked up for new ones.
#[tokio::test(flavor = "multi_thread")]
async fn a_kept_connection_leads_where_it_was_dialled_to() {
    let (ow, good) = (client().await, Receiver::good().await);
    let port = good.address.port();
    let names = Names::default();
    names.say("rebinds.test", &[&["127.0.0.1"], &["169.254.169.254"]]);
    let _worker = worker(&ow, delivery().resolver(names.clone())).await;
    for number in 0..3 {
        let sent = send(&ow, hook(format!("http://rebinds.test:{port}/")), 1).await.unwrap();
        let row = until(&ow, sent.id, State::Succeeded).await;
        let seen = row.attempts().pop().unwrap().http.unwrap();
        assert_eq!((seen.reused, seen.timings.dns_us.is_none()), (number > 0, number > 0));
    }
    assert_eq!((names.asked(), good.connections.load(Ordering::SeqCst)), (1, 1));
}

/// W68: every address is tried, not only the first one.
#[tokio::test(flavor = "multi_thread")]
async fn w68_an_address_that_refuses_is_followed_by_the_next_one() {
    let (ow, good) = (client().await, Receiver::good().await);
    let port = good.address.port();
    let names = Names::default();
    // Nobody listens at the first two.
    names.say("two.test", &[&["127.0.0.9", "127.0.0.8", "127.0.0.1"]]);
    let _worker = worker(&ow, delivery().resolver(names)).await;
    let sent = send(&ow, hook(format!("http://two.test:{port}/")), 1).await.unwrap();
    let row = until(&ow, sent.id, State::Succeeded).await;
    assert_eq!(row.attempts()[0].http.clone().unwrap().address, Some(good.address.to_string()));
}

/// W68: the list of hosts knows names, suffixes and networks; ports are a list of their own.
#[tokio::test(flavor = "multi_thread")]
async fn only_listed_hosts_are_dialled() {
    let (ow, good) = (client().await, Receiver::good().await);
    let port = good.address.port();
    let names = Names::default();
    for name in ["hooks.test", "eu.shop.test", "evilshop.test", "other.test"] {
        names.say(name, &[&["127.0.0.1"]]);
    }
    let hosts = ["hooks.test", "*.shop.test"].iter().map(|host| host.parse().unwrap()).collect();
    let policy = HttpPolicy { hosts, ..open() };
    let _worker = worker(&ow, HttpDelivery::new().policy(policy).resolver(names.clone())).await;
    for name in ["hooks.test", "eu.shop.test"] {
        let sent = send(&ow, hook(format!("http://{name}:{port}/")), 1).await.unwrap();
        until(&ow, sent.id, State::Succeeded).await;
    }
    for name in ["evilshop.test", "other.test", "127.0.0.1"] {
        let row = dead(&ow, format!("http://{name}:{port}/")).await;
        assert!(row.error.clone().unwrap().contains("OW0806"), "{name}: {row:?}");
    }
    assert_eq!(names.asked(), 2, "what is not listed is not even looked up");
}

/// W68: a rule of the list may name a port, and allows its host at no other one.
#[tokio::test(flavor = "multi_thread")]
async fn w68_only_listed_ports_of_listed_hosts_are_dialled() {
    let ow = client().await;
    let (listed, other) = (Receiver::good().await, Receiver::good().await);
    let (port, unlisted) = (listed.address.port(), other.address.port());
    let names = Names::default();
    for name in ["hooks.test", "eu.shop.test"] {
        names.say(name, &[&["127.0.0.1"]]);
    }
    let hosts = ["hooks.test", "*.shop.test", "127.0.0.0/8"];
    let hosts = hosts.map(|host| format!("{host}:{port}").parse().unwrap()).to_vec();
    let policy = HttpPolicy { hosts, ..open() };
    let _worker = worker(&ow, HttpDelivery::new().policy(policy).resolver(names.clone())).await;
    for name in ["hooks.test", "eu.shop.test", "127.0.0.1"] {
        let sent = send(&ow, hook(format!("http://{name}:{port}/")), 1).await.unwrap();
        until(&ow, sent.id, State::Succeeded).await;
        let row = dead(&ow, format!("http://{name}:{unlisted}/")).await;
        assert!(row.error.unwrap().contains("OW0806"), "{name}");
    }
    assert_eq!(other.connections.load(Ordering::SeqCst), 0);
}

/// S-list of SSRF, 4.3: where this very process listens nobody sends a request, without anybody having said so.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn what_this_process_listens_at_is_refused_by_itself() {
    let (ow, own) = (client().await, Receiver::at("0.0.0.0:0", |_| Reply::Status(200, "")).await);
    let port = own.address.port();
    let names = Names::default();
    names.say("own.test", &[&["127.0.0.1"]]);
    let policy = HttpPolicy { allow_own_listeners: false, ..open() };
    let worker = worker(&ow, HttpDelivery::new().policy(policy).resolver(names.clone())).await;
    let mut hosts = vec!["127.0.0.1".to_owned(), "own.test".to_owned(), "[::ffff:127.0.0.1]".to_owned()];
    // Another address of this machine, where it has one in a private network.
    let way = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    if way.connect("10.255.255.254:9").is_ok()
        && let std::net::IpAddr::V4(address) = way.local_addr().unwrap().ip()
        && address.is_private()
    {
        hosts.push(address.to_string());
    }
    for host in hosts {
        let row = dead(&ow, format!("http://{host}:{port}/")).await;
        assert!(row.error.as_ref().unwrap().contains("OW0805"), "{host}: {row:?}");
        let seen = row.attempts().pop().unwrap().http.unwrap();
        assert_eq!(seen.address, None, "{host}: it does not say which address it was");
    }
    assert!(own.seen().is_empty());
    worker.shutdown().await;
    // Whoever is his own receiver says so.
    let _worker = self::worker(&ow, delivery().resolver(names)).await;
    let sent = send(&ow, hook(format!("http://own.test:{port}/")), 1).await.unwrap();
    until(&ow, sent.id, State::Succeeded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_listeners_are_refused() {
    let (ow, own, other) = (client().await, Receiver::good().await, Receiver::good().await);
    let names = Names::default();
    names.say("own.test", &[&["127.0.0.1"]]);
    let everywhere = format!("0.0.0.0:{}", own.address.port()).parse().unwrap();
    let _worker = worker(&ow, delivery().resolver(names).refuse(everywhere)).await;
    for host in ["127.0.0.1", "own.test", "[::ffff:127.0.0.1]"] {
        let row = dead(&ow, format!("http://{host}:{}/", own.address.port())).await;
        assert!(row.error.unwrap().contains("OW0805"), "{host}");
    }
    let sent = send(&ow, hook(other.url("/")), 1).await.unwrap();
    until(&ow, sent.id, State::Succeeded).await;
    assert!(own.seen().is_empty());
}

/// A name that is not found, or that nobody answers for, is tried again: nothing was sent.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_not_found_is_looked_up_again() {
    let (ow, good) = (client().await, Receiver::good().await);
    let names = Names::default();
    let _worker = worker(&ow, delivery().resolver(names.clone())).await;
    let url = format!("http://late.test:{}/", good.address.port());
    let retry = "fixed 30ms".parse().unwrap();
    let sent = ow.enqueue_http(hook(url)).retry(retry).at_most_once().await.unwrap();
    crate::jobs_kit::until_that(&ow, sent.id, "tried", |row| row.attempt >= 2).await;
    names.say("late.test", &[&["127.0.0.1"]]);
    until(&ow, sent.id, State::Succeeded).await;
    assert_eq!(good.seen().len(), 1);
}

/// A receiver over TLS, with a certificate for `hooks.test`.
async fn secure(
    behaviour: impl Fn(&Received) -> Reply + Send + Sync + 'static,
) -> (u16, Arc<Mutex<Vec<Received>>>) {
    let behaviour = Arc::new(behaviour);
    let certificate = CertificateDer::from(&include_bytes!("http_jobs_kit/tls/server.der")[..]);
    let key = PrivatePkcs8KeyDer::from(&include_bytes!("http_jobs_kit/tls/server.key.der")[..]);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], PrivateKeyDer::Pkcs8(key))
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::<Mutex<Vec<Received>>>::default();
    let all = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, seen, behaviour) = (acceptor.clone(), Arc::clone(&all), Arc::clone(&behaviour));
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                serve(stream, 1, seen, behaviour).await;
            });
        }
    });
    (port, seen)
}

/// H2: over TLS, too, what was sent is not sent again, however the receiver ends it.
#[tokio::test(flavor = "multi_thread")]
async fn h2_at_most_once_nothing_is_sent_twice_over_tls() {
    let (ow, (port, seen)) = (client().await, secure(once).await);
    let names = Names::default();
    names.say("hooks.test", &[&["127.0.0.1"]]);
    let policy = HttpPolicy { allow_http: false, ..open() };
    let root = include_bytes!("http_jobs_kit/tls/ca.der");
    let trusting = HttpDelivery::new().policy(policy.clone()).resolver(names).root_certificate(&root[..]);
    let _worker = worker(&ow, trusting).await;
    let mut sent = Vec::new();
    for (path, state) in ONCE {
        let post = HttpJob::post(format!("https://hooks.test:{port}{path}")).json(&1).policy(policy.clone());
        let enqueue = ow.enqueue_http(post).retry("fixed 50ms".parse().unwrap()).at_most_once();
        sent.push((path, state, enqueue.timeout(Duration::from_secs(1)).await.unwrap().id));
    }
    for (path, state, id) in sent {
        let row = until(&ow, id, state).await;
        let seen = seen.lock().unwrap().iter().filter(|received| received.path() == path).count();
        assert_eq!((seen, row.attempt), (1, 1), "{path}: {row:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_the_certificate_has_to_be_the_hosts() {
    let (ow, (port, seen)) = (client().await, secure(|_| Reply::Status(200, "over TLS")).await);
    let names = Names::default();
    for name in ["hooks.test", "other.test"] {
        names.say(name, &[&["127.0.0.1"]]);
    }
    let private = HttpPolicy { allow_http: false, ..open() };
    let root = include_bytes!("http_jobs_kit/tls/ca.der");
    let trusting =
        HttpDelivery::new().policy(private.clone()).resolver(names.clone()).root_certificate(&root[..]);
    let post = |name: &str| HttpJob::post(format!("https://{name}:{port}/")).json(&1).policy(private.clone());
    let once = worker(&ow, trusting).await;
    let sent = send(&ow, post("hooks.test"), 1).await.unwrap();
    let row = until(&ow, sent.id, State::Succeeded).await;
    let exchange = row.attempts().pop().unwrap().http.unwrap();
    assert!(exchange.timings.tls_us.is_some() && exchange.timings.dns_us.is_some(), "{exchange:?}");
    let row = {
        let sent = send(&ow, post("other.test"), 2).await.unwrap();
        until(&ow, sent.id, State::Dead).await
    };
    assert!(row.error.unwrap().contains("no TLS"));
    once.shutdown().await;
    // Nobody else trusts that authority.
    let _worker = worker(&ow, HttpDelivery::new().policy(private.clone()).resolver(names)).await;
    let sent = ow.enqueue_http(post("hooks.test")).at_most_once().max_attempts(1).await.unwrap();
    let row = until(&ow, sent.id, State::Dead).await;
    assert!(row.error.unwrap().contains("no TLS"), "nothing was sent: that is certain");
    assert_eq!(seen.lock().unwrap().len(), 1);
    tokio::time::sleep(Duration::ZERO).await;
}
