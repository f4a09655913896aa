//! Bodies: reading them up to a bound, and passing on what was read together with what was not.

use core::pin::Pin;
use core::task::{Context, Poll};
use std::error::Error as StdError;

use ::http::HeaderMap;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};

pub(super) type BoxError = Box<dyn StdError + Send + Sync>;

/// The body of every response that comes out of the layer.
pub type ResponseBody = UnsyncBoxBody<Bytes, BoxError>;

/// A body of these bytes.
pub(super) fn full(bytes: impl Into<Bytes>) -> ResponseBody {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// The service's own body, as it is.
pub(super) fn untouched<B>(body: B) -> ResponseBody
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    body.map_err(Into::into).boxed_unsync()
}

/// Why a request's body was not read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unread {
    TooLarge,
    BrokenOff,
}

/// Reads the body of a request. One that says that it is too large is refused before anything of it is read.
pub(super) async fn read_request<B>(body: B, bytes_max: usize) -> Result<Bytes, Unread>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(Unread::TooLarge);
    }
    match Limited::new(body, bytes_max).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if is_limit(&*error) => Err(Unread::TooLarge),
        Err(_) => Err(Unread::BrokenOff),
    }
}

/// Whether a limit was met: ours, or a smaller one that somebody else has put around the body.
fn is_limit(error: &(dyn StdError + Send + Sync + 'static)) -> bool {
    let mut error: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(it) = error {
        if it.is::<LengthLimitError>() {
            return true;
        }
        error = it.source();
    }
    false
}

/// What was read of a response's body, and how the reading ended.
pub(super) struct Read {
    pub(super) start: Bytes,
    pub(super) rest: Rest,
}

/// What comes after the bytes that were read.
pub(super) enum Rest {
    /// Nothing: they are the whole body.
    Nothing,
    /// Trailers.
    Trailers(HeaderMap),
    /// The body broke off.
    Broken(BoxError),
    /// More than was asked for.
    More(ResponseBody),
}

/// Reads the body of a response, unless it is (or says that it is) larger than `bytes_max`.
pub(super) async fn read_response(mut body: ResponseBody, bytes_max: usize) -> Read {
    let mut start = Vec::new();
    let rest = loop {
        if start.len() as u64 + body.size_hint().lower() > bytes_max as u64 {
            break Rest::More(body);
        }
        match body.frame().await {
            None => break Rest::Nothing,
            Some(Err(error)) => break Rest::Broken(error),
            Some(Ok(frame)) => match frame.into_data().map_err(Frame::into_trailers) {
                Ok(data) => start.extend_from_slice(&data),
                Err(Ok(trailers)) => break Rest::Trailers(trailers),
                Err(Err(_)) => {} // a kind of frame that is not known yet, and says nothing about the content
            },
        }
    };
    Read { start: start.into(), rest }
}

impl Read {
    /// How many bytes the body has at least; exactly so many if its end was seen or its size was said.
    pub(super) fn size(&self) -> u64 {
        let more = if let Rest::More(body) = &self.rest { body.size_hint().lower() } else { 0 };
        self.start.len() as u64 + more
    }

    /// The body again: what was read, then the rest.
    pub(super) fn resume(self) -> ResponseBody {
        self.boxed_unsync()
    }
}

impl Body for Read {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if !self.start.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(core::mem::take(&mut self.start)))));
        }
        if let Rest::More(body) = &mut self.rest {
            return Pin::new(body).poll_frame(context);
        }
        Poll::Ready(match core::mem::replace(&mut self.rest, Rest::Nothing) {
            Rest::Trailers(trailers) => Some(Ok(Frame::trailers(trailers))),
            Rest::Broken(error) => Some(Err(error)),
            Rest::Nothing | Rest::More(_) => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        let ended = match &self.rest {
            Rest::Nothing => true,
            Rest::More(body) => body.is_end_stream(),
            Rest::Trailers(_) | Rest::Broken(_) => false,
        };
        self.start.is_empty() && ended
    }

    fn size_hint(&self) -> SizeHint {
        let start = self.start.len() as u64;
        let mut hint = match &self.rest {
            Rest::Nothing => return SizeHint::with_exact(start),
            Rest::More(body) => body.size_hint(),
            // Without an exact size the body goes out in chunks, which is what trailers need.
            Rest::Trailers(_) | Rest::Broken(_) => SizeHint::new(),
        };
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(start));
        }
        hint.set_lower(hint.lower().saturating_add(start));
        hint
    }
}

