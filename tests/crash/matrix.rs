//! Each call of each command, disturbed in each way; and what must hold afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::cases::{Case, FIRST_SNAPSHOT};
use super::place::{Place, State};
use super::unsynced::Run;
use crate::tracer::{self, Call, Fault, Traced};

/// The errors of disks, and what people are told of them.
pub const ERRORS: [(i32, &str, &str); 3] = [
    (libc::ENOSPC, "ENOSPC", "No space left on device"),
    (libc::EIO, "EIO", "Input/output error"),
    (libc::EDQUOT, "EDQUOT", "Disk quota exceeded"),
];

/// Where nobody disturbs the command.
const UNDISTURBED: &str = "undisturbed";

/// A fault as it is called in reports and on the command line.
pub fn name_of(fault: Fault) -> String {
    let error = |errno: i32| ERRORS.iter().find(|(known, ..)| *known == errno).map_or("?", |(_, name, _)| name);
    match fault {
        Fault::KillBefore => "kill before".to_owned(),
        Fault::KillAfter => "kill after".to_owned(),
        Fault::Error(errno) => error(errno).to_owned(),
        Fault::ErrorsFrom(errno) => format!("{} from then on", error(errno)),
    }
}

/// Which calls are disturbed, and how.
#[derive(Clone, Copy, Debug)]
pub struct Scope {
    /// Every how many-th call; 1 for all.
    pub stride: usize,
    /// After a kill at every how many-th call, the second run is killed too.
    pub recovery_stride: usize,
    /// At every how many-th of its own calls.
    pub recovery_call_stride: usize,
}

/// What was done and found.
#[derive(Default)]
pub struct Findings {
    /// Runs by case, system call and fault: those that the fault hit.
    runs: BTreeMap<(&'static str, &'static str, String), usize>,
    /// What did not hold.
    pub wrong: Vec<String>,
}

impl Findings {
    /// Adds those of another case.
    pub fn add(&mut self, other: Self) {
        for (key, count) in other.runs {
            *self.runs.entry(key).or_default() += count;
        }
        self.wrong.extend(other.wrong);
    }

    /// How many runs there were.
    pub fn run_count(&self) -> usize {
        self.runs.values().sum()
    }

    /// Runs by case and system call, a column for each fault.
    pub fn table(&self) -> String {
        let faults: BTreeSet<&String> = self.runs.keys().map(|(_, _, fault)| fault).collect();
        let rows: BTreeSet<_> = self.runs.keys().map(|(case, call, _)| (*case, *call)).collect();
        let mut table = format!("{:42}", "");
        table.extend(faults.iter().map(|fault| format!("{fault:>22}")));
        for (case, call) in rows {
            let name = format!("{case}: {call}");
            table += &format!("\n{name:42}");
            for &fault in &faults {
                let count = self.runs.get(&(case, call, fault.clone())).copied().unwrap_or_default();
                table += &format!("{count:>22}");
            }
        }
        table + "\n"
    }

    fn count(&mut self, case: &Case, call: &'static str, fault: &str) {
        *self.runs.entry((case.name, call, fault.to_owned())).or_default() += 1;
    }
}

/// A case with its prepared place.
pub struct Prepared<'a> {
    case: &'a Case,
    arguments: Vec<String>,
    folder: TempDir,
    template: Place,
    /// The states that were acknowledged before the command, and that it is to keep.
    known: BTreeSet<State>,
    /// The states that may stand at the target: those, and what the command makes.
    restorable: BTreeSet<State>,
    /// What is there after a run that nobody disturbed.
    outcome: BTreeSet<String>,
    /// The calls of that run.
    calls: Vec<Call>,
}

/// Prepares a case, and runs it undisturbed.
pub fn prepare(case: &Case) -> Prepared<'_> {
    let folder = room();
    let template = Place::new(folder.path().join("template"));
    (case.prepare)(&template);
    let states = |place: &Place| -> Result<BTreeSet<State>, String> {
        let there = case.made.iter().filter(|repository| place.has(repository));
        there.map(|repository| place.states(repository)).try_fold(BTreeSet::new(), |all, states| Ok(&all | &states?))
    };
    let first = template.first_snapshot("repository").unwrap_or_default();
    let argument = |argument: &&str| argument.replace(FIRST_SNAPSHOT, &first);
    let arguments: Vec<String> = case.arguments.iter().map(argument).collect();
    let place = template.copy(folder.path().join(UNDISTURBED));
    let traced = tracer::run(&mut place.command(&arguments), place.root(), None).unwrap();
    assert_eq!(traced.ended, Ok(0), "{}: {}", case.name, traced.stderr);
    let outcome = place.outcome(case.made).unwrap();
    let restorable = states(&place).unwrap();
    // What the command is to take away need not stay; and what is damaged may not say what it holds.
    let known = states(&template).map_or_else(|_| restorable.clone(), |before| &before & &restorable);
    fs::remove_dir_all(place.root()).unwrap();
    Prepared { case, arguments, folder, template, known, restorable, outcome, calls: traced.calls }
}

