//! Which tests are run with their repository on a server: those that need nothing of it but that the program is told where it is.
//!
//! Left out, and run on a local file system alone, are tests that look at a repository's files, damage them or take them away, those that need
//! no repository, and whole binaries of such tests (`damage`, `frozen`, `reader`, `vectors`, most of `bad_input`). A test that is on these
//! lists and looks at files all the same fails: the harnesses have no folder to give it (`tests/whereabouts/mod.rs`).
//!
//! The other way round, tests that need a server are ignored elsewhere, which their runner says, and run here by [`IGNORED_ELSEWHERE`].

/// Tests of one test binary.
pub struct Suite {
    binary: &'static str,
    /// Parts of names, of which a test must have one; all tests if there are none.
    only: &'static [&'static str],
    /// Parts of names that a test must not have.
    without: &'static [&'static str],
}

/// Tests that need an S3 server and are marked `#[ignore]`.
pub const IGNORED_ELSEWHERE: &[Suite] =
    &[Suite { binary: "faults", only: &[], without: &[] }, Suite { binary: "object_lock", only: &[], without: &[] }];

/// All that can be run on a server.
pub const ALL: &[Suite] = &[
    Suite { binary: "matrix", only: &[], without: &[] },
    LIVE,
    Suite { binary: "capture", only: &[], without: &[] },
    WATCH,
    POINTS,
    COMMANDS,
    RACES,
    QUERY,
    VERIFY,
    MOUNT,
    HOUSEKEEPING,
    // These look into the repository's folder.
    Suite {
        binary: "kill",
        only: &[],
        without: &["an_interrupted_snapshot_leaves_no_entry", "a_killed_upload_is_gone_on_with"],
    },
];

/// Something of everything that is done with a repository, in about a third of the time.
pub const SOME: &[Suite] = &[
    Suite {
        binary: "matrix",
        only: &["pages_of_512_", "pages_of_4096_", "pages_of_65536_", "databases_that_stand_in_the_wal"],
        without: &[],
    },
    Suite {
        binary: "live",
        only: &["transfers_between_accounts", "a_ledger_with_a_short_wal", "a_killed_ledger_with_a_rollback_journal"],
        without: &[],
    },
    Suite {
        binary: "capture",
        only: &["cost::", "exclusive::", "missed::", "histories_with_pages_of_4096"],
        without: &[],
    },
    Suite {
        binary: "watch",
        only: &["a_ledger_with_a_short_wal", "a_watcher_and_an_application_that_are_killed", "files::"],
        without: &[],
    },
    POINTS,
    COMMANDS,
    RACES,
    QUERY,
    VERIFY,
    HOUSEKEEPING,
];

/// A repository on several destinations at once: needs services of two kinds, and kills servers of its own beside them. Ignored wherever else tests are run.
pub const TOGETHER: &[Suite] =
    &[Suite { binary: "destinations", only: &["servers_are_killed_and_come_back"], without: &[] }];

/// One test of `live` has no repository.
const LIVE: Suite = Suite { binary: "live", only: &[], without: &["a_wal_that_is_cut_under_the_pin"] };

/// A server cannot be taken away by renaming a folder, nor its packs damaged by writing to files.
const WATCH: Suite = Suite { binary: "watch", only: &[], without: &["damage::", "destination::"] };

/// One opens the local store itself, to give it a clock.
const POINTS: Suite = Suite { binary: "points", only: &[], without: &["a_clock_that_jumps"] };

const COMMANDS: Suite = Suite {
    binary: "commands",
    only: &[],
    without: &["failures_are_json_too", "the_demo_runs", "completions_versions_and_help"],
};

/// Some open the store themselves, one damages a pack.
const QUERY: Suite = Suite { binary: "query", only: &["program::"], without: &["a_damaged_pack"] };

/// These damage objects.
const VERIFY: Suite =
    Suite { binary: "verify", only: &[], without: &["damage_in_the_repository", "records_cannot_be_altered"] };

/// A server cannot be taken away by renaming a folder, nor its objects damaged by writing to files.
const MOUNT: Suite = Suite { binary: "mount", only: &["content::", "following::", "names::"], without: &[] };

/// Backups, a watcher, forget and prune at once.
const HOUSEKEEPING: Suite = Suite { binary: "together", only: &[], without: &[] };

