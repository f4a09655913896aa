//! Checking what claims to be a webhook.

use core::time::Duration;

use onceward_core::{Code, Error, Result, Timestamp, duration};

use super::{ID, SIGNATURE, Secret, TIMESTAMP, VerifyingKey, signed};

/// How far the time of a webhook may lie from now, when nothing else is said.
const TOLERANCE: Duration = Duration::from_secs(5 * 60);
/// The most signatures that are looked at, so that nobody lets us compute for ever.
const SIGNATURES_MAX: usize = 16;

/// Checks webhooks: that somebody who has the secret has sent exactly these bytes, a moment ago.
///
/// Do nothing before it is checked, and remember the id: the same event may come more than once, under the same id.
#[derive(Clone, Debug)]
pub struct Verifier {
    keys: Vec<VerifyingKey>,
    tolerance: Duration,
}

impl Verifier {
    /// Checks with these keys; with several, one of them has to fit.
    pub fn new<'a>(keys: impl IntoIterator<Item = &'a VerifyingKey>) -> Self {
        Self { keys: keys.into_iter().cloned().collect(), tolerance: TOLERANCE }
    }

    /// How far the time of a webhook may lie from now, in both directions; 5 minutes if nothing is said.
    #[must_use]
    pub fn tolerance(mut self, tolerance: Duration) -> Self {
        self.tolerance = tolerance;
        self
    }

    /// Checks the values of the three headers and the bytes of the body, as they came in.
    ///
    /// # Errors
    /// [`SignatureWrong`](Code::SignatureWrong), [`SignatureStale`](Code::SignatureStale).
    pub fn verify(
        &self,
        id: &str,
        timestamp: &str,
        signatures: &str,
        body: &[u8],
        now: Timestamp,
    ) -> Result<()> {
        let wrong = |why: &str| Err(Error::new(Code::SignatureWrong, why));
        let digits =
            !timestamp.is_empty() && timestamp.len() <= 12 && timestamp.bytes().all(|b| b.is_ascii_digit());
        let seconds = timestamp.parse::<i64>().ok().filter(|_| digits);
        let Some(seconds) = seconds else { return wrong("the time of the webhook is missing, or is none") };
        if id.is_empty() || id.contains('.') {
            return wrong("the id of the webhook is missing, or holds a dot");
        }
        let content = signed(id, seconds, body);
        let mut given = signatures.split_ascii_whitespace().take(SIGNATURES_MAX);
        if !given.any(|signature| self.keys.iter().any(|key| key.fits(signature, &content))) {
            return wrong("no signature fits");
        }
        let apart = Secret::seconds(now).abs_diff(seconds);
        if Duration::from_secs(apart) > self.tolerance {
            let (apart, tolerated) = (Duration::from_secs(apart), duration::format(self.tolerance));
            let when = if Secret::seconds(now) > seconds { "ago" } else { "from now" };
            let why = format!(
                "the webhook was signed {} {when}; {tolerated} are tolerated",
                duration::format(apart)
            );
            return Err(Error::new(Code::SignatureStale, why));
        }
        Ok(())
    }

    /// As [`verify`](Self::verify), with the headers of a request.
    ///
    /// # Errors
    /// As [`verify`](Self::verify); a header that is missing, or is there twice, is a wrong signature.
    pub fn verify_request(&self, headers: &http::HeaderMap, body: &[u8], now: Timestamp) -> Result<()> {
        let one = |name: &str| {
            let mut values = headers.get_all(name).iter();
            let value = values.next().and_then(|value| value.to_str().ok());
            value.filter(|_| values.next().is_none()).ok_or_else(|| {
                let why = format!("the header {name} is missing, unreadable, or there twice");
                Error::new(Code::SignatureWrong, why)
            })
        };
        self.verify(one(ID)?, one(TIMESTAMP)?, one(SIGNATURE)?, body, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SECONDS: i64 = 1_614_265_330;

    /// The test vectors that the standard publishes with its libraries: secret and signature.
    const VECTORS: [(&str, &str); 2] = [
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
        (
            "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==",
            "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==",
        ),
    ];

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn code(result: Result<()>) -> Option<Code> {
        result.err().map(|error| error.code())
    }

    #[test]
    fn our_signatures_are_those_of_the_published_test_vectors() {
        for (secret, signature) in VECTORS {
            let secret: Secret = secret.parse().unwrap();
            assert_eq!(secret.sign(ID, SECONDS, BODY), signature);
            let verifier = Verifier::new([&secret.verifying()]);
            verifier.verify(ID, &SECONDS.to_string(), signature, BODY, at(SECONDS)).unwrap();
            assert_eq!(secret.reveal().parse::<Secret>().unwrap().sign(ID, SECONDS, BODY), signature);
        }
        let pair: Secret = VECTORS[1].0.parse().unwrap();
        let public: VerifyingKey = pair.public().unwrap().parse().unwrap();
        Verifier::new([&public]).verify(ID, &SECONDS.to_string(), VECTORS[1].1, BODY, at(SECONDS)).unwrap();
    }

    #[test]
    fn whoever_changes_a_part_is_found_out() {
        for (secret, signature) in VECTORS {
            let key: VerifyingKey = secret.parse::<Secret>().unwrap().verifying();
            let verifier = Verifier::new([&key]);
            let check = |id: &str, time: &str, signature: &str, body: &[u8]| {
                code(verifier.verify(id, time, signature, body, at(SECONDS)))
            };
            let (time, wrong) = (SECONDS.to_string(), Some(Code::SignatureWrong));
            assert_eq!(check(ID, &time, signature, BODY), None);
            assert_eq!(check("msg_other", &time, signature, BODY), wrong);
            assert_eq!(check(ID, &(SECONDS + 1).to_string(), signature, BODY), wrong);
            assert_eq!(check(ID, &time, signature, br#"{"test":2432232314}"#), wrong);
            // The last character of base64 also carries bits that mean nothing: the first one does not.
            let (version, tag) = signature.split_once(',').unwrap();
            assert_eq!(check(ID, &time, &format!("{version},A{}", &tag[1..]), BODY), wrong);
            for nothing in ["", "v1,", "v1a,", "v2,abc", "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="] {
                assert_eq!(check(ID, &time, nothing, BODY), wrong, "{nothing:?}");
            }
            for bad in ["", "x", "-1", "1e9", " 1614265330", "99999999999999999999"] {
                assert_eq!(check(ID, bad, signature, BODY), wrong, "{bad:?}");
            }
            assert_eq!(check("a.b", &time, signature, BODY), wrong);
        }
    }

    #[test]
    fn what_was_signed_too_long_ago_or_ahead_is_refused() {
        let (secret, signature) = VECTORS[0];
        let verifier = Verifier::new([&secret.parse::<Secret>().unwrap().verifying()]);
        let check = |verifier: &Verifier, now: i64| {
            code(verifier.verify(ID, &SECONDS.to_string(), signature, BODY, at(now)))
        };
        for (offset, expected) in [(300, None), (301, Some(Code::SignatureStale))] {
            assert_eq!(check(&verifier, SECONDS + offset), expected);
            assert_eq!(check(&verifier, SECONDS - offset), expected);
        }
        let patient = verifier.tolerance(Duration::from_secs(3600));
        assert_eq!(check(&patient, SECONDS + 3600), None);
    }

    #[test]
    fn while_a_secret_is_replaced_either_one_fits() {
        let (old, new) = (Secret::generate().unwrap(), Secret::generate_pair().unwrap());
        let both = format!("{} {}", old.sign(ID, SECONDS, BODY), new.sign(ID, SECONDS, BODY));
        for secret in [&old, &new] {
            let verifier = Verifier::new([&secret.verifying()]);
            verifier.verify(ID, &SECONDS.to_string(), &both, BODY, at(SECONDS)).unwrap();
        }
        let other = Verifier::new([&Secret::generate().unwrap().verifying()]);
        let result = other.verify(ID, &SECONDS.to_string(), &both, BODY, at(SECONDS));
        assert_eq!(code(result), Some(Code::SignatureWrong));
    }

    #[test]
    fn a_secret_that_is_none_is_refused_and_never_shown() {
        for bad in [
            "",
            "whsec_",
            "whsec_AAAA",
            "whsec_*",
            "whsk_AAAA",
            "whpk_AAAA",
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        ] {
            let error = bad.parse::<Secret>().unwrap_err();
            assert_eq!(error.code(), Code::SigningSecretInvalid, "{bad}");
        }
        let long = format!("whsec_{}", "A".repeat(4 * 22));
        assert_eq!(long.parse::<Secret>().unwrap_err().code(), Code::SigningSecretInvalid);
        let secret = Secret::generate().unwrap();
        assert!(!format!("{secret:?} {:?}", secret.verifying()).contains(&secret.reveal()[6..]));
    }

    #[test]
    fn the_headers_of_a_request_have_to_be_there_once() {
        let (secret, signature) = VECTORS[0];
        let verifier = Verifier::new([&secret.parse::<Secret>().unwrap().verifying()]);
        let mut headers = http::HeaderMap::new();
        headers.insert("webhook-id", ID.parse().unwrap());
        headers.insert("webhook-timestamp", SECONDS.into());
        assert_eq!(code(verifier.verify_request(&headers, BODY, at(SECONDS))), Some(Code::SignatureWrong));
        headers.insert("webhook-signature", signature.parse().unwrap());
        verifier.verify_request(&headers, BODY, at(SECONDS)).unwrap();
        headers.append("webhook-id", "msg_2".parse().unwrap());
        assert_eq!(code(verifier.verify_request(&headers, BODY, at(SECONDS))), Some(Code::SignatureWrong));
    }
}
