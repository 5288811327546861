//! A proxy before an HTTP/1.1 server, on loopback, that does to requests what networks, services and middleboxes do to them, as a test says.
//!
//! It takes a connection's requests one after the other, hands each to the server on a connection of its own, and gives the answer back whole. Headers
//! go through as they are: `Host`, which signatures cover, is that of the proxy. [`Rule`]s are asked in order, and the first that holds decides what happens
//! to the request; what became of each is [written down](Proxy::seen).
//!
//! A connection is reset by leaving its last byte unread: to close it then is an abort (RFC 9293, 3.10.4; RFC 2525, 2.17).

#![allow(dead_code, reason = "each test binary uses its part of this")]

mod wire;

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use wire::{Answer, Request};

/// Between two bytes of a slow answer.
const DRIP: Duration = Duration::from_millis(100);

/// A client that was left hanging for so long is let go.
const LONGEST_HANG: Duration = Duration::from_secs(120);

/// Requests that are printed when a test fails.
const MOST_PRINTED: usize = 100;

/// How an answer's length is wrong.
const WRONG_BY: usize = 7;

/// What an endless answer has sent when it ends all the same.
const ENDLESS_BYTES: usize = 4 << 30;

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// 429, come back in a second. Not forwarded, as are all whose answer is made here.
    TooMany,
    /// 500 with an error document.
    Internal,
    /// 503 SlowDown.
    SlowDown,
    /// 403 with these words as the error's code.
    Forbidden(&'static str),
    /// 400 with these words as the error's code.
    BadRequest(&'static str),
    /// Half of the request is taken, then the connection is reset.
    CutRequest,
    /// It is done, but the connection is reset before the answer.
    LostAnswer,
    /// Half of the answer comes, then the connection is reset.
    CutAnswer,
    /// Half of the answer comes, then the connection is closed in good order.
    HalfAnswer,
    /// Nothing comes, ever.
    Hang,
    /// It is done, and the answer comes a byte at a time.
    Drip,
    /// 200, and an error document.
    ErrorBody,
    /// 200, and a page for people.
    Page,
    /// 200, and some words.
    Words,
    /// The answer is shorter than its head says, and the connection is closed.
    TooShort,
    /// The answer is longer than its head says, and the connection goes on.
    TooLong,
    /// 200, and bytes without end.
    Endless,
}

/// When something happens.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The method, or any.
    pub method: &'static str,
    /// A part of the path or query.
    pub part: String,
    /// So many requests that fit are left alone first.
    pub skip: usize,
    /// So many are hit then.
    pub times: usize,
    /// Of those, each with this probability. The choice depends on `seed` and on how many fitted before.
    pub share: f64,
    /// See `share`.
    pub seed: u64,
    /// One of these happens.
    pub faults: Vec<Fault>,
}

impl Rule {
    /// It happens to each request of that method, `""` for any, whose path or query has that part.
    pub fn always(fault: Fault, method: &'static str, part: &str) -> Self {
        Self { method, part: part.to_owned(), skip: 0, times: usize::MAX, share: 1.0, seed: 0, faults: vec![fault] }
    }

    /// … to the first so many.
    pub fn times(self, times: usize) -> Self {
        Self { times, ..self }
    }

    /// … after so many.
    pub fn after(self, skip: usize) -> Self {
        Self { skip, ..self }
    }

    /// One of the faults happens to this share of all requests. No request, to the same path with the same method, is hit twice in a row: whoever asks again is answered.
    pub fn share(share: f64, seed: u64, faults: &[Fault]) -> Self {
        Self { share, seed, faults: faults.to_vec(), ..Self::always(Fault::None, "", "") }
    }
}

/// A request, and what became of it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// As in the request line.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// What was done to it.
    pub fault: Fault,
    /// The server's answer, if it was asked.
    pub status: Option<u16>,
    /// When it came.
    pub at: Instant,
}

