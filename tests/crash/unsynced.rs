//! What a crash of the machine may leave on disk, in the way of ALICE (Pillai et al., OSDI 2014): between a change and the fsync that makes it last, it may be there, lost, or torn,
//! whatever has become of changes before and after it.
//!
//! * Bytes of a file last once the file is synced: `fsync` or `fdatasync` on it, after the write.
//! * A name lasts once its folder is synced; that of a folder, once the folder above is. Nothing is taken for granted that file systems do beyond that: syncing a file does not keep its name, and
//!   the two halves of a rename are two changes.
//! * A write that did not last may be there in part (a beginning, or an end, by sectors of 512 bytes) or as zeros.
//!
//! The changes are those of a run that nobody disturbed ([`crate::tracer`]). All that can be left by a crash at any moment of it would be too much: from each moment come the states in which all that
//! may be lost is lost, in which one change alone is, or alone is not, or is torn; and some at random.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::tracer::Call;

const SECTOR_BYTES: usize = 512;

/// States at random from each moment.
const AT_RANDOM: usize = 3;

/// A file or a folder, whatever its names.
type Node = usize;

const ROOT: Node = 0;

/// A disk.
#[derive(Clone)]
struct Disk {
    /// Contents of files; `None` for folders.
    nodes: Vec<Option<Vec<u8>>>,
    names: BTreeMap<(Node, OsString), Node>,
}

#[derive(Clone, Debug)]
enum Change {
    Write { file: Node, offset: usize, bytes: Vec<u8> },
    Length { file: Node, bytes: usize },
    Name { folder: Node, name: OsString, node: Node },
    Unname { folder: Node, name: OsString },
}

/// A change with its time: numbers of calls, from 1.
struct Timed {
    change: Change,
    made: usize,
    /// When it was made to last, if it was.
    lasting: Option<usize>,
}

/// A run's changes to what was there before.
pub struct Run {
    before: Disk,
    /// After all changes.
    now: Disk,
    changes: Vec<Timed>,
    calls: usize,
}

/// A state that a crash may leave.
pub struct Left {
    disk: Disk,
    /// The crash came after so many calls.
    pub after: usize,
    /// Whether the run had ended.
    pub ended: bool,
    /// What became of what had not been synced.
    pub what: String,
}

impl Run {
    /// The calls that a program made below `root`, where it had found what is in `before`.
    pub fn new(before: &Path, root: &Path, calls: &[Call]) -> Self {
        let before = Disk::load(before);
        let mut run = Self { now: before.clone(), before, changes: Vec::new(), calls: calls.len() };
        for (number, call) in (1..).zip(calls).filter(|(_, call)| call.result >= 0) {
            run.add(number, call, root);
        }
        run
    }

    fn add(&mut self, number: usize, call: &Call, root: &Path) {
        let Ok(path) = call.path.strip_prefix(root) else { return };
        match call.name {
            "fsync" | "fdatasync" => self.sync(number, path),
            "open" | "openat" | "creat" => self.open(number, path, call.word),
            "mkdir" | "mkdirat" => self.make(number, path, None),
            "write" | "pwrite64" | "writev" => {
                let Some(file) = self.now.find(path) else { return };
                let bytes = call.data[..call.result as usize].to_vec();
                self.change(number, Change::Write { file, offset: call.offset as usize, bytes });
            }
            "ftruncate" => {
                let Some(file) = self.now.find(path) else { return };
                self.change(number, Change::Length { file, bytes: call.word as usize });
            }
            "unlink" | "unlinkat" | "rmdir" => self.unname(number, path),
            "rename" | "renameat" | "renameat2" | "link" | "linkat" => {
                let to = call.to.as_deref().and_then(|to| to.strip_prefix(root).ok());
                let (Some(node), Some(to)) = (self.now.find(path), to) else { return };
                let (folder, name) = self.now.place(to).expect("the folder of a new name");
                self.change(number, Change::Name { folder, name, node });
                if call.name.starts_with("rename") {
                    self.unname(number, path);
                }
            }
            // Permissions.
            "fchmod" | "chmod" | "fchmodat" | "utimensat" => {}
            other => panic!("{other} is not modelled"),
        }
    }

    fn open(&mut self, number: usize, path: &Path, flags: u64) {
        match self.now.find(path) {
            None => self.make(number, path, Some(Vec::new())),
            // A file without a name, which is in the folder that is opened.
            Some(node) if self.now.nodes[node].is_none() => {}
            Some(file) if flags & libc::O_TRUNC as u64 != 0 => self.change(number, Change::Length { file, bytes: 0 }),
            Some(_) => {}
        }
    }

    fn make(&mut self, number: usize, path: &Path, content: Option<Vec<u8>>) {
        let (folder, name) = self.now.place(path).expect("the folder of what is made");
        let node = self.now.nodes.len();
        self.before.nodes.push(content.clone());
        self.now.nodes.push(content);
        self.change(number, Change::Name { folder, name, node });
    }

