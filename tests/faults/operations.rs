//! Single operations of the store, under each fault: how long they take, what they give, and in which words they fail.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use continuum::base::error_text::with_causes;
use continuum::base::id::ObjectHash;
use continuum::format::name::{Folder, ObjectName};
use continuum::store::{Creation, Store, StoreError};

use crate::proxy::{Fault, Rule};
use crate::server::{PASSING, Server};

/// Of a request.
const TIMEOUT: Duration = Duration::from_secs(1);
/// No attempt begins later.
const RETRY: Duration = Duration::from_secs(1);
/// An attempt is two requests at most: one to do it, one to find out what is there.
const LONGEST: Duration = Duration::from_secs(3);
/// The machine may be busy.
const MARGIN: Duration = Duration::from_secs(4);

/// All that has a word of its own.
const ALL: [Fault; 18] = [
    Fault::TooMany,
    Fault::Internal,
    Fault::SlowDown,
    Fault::Forbidden("ExpiredToken"),
    Fault::BadRequest("ExpiredToken"),
    Fault::BadRequest("BadDigest"),
    Fault::CutRequest,
    Fault::LostAnswer,
    Fault::CutAnswer,
    Fault::HalfAnswer,
    Fault::Hang,
    Fault::Drip,
    Fault::ErrorBody,
    Fault::Page,
    Fault::Words,
    Fault::TooShort,
    Fault::TooLong,
    Fault::Endless,
];

const OPERATIONS: [Operation; 5] =
    [Operation::Create, Operation::Read, Operation::ReadRange, Operation::List, Operation::Delete];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Create,
    Read,
    ReadRange,
    List,
    Delete,
}

/// How an operation ended.
#[derive(Debug)]
enum Ended {
    /// It did what it should and gave the right bytes.
    Right,
    /// It says that it is done, and gives other bytes than there are.
    Wrong,
    Failed(StoreError),
}

#[test]
#[ignore = "needs an S3 server: cargo xtask test --only s3"]
fn what_lasts_ends_in_time_with_a_clear_error() {
    in_parallel(&ALL, |fault| {
        let place = Place::new(RETRY);
        for operation in OPERATIONS {
            let (ended, took) = place.run(operation, Rule::always(fault, "", ""));
            println!("{fault:?} {operation:?}: {took:?} {}", describe(&ended));
            assert!(took < LONGEST + MARGIN, "{fault:?} {operation:?} took {took:?}: {}", describe(&ended));
            check_lasting(fault, operation, &ended);
            if is_refusal(fault) {
                assert!(took < MARGIN, "{fault:?} {operation:?}: a refusal was waited for: {took:?}");
            }
        }
    });
}

/// How an operation ends that meets the same fault again and again.
#[track_caller]
fn check_lasting(fault: Fault, operation: Operation, ended: &Ended) {
    let words: &[&str] = match (fault, operation) {
        // There is nothing in the answer that could be shorter, or nothing is asked of what there is.
        (Fault::TooLong | Fault::TooShort, Operation::Delete) | (Fault::TooLong, Operation::Create) => {
            return assert!(matches!(ended, Ended::Right), "{fault:?} {operation:?}: {ended:?}");
        }
        // Nobody who does not know how long the object is can see it. Those who read whole objects check their hash or seal.
        (Fault::TooLong, Operation::Read) => return assert!(matches!(ended, Ended::Wrong), "{ended:?}"),
        (Fault::TooMany, _) => &["429"],
        (Fault::Internal | Fault::ErrorBody, _) => &["InternalError: We encountered an internal error"],
        (Fault::SlowDown, _) => &["SlowDown: Please reduce your request rate"],
        (Fault::Forbidden(code) | Fault::BadRequest(code), _) => &[code],
        (Fault::CutRequest | Fault::LostAnswer, _) => &["connection"],
        (Fault::CutAnswer | Fault::HalfAnswer | Fault::TooShort, _) => &["connection", "end of file"],
        (Fault::Hang | Fault::Drip, _) => &["no answer within 1 s"],
        (Fault::Page, _) => &["a web page came instead of an answer"],
        (Fault::Words, Operation::List) => &["deserialize xml"],
        (Fault::Words, Operation::Delete) => &["Accepted"],
        (Fault::Words, _) => &["no ETag"],
        (Fault::TooLong, _) => &["too little data", "deserialize xml"],
        // Or the time is up first.
        (Fault::Endless, _) => &["expected", "no answer within"],
        (Fault::None, _) => unreachable!("nothing goes wrong"),
    };
    let Ended::Failed(error) = ended else { panic!("{fault:?} {operation:?}: {ended:?}") };
    let text = with_causes(error);
    assert!(words.iter().any(|word| text.contains(word)), "{fault:?} {operation:?}: {words:?} expected in {text:?}");
    assert!(!text.contains('{') && !text.contains("\n"), "{fault:?} {operation:?}: not for a person: {text}");
    // An object too long is no matter of time.
    let is_final = is_refusal(fault) || (fault == Fault::Endless && operation == Operation::Read);
    assert_eq!(matches!(error, StoreError::GaveUp { .. }), !is_final, "{fault:?} {operation:?}: {error:?}");
}