/// See the module documentation. It takes no more connections when it is dropped, and prints the last requests if the test fails.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    server: String,
    state: Mutex<State>,
    ended: AtomicBool,
}

#[derive(Default)]
struct State {
    rules: Vec<(Rule, usize)>,
    seen: Vec<Seen>,
}

impl Proxy {
    /// A proxy before the server at `host:port`.
    pub fn new(server: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port on loopback");
        let address = listener.local_addr().expect("an address");
        let shared =
            Arc::new(Shared { server: server.to_owned(), state: Mutex::default(), ended: AtomicBool::new(false) });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming() {
                if accepting.ended.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(client), shared) = (client, Arc::clone(&accepting)) else { continue };
                // A client that breaks off is what these tests are about.
                thread::spawn(move || _ = shared.serve(client));
            }
        });
        Self { address, shared }
    }

    /// Where it listens: `host:port`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// From now on, these rules hold.
    pub fn set_rules(&self, rules: impl IntoIterator<Item = Rule>) {
        self.shared.state().rules = rules.into_iter().map(|rule| (rule, 0)).collect();
    }

    /// All requests until now, in order of arrival.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.state().seen.clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
        if thread::panicking() {
            let seen = self.seen();
            for Seen { method, target, fault, status, at } in &seen[seen.len().saturating_sub(MOST_PRINTED)..] {
                println!("{:.3} s ago: {method} {target}: {fault:?}, {status:?}", at.elapsed().as_secs_f64());
            }
        }
    }
}

impl Rule {
    /// What happens to a request, if the rule holds for it. `fitted` counts those for which it might.
    fn choose(&self, request: &Request, fitted: &mut usize, was_hit: bool) -> Option<Fault> {
        if (!self.method.is_empty() && self.method != request.method) || !request.target.contains(&self.part) {
            return None;
        }
        let number = *fitted;
        *fitted += 1;
        if number < self.skip || number - self.skip >= self.times {
            return None;
        }
        let random = mix(self.seed ^ mix(number as u64));
        if self.share < 1.0 && (was_hit || (random >> 11) as f64 / (1_u64 << 53) as f64 >= self.share) {
            return None;
        }
        Some(self.faults[mix(random) as usize % self.faults.len()])
    }
}

