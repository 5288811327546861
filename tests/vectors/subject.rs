//! What this program makes of a vector: its decoded values, or the name of the failure.

use continuum::base::id::{ChunkId, DatabaseId, ObjectHash, RepositoryId, SlotId, WriterId, from_hex, to_hex};
use continuum::base::page::{PageCount, PageSize};
use continuum::base::units::padme;
use continuum::chunk::codec;
use continuum::chunk::cutter::{Cutter, CutterSizes};
use continuum::crypto::aead::Suite;
use continuum::crypto::keys::Keyring;
use continuum::crypto::password::PasswordError;
use continuum::crypto::secret::SecretKey;
use continuum::format::FormatError;
use continuum::format::config::UntrustedConfig;
use continuum::format::delta::{self, Change, Record, StepPart};
use continuum::format::index::IndexSegment;
use continuum::format::journal::JournalObject;
use continuum::format::key_slot::{KeySlot, SlotError};
use continuum::format::layer::{LayerSegment, RunContent};
use continuum::format::manifest::{LayerKind, Manifest};
use continuum::format::object::{self, ObjectType, SealContext};
use continuum::format::pack::PackReader;
use continuum::format::timeline::{Event, Run, SnapshotRef, TimelineEntry};
use continuum::format::tombstone::Tombstone;
use continuum::format::verification::{Check, Record as VerifiedRecord, Verification};
use serde_json::{Value, json};

/// Runs one vector.
pub fn run(subject: &str, vector: &Value) -> Result<Value, String> {
    match subject {
        "padme" => Ok(json!({ "padded": padme(number(vector, "length")) })),
        "keys" => Ok(keys(vector)),
        "cutter" => Ok(cutter(vector)),
        "key_slot" => key_slot(vector).map_err(|error| slot_failure(&error).to_owned()),
        _ => format(subject, vector).map_err(|error| error.name().to_owned()),
    }
}

fn format(subject: &str, vector: &Value) -> Result<Value, FormatError> {
    match subject {
        "chunk" => chunk(vector),
        "plain" => plain(vector),
        "config" => config(vector),
        "sealed" => sealed(vector),
        "pack" => pack(vector),
        "index" => index(vector),
        "layer" => layer(vector),
        "timeline" => timeline(vector),
        "delta" => delta(vector),
        "journal" => journal(vector),
        "verification" => verification(vector),
        "tombstone" => tombstone(vector),
        _ => panic!("unknown subject {subject}"),
    }
}

fn slot_failure(error: &SlotError) -> &'static str {
    match error {
        SlotError::Password(PasswordError::Wrong) => "wrong-password",
        SlotError::Password(PasswordError::Cost(_)) => "kdf-too-costly",
        SlotError::Password(PasswordError::Memory(_)) => "no-memory",
        SlotError::Format(error) => error.name(),
    }
}

fn keys(vector: &Value) -> Value {
    let keys = keyring(vector);
    let bytes = hex(vector, "bytes");
    let gear: Vec<u8> = keys.gear.words.iter().flat_map(|word| word.to_le_bytes()).collect();
    json!({
        "config_mac": to_hex(&keys.config_mac(&bytes)),
        "chunk_id": keys.chunk_id(&bytes).to_string(),
        "database_id": keys.database_id(text(vector, "database")).to_string(),
        "pack_footer_key": to_hex(keys.footer.expose()),
        "index_key": to_hex(keys.index.expose()),
        "timeline_key": to_hex(keys.timeline.expose()),
        "journal_key": to_hex(keys.journal.expose()),
        "verification_key": to_hex(keys.verification.expose()),
        "tombstone_key": to_hex(keys.tombstone.expose()),
        "public_key": to_hex(&keys.public().to_bytes()),
        "gear_blake3": blake3(&gear),
    })
}

fn cutter(vector: &Value) -> Value {
    let sizes = &vector["sizes"];
    let [minimum, average, maximum] = ["minimum", "average", "maximum"].map(|name| number(sizes, name) as u32);
    let sizes = CutterSizes { minimum, average, maximum };
    assert!(sizes.is_valid());
    let keys = keyring(vector);
    let page_size = page_size(vector);
    let data = &vector["data"];
    let image = repeated(&hex(data, "seed"), number(data, "period") as usize, number(data, "length") as usize);
    json!({ "lengths": Cutter::new(sizes, page_size, &keys.gear).cut_all(&image, true) })
}

