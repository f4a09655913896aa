//! Secrets that stand in a URL: it is kept and shown in the clear.

/// What stands for a value that is not shown.
const REDACTED: &str = "[redacted]";

/// Names of parameters whose values open doors, in lower case and without `-` and `_`.
const SECRET: &[&str] = &[
    "accesskey",
    "accesstoken",
    "apikey",
    "apitoken",
    "auth",
    "authkey",
    "authtoken",
    "clientsecret",
    "code",
    "hmac",
    "jwt",
    "key",
    "pass",
    "passwd",
    "password",
    "secret",
    "secretkey",
    "sharedsecret",
    "sig",
    "signature",
    "token",
    "xamzsignature",
];

fn is_secret(name: &str) -> bool {
    let plain: String =
        name.chars().filter(|letter| !matches!(letter, '-' | '_')).flat_map(char::to_lowercase).collect();
    SECRET.contains(&plain.as_str())
}

/// The name of the first parameter of a URL whose value looks like a secret, if it has one.
pub fn secret_in_query(url: &str) -> Option<&str> {
    let (_, query) = url.split_once('?')?;
    let query = query.split('#').next().unwrap_or_default();
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(_, value)| !value.is_empty()).map(|(name, _)| name).find(|name| is_secret(name))
}

/// A URL as it is shown: without the values of parameters that look like secrets.
pub fn shown_url(url: &str) -> String {
    let Some((before, query)) = url.split_once('?') else { return url.to_owned() };
    let shown = |pair: &str| match pair.split_once('=') {
        Some((name, value)) if is_secret(name) && !value.is_empty() => format!("{name}={REDACTED}"),
        _ => pair.to_owned(),
    };
    let pairs: Vec<String> = query.split('&').map(shown).collect();
    format!("{before}?{}", pairs.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// W63.
    #[test]
    fn w63_what_looks_like_a_secret_in_a_url_is_named_and_not_shown() {
        for (url, name, shown) in [
            ("https://a.com/in?token=canary&n=1", Some("token"), "https://a.com/in?token=[redacted]&n=1"),
            (
                "https://a.com/in?n=1&API_Key=canary",
                Some("API_Key"),
                "https://a.com/in?n=1&API_Key=[redacted]",
            ),
            (
                "https://a.com/in?access-token=canary",
                Some("access-token"),
                "https://a.com/in?access-token=[redacted]",
            ),
            ("https://a.com/in?token=&n=1", None, "https://a.com/in?token=&n=1"),
            ("https://a.com/in?tokens=3", None, "https://a.com/in?tokens=3"),
            ("https://a.com/token=x", None, "https://a.com/token=x"),
            ("https://a.com/", None, "https://a.com/"),
        ] {
            assert_eq!((secret_in_query(url), shown_url(url).as_str()), (name, shown), "{url}");
        }
    }
}