/// SplitMix64's next number (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", 2014).
fn mix(state: u64) -> u64 {
    let mut word = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread of the proxy panics")
    }

    fn serve(&self, mut client: TcpStream) -> io::Result<()> {
        client.set_read_timeout(Some(LONGEST_HANG))?;
        client.set_nodelay(true)?;
        while let Some(request) = Request::begin(&mut client)? {
            let (fault, at) = self.choose(&request);
            if !self.handle(&mut client, &request, fault, at)? || self.ended.load(Ordering::SeqCst) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// What happens to a request, and where it is written down.
    fn choose(&self, request: &Request) -> (Fault, usize) {
        let mut state = self.state();
        let State { rules, seen } = &mut *state;
        let path = |target: &str| target.split('?').next().map(str::to_owned);
        let is_same = |seen: &&Seen| seen.method == request.method && path(&seen.target) == path(&request.target);
        let was_hit = seen.iter().rev().find(is_same).is_some_and(|seen| seen.fault != Fault::None);
        let fault = rules.iter_mut().find_map(|(rule, fitted)| rule.choose(request, fitted, was_hit));
        let fault = fault.unwrap_or(Fault::None);
        let (method, target) = (request.method.clone(), request.target.clone());
        seen.push(Seen { method, target, fault, status: None, at: Instant::now() });
        (fault, seen.len() - 1)
    }

    /// Whether the connection goes on.
    fn handle(&self, client: &mut TcpStream, request: &Request, fault: Fault, at: usize) -> io::Result<bool> {
        match fault {
            Fault::CutRequest => {
                client.read_exact(&mut vec![0; request.body_bytes / 2])?;
                return Ok(false);
            }
            Fault::LostAnswer | Fault::CutAnswer => {
                let body = request.take_all_but_a_byte(client)?;
                let answer = self.forward(request, &body, at)?;
                if fault == Fault::CutAnswer {
                    client.write_all(half(&answer.to_bytes(answer.body.len()), answer.body.len()))?;
                    // Let what was sent arrive before it is taken back.
                    thread::sleep(DRIP);
                }
                return Ok(false);
            }
            _ => {}
        }
        let body = request.take_body(client)?;
        match fault {
            // Until the client goes.
            Fault::Hang => return client.read(&mut [0]).map(|_| false),
            Fault::Endless => return endless(client).map(|()| false),
            _ => {}
        }
        let answer = match made(fault) {
            Some(answer) => answer,
            None => self.forward(request, &body, at)?,
        };
        give(client, &answer, fault)
    }

    fn forward(&self, request: &Request, body: &[u8], at: usize) -> io::Result<Answer> {
        let answer = request.ask(&self.server, body)?;
        self.state().seen[at].status = Some(answer.status);
        Ok(answer)
    }
}

/// Whether the connection goes on after it.
fn give(client: &mut TcpStream, answer: &Answer, fault: Fault) -> io::Result<bool> {
    let length = answer.body.len();
    match fault {
        Fault::HalfAnswer => client.write_all(half(&answer.to_bytes(length), length)).map(|()| false),
        Fault::TooShort => client.write_all(&answer.to_bytes(length + WRONG_BY)).map(|()| false),
        Fault::TooLong => client.write_all(&answer.to_bytes(length.saturating_sub(WRONG_BY))).map(|()| true),
        Fault::Drip => {
            for byte in answer.to_bytes(length) {
                client.write_all(&[byte])?;
                thread::sleep(DRIP);
            }
            Ok(true)
        }
        _ => client.write_all(&answer.to_bytes(length)).map(|()| true),
    }
}

/// An answer that ends in the middle of its body, or of its head if there is none.
fn half(bytes: &[u8], body_bytes: usize) -> &[u8] {
    if body_bytes == 0 { &bytes[..bytes.len() / 2] } else { &bytes[..bytes.len() - body_bytes.div_ceil(2)] }
}

fn endless(client: &mut TcpStream) -> io::Result<()> {
    client.write_all(b"HTTP/1.1 200 OK\r\nETag: \"0\"\r\nContent-Length: 1099511627776\r\n\r\n")?;
    let some = vec![b'x'; 1 << 20];
    (0..ENDLESS_BYTES / some.len()).try_for_each(|_| client.write_all(&some))
}

/// The answer that is made here, without asking the server.
fn made(fault: Fault) -> Option<Answer> {
    const XML: &str = "Content-Type: application/xml";
    const EXPIRED: &str = "The provided token has expired.";
    const SLOWER: &str = "Please reduce your request rate.";
    const PAGE: &str = "<!DOCTYPE html><html><body><p>Log in to use the network.</p></body></html>";
    const SORRY: &str = "We encountered an internal error. Please try again.";
    Some(match fault {
        Fault::TooMany => Answer::new(429, "Retry-After: 1", ""),
        Fault::Internal => Answer::new(500, XML, &document("InternalError", SORRY)),
        Fault::SlowDown => Answer::new(503, XML, &document("SlowDown", SLOWER)),
        Fault::Forbidden(code) => Answer::new(403, XML, &document(code, EXPIRED)),
        Fault::BadRequest(code) => Answer::new(400, XML, &document(code, EXPIRED)),
        Fault::ErrorBody => Answer::new(200, XML, &document("InternalError", SORRY)),
        Fault::Page => Answer::new(200, "Content-Type: text/html", PAGE),
        Fault::Words => Answer::new(200, "Content-Type: text/plain", "Accepted"),
        _ => return None,
    })
}

/// As S3 says what is wrong.
fn document(code: &str, message: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message>\
         <RequestId>4442587FB7D0A2F9</RequestId></Error>"
    )
}