/// The first `period` bytes of BLAKE3's extended output of `seed`, again and again.
fn repeated(seed: &[u8], period: usize, length: usize) -> Vec<u8> {
    let mut once = vec![0; period];
    blake3::Hasher::new().update(seed).finalize_xof().fill(&mut once);
    once.into_iter().cycle().take(length).collect()
}

fn chunk(vector: &Value) -> Result<Value, FormatError> {
    let decoded = codec::decode(&hex(vector, "encoded"))?;
    Ok(json!({ "length": decoded.len(), "blake3": blake3(&decoded) }))
}

fn plain(vector: &Value) -> Result<Value, FormatError> {
    let object = hex(vector, "object");
    let (suite, cbor) = object::open_plain(&object, object_type(vector))?;
    Ok(json!({ "suite": suite, "cbor": to_hex(cbor) }))
}

fn config(vector: &Value) -> Result<Value, FormatError> {
    let config = UntrustedConfig::parse(&hex(vector, "object"))?.verify(&keyring(vector))?;
    let CutterSizes { minimum, average, maximum } = config.cutter;
    let mut decoded = json!({
        "repository": config.repository.to_string(),
        "created": config.created.0,
        "epoch": config.epoch,
        "suite": config.suite.code(),
        "public_key": to_hex(&config.public_key),
        "cutter": { "minimum": minimum, "average": average, "maximum": maximum },
    });
    if config.single_writer {
        decoded["single_writer"] = true.into();
    }
    Ok(decoded)
}

fn key_slot(vector: &Value) -> Result<Value, SlotError> {
    let slot = KeySlot::parse(&hex(vector, "object"), SlotId(array(vector, "slot")))?;
    let root = slot.open(RepositoryId(array(vector, "repository")), &text(vector, "password").into())?;
    Ok(json!({ "created": slot.created.0, "label": slot.label, "root": to_hex(root.expose()) }))
}

fn sealed(vector: &Value) -> Result<Value, FormatError> {
    let (object, binding) = (hex(vector, "object"), hex(vector, "binding"));
    let subkey = SecretKey::from_bytes(array(vector, "subkey"));
    let cbor = object::open(&object, object_type(vector), &context(vector), &subkey, &binding)?;
    Ok(json!({ "cbor": to_hex(&cbor) }))
}

fn pack(vector: &Value) -> Result<Value, FormatError> {
    let (keys, pack) = (keyring(vector), hex(vector, "object"));
    let reader = PackReader::open(&pack, &context(vector), &keys)?;
    let mut chunks = Vec::new();
    for chunk in reader.footer(&pack, &keys)? {
        let range = chunk.offset as usize..(chunk.offset + chunk.length) as usize;
        let decoded = reader.chunk(chunk.id, chunk.offset, &mut pack[range].to_vec(), &keys)?;
        let id = chunk.id.to_string();
        chunks.push(json!({ "id": id, "offset": chunk.offset, "length": chunk.length, "bytes": to_hex(&decoded) }));
    }
    Ok(json!({ "name": ObjectHash::of(&pack).to_string(), "chunks": chunks }))
}

fn index(vector: &Value) -> Result<Value, FormatError> {
    let segment = IndexSegment::open(&hex(vector, "object"), &context(vector), &keyring(vector).index)?;
    let packs: Vec<Value> =
        segment.packs.iter().map(|pack| json!({ "name": pack.name.to_string(), "length": pack.length })).collect();
    let entry = |id: ChunkId, pack: u32, offset: u32, length: u32| json!({ "id": id.to_string(), "pack": pack, "offset": offset, "length": length });
    let entries = segment.entries.iter().map(|e| entry(e.chunk.id, e.pack, e.chunk.offset, e.chunk.length));
    Ok(json!({ "packs": packs, "entries": entries.collect::<Vec<Value>>() }))
}

fn layer(vector: &Value) -> Result<Value, FormatError> {
    let (position, pages) = (number(vector, "position") as usize, PageCount(number(vector, "page_count") as u32));
    let segment = LayerSegment::parse(&hex(vector, "segment"), position, pages)?;
    let runs: Vec<Value> = segment
        .runs
        .iter()
        .map(|run| match run.content {
            RunContent::Zeros => json!({ "pages": run.pages, "chunk": null, "chunk_pages": 0, "first": 0 }),
            RunContent::Chunk { chunk, first } => {
                json!({ "pages": run.pages, "chunk": chunk.id.to_string(), "chunk_pages": chunk.pages, "first": first })
            }
        })
        .collect();
    Ok(json!({ "first_page": segment.first_page.0, "runs": runs }))
}

