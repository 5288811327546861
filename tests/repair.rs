//! Repairs: each kind of object is damaged in each way; what was said to be whole restores exactly, what was said to be affected does not, and afterwards a check finds what was
//! said to remain and nothing else.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod interrupted;
#[path = "repair/world.rs"]
mod world;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use continuum::base::clock::JumpingTimer;
use continuum::base::id::ObjectHash;
use continuum::format::name::{Folder, ObjectName};
use continuum::format::tombstone::Tombstone;
use continuum::monitor::Silent;
use continuum::ops::check::{CheckOptions, check};
use continuum::ops::compact::compact;
use continuum::ops::prune::{PruneOptions, plan_prune};
use continuum::ops::repair::source::{Captured, Source};
use continuum::ops::repair::{RepairOptions, RepairPlan, plan_repair, repair};
use continuum::ops::snapshot::Choice;
use continuum::ops::snapshots::snapshots;
use continuum::repo::chunk_writer::EncodeOptions;
use continuum::repo::{Repository, RepositoryError};
use continuum::source::{Capture, CaptureOptions};
use continuum::store::Store;
use interrupted::Interrupted;
use rayon::prelude::*;
use world::{DROP, KEEP, Memory, Pair, World, mend, plan, plan_and_mend, prune_all, spoil};

const WAYS: [&str; 5] = ["deleted", "cut", "front", "middle", "end"];

fn affected(plan: &RepairPlan) -> BTreeSet<ObjectHash> {
    plan.affected.iter().map(|affected| affected.id).collect()
}

/// Repairs, first without taking anything away, then with; compares what was said with what is. Returns how many snapshots are affected.
fn expect_truth(world: &World, repository: &Repository, what: &str) -> usize {
    let before = world.restorable(repository, what).1;
    let first = plan_and_mend(repository, KEEP);
    let (listed, restored) = world.restorable(repository, what);
    assert_eq!(listed.difference(&affected(&first)).copied().collect::<BTreeSet<_>>(), restored, "{what}: {first:?}");
    assert!(restored.is_superset(&before), "{what}: a repair must not lose anything");
    assert_eq!((restored.len(), first.whole_count), (first.whole_count, restored.len()), "{what}");
    assert_eq!(world.said_damaged(repository), affected(&first), "{what}");
    let again = plan(repository, KEEP);
    assert!(again.is_empty() && affected(&again) == affected(&first), "{what}: {again:?}");
    let second = plan_and_mend(repository, DROP);
    let (listed, restored) = world.restorable(repository, what);
    let report = world.check(repository);
    assert_eq!(report.faults.is_empty(), second.mends_all(), "{what}: {:#?} after {second:?}", report.faults);
    if second.mends_all() {
        assert_eq!(listed, restored, "{what}");
        prune_all(repository);
        assert_eq!(world.restorable(repository, what), (listed.clone(), restored), "{what}: after a prune");
        assert!(world.check(repository).faults.is_empty(), "{what}: after a prune");
    }
    assert!(plan(repository, DROP).is_empty(), "{what}");
    affected(&first).len()
}

#[test]
fn a_sound_repository_has_nothing_to_mend() {
    let world = World::new();
    let repository = world.open(world.damaged(|_| ()), true);
    let plan = plan(&repository, DROP);
    assert!(plan.is_empty() && plan.mends_all() && plan.whole_count == world.roots.len(), "{plan:?}");
    assert_eq!(world.restorable(&repository, "sound").1.len(), world.roots.len());
}

#[test]
fn whatever_is_damaged_what_is_said_of_it_is_true() {
    let world = World::new();
    let names = world.objects.keys().filter(|name| *name != "config" && !name.starts_with("keys/"));
    let cases: Vec<(&String, &str)> = names.flat_map(|name| WAYS.map(|how| (name, how))).collect();
    let affected: Vec<usize> = cases
        .par_iter()
        .map(|(name, how)| {
            let repository = world.open(world.damaged(|objects| spoil(objects, name, how)), false);
            expect_truth(&world, &repository, &format!("{name} {how}"))
        })
        .collect();
    let count = |prefix: &str| {
        let of = cases.iter().zip(&affected).filter(|((name, _), count)| name.starts_with(prefix) && **count > 0);
        of.count()
    };
    assert!(count("packs/") > 10, "{}", count("packs/"));
    assert_eq!(count("index/"), 0, "an index is always made anew");
    println!("{} cases, {} with affected snapshots", cases.len(), count(""));
}

