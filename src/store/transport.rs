//! HTTP as OpenDAL's services speak it, with a look at what they take on trust.
//!
//! # What holds
//! * An answer that says 200 and carries an error document, or a page for people, is an error. S3 itself answers so when it has begun to answer before it
//!   failed, and what stands in between may. OpenDAL looks at the body only of those requests of which Amazon documents it: elsewhere such a document would be
//!   a creation that succeeded, an object's bytes, or a listing of nothing.
//! * An answer has an end: its bytes are bounded, as OpenDAL holds all of it in memory unless it is an object that is read.
//!
//! No object begins as such a document does: each begins with the letters of its kind (`format-spec/README.md`).

use futures_util::stream::{self, Stream, StreamExt, TryStreamExt};
use http::{Request, Response, StatusCode};
use opendal::{Buffer, Error, ErrorKind, HttpBody, HttpTransport, Result};
use opendal_http_transport_reqwest::ReqwestTransport;

use crate::format::pack::MAX_PACK_BYTES;

/// The longest object, and some more, so that one that is longer is still met by its reader. A page of a listing has less than a tenth of it.
const MOST_BYTES: u64 = MAX_PACK_BYTES + (4 << 20);

/// What a service may say about an error.
const MOST_ERROR_BYTES: u64 = 1 << 20;

/// The root element of a document begins within this.
const PROLOGUE_BYTES: usize = 1 << 10;

const PAGE: &str = "a web page came instead of an answer: something stands between this machine and the service";

/// See the module documentation.
#[derive(Default)]
pub struct Transport(ReqwestTransport);

type Stretch = Box<dyn Stream<Item = Result<Buffer>> + Send + Sync + Unpin>;

impl HttpTransport for Transport {
    async fn fetch(&self, request: Request<Buffer>) -> Result<Response<HttpBody>> {
        let (mut parts, body) = self.0.fetch(request).await?.into_parts();
        let mut rest: Stretch = Box::new(stream::empty());
        let body = body.map_inner(|stream| std::mem::replace(&mut rest, stream));
        let mut begun = Vec::new();
        if parts.status.is_success() {
            match look_at(&mut rest, &mut begun).await? {
                // The service's own word for it is in the document, from which OpenDAL takes it.
                Document::Error => parts.status = StatusCode::INTERNAL_SERVER_ERROR,
                Document::Page => return Err(Error::new(ErrorKind::Unexpected, PAGE).set_temporary()),
                Document::Other => {}
            }
        }
        let limit = if parts.status.is_success() { MOST_BYTES } else { MOST_ERROR_BYTES };
        let whole = stream::iter(begun.into_iter().map(Ok)).chain(rest);
        Ok(Response::from_parts(parts, body.map_inner(|_| Box::new(bounded(whole, limit)))))
    }
}

/// What the body of an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Document {
    /// S3's and Azure's description of an error.
    Error,
    /// A page for people.
    Page,
    /// Anything else, or nothing.
    Other,
}

/// Reads as much as tells what the body is; what was read is added to `begun`.
async fn look_at(rest: &mut Stretch, begun: &mut Vec<Buffer>) -> Result<Document> {
    let mut bytes = Vec::new();
    loop {
        if let Some(document) = recognise(&bytes) {
            return Ok(document);
        }
        if bytes.len() > PROLOGUE_BYTES {
            return Ok(Document::Other);
        }
        let Some(part) = rest.try_next().await? else { return Ok(Document::Other) };
        bytes.extend(part.slice(..part.len().min(PROLOGUE_BYTES)).to_vec());
        begun.push(part);
    }
}

/// What a body is that begins so, by its root element; `None` if more must be read.
fn recognise(begin: &[u8]) -> Option<Document> {
    const ROOTS: [(&[u8], Document); 3] =
        [(b"error", Document::Error), (b"html", Document::Page), (b"!doctype", Document::Page)];
    const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
    if BYTE_ORDER_MARK.starts_with(begin) {
        return None;
    }
    let mut begin = begin.strip_prefix(BYTE_ORDER_MARK).unwrap_or(begin).trim_ascii_start();
    if begin.starts_with(b"<?xml") {
        let end = begin.windows(2).position(|end| end == b"?>")?;
        begin = begin[end + 2..].trim_ascii_start();
    }
    let Some(element) = begin.strip_prefix(b"<") else { return (!begin.is_empty()).then_some(Document::Other) };
    let end = element.iter().position(|byte| b" />\t\r\n".contains(byte));
    let root = element[..end.unwrap_or(element.len())].to_ascii_lowercase();
    match end {
        Some(_) => Some(ROOTS.iter().find(|(name, _)| *name == root).map_or(Document::Other, |(_, found)| *found)),
        None if b"?xml".starts_with(&root) || ROOTS.iter().any(|(name, _)| name.starts_with(&root)) => None,
        None => Some(Document::Other),
    }
}

/// The stream, which fails once it has given more than `limit` bytes.
fn bounded(
    whole: impl Stream<Item = Result<Buffer>> + Send + Sync + Unpin,
    limit: u64,
) -> impl Stream<Item = Result<Buffer>> + Send + Sync + Unpin {
    let mut bytes = 0;
    whole.map(move |part| {
        let part = part?;
        bytes += part.len() as u64;
        let text = || format!("the answer does not end: at most {limit} bytes expected");
        if bytes > limit { Err(Error::new(ErrorKind::Unexpected, text())) } else { Ok(part) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_told_by_their_root_however_they_come() {
        let documents = [
            ("<?xml version=\"1.0\"?>\n<Error><Code>SlowDown</Code></Error>", Document::Error),
            ("\u{feff}<?xml version=\"1.0\"?> <Error xmlns=\"x\">", Document::Error),
            ("<Error/>", Document::Error),
            ("  \u{feff}<Error>", Document::Other),
            ("<Errors><Error/></Errors>", Document::Other),
            ("<?xml version=\"1.0\"?>\n<ListBucketResult><Error/></ListBucketResult>", Document::Other),
            ("<!DOCTYPE html><html>", Document::Page),
            ("\n<HTML lang=\"en\">", Document::Page),
            ("<?xpacket begin?>", Document::Other),
            ("{\"error\": 1}", Document::Other),
        ];
        for (text, expected) in documents {
            let told = (0..=text.len()).find_map(|end| recognise(&text.as_bytes()[..end]));
            assert_eq!((told, recognise(text.as_bytes())), (Some(expected), Some(expected)), "{text}");
        }
        assert_eq!(recognise(b""), None);
    }

    #[test]
    fn what_is_read_to_tell_is_bounded() {
        let mut rest: Stretch = Box::new(stream::repeat_with(|| Ok(Buffer::from(vec![b' '; 100]))));
        let mut begun = Vec::new();
        let told = crate::store::opendal::runtime().block_on(look_at(&mut rest, &mut begun));
        assert!(told.is_ok_and(|told| told == Document::Other) && begun.len() == 11, "{}", begun.len());
    }

    #[test]
    fn a_stream_without_end_fails() {
        let parts = stream::repeat_with(|| Ok(Buffer::from(vec![0; 10])));
        let read = bounded(parts, 95).try_fold(0, |bytes, part| async move { Ok(bytes + part.len()) });
        let ended = crate::store::opendal::runtime().block_on(read);
        assert!(ended.is_err_and(|error| error.message().contains("at most 95 bytes")));
    }
}