    fn unname(&mut self, number: usize, path: &Path) {
        let (folder, name) = self.now.place(path).expect("the folder of a name that goes");
        self.change(number, Change::Unname { folder, name });
    }

    fn change(&mut self, number: usize, change: Change) {
        self.now.apply(&change);
        self.changes.push(Timed { change, made: number, lasting: None });
    }

    fn sync(&mut self, number: usize, path: &Path) {
        let Some(synced) = self.now.find(path) else { return };
        for timed in self.changes.iter_mut().filter(|timed| timed.lasting.is_none()) {
            let node = match timed.change {
                Change::Write { file, .. } | Change::Length { file, .. } => file,
                Change::Name { folder, .. } | Change::Unname { folder, .. } => folder,
            };
            if node == synced {
                timed.lasting = Some(number);
            }
        }
    }

    /// The states that a crash may leave, each once.
    pub fn states(&self, seed: u64) -> Vec<Left> {
        let (mut states, mut known, mut random) = (Vec::new(), HashSet::new(), seed | 1);
        for after in 0..=self.calls {
            let may_be_lost =
                |timed: &&Timed| timed.made <= after && timed.lasting.is_none_or(|lasting| lasting > after);
            let pending: Vec<&Timed> = self.changes.iter().filter(may_be_lost).collect();
            for (what, fates) in fates(&pending, &mut random) {
                let disk = self.disk(after, &fates);
                if known.insert((after == self.calls, disk.digest())) {
                    states.push(Left { disk, after, ended: after == self.calls, what });
                }
            }
        }
        states
    }

    /// The disk after a crash; `fates` are those of the changes that may be lost, in their order.
    fn disk(&self, after: usize, fates: &[Fate]) -> Disk {
        let (mut disk, mut fates) = (self.before.clone(), fates.iter());
        for Timed { change, made, lasting } in &self.changes {
            if *made > after {
                break;
            }
            let fate = if lasting.is_some_and(|lasting| lasting <= after) { Some(&Fate::There) } else { fates.next() };
            match (fate, change) {
                (Some(Fate::There), change) => disk.apply(change),
                (Some(Fate::Torn(tear)), Change::Write { file, offset, bytes }) => {
                    let (offset, bytes) = tear.of(*offset, bytes);
                    disk.apply(&Change::Write { file: *file, offset, bytes });
                }
                _ => {}
            }
        }
        disk
    }
}

#[derive(Clone, Copy)]
enum Fate {
    There,
    Lost,
    Torn(Tear),
}

#[derive(Clone, Copy, Debug)]
enum Tear {
    Beginning,
    End,
    Zeros,
}

impl Tear {
    /// What is left of a write.
    fn of(self, offset: usize, bytes: &[u8]) -> (usize, Vec<u8>) {
        let middle = if bytes.len() < 2 * SECTOR_BYTES {
            bytes.len() / 2
        } else {
            bytes.len() / 2 / SECTOR_BYTES * SECTOR_BYTES
        };
        match self {
            Self::Beginning => (offset, bytes[..middle].to_vec()),
            Self::End => (offset + middle, bytes[middle..].to_vec()),
            Self::Zeros => (offset, vec![0; bytes.len()]),
        }
    }
}

/// What may become of the changes that may be lost.
fn fates(pending: &[&Timed], random: &mut u64) -> Vec<(String, Vec<Fate>)> {
    let all = |fate: Fate| vec![fate; pending.len()];
    let with = |mut fates: Vec<Fate>, at: usize, fate: Fate| {
        fates[at] = fate;
        fates
    };
    let mut found = vec![("all lost".to_owned(), all(Fate::Lost)), ("all there".to_owned(), all(Fate::There))];
    for (at, Timed { change, made, .. }) in pending.iter().enumerate() {
        let what = match change {
            Change::Write { offset, bytes, .. } => format!("{} bytes at {offset} of call {made}", bytes.len()),
            Change::Length { bytes, .. } => format!("the length {bytes} of call {made}"),
            Change::Name { name, .. } => format!("the name {} of call {made}", name.display()),
            Change::Unname { name, .. } => format!("the removal of the name {} of call {made}", name.display()),
        };
        found.push((format!("{what} lost"), with(all(Fate::There), at, Fate::Lost)));
        found.push((format!("only {what} there"), with(all(Fate::Lost), at, Fate::There)));
        if matches!(change, Change::Write { .. }) {
            for tear in [Tear::Beginning, Tear::End, Tear::Zeros] {
                found.push((format!("{what}: {tear:?}"), with(all(Fate::There), at, Fate::Torn(tear))));
            }
        }
    }
    for _ in 0..AT_RANDOM {
        let fates = pending.iter().map(|_| {
            *random ^= *random << 13;
            *random ^= *random >> 7;
            *random ^= *random << 17;
            if *random & 1 << 20 == 0 { Fate::There } else { Fate::Lost }
        });
        found.push(("some lost".to_owned(), fates.collect()));
    }
    found
}