fn timeline(vector: &Value) -> Result<Value, FormatError> {
    let object = hex(vector, "object");
    let (database, sequence) = (DatabaseId(array(vector, "database_id")), number(vector, "sequence"));
    let entry = TimelineEntry::open(&object, database, sequence, &context(vector), &keyring(vector))?;
    let mut decoded = match &entry.event {
        Event::Snapshot(manifest) => snapshot(manifest),
        Event::WatchStarted(watch) | Event::WatchEnded(watch) => {
            let started = matches!(entry.event, Event::WatchStarted(_));
            let event = if started { "watch_started" } else { "watch_ended" };
            json!({ "event": event, "writer": watch.writer.to_string(), "host": watch.host })
        }
        Event::Begun {} => json!({ "event": "begun" }),
        Event::Forgotten { snapshots, until } => {
            json!({ "event": "forgotten", "snapshots": references(snapshots), "until": until.0 })
        }
        Event::Unforgotten { snapshots } => json!({ "event": "unforgotten", "snapshots": references(snapshots) }),
        Event::Held { snapshot, reason } => {
            json!({ "event": "held", "snapshot": reference(snapshot), "reason": reason })
        }
        Event::Released { snapshot } => json!({ "event": "released", "snapshot": reference(snapshot) }),
        Event::Damaged { segments } => {
            let segments: Vec<String> = segments.iter().map(ChunkId::to_string).collect();
            json!({ "event": "damaged", "segments": segments })
        }
        Event::Collected { gone } => {
            let run = |run: &Run| json!({ "first": run.first, "last": run.last, "last_id": run.last_id.to_string() });
            json!({ "event": "collected", "gone": gone.iter().map(run).collect::<Vec<_>>() })
        }
    };
    decoded["id"] = ObjectHash::of(&object).to_string().into();
    decoded["sequence"] = entry.sequence.into();
    decoded["previous"] = entry.previous.to_string().into();
    decoded["database"] = entry.database.into();
    decoded["recorded"] = entry.recorded.0.into();
    Ok(decoded)
}

fn references(snapshots: &[SnapshotRef]) -> Vec<Value> {
    snapshots.iter().map(reference).collect()
}

fn reference(snapshot: &SnapshotRef) -> Value {
    json!({ "sequence": snapshot.sequence, "id": snapshot.id.to_string() })
}

fn snapshot(manifest: &Manifest) -> Value {
    let layers: Vec<Value> = manifest
        .layers
        .iter()
        .map(|layer| {
            let segments: Vec<String> = layer.segments.iter().map(ToString::to_string).collect();
            json!({
                "kind": if layer.kind == LayerKind::Image { "image" } else { "delta" },
                "first_commit": layer.first_commit,
                "last_commit": layer.last_commit,
                "page_count": layer.page_count,
                "low_page_count": layer.low_page_count,
                "record_bytes": layer.record_bytes,
                "segments": segments,
            })
        })
        .collect();
    json!({
        "event": "snapshot",
        "strategy": manifest.strategy.to_string(),
        "tags": manifest.tags,
        "host": manifest.host,
        "source": manifest.source,
        "captured": manifest.captured.0,
        "tool": manifest.tool,
        "journal_mode": manifest.journal_mode,
        "page_size": manifest.page_size,
        "page_count": manifest.page_count,
        "root": manifest.root.to_string(),
        "commit": manifest.commit,
        "lineage": manifest.lineage,
        "layers": layers,
        "added": manifest.added,
    })
}

fn delta(vector: &Value) -> Result<Value, FormatError> {
    let parts = delta::parse(&hex(vector, "segment"), page_size(vector))?;
    Ok(json!({ "steps": steps(&parts, vector) }))
}

fn journal(vector: &Value) -> Result<Value, FormatError> {
    let (writer, sequence) = (WriterId(array(vector, "writer")), number(vector, "sequence"));
    let object = hex(vector, "object");
    let journal = JournalObject::open(&object, writer, sequence, &context(vector), &keyring(vector))?;
    let mut parts = Vec::new();
    for part in &journal.parts {
        parts.push(json!({
            "database": part.database,
            "base": part.base.to_string(),
            "first_commit": part.first_commit,
            "last_commit": part.last_commit,
            "steps": steps(&part.steps(page_size(vector))?, vector),
        }));
    }
    Ok(json!({ "parts": parts }))
}

