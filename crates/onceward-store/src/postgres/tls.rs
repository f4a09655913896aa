//! TLS to PostgreSQL: verified or not at all.
//!
//! | `sslmode` | what happens |
//! |---|---|
//! | not given | none for sockets and loopback, otherwise as `verify-full` |
//! | `disable` | none |
//! | `prefer` | verified TLS if the server offers TLS; plain only if it offers none |
//! | `require`, `verify-full` | verified TLS: the chain and the host's name. Unverified TLS stops nobody in between |

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use onceward_core::{Code, Error, Result};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::url::PostgresAt;

/// How connections are protected.
pub(super) enum Tls {
    Off,
    On(MakeRustlsConnect),
}

/// Decides by the URL, and sets the mode in the driver's configuration.
pub(super) fn choose(at: &PostgresAt, config: &mut Config) -> Result<Tls> {
    let mode = match at.sslmode.as_deref() {
        Some("disable") => SslMode::Disable,
        Some("prefer") => SslMode::Prefer,
        Some(_) => SslMode::Require,
        None if is_local(config) => SslMode::Disable,
        None => SslMode::Require,
    };
    config.ssl_mode(mode);
    if mode == SslMode::Disable {
        return Ok(Tls::Off);
    }
    let roots = match &at.sslrootcert {
        Some(file) => roots_of(file)?,
        None => native_roots()?,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let versions = versions.map_err(|error| failed("TLS can't be set up").with_source(error))?;
    let client = versions.with_root_certificates(roots).with_no_client_auth();
    Ok(Tls::On(MakeRustlsConnect::new(client)))
}

/// Whether nothing leaves this machine.
fn is_local(config: &Config) -> bool {
    let loopback = |address: &IpAddr| address.is_loopback();
    let hosts = config.get_hosts().iter().all(|host| match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => name == "localhost" || name.parse().is_ok_and(|address| loopback(&address)),
    });
    if config.get_hostaddrs().is_empty() { hosts } else { config.get_hostaddrs().iter().all(loopback) }
}

fn roots_of(file: &Path) -> Result<RootCertStore> {
    let shown = file.display();
    let unreadable = |error| failed(format!("sslrootcert {shown} can't be read")).with_source(error);
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(unreadable)? {
        let certificate = certificate.map_err(unreadable)?;
        let refused =
            |error| failed(format!("sslrootcert {shown} holds an unusable certificate")).with_source(error);
        roots.add(certificate).map_err(refused)?;
    }
    if roots.is_empty() {
        return Err(failed(format!("sslrootcert {shown} holds no certificate")));
    }
    Ok(roots)
}

fn native_roots() -> Result<RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Stores of operating systems hold a few odd ones; the others do.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why =
            "this system has no trusted certificates; name one in sslrootcert, or install ca-certificates";
        return Err(failed(why));
    }
    Ok(roots)
}

fn failed(why: impl Into<String>) -> Error {
    Error::new(Code::TlsFailed, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(url: &str) -> SslMode {
        let crate::url::StoreUrl::Postgres(at) = crate::url::StoreUrl::parse(url).unwrap() else { panic!() };
        let mut config: Config = at.dsn.parse().unwrap();
        // Without certificates on this machine the choice fails after the mode was set.
        drop(choose(&at, &mut config));
        config.get_ssl_mode()
    }

    #[test]
    fn tls_is_the_default_unless_nothing_leaves_the_machine() {
        for local in ["localhost", "127.0.0.1", "[::1]", "%2Ftmp", "localhost,127.0.0.2"] {
            assert_eq!(mode(&format!("postgres://u@{local}/d")), SslMode::Disable, "{local}");
        }
        assert_eq!(mode("postgres:///d?host=/var/run/postgresql"), SslMode::Disable);
        for remote in ["db.example", "10.0.0.1", "localhost,db.example"] {
            assert_eq!(mode(&format!("postgres://u@{remote}/d")), SslMode::Require, "{remote}");
        }
        assert_eq!(mode("postgres://u@localhost/d?sslmode=verify-full"), SslMode::Require);
        assert_eq!(mode("postgres://u@db/d?sslmode=require"), SslMode::Require);
        assert_eq!(mode("postgres://u@db/d?sslmode=prefer"), SslMode::Prefer);
        assert_eq!(mode("postgres://u@db/d?sslmode=disable"), SslMode::Disable);
    }

    #[test]
    fn a_certificate_file_that_is_none_is_refused() {
        let error = roots_of(Path::new("/nonexistent/root.pem")).unwrap_err();
        assert_eq!(error.code(), Code::TlsFailed);
        let error = roots_of(Path::new("/dev/null")).unwrap_err();
        assert!(error.message().contains("holds no certificate"), "{error}");
    }
}
