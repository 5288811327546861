//! HTTP/1.1 as far as the proxy must read it (RFC 9112).

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

/// Heads of requests are shorter.
const MOST_HEAD_BYTES: usize = 64 << 10;

const EMPTY_LINE: &[u8] = b"\r\n\r\n";

/// A request whose head has come. Its last byte is still to be taken from the connection.
pub struct Request {
    /// As it came, with the empty line.
    head: Vec<u8>,
    pub method: String,
    /// Path and query.
    pub target: String,
    pub body_bytes: usize,
}

impl Request {
    /// The next request of a connection, if there is one.
    pub fn begin(client: &mut TcpStream) -> io::Result<Option<Self>> {
        let mut buffer = vec![0; MOST_HEAD_BYTES];
        let end = loop {
            let there = client.peek(&mut buffer)?;
            if there == 0 {
                return Ok(None);
            }
            if let Some(at) = find(&buffer[..there], EMPTY_LINE) {
                break at + EMPTY_LINE.len();
            }
            if there == buffer.len() {
                return Err(io::Error::other("a head too long"));
            }
            // A head seldom comes in two parts.
            thread::sleep(Duration::from_millis(1));
        };
        let head = buffer[..end].to_vec();
        let text = String::from_utf8_lossy(&head).into_owned();
        let mut words = text.split(' ').map(str::to_owned);
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let body_bytes = header(&text, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        client.read_exact(&mut buffer[..end - usize::from(body_bytes == 0)])?;
        Ok(Some(Self { head, method, target, body_bytes }))
    }

    /// The body, taken from the connection.
    pub fn take_body(&self, client: &mut TcpStream) -> io::Result<Vec<u8>> {
        let mut body = vec![0; self.body_bytes.max(1)];
        client.read_exact(&mut body)?;
        body.truncate(self.body_bytes);
        Ok(body)
    }

    /// The body; its last byte, or the head's, stays in the connection, which will be reset when it is closed.
    pub fn take_all_but_a_byte(&self, client: &mut TcpStream) -> io::Result<Vec<u8>> {
        let mut body = vec![0; self.body_bytes.max(1)];
        let last = body.len() - 1;
        client.read_exact(&mut body[..last])?;
        if client.peek(&mut body[last..])? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        body.truncate(self.body_bytes);
        Ok(body)
    }

    /// Hands it to the server.
    pub fn ask(&self, server: &str, body: &[u8]) -> io::Result<Answer> {
        let mut server = TcpStream::connect(server)?;
        server.set_nodelay(true)?;
        let (headers, empty_line) = self.head.split_at(self.head.len() - 2);
        server.write_all(&[headers, b"Connection: close\r\n", empty_line, body].concat())?;
        let mut bytes = Vec::new();
        server.read_to_end(&mut bytes)?;
        Answer::parse(&bytes, self.method == "HEAD").ok_or_else(|| io::Error::other("no HTTP answer"))
    }
}

/// An answer, with its body in one piece.
pub struct Answer {
    pub status: u16,
    /// Status line and headers, but for those that frame the body.
    head: Vec<String>,
    pub body: Vec<u8>,
    /// The length that the head gives of a body that does not come, in an answer to HEAD.
    described: Option<String>,
}

impl Answer {
    /// An answer of our own.
    pub fn new(status: u16, header: &str, body: &str) -> Self {
        let head = vec![format!("HTTP/1.1 {status} From the proxy"), header.to_owned()];
        Self { status, head, body: body.as_bytes().to_vec(), described: None }
    }

    fn parse(bytes: &[u8], is_of_head: bool) -> Option<Self> {
        let end = find(bytes, EMPTY_LINE)?;
        let (text, body) = (String::from_utf8_lossy(&bytes[..end]).into_owned(), &bytes[end + EMPTY_LINE.len()..]);
        let status = text.split(' ').nth(1)?.parse().ok()?;
        let is_chunked = header(&text, "transfer-encoding").is_some_and(|coding| coding == "chunked");
        let body = if is_chunked { join_chunks(body)? } else { body.to_vec() };
        let described = header(&text, "content-length").filter(|_| is_of_head).map(str::to_owned);
        let framing = ["content-length", "transfer-encoding", "connection"];
        let frames =
            |line: &str| line.split_once(':').is_some_and(|(name, _)| framing.contains(&&*name.to_lowercase()));
        let head = text.split("\r\n").filter(|line| !frames(line)).map(str::to_owned).collect();
        Some(Self { status, head, body, described })
    }

    /// As it is sent, with a head that says that the body has so many bytes.
    pub fn to_bytes(&self, body_bytes: usize) -> Vec<u8> {
        let mut head = self.head.join("\r\n");
        // There is none to speak of.
        if self.status != 204 && self.status != 304 {
            let length = self.described.clone().unwrap_or_else(|| body_bytes.to_string());
            head = format!("{head}\r\nContent-Length: {length}");
        }
        [head.as_bytes(), EMPTY_LINE, &self.body].concat()
    }
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let fields = head.split("\r\n").filter_map(|line| line.split_once(':'));
    fields.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
}

fn join_chunks(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = find(bytes, b"\r\n")?;
        let length = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).ok()?.trim(), 16).ok()?;
        if length == 0 {
            return Some(body);
        }
        body.extend(bytes.get(end + 2..end + 2 + length)?);
        bytes = bytes.get(end + 2 + length + 2..)?;
    }
}
