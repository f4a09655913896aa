//! Delivering: what a worker does with HTTP jobs.

use core::fmt;
use core::time::Duration;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::HeaderMap;
use onceward_core::http::{
    Answer, Broken, Policy, Request, Seen, Stage, Target, Verdict, check_header, check_key_name, excerpt,
    is_trace, judge, pause_asked,
};
use onceward_core::once::Body;
use onceward_core::{Code, Error, Fault, Result, Timestamp, endpoint, limits};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::{Instant, timeout_at};

use super::connect::Connector;
use super::exchange::{Exchange, Outgoing};
use super::fan_out::{DAMAGED, fan_out};
use super::gates::{Gates, Line, Pass, SLOW, Turn, Went};
use super::job::place;
use super::known::{Known, Receiver, Report};
use super::own::OwnListeners;
use super::pool::Pool;
use super::resolve::{Resolve, SystemResolver};
use super::seal::SealKeys;
use super::url;
use crate::endpoints::unknown;
use crate::jobs::JSON;
use crate::webhook::{self, Secret};
use crate::worker::{JobContext, Lent, Outcome, Stop};

/// The headers that tell a receiver about the job.
const JOB_ID: &str = "onceward-job-id";
const ATTEMPT: &str = "onceward-attempt";
const EVENT: &str = "onceward-event";
/// How long an attempt waits at least for what is written down of its endpoint, and how much longer at most.
const REPORT: Duration = Duration::from_millis(20);
const REPORT_MAX: Duration = Duration::from_secs(2);
/// How soon a delivery looks again whose endpoint could not be looked up.
const UNREAD: Duration = Duration::from_secs(1);
/// What says that this is production, and that the hosts that requests may go to have to be named.
const PROFILE: &str = "ONCEWARD_PROFILE";

/// What is written of an attempt whose time was over before it was its turn.
const NO_TIME: &str = "not sent: the time of the attempt was over before it was its turn";
/// What is written of an attempt that was not made because it would have failed.
const LEFT_ALONE: &str =
    "not sent: the receiver has failed so often in a row that it is left alone for a while";

/// How HTTP jobs are delivered; [`WorkerBuilder::http`](crate::worker::WorkerBuilder::http) takes it.
///
/// Without anything said: over TLS, to public addresses, unsigned. What is sent is exactly the body that was enqueued
/// (H3). Redirects are not followed, proxies of the environment are not asked, answers are read up to 1 MiB. Where the
/// environment says `ONCEWARD_PROFILE=production`, the hosts have to be named ([`HttpPolicy::hosts`](Policy::hosts)):
/// without them a worker does not start. Nor does it with a profile that is neither `production` nor `development`.
///
/// Requests to where the store listens, its database and the Redis of its hints, are refused, and so are those to ports
/// of this machine at which this process itself listens, where the system tells them (on Linux).
///
/// ```no_run
/// # async fn run(ow: onceward::Onceward, secret: String) -> Result<(), onceward::Error> {
/// use onceward::http_jobs::{HttpDelivery, HttpPolicy};
///
/// let policy = HttpPolicy { hosts: vec!["*.example.com".parse()?], ..HttpPolicy::default() };
/// let delivery = HttpDelivery::new().policy(policy).sign(secret.parse()?);
/// ow.worker().http(delivery).concurrency(200).run().await
/// # }
/// ```
#[derive(Clone)]
#[must_use = "a worker delivers with it, by `.http(…)`"]
pub struct HttpDelivery {
    policy: Policy,
    resolver: Arc<dyn Resolve>,
    signers: HashMap<String, Vec<Secret>>,
    keys: Option<SealKeys>,
    roots: Vec<CertificateDer<'static>>,
    user_agent: String,
}

impl fmt::Debug for HttpDelivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpDelivery")
            .field("policy", &self.policy)
            .field("signers", &self.signers.keys())
            .finish_non_exhaustive()
    }
}

impl Default for HttpDelivery {
    fn default() -> Self {
        Self::new()
    }
}

