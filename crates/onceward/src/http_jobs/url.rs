//! The one place where a URL is read: by the rules of browsers, so that what is checked is what others would dial.

use onceward_core::http::{Host, Scheme, Target};
use onceward_core::{Code, Error, Result, limits};
use url::Url;

/// Reads a URL into its canonical form. Reading that form again gives the same.
pub(crate) fn target(text: &str) -> Result<Target> {
    let shown = || text.chars().take(80).flat_map(char::escape_debug).collect::<String>();
    let invalid = |why: String| Error::new(Code::UrlInvalid, why);
    if text.len() > limits::HTTP_URL_BYTES_MAX {
        let (max, has) = (limits::HTTP_URL_BYTES_MAX, text.len());
        return Err(invalid(format!("a URL has at most {max} bytes, this one has {has}")));
    }
    // A parser of the web passes over them in silence.
    if text.chars().any(|letter| letter.is_control() || letter.is_whitespace()) {
        return Err(invalid(format!("\"{}\" holds a space or a control character", shown())));
    }
    let url = Url::parse(text).map_err(|error| invalid(format!("\"{}\" is not a URL: {error}", shown())))?;
    let scheme = match url.scheme() {
        "https" => Scheme::Https,
        "http" => Scheme::Http,
        other => {
            let why = format!("\"{other}\" is no way to send a request: use https");
            return Err(Error::new(Code::UrlSchemeRefused, why));
        }
    };
    if !url.username().is_empty() || url.password().is_some() {
        let why = "a URL may hold no user name and no password; use a secret header";
        return Err(Error::new(Code::UrlCredentials, why));
    }
    let host = match url.host() {
        Some(url::Host::Domain(name)) => Host::name(name),
        Some(url::Host::Ipv4(address)) => address.into(),
        Some(url::Host::Ipv6(address)) => address.into(),
        None => return Err(invalid(format!("\"{}\" names no host", shown()))),
    };
    if let Host::Name(name) = &host
        && name.split('.').any(str::is_empty)
    {
        // Resolvers don't agree on what such a name is.
        return Err(invalid(format!("\"{}\" names a host with an empty part", shown())));
    }
    let port = url.port().unwrap_or_else(|| scheme.port());
    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
    let target = Target { scheme, host, port, path: format!("{}{query}", url.path()) };
    if target.path.parse::<http::Uri>().is_err() {
        return Err(invalid(format!(
            "\"{}\" can't be sent as it is; encode what is not plain in it",
            shown()
        )));
    }
    if target.to_string().len() > limits::HTTP_URL_BYTES_MAX {
        let max = limits::HTTP_URL_BYTES_MAX;
        return Err(invalid(format!("encoded, the URL has more than {max} bytes")));
    }
    Ok(target)
}

#[cfg(test)]
mod tests {
    use onceward_core::http::Policy;

    use super::*;

    /// What becomes of a URL before anything is looked up.
    fn refusal(text: &str) -> Option<Code> {
        let open = Policy { allow_http: true, ..Policy::default() };
        target(text).and_then(|target| open.check_target(&target)).err().map(|error| error.code())
    }

    /// The list of ways to write an address of one's own (S-list of SSRF, 1 to 34).
    #[test]
    fn however_an_own_address_is_written_it_is_refused() {
        let own = [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0x7f.1/",
            "http://0177.0.0.1/",
            "http://017700000001/",
            "http://0/",
            "http://0.0.0.0:8080/",
            "http://[::]/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::ffff:7f00:1]/",
            "http://[::127.0.0.1]/",
            "http://[0:0:0:0:0:ffff:a9fe:a9fe]/",
            "http://[64:ff9b::169.254.169.254]/",
            "http://[64:ff9b::7f00:1]/",
            "http://[2002:7f00:1::]/",
            "http://[2001:0:7f00:1::]/",
            "http://[fe80::1]/",
            "http://[fec0::1]/",
            "http://[fd00:ec2::254]/",
            "http://[fc00::1]/",
            "http://[ff02::1]/",
            "http://[100::1]/",
            "http://[2001:db8::1]/",
            "http://[3fff::1]/",
            "http://[5f00::1]/",
            "http://[4000::1]/",
            "http://169.254.169.254/latest/meta-data/",
            "http://2852039166/",
            "http://0xa9fea9fe/",
            "http://169.254.43518/",
            "http://0251.0376.0251.0376/",
            "http://１２７.０.０.１/",
            "http://%31%32%37.0.0.1/",
            "http://127.0.0.1./",
            "http://localhost/",
            "http://LOCALHOST/",
            "http://localhost./",
            "http://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ/",
            "http://foo.localhost/",
            "http://metadata.google.internal/",
            "http://metadata/",
            "http://instance-data/",
            "http://kubernetes.default.svc/",
            "http://127.0.0.1#@good.com/",
            "http://127.0.0.1\\@good.com/",
            "http:\\\\127.0.0.1\\",
            "http:///127.0.0.1/",
            "http:127.0.0.1/",
            "http://100.100.100.200/",
            "http://100.64.0.1/",
            "http://198.18.0.1/",
            "http://240.0.0.1/",
            "http://255.255.255.255/",
            "http://192.88.99.1/",
            "http://224.0.0.1/",
            "http://192.0.0.192/",
            "http://192.0.2.1/",
            "http://10.0.0.1/",
            "http://172.16.0.1/",
            "http://192.168.1.1/",
            "http://168.63.129.16/",
        ];
        for text in own {
            assert_eq!(refusal(text), Some(Code::AddressRefused), "{text}");
        }
    }

