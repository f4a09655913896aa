//! Whoever wants to hear of parcels: a small server that counts them.

use core::convert::Infallible;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use onceward::{Code, Error, Result};
use tokio::net::TcpListener;

/// How many bytes of a request are read.
const BODY_MAX: usize = 4_096;

/// What was heard: how often each webhook came. One that comes twice has the same id.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard(Arc<Mutex<BTreeMap<String, u32>>>);

impl Heard {
    /// How many webhooks, and how many requests.
    pub(super) fn counts(&self) -> (usize, u32) {
        let heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (heard.len(), heard.values().sum())
    }

    async fn take(
        self,
        request: Request<Incoming>,
    ) -> core::result::Result<Response<Full<Bytes>>, Infallible> {
        let id = request.headers().get("webhook-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
        let body = Limited::new(request.into_body(), BODY_MAX).collect().await;
        if let (Some(id), Ok(_)) = (id, body) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(id).or_default() += 1;
        }
        Ok(Response::new(Full::default()))
    }
}

/// Begins to listen; where, and what is heard.
pub(super) async fn listen() -> Result<(String, Heard)> {
    let failed = |error: std::io::Error| {
        Error::new(Code::AuditFailed, "nobody can listen on this machine").with_source(error)
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(failed)?;
    let url = format!("http://{}/", listener.local_addr().map_err(failed)?);
    let heard = Heard::default();
    let ears = heard.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let ears = ears.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| ears.clone().take(request));
                // A client that was killed is no news.
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    Ok((url, heard))
}
