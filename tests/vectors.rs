//! The language-neutral test vectors in `format-spec/vectors/`: this program against each of them.
//!
//! A file holds the vectors of one subject; a vector is one success with its decoded values, or one named failure.
//! `cargo test --test vectors -- --ignored make_vectors` writes the files anew, from seeds: the same files each time.

#[path = "vectors/make/mod.rs"]
mod make;
#[path = "vectors/subject.rs"]
mod subject;

use std::path::{Path, PathBuf};

use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("format-spec/vectors")
}

/// What is wrong with the outcome of a vector, if anything is.
fn deviation(subject: &str, vector: &Value) -> Option<String> {
    let outcome = subject::run(subject, vector);
    let expected = match vector["expect"].as_str().expect("a vector says what to expect") {
        "ok" => Ok(vector["decoded"].clone()),
        failure => Err(failure.to_owned()),
    };
    (outcome != expected).then(|| format!("{subject}: {}: expected {expected:?}, got {outcome:?}", vector["name"]))
}

fn check(subject: &str) {
    let text = std::fs::read_to_string(folder().join(format!("{subject}.json"))).expect("the file of the subject");
    let file: Value = serde_json::from_str(&text).expect("vectors are JSON");
    assert_eq!(file["subject"], subject);
    let vectors = file["vectors"].as_array().expect("a file has vectors");
    assert!(!vectors.is_empty());
    let deviations: Vec<String> = vectors.iter().filter_map(|vector| deviation(subject, vector)).collect();
    assert!(deviations.is_empty(), "{}", deviations.join("\n"));
}

macro_rules! check_subjects {
    ($($subject:ident)*) => {
        $(#[test]
        fn $subject() {
            check(stringify!($subject));
        })*

        const SUBJECTS: &[&str] = &[$(stringify!($subject)),*];
    };
}

check_subjects!(padme keys cutter chunk plain config key_slot sealed pack index layer timeline delta journal verification tombstone);

#[test]
fn every_file_has_its_test() {
    for file in std::fs::read_dir(folder()).expect("the folder of vectors") {
        let name = file.expect("an entry").file_name().into_string().expect("ASCII");
        let subject = name.strip_suffix(".json").unwrap_or_else(|| panic!("{name} is no JSON file"));
        assert!(SUBJECTS.contains(&subject), "{name} is not checked");
    }
}

#[test]
#[ignore = "writes the files"]
fn make_vectors() {
    std::fs::create_dir_all(folder()).expect("the folder of vectors");
    for &subject in SUBJECTS {
        let mut vectors = make::vectors(subject);
        for vector in &mut vectors {
            if vector["expect"] == "ok" {
                let decoded = subject::run(subject, vector);
                vector["decoded"] =
                    decoded.unwrap_or_else(|failure| panic!("{subject}: {}: {failure}", vector["name"]));
            }
        }
        let file = folder().join(format!("{subject}.json"));
        std::fs::write(file, make::document(subject, &vectors)).expect("the file can be written");
    }
}