#[test]
fn a_lost_index_is_made_anew_from_the_packs() {
    let world = World::new();
    let store = world.damaged(|objects| objects.retain(|name, _| !name.starts_with("index/")));
    let repository = world.open(store, true);
    let planned = plan(&repository, RepairOptions::default());
    assert_eq!(
        (planned.relisted_count(), planned.affected.len()),
        (world.objects.keys().filter(|name| name.starts_with("packs/")).count(), 0)
    );
    mend(&repository, &planned, &[]);
    assert_eq!(world.restorable(&repository, "no index").1.len(), world.roots.len());
    assert!(world.check(&repository).faults.is_empty());
}

#[test]
fn what_one_flipped_bit_costs_is_one_chunk() {
    let world = World::new();
    let name = world.image_pack();
    let length = world.objects[&name].len();
    // Not everything in a pack is needed: the first place that is.
    let planned = (length / 2..length).step_by(500).map(|at| {
        let flip = |objects: &mut world::Objects| objects.get_mut(&name).unwrap()[at] ^= 1;
        plan(&world.open(world.damaged(flip), false), KEEP)
    });
    let planned = planned.into_iter().find(|planned| planned.lost_count > 0).unwrap();
    assert_eq!((planned.given_up.len(), planned.given_up[0].lost_count, planned.lost_count), (1, 1, 1), "{planned:?}");
    assert!(planned.carried_count() > 1);
    for affected in &planned.affected {
        let (lost, unknown) = (affected.lost_pages, affected.unknown_pages);
        assert!(lost > 0 && lost <= 64 && unknown == 0 && affected.page_count > 200, "{affected:?}");
    }
}

#[test]
fn a_live_source_gives_back_what_it_still_has() {
    let world = World::new();
    // Other pages changed since.
    world.execute("a", "CREATE TABLE later (x); INSERT INTO later VALUES (randomblob(2000));");
    let open = |name: &str| Captured::new(Capture::open(&world.database(name), CaptureOptions::default()).unwrap());
    let captured = [open("a"), open("b")];
    let source = |at: usize, name: &str| Source { database: name.into(), pages: &captured[at] };
    let (sources, wrong) = ([source(0, "a"), source(1, "b")], [source(0, "b"), source(1, "a")]);
    let (mut mended, mut lost) = (0, 0);
    let packs = world.objects.keys().filter(|name| name.starts_with("packs/"));
    for (name, at) in packs.flat_map(|name| (1..16).map(move |at| (name, at))) {
        let flip = |objects: &mut world::Objects| {
            let object = objects.get_mut(name).unwrap();
            let at = object.len() * at / 16;
            object[at] ^= 1;
        };
        let repository = world.open(world.damaged(flip), false);
        // Every other time the source is found only after the log says what is damaged.
        let planned = if at % 2 == 0 { plan_and_mend(&repository, KEEP) } else { plan(&repository, KEEP) };
        let with_source = plan_repair(&repository, KEEP, &sources, &Silent).unwrap();
        let (found, left) = (with_source.from_source_count(), with_source.lost_count);
        assert_eq!((found + left, with_source.affected.is_empty()), (planned.lost_count, left == 0), "{name}");
        assert_eq!(plan_repair(&repository, KEEP, &wrong, &Silent).unwrap().from_source_count(), 0, "{name}");
        assert_eq!(mend(&repository, &with_source, &sources).from_source_count, found, "{name}");
        let (listed, restored) = world.restorable(&repository, name);
        let affected = affected(&with_source);
        assert_eq!(listed.difference(&affected).copied().collect::<BTreeSet<_>>(), restored, "{name}");
        assert_eq!(world.said_damaged(&repository), affected, "{name}");
        (mended, lost) = (mended + found, lost + left);
        // What the database has still, and what was overwritten since.
        if found > 0 {
            assert!(world.check(&repository).faults.len() <= left, "{name}");
        }
    }
    println!("{mended} chunks taken from the sources, {lost} lost");
    assert!(mended > 5 && lost > 5, "{mended} {lost}");
}