impl HttpDelivery {
    /// The defaults.
    pub fn new() -> Self {
        Self {
            policy: Policy::default(),
            resolver: Arc::new(SystemResolver::default()),
            signers: HashMap::new(),
            keys: None,
            roots: Vec::new(),
            user_agent: concat!("onceward/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }

    /// Where requests may go.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Refuses requests to this listener of one's own; an unspecified address stands for all of this machine's.
    pub fn refuse(mut self, listener: SocketAddr) -> Self {
        self.policy.refused.push(listener);
        self
    }

    /// Looks names up in another way.
    pub fn resolver(mut self, resolver: impl Resolve) -> Self {
        self.resolver = Arc::new(resolver);
        self
    }

    /// Signs every request that names no key. While a secret is being replaced, say the new one and the old one: there
    /// is a signature of each.
    pub fn sign(self, secret: Secret) -> Self {
        self.sign_as("", secret)
    }

    /// Signs requests that [name this key](super::HttpJob::sign_with), 1 to 64 letters, digits, `-`, `_` and `.`: with
    /// another name a worker does not start. Said twice, both of them sign.
    pub fn sign_as(mut self, key: impl Into<String>, secret: Secret) -> Self {
        self.signers.entry(key.into()).or_default().push(secret);
        self
    }

    /// The keys that secret headers were sealed with.
    pub fn seal_keys(mut self, keys: SealKeys) -> Self {
        self.keys = Some(keys);
        self
    }

    /// Trusts this certificate beside those of the system.
    pub fn root_certificate(mut self, certificate: impl Into<Vec<u8>>) -> Self {
        self.roots.push(CertificateDer::from(certificate.into()));
        self
    }

    /// Trusts the certificates in this PEM file beside those of the system.
    ///
    /// # Errors
    /// [`HttpTlsUnusable`](Code::HttpTlsUnusable) where it can't be read, or holds none.
    pub fn root_certificates_pem(mut self, file: impl AsRef<Path>) -> Result<Self> {
        let file = file.as_ref();
        let unusable = |why: String| Error::new(Code::HttpTlsUnusable, format!("{}: {why}", file.display()));
        let before = self.roots.len();
        let all = CertificateDer::pem_file_iter(file).map_err(|error| unusable(error.to_string()))?;
        for certificate in all {
            self.roots.push(certificate.map_err(|error| unusable(error.to_string()))?);
        }
        if self.roots.len() == before {
            return Err(unusable("it holds no certificate".to_owned()));
        }
        Ok(self)
    }

    /// What is sent as `User-Agent`: one line of plain ASCII. With anything else a worker does not start.
    pub fn user_agent(mut self, name: impl Into<String>) -> Self {
        self.user_agent = name.into();
        self
    }

    /// What delivers, for workers whose store listens there.
    pub(crate) fn build(self, own: Vec<(String, u16)>) -> Result<Deliverer> {
        check_profile(&self.policy, std::env::var(PROFILE).ok().as_deref())?;
        check_header("user-agent", &self.user_agent)?;
        self.signers.keys().filter(|name| !name.is_empty()).try_for_each(|name| check_key_name(name))?;
        let tls = Arc::new(tls(&self.roots)?);
        let (policy, resolver, listeners) = (self.policy, self.resolver, OwnListeners::default());
        Ok(Deliverer {
            connector: Connector { policy, resolver, tls, own, listeners },
            pool: Pool::default(),
            gates: Arc::new(Gates::new()),
            signers: self.signers,
            known: Arc::new(Known::new(self.keys.clone())),
            keys: self.keys,
            user_agent: self.user_agent,
        })
    }
}

/// In production it has to be said where requests may go.
fn check_profile(policy: &Policy, profile: Option<&str>) -> Result<()> {
    match profile {
        None | Some("" | "development") => Ok(()),
        Some("production") if !policy.hosts.is_empty() => Ok(()),
        Some("production") => {
            let why = "in production, name the hosts that HTTP jobs may go to: `HttpPolicy::hosts`";
            Err(Error::new(Code::AllowListMissing, why))
        }
        // Who has mistyped it believes that he has said it.
        Some(_) => {
            let why = format!("{PROFILE} is neither production nor development");
            Err(Error::new(Code::UsageInvalid, why))
        }
    }
}

/// HTTP/1.1, TLS 1.2 and 1.3, certificates checked, none of our own.
fn tls(own: &[CertificateDer<'static>]) -> Result<ClientConfig> {
    let unusable = |why: String| Error::new(Code::HttpTlsUnusable, why);
    let mut roots = RootCertStore::empty();
    // Stores of operating systems hold a few odd ones; the others do.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    for certificate in own {
        let added = roots.add(certificate.clone());
        added.map_err(|error| unusable(format!("a certificate can't be trusted: {error}")))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let versions = versions.map_err(|error| unusable(format!("TLS can't be set up: {error}")))?;
    let mut config = versions.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// What delivers.
pub(crate) struct Deliverer {
    connector: Connector,
    pool: Pool,
    gates: Arc<Gates>,
    signers: HashMap<String, Vec<Secret>>,
    known: Arc<Known>,
    keys: Option<SealKeys>,
    user_agent: String,
}

/// A request as it is to be sent now.
struct Prepared {
    request: Request,
    target: Target,
    /// The values of its secret headers.
    sealed: Vec<(String, String)>,
    /// The endpoint it goes to.
    receiver: Option<Arc<Receiver>>,
}

impl Deliverer {
    /// How many jobs the worker runs at the same time.
    pub(crate) fn has_slots(&self, slots: usize) {
        self.gates.slots.store(slots, Ordering::Relaxed);
    }

    /// One attempt at telling of an event.
    pub(crate) async fn tell(&self, job: &JobContext) -> Outcome {
        fan_out(&self.known, job).await
    }

    /// One attempt.
    pub(crate) async fn deliver(&self, job: JobContext) -> Outcome {
        // Whatever an attempt waits for before it sends is a part of its time.
        let began = Instant::now();
        let request = match Request::from_payload(&job.payload().bytes) {
            Ok(request) => request,
            Err(error) => return Outcome::dead(error),
        };
        // The end of a version 7 UUID is random.
        let seed = job.id().as_uuid().as_u64_pair().1 ^ job.token().get().unsigned_abs();
        let receiver = match self.receiver(&job, &request, seed).await {
            Ok(receiver) => receiver,
            Err(outcome) => return outcome,
        };
        let target = match self.target(&request, receiver.as_deref()) {
            Ok(target) => target,
            Err(error) => return Outcome::dead(error),
        };
        let last = job.attempt() >= job.max_attempts();
        let pass = match self.gates.turn(&line(&target, receiver.as_deref()), last, seed).await {
            Turn::Go(pass) => pass,
            Turn::Later(pause) => return Outcome::Snooze(pause),
            Turn::Open => return Outcome::not_started(LEFT_ALONE),
        };
        let sealed = match self.open(&job, &request, &target, receiver.as_deref()) {
            Ok(sealed) => sealed,
            Err(error) => return Outcome::not_started(error),
        };
        let prepared = Prepared { request, target, sealed, receiver };
        let outgoing = match self.outgoing(&job, &prepared, began) {
            Ok(outgoing) => outgoing,
            Err(error) if error.fault() == Fault::Operator => return Outcome::not_started(error),
            Err(error) => return Outcome::dead(error),
        };
        if outgoing.deadline <= Instant::now() {
            return Outcome::not_started(NO_TIME);
        }
        self.send(&job, &outgoing, &prepared, pass, seed).await
    }

    /// The endpoint that a request names; otherwise what becomes of the attempt.
    async fn receiver(
        &self,
        job: &JobContext,
        request: &Request,
        seed: u64,
    ) -> Result<Option<Arc<Receiver>>, Outcome> {
        let Some(name) = &request.endpoint else { return Ok(None) };
        let client = job.client();
        match self.known.find(client, name).await {
            Ok(Some(found)) => match &found.row.disabled {
                None => Ok(Some(found)),
                Some(disabled) => {
                    // Whoever enables it wants to see whether it is there.
                    if let Ok(target) = &found.target {
                        self.gates.forgive(&line(target, Some(&*found)));
                    }
                    let since = client.clock().wall().since(disabled.at);
                    Err(Outcome::Snooze(endpoint::pause(since, seed)))
                }
            },
            Ok(None) => Err(Outcome::dead(unknown(client, name))),
            Err(error) if error.code() == Code::RowUnreadable => {
                tracing::error!(%error, endpoint = %name, "an endpoint can't be read; its delivery waits");
                Err(Outcome::Snooze(DAMAGED))
            }
            Err(error) => {
                tracing::warn!(%error, endpoint = %name, "an endpoint could not be looked up; its delivery waits");
                Err(Outcome::Snooze(UNREAD))
            }
        }
    }

    fn target(&self, request: &Request, receiver: Option<&Receiver>) -> Result<Target> {
        let target = match receiver {
            Some(receiver) => receiver.target.clone()?,
            None => url::target(&request.url)?,
        };
        self.connector.policy.check_target(&target)?;
        Ok(target)
    }

    async fn send(
        &self,
        job: &JobContext,
        outgoing: &Outgoing,
        prepared: &Prepared,
        pass: Pass,
        seed: u64,
    ) -> Outcome {
        let exchange = Exchange::new(&self.connector, &self.pool, outgoing);
        let mut under_way = UnderWay { job, exchange, pass: Some(pass), lent: None, seed };
        let Some(result) = under_way.run().await else { return called_off(job) };
        // A receiver may repeat the whole value, or what stands behind its scheme.
        let secrets = prepared.sealed.iter().map(|(_, value)| value.as_str());
        let secrets = secrets.flat_map(|value| core::iter::once(value).chain(value.split_ascii_whitespace()));
        let mut seen = under_way.exchange.seen();
        seen.excerpt = excerpt(&under_way.exchange.beginning, secrets);
        let now = job.client().clock().wall();
        let verdict = judge(&result, job.job().policy.at_most_once, now, seed);
        let hold = result.as_ref().ok().and_then(|answer| pause_asked(answer, now, seed));
        under_way.end(&seen, went(&result, outgoing.deadline), hold);
        if let Some(receiver) = &prepared.receiver
            && let Some(report) = report(&result, &verdict)
        {
            self.report(job, receiver, report, outgoing.deadline).await;
        }
        match verdict {
            Verdict::Done => {
                Outcome::Done(serde_json::to_vec(&seen).ok().map(|bytes| Body::new(bytes, JSON)))
            }
            Verdict::Again { error, after: Some(after) } => Outcome::RetryAfter { error, after },
            Verdict::Again { error, after: None } => Outcome::Retry { error },
            Verdict::NotStarted { error } => Outcome::NotStarted { error },
            Verdict::Dead { error, .. } => Outcome::Dead { error },
            Verdict::Uncertain { error } => Outcome::Uncertain { error },
        }
    }

    /// Writes down how an endpoint is doing. What has become of the job is known by now, and does not wait for that for
    /// longer than the exchange might have taken.
    async fn report(&self, job: &JobContext, receiver: &Arc<Receiver>, report: Report, until: Instant) {
        let (known, client, receiver) = (Arc::clone(&self.known), job.client().clone(), Arc::clone(receiver));
        let written = tokio::spawn(async move { known.report(&client, &receiver, report).await });
        let soon = Instant::now() + REPORT;
        // Not waited for any longer it goes on by itself.
        let _ = timeout_at(until.clamp(soon, soon + REPORT_MAX), written).await;
    }

    /// The values of secret headers.
    fn open(
        &self,
        job: &JobContext,
        request: &Request,
        target: &Target,
        receiver: Option<&Receiver>,
    ) -> Result<Vec<(String, String)>> {
        if let Some(receiver) = receiver {
            return receiver.headers.clone();
        }
        let open = |(name, sealed): (&String, &String)| {
            let keys = SealKeys::needed(self.keys.as_ref())?;
            let value = keys.open(sealed, &place(&job.job().namespace, target, name))?;
            Ok((name.clone(), value))
        };
        request.sealed.iter().map(open).collect()
    }

    fn outgoing(&self, job: &JobContext, prepared: &Prepared, began: Instant) -> Result<Outgoing> {
        let Prepared { request, target, sealed, receiver } = prepared;
        let body = Bytes::copy_from_slice(request.body_bytes());
        let own = receiver.as_ref().map(|receiver| &receiver.row.setting.headers);
        let mut headers = HeaderMap::new();
        let mut add = |name: &str, value: &str| {
            if Outgoing::header(&mut headers, name, value) {
                return Ok(());
            }
            Err(Error::new(Code::HeaderInvalid, format!("the header {name} can't be sent as it is")))
        };
        add("user-agent", &self.user_agent)?;
        add("idempotency-key", &job.idempotency_key())?;
        if let Some(content_type) = request.content_type() {
            add("content-type", content_type)?;
        }
        // What comes later takes the place of what came before.
        let own = own.into_iter().flatten().chain(&request.headers);
        for (name, value) in own.chain(sealed.iter().map(|(name, value)| (name, value))) {
            add(name, value)?;
        }
        let (id, seconds) = (job.root().to_string(), Secret::seconds(job.client().clock().wall()));
        add(webhook::ID, &id)?;
        add(webhook::TIMESTAMP, &seconds.to_string())?;
        if let Some(signatures) = self.signatures(prepared, &id, seconds, &body)? {
            add(webhook::SIGNATURE, &signatures)?;
        }
        add(JOB_ID, &job.id().to_string())?;
        add(ATTEMPT, &job.attempt().to_string())?;
        if let Some(event) = &request.event {
            add(EVENT, event.as_str())?;
        }
        if let Some(trace) = job.job().trace.as_deref().filter(|trace| is_trace(trace)) {
            add("traceparent", trace)?;
        }
        let path = target.path.parse().map_err(|_| Error::new(Code::UrlInvalid, "the path can't be sent"))?;
        let policy = &job.job().policy;
        let usual = receiver.as_ref().map_or(limits::HTTP_TIMEOUT_DEFAULT, |to| to.row.setting.timeout);
        Ok(Outgoing {
            method: request.method,
            target: target.clone(),
            path,
            headers,
            body,
            deadline: began + time(policy.timeout, usual),
            afresh: policy.at_most_once,
        })
    }

    /// An endpoint that has secrets is signed for with those; everything else with what the delivery was given.
    fn signatures(&self, prepared: &Prepared, id: &str, seconds: i64, body: &[u8]) -> Result<Option<String>> {
        let all = |secrets: &[&Secret]| {
            let each: Vec<String> = secrets.iter().map(|secret| secret.sign(id, seconds, body)).collect();
            Some(each.join(" "))
        };
        if let Some(receiver) = &prepared.receiver {
            let secrets = receiver.signing(Timestamp::from_micros(seconds.saturating_mul(1_000_000)))?;
            if !secrets.is_empty() {
                return Ok(all(&secrets));
            }
        }
        let name = prepared.request.sign.as_deref().unwrap_or_default();
        let Some(secrets) = self.signers.get(name) else {
            if name.is_empty() {
                return Ok(None);
            }
            let shown: String = name.chars().take(60).flat_map(char::escape_debug).collect();
            let why = format!("this worker has no signing key of the name \"{shown}\"");
            return Err(Error::new(Code::SigningKeyMissing, why));
        };
        Ok(all(&secrets.iter().collect::<Vec<_>>()))
    }
}

/// A request under way. Whatever ends it, also a job that is called off and an attempt whose time is over, what was
/// seen is kept with the attempt, and its place is given back.
struct UnderWay<'a> {
    job: &'a JobContext,
    exchange: Exchange<'a>,
    pass: Option<Pass>,
    /// Its slot, lent to another job while it only waits.
    lent: Option<Lent>,
    seed: u64,
}

impl UnderWay<'_> {
    /// What came of it; `None` where its job was called off.
    async fn run(&mut self) -> Option<Result<Answer, Broken>> {
        let Self { job, exchange, pass, lent, .. } = self;
        let mut exchanging = core::pin::pin!(exchange.run());
        let mut slow = core::pin::pin!(tokio::time::sleep(SLOW));
        let mut is_slow = false;
        loop {
            tokio::select! {
                biased;
                result = &mut exchanging => return Some(result),
                () = &mut slow, if !is_slow => {
                    is_slow = true;
                    if pass.as_mut().is_some_and(Pass::is_slow) {
                        *lent = job.lend(0);
                    }
                }
                why = job.cancelled(), if job.stopped_by().is_none() => {
                    // A worker that leaves lets it come to its end, if there is time.
                    if why == Stop::CalledOff {
                        return None;
                    }
                }
            }
        }
    }

    /// It came to an end.
    fn end(mut self, seen: &Seen, went: Went, hold: Option<Duration>) {
        self.job.note_seen(seen.clone());
        if let Some(pass) = self.pass.take() {
            pass.end(went, hold, self.seed);
        }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if let Some(pass) = self.pass.take() {
            self.job.note_seen(self.exchange.seen());
            pass.cut(self.seed);
        }
    }
}

/// In which line a request waits for its turn.
fn line(target: &Target, receiver: Option<&Receiver>) -> Line {
    let Some(receiver) = receiver else { return Line::of(target.place(), target.origin()) };
    let setting = &receiver.row.setting;
    let most = setting.concurrency.and_then(|most| usize::try_from(most).ok());
    // No URL begins like this. At another URL an endpoint begins anew.
    Line {
        name: format!("endpoint:{}:{}", receiver.row.name, target.place()),
        origin: target.origin(),
        most,
        rate: setting.rate,
    }
}

/// What is taken down of an exchange: nothing, where it says nothing about the endpoint. One that gets too much is
/// there, and one that our own policy refuses was not asked.
fn report(result: &Result<Answer, Broken>, verdict: &Verdict) -> Option<Report> {
    if matches!(result, Ok(Answer { status: 429, .. }) | Err(Broken { stage: Stage::Refused, .. })) {
        return None;
    }
    Some(match verdict {
        Verdict::Done => Report::Well,
        Verdict::Dead { gone: true, .. } => Report::Gone,
        Verdict::Again { error, .. }
        | Verdict::NotStarted { error }
        | Verdict::Dead { error, .. }
        | Verdict::Uncertain { error } => Report::Failed(error.clone()),
    })
}

/// How long an exchange may take: a little less than the attempt, so that it can still be told how it was. A job of
/// which nothing was said, such as one written by SQL, has what HTTP jobs usually have.
fn time(timeout: Duration, usual: Duration) -> Duration {
    let timeout = if timeout == limits::TIMEOUT_DEFAULT { usual } else { timeout };
    timeout.min(limits::HTTP_TIMEOUT_MAX).mul_f64(0.95)
}

/// What is said of a request that was given up because its job was called off. It may be on its way.
fn called_off(job: &JobContext) -> Outcome {
    let error = "it was cancelled while the request was under way".to_owned();
    if job.job().policy.at_most_once {
        Outcome::Uncertain { error }
    } else {
        Outcome::Cancel { reason: error }
    }
}

fn went(result: &Result<Answer, Broken>, deadline: Instant) -> Went {
    match result {
        Ok(Answer { status: 500..=599 | 408, .. }) => Went::Troubled,
        Ok(Answer { status: 429, .. }) => Went::Throttled,
        Ok(_) => Went::Answered,
        Err(Broken { stage: Stage::Refused, .. }) => Went::Unasked,
        Err(_) if Instant::now() >= deadline => Went::Late,
        Err(_) => Went::Broken,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_production_the_hosts_have_to_be_named() {
        let named = Policy { hosts: vec!["*.example.com".parse().unwrap()], ..Policy::default() };
        for (profile, policy, expected) in [
            (Some("production"), &Policy::default(), Err(Code::AllowListMissing)),
            (Some("production"), &named, Ok(())),
            (Some("produktion"), &named, Err(Code::UsageInvalid)),
            (Some("development"), &Policy::default(), Ok(())),
            (Some(""), &Policy::default(), Ok(())),
            (None, &Policy::default(), Ok(())),
        ] {
            let checked = check_profile(policy, profile).map_err(|error| error.code());
            assert_eq!(checked, expected, "{profile:?}");
        }
    }
}
