//! Once: what is recorded comes back as it was.

use onceward_core::limits::RESULT_BYTES_MAX;
use onceward_core::once::{Body, Ending, Settle};

use super::Harness;
use super::kit::*;
use crate::ListOnce;

/// Records `ending` under `text` and reads it back by a replay and by a look-up, from another process.
async fn replayed(harness: &dyn Harness, text: &str, ending: Ending) -> Option<Body> {
    let hand = Hand::of(harness).await;
    let row = hand.begin(&once(text)).await;
    assert_eq!(hand.settle(&row, ending).await, Settle::Applied { late: false });
    let second = Hand::second(harness).await;
    let (seen, _) = second.existing(&once(text)).await;
    assert!(seen.body == second.row(text).await.body, "a look-up shows the same");
    seen.body
}

pub async fn o3_every_byte_comes_back(harness: &dyn Harness) {
    let bytes: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
    let texts: [&[u8]; 9] = [
        b"\0",
        b"a\0b\0",
        b"\xff\xfe invalid utf-8 \xc0\x80",
        br#"{"a":1,"a":2,"u":"\u0000\ud800","n":1e400000,"z":-0}"#,
        b"\xef\xbb\xbfwith a mark",
        b"\\x00 \\001 %_'\"",
        " \t\r\n ".as_bytes(),
        "日本語 🦀".as_bytes(),
        &bytes,
    ];
    for (at, text) in texts.into_iter().enumerate() {
        let body = Body::new(text.to_vec(), "application/octet-stream");
        let seen = replayed(harness, &format!("k{at}"), Ending::Done(body.clone())).await;
        assert_eq!(seen, Some(body), "{}", text.escape_ascii());
    }
}

pub async fn o3_an_empty_result_is_a_result(harness: &dyn Harness) {
    let body = Body::new(Vec::new(), "");
    assert_eq!(replayed(harness, "empty", Ending::Done(body.clone())).await, Some(body.clone()));
    let null = Body::new(b"null".to_vec(), "application/json");
    assert_eq!(replayed(harness, "null", Ending::Done(null.clone())).await, Some(null));
    let ending = Ending::Failed { body: Some(body.clone()), reason: "no".to_owned() };
    assert_eq!(replayed(harness, "empty failure", ending).await, Some(body));
}

pub async fn o3_a_failure_without_a_body_has_none(harness: &dyn Harness) {
    let ending = Ending::Failed { body: None, reason: "no".to_owned() };
    assert_eq!(replayed(harness, "failed", ending).await, None);
}

pub async fn o13_the_largest_body_comes_back_byte_for_byte(harness: &dyn Harness) {
    let bytes: Vec<u8> = (0..RESULT_BYTES_MAX).map(|at| (at * 131 % 251) as u8).collect();
    let body = Body::new(bytes, "image/png");
    assert!(body.bytes.is_some());
    let seen = replayed(harness, "large", Ending::Done(body.clone())).await;
    assert!(seen == Some(body), "not the same bytes");
}

pub async fn o13_a_larger_body_is_done_without_its_bytes(harness: &dyn Harness) {
    let size = RESULT_BYTES_MAX as u64 + 1;
    let body = Body::new(vec![1; RESULT_BYTES_MAX + 1], "image/png");
    assert_eq!((&body.bytes, body.size), (&None, size));
    let seen = replayed(harness, "larger", Ending::Done(body.clone())).await;
    assert_eq!(seen, Some(body.clone()));
    let ending = Ending::Failed { body: Some(body.clone()), reason: "no".to_owned() };
    assert_eq!(replayed(harness, "larger failure", ending).await, Some(body));
}

pub async fn o3_the_content_type_comes_back(harness: &dyn Harness) {
    let long = "x".repeat(255);
    let types = ["", "application/json", "text/plain; charset=\"utf-8\"", "it's", "日本語", long.as_str()];
    for (at, content_type) in types.into_iter().enumerate() {
        let body = Body::new(b"x".to_vec(), content_type);
        assert_eq!(replayed(harness, &format!("k{at}"), Ending::Done(body.clone())).await, Some(body));
    }
}

pub async fn a_listing_shows_no_bytes_of_bodies(harness: &dyn Harness) {
    replayed(harness, "done", Ending::Done(Body::new(b"secret".to_vec(), "text/plain"))).await;
    replayed(harness, "failed", Ending::Failed { body: None, reason: "no".to_owned() }).await;
    let hand = Hand::of(harness).await;
    let rows = hand.list_once(&ListOnce { limit: 10, ..ListOnce::default() }).await.rows;
    let bodies: Vec<_> = rows.into_iter().map(|row| row.body).collect();
    let without = Body { bytes: None, content_type: "text/plain".to_owned(), size: 6 };
    assert_eq!(bodies, [Some(without), None]);
}