impl Left {
    /// Makes the state a folder's content.
    pub fn write(&self, folder: &Path) {
        self.disk.write(ROOT, folder, &mut HashMap::new());
    }
}

impl Disk {
    fn load(folder: &Path) -> Self {
        let mut disk = Self { nodes: vec![None], names: BTreeMap::new() };
        disk.load_folder(ROOT, folder);
        disk
    }

    fn load_folder(&mut self, node: Node, folder: &Path) {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let (child, path) = (self.nodes.len(), entry.path());
            self.nodes.push((!path.is_dir()).then(|| fs::read(&path).unwrap()));
            self.names.insert((node, entry.file_name()), child);
            if path.is_dir() {
                self.load_folder(child, &path);
            }
        }
    }

    /// A file that has several names is written once; `written` says where.
    fn write(&self, node: Node, path: &Path, written: &mut HashMap<Node, PathBuf>) {
        match &self.nodes[node] {
            Some(_) if written.contains_key(&node) => fs::hard_link(&written[&node], path).unwrap(),
            Some(content) => {
                written.insert(node, path.to_owned());
                fs::write(path, content).unwrap();
                // What was left by a restore is private; no other file cares.
                fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
            }
            None => {
                fs::create_dir_all(path).unwrap();
                self.children(node).for_each(|(name, child)| self.write(child, &path.join(name), written));
            }
        }
    }

    fn children(&self, folder: Node) -> impl Iterator<Item = (&OsStr, Node)> {
        let from = (folder, OsString::new());
        let names = self.names.range(from..).take_while(move |((parent, _), _)| *parent == folder);
        names.map(|((_, name), node)| (name.as_os_str(), *node))
    }

    /// The same for disks that look the same.
    fn digest(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        self.digest_folder(ROOT, Path::new(""), &mut hasher);
        hasher.finalize()
    }

    fn digest_folder(&self, folder: Node, path: &Path, hasher: &mut blake3::Hasher) {
        for (name, child) in self.children(folder) {
            let path = path.join(name);
            hasher.update(path.as_os_str().as_encoded_bytes());
            match &self.nodes[child] {
                Some(content) => _ = hasher.update(b"\0").update(blake3::hash(content).as_bytes()),
                None => self.digest_folder(child, &path, hasher),
            }
        }
    }

    fn find(&self, path: &Path) -> Option<Node> {
        path.iter().try_fold(ROOT, |folder, name| self.names.get(&(folder, name.to_owned())).copied())
    }

    /// The folder that a path is in, and its name there.
    fn place(&self, path: &Path) -> Option<(Node, OsString)> {
        Some((self.find(path.parent()?)?, path.file_name()?.to_owned()))
    }

    fn apply(&mut self, change: &Change) {
        match change {
            Change::Write { file, offset, bytes } => {
                let content = self.nodes[*file].as_mut().expect("a file is written to");
                content.resize(content.len().max(offset + bytes.len()), 0);
                content[*offset..offset + bytes.len()].copy_from_slice(bytes);
            }
            Change::Length { file, bytes } => {
                self.nodes[*file].as_mut().expect("a file has a length").resize(*bytes, 0);
            }
            Change::Name { folder, name, node } => _ = self.names.insert((*folder, name.clone()), *node),
            Change::Unname { folder, name } => _ = self.names.remove(&(*folder, name.clone())),
        }
    }
}

/// The model's own test: what must be synced for a file to last.
pub fn check_model() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("d")).unwrap();
    let call = |name: &'static str, path: &str, to: Option<&str>, data: &[u8]| Call {
        name,
        path: Path::new("/r").join(path),
        to: to.map(|to| Path::new("/r").join(to)),
        offset: 0,
        data: data.to_vec(),
        word: libc::O_CREAT as u64,
        result: data.len() as i64,
    };
    let publish = |sync_file: bool, sync_folder: bool| {
        let mut calls = vec![call("openat", "d/t", None, b""), call("write", "d/t", None, b"bytes")];
        calls.extend(sync_file.then(|| call("fsync", "d/t", None, b"")));
        calls.push(call("rename", "d/t", Some("d/x"), b""));
        calls.extend(sync_folder.then(|| call("fsync", "d", None, b"")));
        let run = Run::new(folder.path(), Path::new("/r"), &calls);
        let content = |left: &Left| left.disk.find(Path::new("d/x")).map(|node| left.disk.nodes[node].clone().unwrap());
        let ended = run.states(1).into_iter().filter(|left| left.ended);
        ended.map(|left| content(&left)).collect::<BTreeSet<Option<Vec<u8>>>>()
    };
    let whole = || Some(b"bytes".to_vec());
    assert_eq!(publish(true, true), BTreeSet::from([whole()]));
    assert_eq!(publish(true, false), BTreeSet::from([None, whole()]));
    let torn = publish(false, true);
    assert!(
        [Some(Vec::new()), Some(b"by".to_vec()), Some(vec![0; 5])].iter().all(|content| torn.contains(content)),
        "{torn:?}"
    );
    assert!(!torn.contains(&None));
}
