//! The Python reader beside the specification restores what this program writes, byte for byte; so the pages suffice.

mod program;

use program::{Place, add_rows, format_spec, good, make_database, python};
use rusqlite::Connection;

/// A repository of one cipher with databases of three page sizes, each in one snapshot a codec.
fn check_cipher(cipher: &str) {
    let place = Place::new();
    place.continuum(&["init", "--cipher", cipher, "--kdf-memory-mib", "1", "--kdf-passes", "1"]);
    let mut images = Vec::new();
    for page_size in [512, 4096, 65_536] {
        let path = place.path(&format!("pages-{page_size}.db"));
        make_database(&path, page_size, 300);
        for (nth, compression) in (1..).zip(["zstd", "lz4", "gzip", "none"]) {
            add_rows(&Connection::open(&path).expect("the database"), 1000 * nth, 200);
            let path_text = path.to_str().expect("a path of UTF-8");
            let taken = place.json(&["snapshot", "--compression", compression, path_text]);
            let id = taken["snapshots"][0]["id"].as_str().expect("an id").to_owned();
            images.push((id, std::fs::read(&path).expect("the database")));
        }
    }
    for (id, image) in images {
        assert!(place.read_by_python(&id) == image, "{cipher}: snapshot {id} differs from the database");
    }
}

#[test]
fn reads_aes_256_gcm() {
    check_cipher("aes-256-gcm");
}

#[test]
fn reads_chacha20_poly1305() {
    check_cipher("chacha20-poly1305");
}

#[test]
fn finds_the_newest_snapshot() {
    let place = Place::new();
    place.continuum(&["init", "--kdf-memory-mib", "1", "--kdf-passes", "1"]);
    let path = place.path("notes.db");
    make_database(&path, 1024, 10);
    place.continuum(&["snapshot".as_ref(), path.as_os_str()]);
    add_rows(&Connection::open(&path).expect("the database"), 1000, 10);
    place.continuum(&["snapshot".as_ref(), path.as_os_str()]);
    assert!(place.read_by_python("latest") == std::fs::read(&path).expect("the database"));
    assert!(place.restored("latest") == std::fs::read(&path).expect("the database"));
}

#[test]
fn satisfies_the_vectors() {
    let output = good(python().arg(format_spec("reader.py")).arg("vectors").arg(format_spec("vectors")));
    let output = String::from_utf8(output).expect("text");
    assert!(output.ends_with(" vectors ok\n"), "{output}");
}