#[test]
fn a_second_destination_gives_back_everything() {
    let world = World::new();
    let names: Vec<&String> = world.objects.keys().filter(|name| *name != "config").collect();
    let cases: Vec<(&String, &str)> = names.iter().flat_map(|name| WAYS.map(|how| (*name, how))).collect();
    cases.par_iter().for_each(|(name, how)| {
        let what = format!("{name} {how}");
        let stores = [Memory::new("first", world.objects.clone()), Memory::new("second", world.objects.clone())];
        stores[0].patch(|objects| spoil(objects, name, how));
        let repository = world.open(Arc::new(Pair(stores.clone())), true);
        let planned = plan_and_mend(&repository, DROP);
        assert!(
            planned.affected.is_empty() && planned.log.is_empty() && planned.given_up.is_empty(),
            "{what}: {planned:?}"
        );
        for store in stores {
            assert!(store.objects() == world.objects, "{what}: {}", store.location());
        }
    });
}

#[test]
fn a_repair_that_is_killed_is_gone_on_with() {
    let world = World::new();
    let (pack, index) = (world.image_pack(), world.objects.keys().find(|name| name.starts_with("index/")).unwrap());
    let entry = world.objects.keys().filter(|name| name.starts_with("timelines/")).nth(3).unwrap();
    let damage = |objects: &mut world::Objects| {
        spoil(objects, &pack, "middle");
        spoil(objects, index, "cut");
        spoil(objects, entry, "deleted");
        objects.insert(format!("tombstones/{}", "ab".repeat(32)), vec![1; 80]);
        objects.insert(format!("verifications/{}", "cd".repeat(32)), vec![1; 80]);
    };
    let undisturbed = world.open(world.damaged(damage), false);
    plan_and_mend(&undisturbed, DROP);
    let expected = world.restorable(&undisturbed, "undisturbed");
    assert!(expected.1.len() > 2);
    let mut kills = 0;
    loop {
        let store = world.damaged(damage);
        let repository = world.open(store.clone(), false);
        let planned = plan(&repository, DROP);
        store.writes_left.store(kills, Ordering::SeqCst);
        let killed = repair(&repository, &planned, &[], &|_, _, _| Ok(()), &Silent).is_err();
        store.writes_left.store(-1, Ordering::SeqCst);
        let what = format!("killed after {kills} writes");
        let restored = world.restorable(&repository, &what).1;
        plan_and_mend(&repository, DROP);
        let (listed, after) = world.restorable(&repository, &what);
        assert!(after.is_superset(&restored) || after == expected.1, "{what}");
        assert_eq!((listed, after), expected, "{what}");
        assert!(plan(&repository, DROP).is_empty(), "{what}");
        if !killed {
            break;
        }
        kills += 1;
    }
    // How many writes there are depends on where the ids, which are random, put each object.
    assert!(kills >= 5, "{kills}");
}

#[test]
fn a_full_snapshot_after_damage_takes_nothing_damaged_over() {
    let mut world = World::new();
    // All that the last snapshot of `b` stands on is damaged, page maps too.
    let store = world.damaged(|objects| {
        let packs: Vec<String> = objects.keys().filter(|name| name.starts_with("packs/")).cloned().collect();
        packs.iter().for_each(|name| spoil(objects, name, "cut"));
    });
    let repository = world.open(store, true);
    let first = plan_and_mend(&repository, DROP);
    assert_eq!((first.whole_count, first.affected.len()), (0, world.roots.len()));
    assert!(!first.mends_all(), "the last ones stay");
    for (name, choice) in [("a", Choice::Incremental), ("b", Choice::Full)] {
        let id = world.take(&repository, name, choice);
        assert!(world.restorable(&repository, name).1.contains(&id));
    }
    let second = plan_and_mend(&repository, DROP);
    assert!(second.mends_all(), "{second:?}");
    let (listed, restored) = world.restorable(&repository, "anew");
    assert!(listed.len() == restored.len() && listed.len() >= 2, "{listed:?}");
    assert!(world.check(&repository).faults.is_empty());
    prune_all(&repository);
    assert_eq!(world.restorable(&repository, "anew").1, restored);
}