fn verification(vector: &Value) -> Result<Value, FormatError> {
    let verification = Verification::open(&hex(vector, "object"), &context(vector), &keyring(vector).verification)?;
    let check = |check: &Check| json!({ "kind": check.kind.to_string(), "outcome": check.outcome.to_string(), "detail": check.detail });
    let record = |record: &VerifiedRecord| {
        let mut decoded = json!({
            "database": record.database,
            "snapshot": record.snapshot.to_string(),
            "root": record.root.to_string(),
            "checks": record.checks.iter().map(check).collect::<Vec<_>>(),
        });
        if let Some(sha256) = &record.sha256 {
            decoded["sha256"] = to_hex(&sha256[..]).into();
        }
        if let Some(micros) = record.restore_micros {
            decoded["restore_micros"] = micros.into();
        }
        decoded
    };
    Ok(json!({
        "recorded": verification.recorded.0,
        "host": verification.host,
        "tool": verification.tool,
        "records": verification.records.iter().map(record).collect::<Vec<_>>(),
    }))
}

fn tombstone(vector: &Value) -> Result<Value, FormatError> {
    let tombstone = Tombstone::open(&hex(vector, "object"), &context(vector), &keyring(vector).tombstone)?;
    Ok(json!({ "packs": tombstone.packs.iter().map(ToString::to_string).collect::<Vec<_>>() }))
}

/// Steps with what their records make of pages that hold the vector's pattern below.
fn steps(parts: &[StepPart], vector: &Value) -> Vec<Value> {
    let pattern = hex(vector, "below").into_iter().cycle();
    let below: Vec<u8> = pattern.take(page_size(vector).bytes()).collect();
    let record = |low_page_count: u32, record: &Record| {
        let mut page = if record.page.0 > low_page_count { vec![0; below.len()] } else { below.clone() };
        record.change.apply(&mut page);
        let kind = match &record.change {
            Change::Zero => "zero",
            Change::Plain(_) => "plain",
            Change::Xor(_) => "xor",
        };
        json!({ "page": record.page.0, "kind": kind, "blake3": blake3(&page) })
    };
    let step = |part: &StepPart| {
        let state = &part.state;
        let records: Vec<Value> = part.records.iter().map(|found| record(state.low_page_count, found)).collect();
        json!({
            "commit": state.commit,
            "captured": state.captured.0,
            "page_count": state.page_count,
            "low_page_count": state.low_page_count,
            "root": state.root.to_string(),
            "more": part.more,
            "records": records,
        })
    };
    parts.iter().map(step).collect()
}

/// The type that the place asks for.
pub fn object_type(vector: &Value) -> ObjectType {
    use ObjectType::{Config, IndexSegment, Journal, KeySlot, Pack, PackFooter, TimelineEntry};
    let code = number(vector, "type");
    let types = [Config, KeySlot, Pack, PackFooter, IndexSegment, TimelineEntry, Journal];
    types.into_iter().find(|&kind| kind as u64 == code).expect("a type of objects")
}

/// What the vector's objects are bound to.
pub fn context(vector: &Value) -> SealContext {
    let suite = Suite::from_code(number(vector, "suite") as u8).expect("a suite");
    SealContext { repository: RepositoryId(array(vector, "repository")), suite, epoch: number(vector, "epoch") as u32 }
}

/// The keys of the vector's root.
pub fn keyring(vector: &Value) -> Keyring {
    Keyring::new(SecretKey::from_bytes(array(vector, "root")))
}

fn page_size(vector: &Value) -> PageSize {
    PageSize::new(number(vector, "page_size") as u32).expect("a page size")
}

fn blake3(bytes: &[u8]) -> String {
    ObjectHash::of(bytes).to_string()
}

fn text<'a>(vector: &'a Value, field: &str) -> &'a str {
    vector[field].as_str().unwrap_or_else(|| panic!("no text {field}"))
}

fn number(vector: &Value, field: &str) -> u64 {
    vector[field].as_u64().unwrap_or_else(|| panic!("no number {field}"))
}

fn hex(vector: &Value, field: &str) -> Vec<u8> {
    from_hex(text(vector, field)).unwrap_or_else(|| panic!("{field} is not hexadecimal"))
}

fn array<const N: usize>(vector: &Value, field: &str) -> [u8; N] {
    hex(vector, field).try_into().unwrap_or_else(|_| panic!("{field} has another length"))
}