    #[test]
    fn urls_that_are_none_or_hide_something_are_refused() {
        for (text, code) in [
            ("", Code::UrlInvalid),
            ("example.com/in", Code::UrlInvalid),
            ("/in", Code::UrlInvalid),
            ("http://[fe80::1%25eth0]/", Code::UrlInvalid),
            ("http://127.0.0.1%00.good.com/", Code::UrlInvalid),
            ("http://good..com/", Code::UrlInvalid),
            ("http://.good.com/", Code::UrlInvalid),
            ("http://good.com../", Code::UrlInvalid),
            ("http://./", Code::UrlInvalid),
            ("http://good.com:99999/", Code::UrlInvalid),
            ("http://good.com/\t", Code::UrlInvalid),
            ("http://good.com/a b", Code::UrlInvalid),
            ("ht\ntp://good.com/", Code::UrlInvalid),
            ("http://good.com@127.0.0.1/", Code::UrlCredentials),
            ("http://good.com:80@127.0.0.1:5432/", Code::UrlCredentials),
            ("https://ann:secret@good.com/", Code::UrlCredentials),
            ("http://good.com:0/", Code::PortRefused),
            ("http://good.com:22/", Code::PortRefused),
            ("http://good.com:25/", Code::PortRefused),
            ("http://good.com:5432/", Code::PortRefused),
            ("http://good.com:6379/", Code::PortRefused),
            ("http://good.com:11211/", Code::PortRefused),
            ("file:///etc/passwd", Code::UrlSchemeRefused),
            ("gopher://127.0.0.1:6379/_x", Code::UrlSchemeRefused),
            ("ftp://good.com/", Code::UrlSchemeRefused),
            ("dict://good.com/", Code::UrlSchemeRefused),
            ("data:text/plain,x", Code::UrlSchemeRefused),
            ("jar:http://good.com!/", Code::UrlSchemeRefused),
            ("unix:/var/run/docker.sock", Code::UrlSchemeRefused),
            ("ws://good.com/", Code::UrlSchemeRefused),
        ] {
            assert_eq!(refusal(text), Some(code), "{text:?}");
        }
        let long = format!("https://good.com/{}", "a".repeat(limits::HTTP_URL_BYTES_MAX));
        assert_eq!(refusal(&long), Some(Code::UrlInvalid));
        let grows = format!("https://good.com/{}", "é".repeat(900));
        assert_eq!(refusal(&grows), Some(Code::UrlInvalid));
    }

    #[test]
    fn the_canonical_form_is_what_is_kept_and_reads_the_same() {
        for (text, canonical) in [
            ("HTTPS://Hooks.Example.COM:443/a/../b?x=1#part", "https://hooks.example.com/b?x=1"),
            ("http://example.com.", "http://example.com/"),
            ("https://example.com:8443/ä", "https://example.com:8443/%C3%A4"),
            ("https://аpple.com/", "https://xn--pple-43d.com/"),
            ("https://[2606:4700:0::1111]/", "https://[2606:4700::1111]/"),
            ("https://example.com?q", "https://example.com/?q"),
        ] {
            let read = target(text).unwrap();
            assert_eq!(read.to_string(), canonical);
            assert_eq!(target(canonical).unwrap(), read);
        }
        assert_eq!(target("https://example.com:8443/a?b").unwrap().authority(), "example.com:8443");
        assert_eq!(target("https://example.com/a?b").unwrap().place(), "https://example.com/a");
    }
}