/// What asking again does not help.
fn is_refusal(fault: Fault) -> bool {
    matches!(fault, Fault::Forbidden(_) | Fault::BadRequest("ExpiredToken"))
}

#[test]
#[ignore = "needs an S3 server: cargo xtask test --only s3"]
fn what_passes_ends_well() {
    in_parallel(&PASSING, |fault| {
        let place = Place::new(RETRY * 10);
        for operation in OPERATIONS {
            let (ended, took) = place.run(operation, Rule::always(fault, "", "").times(2));
            let is_right = match (fault, operation) {
                (Fault::TooLong, Operation::Read) => matches!(ended, Ended::Wrong),
                _ => matches!(ended, Ended::Right),
            };
            assert!(is_right, "{fault:?} {operation:?}: {}", describe(&ended));
            assert!(took < LONGEST * 2 + MARGIN, "{fault:?} {operation:?} took {took:?}");
        }
        place.assert_everything_is_there_once();
    });
}

/// Does it for each fault at the same time: mostly, nothing happens.
fn in_parallel(faults: &[Fault], check: impl Fn(Fault) + Sync) {
    thread::scope(|scope| {
        for &fault in faults {
            let check = &check;
            scope.spawn(move || check(fault));
        }
    });
}

fn describe(ended: &Ended) -> String {
    match ended {
        Ended::Failed(error) => with_causes(error),
        ended => format!("{ended:?}"),
    }
}

/// Some objects on the server.
struct Place {
    server: Server,
    store: Arc<dyn Store>,
    kept: Vec<(ObjectName, Vec<u8>)>,
    created: (ObjectName, Vec<u8>),
    deleted: ObjectName,
}

impl Place {
    fn new(retry: Duration) -> Self {
        let server = Server::new();
        let store = server.store(TIMEOUT, retry);
        let name = |number| ObjectName::index(ObjectHash([number; 32]));
        let bytes = |number| blake3::hash(&[number]).as_bytes().repeat(50);
        let kept: Vec<_> = (1..=5).map(|number| (name(number), bytes(number))).collect();
        let calm = server.store(Duration::from_secs(30), Duration::from_secs(30));
        for (name, bytes) in &kept {
            assert_eq!(calm.create(name, bytes).expect("the server answers"), Creation::New);
        }
        assert_eq!(calm.create(&name(6), b"soon gone").expect("the server answers"), Creation::New);
        Self { server, store, kept, created: (name(9), bytes(9)), deleted: name(6) }
    }

    fn run(&self, operation: Operation, rule: Rule) -> (Ended, Duration) {
        self.server.proxy.set_rules([rule]);
        let begun = Instant::now();
        let ended = self.attempt(operation);
        let took = begun.elapsed();
        self.server.proxy.set_rules([]);
        (ended, took)
    }

    fn attempt(&self, operation: Operation) -> Ended {
        let (name, bytes) = &self.kept[2];
        match operation {
            Operation::Create => {
                ended(self.store.create(&self.created.0, &self.created.1), |created| created == Creation::New)
            }
            // As one who does not know how long it is.
            Operation::Read => ended(self.store.read(name, 16 << 20), |read| read == *bytes),
            Operation::ReadRange => ended(self.store.read_range(name, 100..1500), |read| read == bytes[100..1500]),
            Operation::List => ended(self.store.list(Folder::Index), |listed| {
                self.kept.iter().all(|(name, bytes)| {
                    listed.iter().any(|listed| listed.name == *name && listed.bytes == bytes.len() as u64)
                })
            }),
            Operation::Delete => ended(self.store.delete(&self.deleted), |()| true),
        }
    }

    fn assert_everything_is_there_once(&self) {
        let listed = self.store.list(Folder::Index).expect("the server answers");
        let mut expected: Vec<&ObjectName> = self.kept.iter().map(|(name, _)| name).collect();
        expected.push(&self.created.0);
        assert_eq!(listed.iter().map(|listed| &listed.name).collect::<Vec<_>>(), expected);
        for (name, bytes) in self.kept.iter().chain([&self.created]) {
            assert!(self.store.read(name, 10_000).is_ok_and(|read| read == *bytes), "{name}");
        }
    }
}

fn ended<T>(result: Result<T, StoreError>, is_right: impl Fn(T) -> bool) -> Ended {
    match result {
        Ok(done) => {
            if is_right(done) {
                Ended::Right
            } else {
                Ended::Wrong
            }
        }
        Err(error) => Ended::Failed(error),
    }
}