#[cfg(test)]
mod tests {
    use ::http::HeaderValue;
    use futures_util::stream;
    use http_body_util::StreamBody;

    use super::*;

    type Frames = Vec<Result<Frame<Bytes>, BoxError>>;

    fn streamed(frames: Frames) -> ResponseBody {
        untouched(StreamBody::new(stream::iter(frames)))
    }

    fn data(text: &'static str) -> Result<Frame<Bytes>, BoxError> {
        Ok(Frame::data(Bytes::from_static(text.as_bytes())))
    }

    #[tokio::test]
    async fn a_request_is_read_up_to_the_bound_whether_or_not_it_says_its_size() {
        let known = |text: &'static str| Full::new(Bytes::from_static(text.as_bytes()));
        assert_eq!(read_request(known("12345"), 5).await.unwrap(), "12345");
        assert_eq!(read_request(known("123456"), 5).await.unwrap_err(), Unread::TooLarge);
        let chunked = || streamed(vec![data("123"), data("456")]);
        assert_eq!(read_request(chunked(), 6).await.unwrap(), "123456");
        assert_eq!(read_request(chunked(), 5).await.unwrap_err(), Unread::TooLarge);
        let broken = streamed(vec![data("123"), Err("cable cut".into())]);
        assert_eq!(read_request(broken, 5).await.unwrap_err(), Unread::BrokenOff);
        let limited = Limited::new(known("12345"), 4);
        assert_eq!(read_request(limited, 5).await.unwrap_err(), Unread::TooLarge, "another's limit");
    }

    #[tokio::test]
    async fn a_resumed_body_is_what_it_was() {
        let trailers = HeaderMap::from_iter([(IDEMPOTENT, HeaderValue::from_static("yes"))]);
        let frames = vec![data("ab"), data("cd"), Ok(Frame::trailers(trailers.clone()))];
        let read = read_response(streamed(frames), 4).await;
        assert!(matches!(&read.rest, Rest::Trailers(seen) if *seen == trailers) && read.start == "abcd");
        assert_eq!((read.size(), read.size_hint().exact()), (4, None));
        let again = read.resume().collect().await.unwrap();
        assert_eq!(again.trailers(), Some(&trailers));
        assert_eq!(again.to_bytes(), "abcd");

        let read = read_response(streamed(vec![data("ab"), data("cd"), data("ef")]), 3).await;
        assert!(matches!(&read.rest, Rest::More(_)) && read.size() == 4);
        assert_eq!(read.resume().collect().await.unwrap().to_bytes(), "abcdef");

        let read = read_response(streamed(vec![data("ab"), Err("cable cut".into())]), 3).await;
        assert!(matches!(&read.rest, Rest::Broken(_)) && !read.is_end_stream());
        assert_eq!(read.resume().collect().await.unwrap_err().to_string(), "cable cut");
    }

    #[tokio::test]
    async fn a_body_that_says_it_is_too_large_is_not_read_at_all() {
        let read = read_response(full("123456"), 5).await;
        assert!(read.start.is_empty() && read.size() == 6);
        assert_eq!(read.size_hint().exact(), Some(6));
        let whole = read_response(full("12345"), 5).await;
        assert!(matches!(whole.rest, Rest::Nothing));
        assert_eq!(whole.size_hint().exact(), Some(5));
        assert!(read_response(full(""), 5).await.is_end_stream());
    }

    const IDEMPOTENT: ::http::HeaderName = ::http::HeaderName::from_static("x-is-idempotent");
}