/// Of those who make a repository in one place at once, one wins: here the server decides.
const RACES: Suite =
    Suite { binary: "bad_input", only: &["of_two_inits_at_once", "snapshots_that_are_not_meant"], without: &[] };

/// The suites as nextest is told.
pub fn nextest_arguments(suites: &[Suite], cargo_profile: &str) -> Vec<String> {
    // The workspace, so that nothing is built again because another set of packages needs other features of what they depend on.
    let mut arguments = ["nextest", "run", "--workspace", "--cargo-profile", cargo_profile].map(str::to_owned).to_vec();
    for suite in suites {
        arguments.extend(["--test".to_owned(), suite.binary.to_owned()]);
    }
    let expressions: Vec<String> = suites.iter().map(Suite::nextest_expression).collect();
    arguments.extend(["-E".to_owned(), expressions.join(" | ")]);
    arguments
}

impl Suite {
    /// See <https://nexte.st/docs/filtersets/reference/>: `test(x)` holds for names that contain x.
    fn nextest_expression(&self) -> String {
        let mut expression = format!("binary(={})", self.binary);
        if !self.only.is_empty() {
            let named: Vec<String> = self.only.iter().map(|part| format!("test({part})")).collect();
            expression = format!("{expression} & ({})", named.join(" | "));
        }
        let refused = self.without.iter().map(|part| format!(" - test({part})"));
        format!("({expression}{})", refused.collect::<String>())
    }

    /// The suite as `cargo test` is told.
    pub fn cargo_test_arguments(&self, cargo_profile: &str) -> Vec<String> {
        let mut arguments = ["test", "--workspace", "--profile", cargo_profile, "--test", self.binary, "--"]
            .map(str::to_owned)
            .to_vec();
        arguments.extend(self.only.iter().map(|&part| part.to_owned()));
        arguments.extend(self.without.iter().flat_map(|&part| ["--skip".to_owned(), part.to_owned()]));
        arguments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_are_told_in_both_ways() {
        let suites = [
            Suite { binary: "a", only: &[], without: &[] },
            Suite { binary: "b", only: &["x::", "y"], without: &["z"] },
            Suite { binary: "c", only: &[], without: &["v", "w"] },
        ];
        let told = nextest_arguments(&suites, "dev");
        assert_eq!(told[..7], ["nextest", "run", "--workspace", "--cargo-profile", "dev", "--test", "a"]);
        let expression =
            "(binary(=a)) | (binary(=b) & (test(x::) | test(y)) - test(z)) | (binary(=c) - test(v) - test(w))";
        assert_eq!(told[11..], ["-E", expression]);
        let told = suites[1].cargo_test_arguments("dev");
        assert_eq!(told, ["test", "--workspace", "--profile", "dev", "--test", "b", "--", "x::", "y", "--skip", "z"]);
    }

    /// One that is not ignored would be run without a server, and one without a test at all proves nothing.
    #[test]
    fn every_test_that_needs_a_server_is_ignored_elsewhere() {
        let root = crate::project::root();
        let files = crate::project::files(&root).unwrap();
        for suite in IGNORED_ELSEWHERE {
            let place = format!("tests/{}", suite.binary);
            let own =
                files.iter().filter(|path| crate::project::lies_in(path, &place) || **path == format!("{place}.rs"));
            let text: String = own.map(|path| std::fs::read_to_string(root.join(path)).unwrap()).collect();
            let count = text.matches("#[test]\n").count();
            assert!(count > 0 && count == text.matches("#[test]\n#[ignore = \"needs ").count(), "{}", suite.binary);
        }
    }

    /// A part of a name that no test has would leave out nothing, or run nothing, without a word.
    #[test]
    fn every_part_of_a_name_is_in_the_tests() {
        let root = crate::project::root();
        let files = crate::project::files(&root).unwrap();
        for suite in ALL.iter().chain(SOME).chain(IGNORED_ELSEWHERE).chain(TOGETHER) {
            let place = format!("tests/{}", suite.binary);
            let own = files.iter().filter(|path| crate::project::lies_in(path, &place) && path.ends_with(".rs"));
            let text: String = own.map(|path| std::fs::read_to_string(root.join(path)).unwrap()).collect();
            for part in suite.only.iter().chain(suite.without) {
                let word =
                    part.strip_suffix("::").map_or_else(|| format!("fn {part}"), |module| format!("mod {module};"));
                assert!(text.contains(&word), "{}: nothing is called {part}", suite.binary);
            }
        }
    }
}