#[test]
fn a_repair_beside_a_snapshot_is_met() {
    for choice in [Choice::Incremental, Choice::Auto, Choice::Full] {
        let mut world = World::new();
        let store = world.with_a_lost_chunk();
        let other = world.open(store.clone(), false);
        let repair_first = move || assert!(!plan_and_mend(&other, KEEP).affected.is_empty());
        world.execute("a", "CREATE TABLE later (x); INSERT INTO later VALUES (randomblob(2000));");
        let id = {
            let repository = world.open(Arc::new(Interrupted::new(store.clone(), "timelines/", repair_first)), true);
            world.take(&repository, "a", choice)
        };
        let repository = world.open(store, true);
        let (listed, restored) = world.restorable(&repository, "a");
        assert!(restored.contains(&id), "{choice:?}: {listed:?} {restored:?}");
        assert!(!world.said_damaged(&repository).contains(&id), "{choice:?}");
        world.take(&repository, "b", choice);
        assert!(plan_and_mend(&repository, DROP).mends_all(), "{choice:?}");
    }
}

#[test]
fn nothing_is_compacted_that_is_damaged() {
    let world = World::new();
    let repository = world.open(world.with_a_lost_chunk(), true);
    assert!(!plan_and_mend(&repository, KEEP).affected.is_empty());
    let damaged = world.said_damaged(&repository);
    let newest = |database: &str| snapshots(&repository, Some(database)).unwrap().0.last().unwrap().clone();
    for database in ["a", "b"] {
        let result = compact(&repository, database, true, "host", EncodeOptions::default(), &Silent);
        let (newest, is_refused) = (newest(database), matches!(result, Err(RepositoryError::DamagedBase { .. })));
        assert_eq!(is_refused, newest.is_damaged && newest.manifest.layers.len() > 1, "{database}: {result:?}");
    }
    assert_eq!(world.said_damaged(&repository), damaged);
}

#[test]
fn one_lost_chunk_is_stored_anew_by_the_next_snapshot() {
    for (choice, remembers) in [
        (Choice::Auto, true),
        (Choice::Auto, false),
        (Choice::Incremental, true),
        (Choice::Differential, true),
        (Choice::Full, true),
    ] {
        let mut world = World::new();
        let repository = world.open(world.with_a_lost_chunk(), remembers);
        let first = plan_and_mend(&repository, KEEP);
        assert_eq!(world.said_damaged(&repository), affected(&first));
        for name in ["a", "b", "a"] {
            let id = world.take(&repository, name, choice);
            assert!(world.restorable(&repository, name).1.contains(&id), "{name}, {choice:?}");
        }
        // Where the page map is the same as before, what was affected is whole again.
        let second = plan_and_mend(&repository, KEEP);
        assert_eq!(world.said_damaged(&repository), affected(&second), "{choice:?}");
        let third = plan_and_mend(&repository, DROP);
        assert!(third.mends_all() && world.check(&repository).faults.is_empty(), "{choice:?}: {third:?}");
        assert!(world.said_damaged(&repository).is_empty(), "{choice:?}");
    }
}

#[test]
fn what_a_check_has_found_is_remembered() {
    let world = World::new();
    let name = world.image_pack();
    let repository = world.open(world.damaged(|objects| spoil(objects, &name, "middle")), true);
    assert!(plan(&repository, RepairOptions::default()).is_empty(), "nobody has read data yet");
    assert!(!world.check(&repository).faults.is_empty());
    assert_eq!(plan(&repository, RepairOptions::default()).given_up.len(), 1);
}

/// What only looks so, because a bit of it has flipped, is not.
#[test]
fn a_log_that_a_newer_program_has_written_to_is_left_alone() {
    let world = World::new();
    let entries: Vec<&String> = world.objects.keys().filter(|name| name.starts_with("timelines/")).collect();
    let line = |name: &str| name.rsplit_once('/').unwrap().0.to_owned();
    let lasts =
        entries.iter().enumerate().filter(|(at, name)| entries.get(at + 1).is_none_or(|next| line(next) != line(name)));
    let lasts: BTreeSet<&String> = lasts.map(|(_, &name)| name).collect();
    assert!(lasts.len() < entries.len());
    for name in entries {
        let newer = |objects: &mut world::Objects| objects.get_mut(name).unwrap()[4] = 17;
        let repository = world.open(world.damaged(newer), false);
        let planned = plan(&repository, DROP);
        let (database, _) = ObjectName::from_listing(name.clone()).timeline().unwrap();
        let is_changed = planned.log.iter().any(|change| change.database == database);
        assert_eq!((is_changed, planned.mends_all()), (!lasts.contains(name), !lasts.contains(name)), "{name}");
        expect_truth(&world, &repository, name);
    }
}

