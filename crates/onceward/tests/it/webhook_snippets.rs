//! What the guide for receivers shows is what works: its functions, run on our signatures and on published ones.

use std::process::{Command, Stdio};
use std::time::Duration;

use onceward::webhook::Secret;

/// What the guide shows for Rust.
mod receive {
    include!("webhook_receive.rs");

    pub(super) fn fits(case: &super::Case) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in &case.headers {
            headers.insert(*name, http::HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let now = SystemTime::UNIX_EPOCH + super::Duration::from_secs(case.now);
        verify(&case.secret, &headers, case.body.as_bytes(), now)
    }
}

const GUIDE: &str = include_str!("../../../../docs/guides/webhooks-receiving.md");
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
const SECONDS: u64 = 1_614_265_330;
const BODY: &str = r#"{"test": 2432232314}"#;
/// As the standard publishes it.
const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
/// As the standard publishes it, with its private key.
const PAIR: &str =
    "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==";
const SIGNATURE_OF_PAIR: &str =
    "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==";

/// A request at a time, and whether its signature fits.
struct Case {
    secret: String,
    headers: Vec<(&'static str, String)>,
    body: &'static str,
    now: u64,
    fits: bool,
}

fn snippet(language: &str) -> &'static str {
    let (_, rest) = GUIDE.split_once(&format!("```{language}\n")).unwrap();
    rest.split_once("```").unwrap().0
}

fn case(secret: &str, signature: &str, body: &'static str, now: u64, fits: bool) -> Case {
    let headers = vec![
        ("webhook-id", ID.to_owned()),
        ("webhook-timestamp", SECONDS.to_string()),
        ("webhook-signature", signature.to_owned()),
    ];
    Case { secret: secret.to_owned(), headers, body, now, fits }
}

/// Of secrets that both sides have.
fn cases() -> Vec<Case> {
    let secret: Secret = SECRET.parse().unwrap();
    let other = Secret::generate().unwrap();
    let sign = |secret: &Secret| secret.sign(ID, i64::try_from(SECONDS).unwrap(), BODY.as_bytes());
    let (ours, theirs) = (sign(&secret), sign(&other));
    let mut all: Vec<Case> = [
        (SIGNATURE, BODY, SECONDS, true),
        (&ours, BODY, SECONDS + 299, true),
        (&format!("{theirs} {ours}"), BODY, SECONDS, true),
        (&ours, BODY, SECONDS + 301, false),
        (&ours, BODY, SECONDS - 301, false),
        (&ours, r#"{"test":2432232314}"#, SECONDS, false),
        (&ours.replace("v1,", "v2,"), BODY, SECONDS, false),
        (&theirs, BODY, SECONDS, false),
        ("v1,", BODY, SECONDS, false),
        ("v1", BODY, SECONDS, false),
        ("", BODY, SECONDS, false),
        // What is not ASCII is no signature, and no reason to fall over.
        ("v1,é", BODY, SECONDS, false),
        (&format!("{ours}é"), BODY, SECONDS, false),
    ]
    .into_iter()
    .map(|(signature, body, now, fits)| case(SECRET, signature, body, now, fits))
    .collect();
    for missing in 0..3 {
        let mut lacks = case(SECRET, &ours, BODY, SECONDS, false);
        lacks.headers.remove(missing);
        all.push(lacks);
    }
    for (at, odd) in
        [(0, "a.b"), (0, ""), (1, "soon"), (1, "-1"), (1, ""), (1, "1614265330.5"), (1, "\u{b2}")]
    {
        let mut case = case(SECRET, &ours, BODY, SECONDS, false);
        case.headers[at].1 = odd.to_owned();
        all.push(case);
    }
    all
}

/// Of pairs of keys: the receiver has the public one.
fn cases_of_pairs() -> Vec<Case> {
    let pair: Secret = PAIR.parse().unwrap();
    let public = pair.public().unwrap();
    let ours = pair.sign(ID, i64::try_from(SECONDS).unwrap(), BODY.as_bytes());
    let theirs = Secret::generate_pair().unwrap().sign(ID, i64::try_from(SECONDS).unwrap(), BODY.as_bytes());
    [
        (SIGNATURE_OF_PAIR, BODY, true),
        (&ours, BODY, true),
        (&format!("{theirs} {ours}"), BODY, true),
        (&ours, "{}", false),
        (&theirs, BODY, false),
        (SIGNATURE, BODY, false),
        (&ours.replace("v1a,", "v1,"), BODY, false),
        ("v1a,é", BODY, false),
        ("v1a", BODY, false),
    ]
    .into_iter()
    .map(|(signature, body, fits)| case(&public, signature, body, SECONDS, fits))
    .collect()
}

/// Runs the snippet with a few lines that print what it says of each case.
fn run(program: &str, language: &str, cases: &[Case], call: impl Fn(&Case, &str) -> String) -> String {
    let calls: Vec<String> = cases
        .iter()
        .map(|case| {
            let headers: serde_json::Map<_, _> = case
                .headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.as_str().into()))
                .collect();
            call(case, &serde_json::Value::from(headers).to_string())
        })
        .collect();
    let script = format!("{}\n{}\n", snippet(language), calls.join("\n"));
    let option = if program == "node" { "-e" } else { "-c" };
    let mut command = Command::new(program);
    command.args([option, &script]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{program} does not run: {error}; `cargo xtask install` installs it"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().to_lowercase()
}

fn expected(cases: &[Case]) -> String {
    cases.iter().map(|case| format!("{}\n", case.fits)).collect()
}

#[test]
fn the_rust_of_the_guide_tells_the_right_ones_from_the_wrong_ones() {
    assert_eq!(snippet("rust"), include_str!("webhook_receive.rs"), "the guide shows what is run here");
    for case in cases().iter().chain(&cases_of_pairs()) {
        assert_eq!(receive::fits(case), case.fits, "{:?}", case.headers);
    }
}

#[test]
fn the_python_of_the_guide_tells_the_right_ones_from_the_wrong_ones() {
    let call = |case: &Case, headers: &str| {
        let Case { secret, body, now, .. } = case;
        format!("print(verify('{secret}', {headers}, b'{body}', now={now}))")
    };
    assert_eq!(run("python3", "python", &cases(), call), expected(&cases()));
}

#[test]
fn the_javascript_of_the_guide_tells_the_right_ones_from_the_wrong_ones() {
    let call = |case: &Case, headers: &str| {
        let Case { secret, body, now, .. } = case;
        format!("console.log(verify('{secret}', {headers}, Buffer.from('{body}'), 300, {now}));")
    };
    for cases in [cases(), cases_of_pairs()] {
        assert_eq!(run("node", "javascript", &cases, call), expected(&cases));
    }
}
