//! The fuzz targets (`fuzz/src/targets/mod.rs`) on their seeds and on mutations of these, with the stable toolchain and in seconds. `cargo xtask fuzz` looks further.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

#[path = "../fuzz/src/targets/mod.rs"]
mod targets;

#[path = "fuzz_corpus/seeds.rs"]
mod seeds;

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::PathBuf;

use continuum::base::id::to_hex;
use targets::TARGETS;

/// Mutations of each target's seeds, unless told otherwise.
const MUTATIONS: u64 = 1500;

/// Tells otherwise: so many, and the generator's seed with them.
const MUTATIONS_VARIABLE: &str = "CONTINUUM_FUZZ_MUTATIONS";

/// Numbers that decoders get wrong.
const INTERESTING: [u8; 10] = [0x00, 0x01, 0x7f, 0x80, 0xff, 0x1b, 0x3b, 0x5b, 0x9f, 0xfe];

fn folder(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target)
}

/// The seeds of a target, in the order of their names.
fn kept(target: &str) -> Vec<Vec<u8>> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder(target)).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// A generator of numbers (xorshift64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound.max(1)
    }
}

/// One to four changes of a seed: bits, bytes, numbers, cuts, repetitions, parts of another seed.
fn mutation(seeds: &[Vec<u8>], numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = seeds[numbers.below(seeds.len())].clone();
    for _ in 0..=numbers.below(4) {
        let at = numbers.below(bytes.len() + 1);
        let end = (at + numbers.below(16)).min(bytes.len());
        match numbers.below(7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << numbers.below(8),
            1 if at < bytes.len() => bytes[at] = INTERESTING[numbers.below(INTERESTING.len())],
            2 => bytes[at..end].fill(INTERESTING[numbers.below(INTERESTING.len())]),
            3 => bytes.truncate(at),
            4 => _ = bytes.drain(at..end),
            5 => {
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            _ => {
                let other = &seeds[numbers.below(seeds.len())];
                let from = numbers.below(other.len() + 1);
                bytes.splice(at..end, other[from..].iter().take(64).copied());
            }
        }
    }
    bytes
}

#[test]
fn no_target_stumbles_over_its_seeds_or_what_is_like_them() {
    let told = std::env::var(MUTATIONS_VARIABLE).ok().and_then(|told| told.parse().ok());
    let mut failed = Vec::new();
    for (name, _) in TARGETS {
        let seeds = kept(name);
        assert!(!seeds.is_empty(), "{name} has no seeds");
        let mut numbers = Numbers(told.unwrap_or(0x5eed));
        let mutations = (0..told.unwrap_or(MUTATIONS)).map(|_| mutation(&seeds, &mut numbers));
        for bytes in seeds.iter().cloned().chain(mutations) {
            if catch_unwind(|| targets::run(name, &bytes)).is_err() {
                failed.push(format!("{name}: {}", to_hex(&bytes)));
                break;
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn seeds_belong_to_targets() {
    let names: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let kept = fs::read_dir(folder("")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(kept.collect::<BTreeSet<_>>(), names);
    let manifest = fs::read_to_string(folder("../Cargo.toml")).unwrap();
    let built = manifest.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
    let built: BTreeSet<String> = built.filter(|name| *name != "continuum-fuzz").map(str::to_owned).collect();
    assert_eq!(built, names);
}

/// Makes the seeds anew from the vectors, after a change of the format: `cargo test --test fuzz_corpus -- --ignored`.
#[test]
#[ignore = "writes files"]
fn make_seeds() {
    for (target, mut made) in seeds::make() {
        made.sort_by_key(|bytes| (bytes.len(), bytes.clone()));
        made.dedup();
        fs::create_dir_all(folder(target)).unwrap();
        for entry in fs::read_dir(folder(target)).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        for bytes in made {
            let name = &blake3::hash(&bytes).to_hex()[..16];
            fs::write(folder(target).join(name), bytes).unwrap();
        }
    }
}
