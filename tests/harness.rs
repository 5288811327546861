//! The harness's own test: how a repository's URL is made from that of a server.

mod whereabouts;

use std::path::PathBuf;

use whereabouts::{Whereabouts, base, below};

#[test]
fn a_segment_comes_before_the_query() {
    for (base, expected) in [
        (
            "s3://bucket/a?endpoint=http://127.0.0.1:1/x&region=y",
            "s3://bucket/a/t?endpoint=http://127.0.0.1:1/x&region=y",
        ),
        ("gs://bucket", "gs://bucket/t"),
        ("gs://bucket/?endpoint=e", "gs://bucket/t?endpoint=e"),
        ("sftp://me@127.0.0.1:22/data?key=/k", "sftp://me@127.0.0.1:22/data/t?key=/k"),
    ] {
        assert_eq!(below(base, "t"), expected);
    }
}

#[test]
fn every_repository_has_a_place_of_its_own() {
    let places = [Whereabouts::new(PathBuf::from("/one")), Whereabouts::new(PathBuf::from("/other"))];
    assert_ne!(places[0].name(), places[1].name());
    if let Some(base) = base() {
        let (before, _) = base.split_once('?').unwrap_or((&base, ""));
        assert!(places.iter().all(|place| place.name().to_str().is_some_and(|url| url.starts_with(before))));
    } else {
        assert_eq!(places[0].folder(), PathBuf::from("/one"));
    }
}