#[test]
fn tombstones_that_cannot_be_read_are_replaced() {
    let world = World::new();
    let name = format!("tombstones/{}", "ab".repeat(32));
    let store = world.damaged(|objects| _ = objects.insert(name.clone(), vec![7; 100]));
    let repository = world.open(store.clone(), true);
    assert!(plan_prune(&repository, PruneOptions::default(), &Silent).is_err());
    let planned = plan_and_mend(&repository, RepairOptions::default());
    assert_eq!(planned.tombstones, [ObjectName::from_listing(name.clone())]);
    assert!(!store.objects().contains_key(&name));
    assert!(world.check(&repository).faults.is_empty());
    prune_all(&repository);
    assert_eq!(world.restorable(&repository, "tombstones").1.len(), world.roots.len());
}

#[test]
fn nothing_is_given_up_that_cannot_be_reached() {
    let world = World::new();
    struct Away(Arc<Memory>);
    impl Store for Away {
        fn location(&self) -> String {
            "away".into()
        }
        fn create(
            &self,
            name: &ObjectName,
            bytes: &[u8],
        ) -> Result<continuum::store::Creation, continuum::store::StoreError> {
            self.0.create(name, bytes)
        }
        fn read(&self, name: &ObjectName, limit: u64) -> Result<Vec<u8>, continuum::store::StoreError> {
            if name.is_pack() { Err(self.unavailable(name)) } else { self.0.read(name, limit) }
        }
        fn read_range(
            &self,
            name: &ObjectName,
            range: std::ops::Range<u64>,
        ) -> Result<Vec<u8>, continuum::store::StoreError> {
            if name.is_pack() && range.start > 100 {
                Err(self.unavailable(name))
            } else {
                self.0.read_range(name, range)
            }
        }
        fn list(&self, folder: Folder) -> Result<Vec<continuum::store::Listed>, continuum::store::StoreError> {
            self.0.list(folder)
        }
        fn delete(&self, name: &ObjectName) -> Result<(), continuum::store::StoreError> {
            self.0.delete(name)
        }
    }
    impl Away {
        fn unavailable(&self, name: &ObjectName) -> continuum::store::StoreError {
            let source = std::io::Error::other("busy");
            continuum::store::StoreError::Unavailable {
                location: self.location(),
                action: "read",
                name: name.to_string(),
                source,
            }
        }
    }
    let store = Memory::new("memory", world.objects.clone());
    let repository = world.open(Arc::new(Away(store.clone())), false);
    let refused = plan_repair(&repository, DROP, &[], &Silent);
    assert!(refused.is_err(), "{refused:?}");
    assert!(store.objects() == world.objects);
}

#[test]
fn a_pack_that_a_collector_has_deleted_is_no_damage() {
    let world = World::new();
    let store = world.damaged(|_| ());
    let repository = world.open(store.clone(), true);
    // Everything is carried over; then the index of before comes back, as somebody sees it who lists slowly.
    let old: Vec<(String, Vec<u8>)> =
        store.objects().into_iter().filter(|(name, _)| name.starts_with("index/")).collect();
    let packs = store.names("packs/").len();
    let tombstone = {
        let hashes: Vec<ObjectHash> =
            store.list(Folder::Packs).unwrap().iter().filter_map(|listed| listed.name.hash()).collect();
        Tombstone { packs: hashes }.seal(
            &repository.config().seal_context(),
            &repository.keys().tombstone,
            &continuum::base::entropy::OsEntropy,
        )
    };
    store.create(&ObjectName::tombstone(ObjectHash::of(&tombstone)), &tombstone).unwrap();
    assert_eq!(prune_all(&repository), packs);
    store.patch(|objects| objects.extend(old));
    let report = check(
        &repository,
        &CheckOptions { footers: true, ..CheckOptions::all_data() },
        &JumpingTimer::default(),
        &Silent,
    )
    .unwrap();
    assert!(report.faults.is_empty(), "{:#?}", report.faults);
    assert_eq!(world.restorable(&repository, "pruned").1.len(), world.roots.len());
    // Without the tombstone it would be.
    store.patch(|objects| objects.retain(|name, _| !name.starts_with("tombstones/")));
    assert_eq!(world.check(&repository).faults.len(), packs);
}
