//! Where the time of a snapshot and a restore goes: the throughput of each stage on one core.
//!
//! `cargo bench --bench stages [DATABASE]` prints MB of database a second, the best of several rounds, for each stage on its own. Without a database
//! it makes one in memory: text, indexes and float32 embeddings.

use std::hint::black_box;
use std::time::Instant;

use continuum::base::entropy::{Entropy, SeededEntropy};
use continuum::base::id::RepositoryId;
use continuum::base::page::PageSize;
use continuum::chunk::codec::{self, Compression};
use continuum::chunk::cutter::{Cutter, CutterSizes};
use continuum::crypto::aead::{AeadKey, Nonce, Suite};
use continuum::crypto::keys::Keyring;
use continuum::crypto::secret::SecretKey;
use continuum::format::object::SealContext;
use continuum::format::pack::{self, EncodedChunk, PackReader};
use rusqlite::Connection;

const ROUNDS: usize = 5;
/// The most of a database that is used.
const SAMPLE_BYTES: usize = 64 << 20;

fn main() {
    let path = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let mut data = match path {
        Some(path) => std::fs::read(path).expect("the database can be read"),
        None => make_database(),
    };
    data.truncate(SAMPLE_BYTES.min(data.len() / 4096 * 4096));
    println!("{} MiB; MB/s of database on one core, best of {ROUNDS}", data.len() >> 20);

    let keys = Keyring::new(SecretKey::from_bytes([1; 32]));
    let page_size = PageSize::new(4096).expect("a page size");
    let cutter = Cutter::new(CutterSizes::default(), page_size, &keys.gear);
    measure("hash the image (BLAKE3)", data.len(), || {
        black_box(blake3::hash(&data));
    });
    measure("cut (FastCDC)", data.len(), || drop(black_box(cutter.cut_all(&data, true))));
    let chunks = split(&data, &cutter.cut_all(&data, true));
    measure("identify chunks (keyed BLAKE3)", data.len(), || {
        for chunk in &chunks {
            black_box(keys.chunk_id(chunk));
        }
    });
    for compression in [Compression::Zstd(1), Compression::Zstd(3), Compression::Lz4, Compression::Gzip(1)] {
        measure_codec(&data, &chunks, compression);
    }
    measure_packs(&data, &chunks, &keys);
}

fn measure_codec(data: &[u8], chunks: &[&[u8]], compression: Compression) {
    let encoded: Vec<Vec<u8>> = chunks.iter().map(|chunk| codec::encode(chunk, compression)).collect();
    let ratio = encoded.iter().map(Vec::len).sum::<usize>() as f64 / data.len() as f64;
    measure(&format!("encode {compression:?} (ratio {ratio:.3})"), data.len(), || {
        for chunk in chunks {
            black_box(codec::encode(chunk, compression));
        }
    });
    measure(&format!("decode {compression:?}"), data.len(), || {
        for chunk in &encoded {
            black_box(codec::decode(chunk).expect("it was just encoded"));
        }
    });
}

fn measure_packs(data: &[u8], chunks: &[&[u8]], keys: &Keyring) {
    let encode =
        |chunk: &&[u8]| EncodedChunk { id: keys.chunk_id(chunk), encoded: codec::encode(chunk, Compression::Zstd(3)) };
    let encoded: Vec<EncodedChunk> = chunks.iter().map(encode).collect();
    for suite in [Suite::Aes256Gcm, Suite::ChaCha20Poly1305] {
        let context = SealContext { repository: RepositoryId([2; 16]), suite, epoch: 1 };
        let seal = || pack::seal(encoded.clone(), &context, keys.public(), &keys.footer, &SeededEntropy::new(3));
        measure(&format!("seal packs ({suite})"), data.len(), || drop(black_box(seal())));
        let sealed = seal();
        let reader = PackReader::open(&sealed.bytes, &context, keys).expect("it was just sealed");
        measure(&format!("open, decode, identify ({suite})"), data.len(), || {
            for chunk in &sealed.chunks {
                let range = chunk.offset as usize..(chunk.offset + chunk.length) as usize;
                let mut bytes = sealed.bytes[range].to_vec();
                black_box(reader.chunk(chunk.id, chunk.offset, &mut bytes, keys).expect("it was just sealed"));
            }
        });
    }
    let key = AeadKey::new(Suite::Aes256Gcm, &[1; 32]);
    let mut buffer = data.to_vec();
    measure("AES-256-GCM alone", data.len(), || {
        black_box(key.seal(Nonce::ONLY, &[], &mut buffer));
    });
}

fn measure(stage: &str, bytes: usize, mut work: impl FnMut()) {
    let best = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed()
        })
        .min()
        .unwrap_or_default();
    println!("{:>8.0}  {stage}", bytes as f64 / 1e6 / best.as_secs_f64());
}

fn split<'a>(mut data: &'a [u8], lengths: &[usize]) -> Vec<&'a [u8]> {
    let take = |&length: &usize| {
        let (chunk, rest) = data.split_at(length);
        data = rest;
        chunk
    };
    lengths.iter().map(take).collect()
}

fn make_database() -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("stages.db");
    let connection = Connection::open(&path).expect("a database");
    connection
        .execute_batch("CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT, vector BLOB); CREATE INDEX i ON notes (text); BEGIN")
        .expect("a schema");
    let noise = SeededEntropy::new(7);
    let words = ["page", "frame", "commit", "chunk", "pack", "index", "image", "delta", "snapshot", "timeline"];
    for id in 0..8000 {
        let mut random = [0; 768];
        noise.fill(&mut random);
        let text: Vec<&str> = random[..60].iter().map(|byte| words[usize::from(byte % 10)]).collect();
        let float = |pair: &[u8]| (f32::from(i16::from_le_bytes([pair[0], pair[1]])) / 32_768.0 + 1e-5).to_le_bytes();
        let vector: Vec<u8> = random.chunks_exact(2).flat_map(float).collect();
        connection.execute("INSERT INTO notes VALUES (?, ?, ?)", (id, text.join(" "), vector)).expect("a row");
    }
    connection.execute_batch("COMMIT").expect("a commit");
    drop(connection);
    std::fs::read(&path).expect("the database can be read")
}
