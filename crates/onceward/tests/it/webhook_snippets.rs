//! What the guide for receivers shows is what works: its functions, run on our signatures and on published ones.

use std::process::{Command, Stdio};

use onceward::webhook::Secret;

const GUIDE: &str = include_str!("../../../../docs/guides/webhooks-receiving.md");
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
const SECONDS: i64 = 1_614_265_330;
const BODY: &str = r#"{"test": 2432232314}"#;
/// As the standard publishes it.
const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

fn snippet(language: &str) -> &'static str {
    let (_, rest) = GUIDE.split_once(&format!("```{language}\n")).unwrap();
    rest.split_once("```").unwrap().0
}

/// Signatures, bodies, times, and whether they fit.
fn cases() -> Vec<(String, &'static str, i64, bool)> {
    let secret: Secret = SECRET.parse().unwrap();
    let other = Secret::generate().unwrap();
    let ours = secret.sign(ID, SECONDS, BODY.as_bytes());
    let both = format!("{} {ours}", other.sign(ID, SECONDS, BODY.as_bytes()));
    let theirs = other.sign(ID, SECONDS, BODY.as_bytes());
    vec![
        (SIGNATURE.to_owned(), BODY, SECONDS, true),
        (ours.clone(), BODY, SECONDS + 299, true),
        (both, BODY, SECONDS, true),
        (ours.clone(), BODY, SECONDS + 301, false),
        (ours.clone(), BODY, SECONDS - 301, false),
        (ours.clone(), r#"{"test":2432232314}"#, SECONDS, false),
        (ours.replace("v1,", "v2,"), BODY, SECONDS, false),
        (theirs, BODY, SECONDS, false),
        ("v1,".to_owned(), BODY, SECONDS, false),
        (String::new(), BODY, SECONDS, false),
    ]
}

/// Runs the snippet with a few lines that print what it says of each case. `None` where the language is not there.
fn run(program: &str, language: &str, call: impl Fn(&str, &str, i64) -> String) -> Option<String> {
    let calls: Vec<String> =
        cases().iter().map(|(signature, body, now, _)| call(signature, body, *now)).collect();
    let script = format!("{}\n{}\n", snippet(language), calls.join("\n"));
    let option = if program == "node" { "-e" } else { "-c" };
    let mut command = Command::new(program);
    let Ok(child) = command.args([option, &script]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
    else {
        println!("{program} is not installed: its snippet was not run");
        return None;
    };
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap().to_lowercase())
}

fn expected() -> String {
    cases().iter().map(|(.., fits)| format!("{fits}\n")).collect()
}

fn headers(signature: &str) -> String {
    format!(
        r#"{{"webhook-id": "{ID}", "webhook-timestamp": "{SECONDS}", "webhook-signature": "{signature}"}}"#
    )
}

#[test]
fn the_python_of_the_guide_tells_the_right_ones_from_the_wrong_ones() {
    let call = |signature: &str, body: &str, now: i64| {
        format!("print(verify('{SECRET}', {}, b'{body}', now={now}))", headers(signature))
    };
    if let Some(said) = run("python3", "python", call) {
        assert_eq!(said, expected());
    }
}

#[test]
fn the_javascript_of_the_guide_tells_the_right_ones_from_the_wrong_ones() {
    let call = |signature: &str, body: &str, now: i64| {
        let headers = headers(signature);
        format!("console.log(verify('{SECRET}', {headers}, Buffer.from('{body}'), 300, {now}));")
    };
    if let Some(said) = run("node", "javascript", call) {
        assert_eq!(said, expected());
    }
}