/// In memory where that can be had: what is tested does not depend on the disk, and syncing it takes most of the time.
fn room() -> TempDir {
    TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap()
}

impl Prepared<'_> {
    /// Disturbs each call in scope in one way.
    pub fn run(&self, fault: Fault, scope: Scope) -> Findings {
        let mut findings = Findings::default();
        let mut numbers = (1..).step_by(scope.stride);
        while numbers.next().is_some_and(|number| self.disturb(number, fault, scope, &mut findings)) {}
        findings
    }

    /// Disturbs one call; `false` if the run ended before it.
    pub fn disturb(&self, number: usize, fault: Fault, scope: Scope, findings: &mut Findings) -> bool {
        let place = self.fresh("run");
        let traced = tracer::run(&mut place.command(&self.arguments), place.root(), Some((number, fault))).unwrap();
        if !traced.disturbed {
            return false;
        }
        let call = &traced.calls[number - 1];
        findings.count(self.case, call.name, &name_of(fault));
        let describe = |wrong: String| {
            let (fault, path) = (name_of(fault), shown(&call.path, place.root()));
            format!("{}, call {number} ({} {path}), {fault}: {wrong}", self.case.name, call.name)
        };
        let is_kill = matches!(fault, Fault::KillBefore | Fault::KillAfter);
        if is_kill && number.is_multiple_of(scope.recovery_stride) {
            self.disturb_recovery(&place, scope, findings);
        }
        let examined = self.examine(&place, &traced, fault).and_then(|()| self.recover(&place));
        findings.wrong.extend(examined.err().map(describe));
        true
    }

    /// Kills the second run, at each of its calls, in copies of a place in which the first one was killed.
    fn disturb_recovery(&self, after_kill: &Place, scope: Scope, findings: &mut Findings) {
        for number in (1..).step_by(scope.recovery_call_stride) {
            let path = self.folder.path().join("second");
            remove(&path);
            let place = after_kill.copy(path);
            let fault = Some((number, Fault::KillBefore));
            let traced = tracer::run(&mut place.command(&self.arguments), place.root(), fault).unwrap();
            if !traced.disturbed {
                return;
            }
            let call = &traced.calls[number - 1];
            findings.count(self.case, call.name, "kill in recovery");
            let examined = self.examine(&place, &traced, Fault::KillBefore).and_then(|()| self.recover(&place));
            let describe =
                |wrong| format!("{}, call {number} ({}) of the second run: {wrong}", self.case.name, call.name);
            findings.wrong.extend(examined.err().map(describe));
        }
    }

    /// Looks at what a crash of the machine may leave: at most so many states, spread over all of them.
    pub fn crash_machine(&self, most: usize) -> Findings {
        let run = Run::new(self.template.root(), &self.folder.path().join(UNDISTURBED), &self.calls);
        let (states, mut findings) = (run.states(0x5eed), Findings::default());
        for left in states.iter().step_by(states.len().div_ceil(most).max(1)) {
            let path = self.folder.path().join("run");
            remove(&path);
            left.write(&path);
            let place = Place::new(path);
            findings.count(self.case, if left.ended { "(ended)" } else { "(not ended)" }, "machine crash");
            let examined = self.examine_left(&place, left.ended).and_then(|()| self.recover(&place));
            let describe = |wrong: String| {
                format!("{}, machine crash after call {}, {}: {wrong}", self.case.name, left.after, left.what)
            };
            findings.wrong.extend(examined.err().map(describe));
        }
        findings
    }

    /// What must hold after a crash of the machine.
    fn examine_left(&self, place: &Place, ended: bool) -> Result<(), String> {
        self.case.check_target(place, &self.restorable)?;
        for repository in self.case.whole.iter().filter(|repository| place.has(repository)) {
            place.holds(repository, &self.known)?;
        }
        if ended { self.compare_but_partials(place) } else { Ok(()) }
    }

    fn fresh(&self, name: &str) -> Place {
        let path = self.folder.path().join(name);
        remove(&path);
        self.template.copy(path)
    }

    /// What must hold when a run has just been disturbed.
    fn examine(&self, place: &Place, traced: &Traced, fault: Fault) -> Result<(), String> {
        self.examine_end(place, traced, fault)?;
        self.case.check_target(place, &self.restorable)?;
        for repository in self.case.whole.iter().filter(|repository| place.has(repository)) {
            place.holds(repository, &self.known)?;
        }
        if traced.ended == Ok(0) { self.compare_but_partials(place) } else { Ok(()) }
    }

    /// How the command may end, and what it says.
    fn examine_end(
        &self,
        place: &Place,
        Traced { ended, calls, stderr, .. }: &Traced,
        fault: Fault,
    ) -> Result<(), String> {
        let (Fault::Error(errno) | Fault::ErrorsFrom(errno)) = fault else {
            return if *ended == Err(libc::SIGKILL) {
                Ok(())
            } else {
                Err(format!("it ended with {ended:?}: {stderr}"))
            };
        };
        let all = || format!("it ended with {ended:?} and said: {stderr}");
        if stderr.contains("panicked") || !matches!(ended, Ok(0 | 1 | 3)) {
            return Err(all());
        }
        let failed = calls.iter().filter(|call| call.result == -i64::from(errno));
        if *ended == Ok(0) {
            let unforgiven = failed.filter(|call| !(self.case.is_best_effort)(call));
            let unforgiven = unforgiven.map(|call| format!("{} {}", call.name, shown(&call.path, place.root())));
            let unforgiven: Vec<String> = unforgiven.collect();
            return if unforgiven.is_empty() { Ok(()) } else { Err(format!("{} in spite of {unforgiven:?}", all())) };
        }
        let (_, _, cause) = ERRORS.iter().find(|(known, ..)| *known == errno).unwrap();
        let names_it = ["repository", "second", "other", "target", "state"].iter().any(|name| stderr.contains(name));
        if stderr.contains(cause) && names_it {
            Ok(())
        } else {
            Err(format!("{}; the cause or the place is missing", all()))
        }
    }

    /// The next run does what was left to do, and nothing is left over.
    fn recover(&self, place: &Place) -> Result<(), String> {
        place.age_leftovers(self.case.made);
        match (place.run(&self.arguments), self.case.refusal) {
            (Ok(_), _) => {}
            (Err(said), Some(words)) if said.contains(words) => {}
            (Err(said), _) => return Err(format!("the next run failed: {said}")),
        }
        for repository in self.case.made {
            place.holds(repository, &self.known)?;
        }
        self.case.check_target(place, &self.restorable)?;
        self.compare_outcome(place)?;
        let left = place.leftovers_after_writes(self.case.made);
        if !left.is_empty() {
            return Err(format!("{left:?} stay"));
        }
        let Some((question, answer)) = self.case.settled else { return Ok(()) };
        // What the next run found half done, the one after it finds done; and so does the question.
        place.run(&self.arguments)?;
        place.run(question)?;
        let said = place.run(question)?;
        if !said.contains(answer) {
            return Err(format!("{question:?} says {said:?}, and not {answer:?}"));
        }
        let mut folders = self.case.made.iter().flat_map(|repository| repository.split('+'));
        folders.try_for_each(|folder| place.holds(folder, &BTreeSet::new()))
    }

    /// A partial file whose removal failed, or did not last, is removed by the next run.
    fn compare_but_partials(&self, place: &Place) -> Result<(), String> {
        let mut found = place.outcome(self.case.made)?;
        found.retain(|there| !there.contains(".partial "));
        self.compare(&found)
    }

    fn compare_outcome(&self, place: &Place) -> Result<(), String> {
        let found = place.outcome(self.case.made)?;
        self.compare(&found)
    }

    fn compare(&self, found: &BTreeSet<String>) -> Result<(), String> {
        let list = |a: &BTreeSet<String>, b: &BTreeSet<String>| a.difference(b).cloned().collect::<Vec<_>>();
        let (lacking, strange) = (list(&self.outcome, found), list(found, &self.outcome));
        if lacking.is_empty() && strange.is_empty() {
            Ok(())
        } else {
            Err(format!("{lacking:?} missing, {strange:?} strange"))
        }
    }
}

fn remove(path: &PathBuf) {
    if path.exists() {
        fs::remove_dir_all(path).unwrap();
    }
}

fn shown(path: &Path, root: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).display().to_string()
}
