#!/usr/bin/env python3
"""An independent reader of the continuum repository format, version 1.

Written from the pages beside this file alone; it shares no code with the Rust program and serves to
check that the pages suffice. It lists snapshots and restores one, or the state of any commit; it never
writes to a repository.

    reader.py REPOSITORY list [--database NAME] [--forgotten]
    reader.py REPOSITORY restore SNAPSHOT_PREFIX|latest TARGET [--database NAME]
    reader.py REPOSITORY restore --commit N TARGET [--database NAME]
    reader.py vectors DIR

The password comes from the environment variable CONTINUUM_PASSWORD. `list` prints a snapshot a line, parted
by tabs: the beginning of its id, sequence, database, strategy, commit, time, page size, page count, root;
with `--forgotten` also those that are forgotten, and a last field: of `damaged`, `forgotten TIME` and `held` what is so. A
forgotten one is restored only by its whole id. `--commit` finds the state in a snapshot's layers, or in the journal behind the last snapshot. `vectors` runs
the test vectors of a folder, but for the cutter's, which readers need not have. Exit status: 0 done, 1 the
system failed (disk, permissions), 2 wrong usage, 3 the repository was refused; then stderr says
`reader: NAME: detail` with the name of the failure; or vectors failed, one a line.

Needs Python 3.11 and the packages cryptography (48 or newer, for Argon2id and HPKE), blake3, zstandard,
lz4, cbor2. Memory: the index (44 bytes a chunk), one segment of a layer or one journal object, and a few
decoded chunks.

A name of a failure that the pages do not give: `missing-object` for anything that is referred to and
absent.
"""

import argparse
import datetime
import hmac
import json
import os
import re
import struct
import sys
import tempfile
import zlib
from bisect import bisect_left
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import cbor2
import lz4.block
import zstandard
from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

# Object types and the contexts of their subkeys.
CONFIG, SLOT, PACK, FOOTER, INDEX, TIMELINE, CHUNK, JOURNAL, VERIFICATION, TOMBSTONE = range(1, 11)
CONTEXT = "continuum 2026-11-24 {} v1"
SUBKEY_USE = {
    FOOTER: "pack footer",
    INDEX: "index",
    TIMELINE: "timeline",
    JOURNAL: "journal",
    VERIFICATION: "verification",
    TOMBSTONE: "tombstone",
}
CIPHERS = {1: AESGCM, 2: ChaCha20Poly1305}
ZERO_NONCE = bytes(12)

# Limits of README.md.
KIB, MIB = 1 << 10, 1 << 20
MAX_CHUNK, MAX_PACK, MAX_SEALED, MAX_PLAIN = 4 * MIB, 64 * MIB, 16 * MIB, 64 * KIB
MIN_SEALED_CHUNK, MAX_SEALED_CHUNK = 5 + 1 + 16, 5 + MAX_CHUNK + 16
MIN_SEALED = 44 + 1 + 16  # salt and tag around the padding byte
# Chunks in a pack, entries and packs in an index segment, pages and segments of a layer, parts of a journal,
# packs of a tombstone, snapshots and runs of an entry.
MANY = 65_536
MAX_PAGES, MAX_LAYERS = 4_294_967_294, 32
PACK_HEAD = 92  # header, epoch, encapsulated key, sealed data key
MAX_DEPTH = 16
ZERO_RUN = 0xFFFF_FFFF
LOCK_BYTE = 1 << 30
KINDS = ZERO, PLAIN, XOR = "zero", "plain", "xor"  # of page records, by their number


class Refused(Exception):
    """The repository breaks a rule of the format; `name` is the failure's name."""

    def __init__(self, name, detail):
        super().__init__(f"{name}: {detail}")
        self.name, self.detail = name, detail


class Usage(Exception):
    """The caller asked for something impossible; the repository is not at fault."""


def ensure(condition, name, detail):
    if not condition:
        raise Refused(name, detail)


def keyed(key, message):
    return blake3(message, key=key).digest()


def derive(use, root):
    return blake3(root, derive_key_context=CONTEXT.format(use)).digest()


# --- CBOR: a strict pass over the bytes, then a schema that mirrors the CDDL ---------------------------


def cbor_head(data, at):
    """The major type and argument of the item at `at`, and where its content begins."""
    ensure(at < len(data), "malformed", "CBOR ends early")
    major, info = data[at] >> 5, data[at] & 31
    if info < 24:
        return major, info, at + 1
    ensure(info < 28, "malformed", "indefinite or reserved CBOR length")
    end = at + 1 + (1 << (info - 24))
    ensure(end <= len(data), "malformed", "CBOR ends early")
    return major, int.from_bytes(data[at + 1 : end], "big"), end


def check_item(data, at, depth):
    """Check one item before any library allocates for it; return where it ends."""
    start, (major, argument, at) = at, cbor_head(data, at)
    is_boolean = data[start] in (0xF4, 0xF5)
    ensure(major < 6 or is_boolean, "malformed", "CBOR tag, float or simple value")
    if major < 2 or is_boolean:
        return at
    # An element takes at least one byte, so no honest count exceeds the bytes that are left.
    per_element = 2 if major == 5 else 1
    ensure(argument * per_element <= len(data) - at, "malformed", "CBOR length beyond the input")
    if major < 4:
        return at + argument
    ensure(depth < MAX_DEPTH, "malformed", "CBOR nested too deep")
    keys = set()
    for _ in range(argument):
        if major == 5:
            at = check_key(data, at, keys)
        at = check_item(data, at, depth + 1)
    return at


def check_key(data, at, keys):
    end = check_item(data, at, MAX_DEPTH)
    major, _, start = cbor_head(data, at)
    ensure(major == 3, "malformed", "CBOR map key that is no text")
    ensure(data[start:end] not in keys, "malformed", "duplicate CBOR map key")
    keys.add(data[start:end])
    return end


def decode_cbor(data, schema, what):
    ensure(check_item(data, 0, 0) == len(data), "malformed", f"{what}: bytes after the CBOR")
    try:
        value = cbor2.loads(data)
    except (cbor2.CBORDecodeError, ValueError) as error:  # ValueError: text that is no UTF-8
        raise Refused("malformed", f"{what}: {error}") from error
    schema(value, what)
    return value


def integer(low=-(2**64), high=2**64 - 1):
    def check(value, where):
        ensure(type(value) is int and low <= value <= high, "malformed", f"{where}: not an integer in range")

    return check


def blob(size=None, multiple=1, most=None):
    def check(value, where):
        ensure(type(value) is bytes, "malformed", f"{where}: not a byte string")
        ensure(size is None or len(value) == size, "malformed", f"{where}: not {size} bytes")
        ensure(len(value) % multiple == 0, "malformed", f"{where}: not whole records of {multiple} bytes")
        ensure(most is None or len(value) <= most * multiple, "malformed", f"{where}: more than {most} records")

    return check


def text(low=0, high=2**64, pattern=None):
    def check(value, where):
        ensure(type(value) is str, "malformed", f"{where}: not text")
        ensure(low <= len(value.encode()) <= high, "malformed", f"{where}: length out of range")
        ensure(pattern is None or re.fullmatch(pattern, value), "malformed", f"{where}: forbidden character")

    return check


def one_of(*choices):
    def check(value, where):
        # Types are compared, too: to Python, True is 1.
        known = any(value == choice and type(value) is type(choice) for choice in choices)
        ensure(known, "malformed", f"{where}: unknown value {value!r}")

    return check


def array(item, low=0, high=MANY):
    def check(value, where):
        ensure(type(value) is list and low <= len(value) <= high, "malformed", f"{where}: not an array in range")
        for position, element in enumerate(value):
            item(element, f"{where}[{position}]")

    return check


def boolean(value, where):
    ensure(type(value) is bool, "malformed", f"{where}: not true or false")


def choice(**fields):
    """A map of exactly one of these fields."""

    def check(value, where):
        ensure(type(value) is dict and len(value) == 1, "malformed", f"{where}: not one of {', '.join(fields)}")
        for key, content in value.items():
            ensure(key in fields, "malformed", f"{where}: {key} is unknown")
            fields[key](content, f"{where}.{key}")

    return check


def mapping(optional=None, **fields):
    optional = optional or {}

    def check(value, where):
        ensure(type(value) is dict, "malformed", f"{where}: not a map")
        known = value.keys() - optional.keys() == fields.keys()
        ensure(known, "malformed", f"{where}: keys other than {', '.join([*fields, *optional])}")
        for key, item in value.items():
            {**fields, **optional}[key](item, f"{where}.{key}")

    return check


uint, time, identity = integer(low=0), integer(-(2**63), 2**63 - 1), blob(32)
CONFIG_SCHEMA = mapping(body=blob(), mac=blob(32))
CONFIG_BODY = mapping(
    repository=blob(16),
    created=time,
    epoch=one_of(1),
    suite=uint,
    public_key=blob(32),
    cutter=mapping(minimum=uint, average=uint, maximum=uint),
    optional={"single_writer": one_of(True)},
)
SLOT_SCHEMA = mapping(
    slot=blob(8),
    created=time,
    label=text(high=255),
    kind=one_of("password"),
    kdf=mapping(memory_kib=uint, passes=uint, lanes=uint, salt=blob(32)),
    commitment=blob(32),
    wrapped=blob(),
)
PAYLOAD = mapping(role=one_of("admin"), roots=array(mapping(epoch=uint, root=blob(32)), 1, 16))
FOOTER_SCHEMA = mapping(chunks=blob(multiple=40, most=MANY))
INDEX_SCHEMA = mapping(
    packs=array(mapping(name=identity, length=integer(0, MAX_PACK))), entries=blob(multiple=44, most=MANY)
)
LAYER = mapping(
    kind=one_of("image", "delta"),
    first_commit=integer(low=1),
    last_commit=uint,
    page_count=integer(1, MAX_PAGES),
    low_page_count=uint,
    record_bytes=uint,
    segments=array(identity, 1),
)
MANIFEST = mapping(
    strategy=one_of("full", "differential", "incremental", "continuous", "compaction"),
    tags=array(text(1, 255, pattern=r"[^\x00-\x1f\x7f-\x9f]+"), high=64),
    host=text(high=4096),
    source=text(high=4096),
    captured=time,
    tool=text(high=4096),
    journal_mode=text(high=4096),
    page_size=one_of(*(1 << n for n in range(9, 17))),
    page_count=integer(1, MAX_PAGES),
    root=identity,
    commit=uint,
    lineage=uint,
    layers=array(LAYER, 1, MAX_LAYERS),
    added=uint,
)
WATCH = mapping(writer=blob(16), host=text(high=4096))
REF = mapping(sequence=uint, id=identity)
RUN = mapping(first=integer(low=1), last=uint, last_id=identity)
DATABASE = text(1, 255, pattern=r"(?!\.{1,2}\Z)[^\x00-\x1f\x7f-\x9f/]+")
ENTRY = mapping(
    sequence=uint,
    previous=identity,
    database=DATABASE,
    recorded=time,
    event=choice(
        begun=mapping(),
        snapshot=MANIFEST,
        watch_started=WATCH,
        watch_ended=WATCH,
        forgotten=mapping(snapshots=array(REF, 1), until=time),
        unforgotten=mapping(snapshots=array(REF, 1)),
        held=mapping(snapshot=REF, reason=text(high=4096)),
        released=mapping(snapshot=REF),
        damaged=mapping(segments=array(identity)),
        collected=mapping(gone=array(RUN)),
    ),
)
LAYER_SEGMENT = mapping(
    first_page=uint, page_count=uint, chunks=blob(multiple=36), runs=blob(multiple=12, most=MANY)
)
STEP = mapping(
    commit=uint,
    captured=time,
    page_count=integer(1, MAX_PAGES),
    low_page_count=uint,
    root=identity,
    more=boolean,
    record_count=uint,
)
DELTA_SEGMENT = mapping(steps=array(STEP, 1, high=2**64), records=blob())
PART = mapping(
    database=DATABASE, base=identity, first_commit=integer(low=1), last_commit=uint, segment=blob()
)
JOURNAL_SCHEMA = mapping(parts=array(PART))
CHECK = mapping(
    kind=one_of("hashes", "schema", "data", "integrity", "restore"),
    outcome=one_of("passed", "failed", "skipped"),
    detail=text(high=4096),
)
RECORD = mapping(
    database=DATABASE,
    snapshot=identity,
    root=identity,
    checks=array(CHECK, 1, 16),
    optional={"sha256": identity, "restore_micros": uint},
)
VERIFICATION_SCHEMA = mapping(
    recorded=time, host=text(high=4096), tool=text(high=4096), records=array(RECORD, 1, 4096)
)
TOMBSTONE_SCHEMA = mapping(packs=array(identity, 1))


# --- Objects: header, checksum, encryption ---------------------------------------------------------------


def read_object(path, limit):
    try:
        with open(path, "rb") as file:
            data = file.read(limit + 1)
    except FileNotFoundError as error:
        raise Refused("missing-object", path.name) from error
    ensure(len(data) <= limit, "too-large", f"{path.name} has more than {limit} bytes")
    return data


def names_in(folder, digits):
    """The names of that many hexadecimal digits in a folder, in order; anything else is not ours."""
    if not folder.is_dir():
        return []
    return sorted(name for name in os.listdir(folder) if re.fullmatch(rf"[0-9a-f]{{{digits}}}", name))


def check_header(data, kind, suites=(1, 2)):
    ensure(len(data) >= 8, "malformed", "shorter than a header")
    ensure(data[:4] == b"CNTM", "bad-magic", "not an object of a continuum repository")
    version, found, suite, zero = data[4:8]
    ensure(version <= 1, "newer-version", f"format version {version}, this reader knows 1")
    ensure(version == 1, "malformed", "format version 0")
    ensure(found == kind, "wrong-type", f"object type {found} in the place of type {kind}")
    ensure(suite in suites, "unknown-suite", f"suite {suite} for object type {kind}")
    ensure(zero == 0, "malformed", "last byte of the header is not zero")


def open_plain(data, kind, suites):
    """Check a plain object; return its CBOR."""
    check_header(data, kind, range(256))
    ensure(len(data) >= 40, "malformed", f"object type {kind} ends early")
    content, checksum = data[:-32], data[-32:]
    ensure(blake3(content).digest() == checksum, "bad-checksum", f"object type {kind} is damaged")
    ensure(data[6] in suites, "unknown-suite", f"suite {data[6]} for object type {kind}")
    return content[8:]


def decrypt(suite, key, nonce, sealed, associated, what):
    try:
        return CIPHERS[suite](key).decrypt(nonce, sealed, associated)
    except InvalidTag as error:
        raise Refused("not-authentic", what) from error


def strip_padding(plaintext):
    content = plaintext.rstrip(b"\0")
    ensure(content[-1:] == b"\x80", "bad-padding", "no 0x80 before the zeros")
    return content[:-1]


# --- Chunks ------------------------------------------------------------------------------------------------


def zstd_frame_length(data):
    """Walk the blocks of the first frame: the library would not report input left after it."""
    ensure(data[:4] == b"\x28\xb5\x2f\xfd", "malformed", "not a zstd frame")
    at, last = zstandard.frame_header_size(data), False
    while not last:
        ensure(at + 3 <= len(data), "malformed", "zstd frame ends early")
        block = int.from_bytes(data[at : at + 3], "little")
        last, run, size = block & 1, (block >> 1) & 3 == 1, block >> 3
        at += 3 + (1 if run else size)
    return at + (4 if zstandard.get_frame_parameters(data).has_checksum else 0)


def unzstd(data, limit):
    ensure(zstd_frame_length(data) == len(data), "malformed", "not exactly one zstd frame")
    # One byte beyond the limit shows an output that is too long; reading to the end checks the checksum.
    return zstandard.ZstdDecompressor().stream_reader(data).read(limit + 1)


def ungzip(data, limit):
    decoder = zlib.decompressobj(wbits=31)
    output = decoder.decompress(data, limit + 1)
    ensure(decoder.eof and not decoder.unused_data, "malformed", "not exactly one gzip member of this length")
    return output


def decompress(codec, data, limit):
    """Decode `data` to at most `limit` bytes."""
    try:
        if codec == 0:
            output = data
        elif codec == 1:
            output = unzstd(data, limit)
        elif codec == 2:
            output = lz4.block.decompress(data, uncompressed_size=limit)
        else:
            output = ungzip(data, limit)
    except (zstandard.ZstdError, lz4.block.LZ4BlockError, zlib.error) as error:
        raise Refused("malformed", f"codec {codec}: {error}") from error
    ensure(len(output) <= limit, "malformed", "decodes to more bytes than declared")
    return output


def join_split(codec, payload, length):
    """Undo the split: text and classes in A, exponents in B, mantissas and raw segments in C."""
    ensure(len(payload) >= 8, "malformed", "split chunk ends early")
    a, b = struct.unpack_from("<II", payload)
    ensure(8 + a + b <= len(payload), "malformed", "split streams beyond the payload")
    count = -(-length // 128)
    stream_a = decompress(codec, payload[8 : 8 + a], count + length)
    classes = stream_a[:count]
    ensure(len(classes) == count and max(classes) <= 5, "malformed", "classes of a split chunk")
    ensure(length % 128 == 0 or classes[-1] == 0, "malformed", "short last segment of a class other than 0")
    floats, raw = sum(1 <= c <= 4 for c in classes), classes.count(5)
    size_a = count + length - 128 * (floats + raw)
    stream_b = decompress(codec, payload[8 + a : 8 + a + b], 32 * floats) if floats else payload[8 + a : 8 + a + b]
    stream_c = payload[8 + a + b :]
    lengths = len(stream_a), len(stream_b), len(stream_c)
    ensure(lengths == (size_a, 32 * floats, 96 * floats + 128 * raw), "malformed", "lengths of split streams")
    return b"".join(split_segments(classes, stream_a, stream_b, stream_c))


def split_segments(classes, stream_a, stream_b, stream_c):
    at_a, at_b, at_c = len(classes), 0, 0
    for kind in classes:
        if kind == 0:
            yield stream_a[at_a : at_a + 128]  # the last one may be shorter: the slice ends with A
            at_a += 128
        elif kind == 5:
            yield stream_c[at_c : at_c + 128]
            at_c += 128
        else:
            segment, others = bytearray(128), stream_c[at_c : at_c + 96]
            segment[kind - 1 :: 4] = stream_b[at_b : at_b + 32]
            for nth, position in enumerate(p for p in range(4) if p != kind - 1):
                segment[position::4] = others[nth::3]
            yield segment
            at_b, at_c = at_b + 32, at_c + 96


def decode_chunk(encoded):
    ensure(len(encoded) >= 5, "malformed", "chunk ends early")
    encoding, length = struct.unpack_from("<BI", encoded)
    codec, split = encoding & 15, encoding & 0x80
    known = codec in (1, 3) if split else codec <= 3
    ensure(known and not encoding & 0x70, "unknown-encoding", f"chunk encoding {encoding:#04x}")
    ensure(1 <= length <= MAX_CHUNK, "too-large", f"chunk of {length} bytes")
    payload = encoded[5:]
    chunk = join_split(codec, payload, length) if split else decompress(codec, payload, length)
    ensure(len(chunk) == length, "malformed", "decodes to fewer bytes than declared")
    return chunk


# --- Packs and the index -------------------------------------------------------------------------------------


class Place(NamedTuple):
    pack: bytes
    pack_length: int
    offset: int
    length: int  # with the tag


class Segment:
    """Chunk ids to places. Records stay packed, as there may be millions of them."""

    def __init__(self, packs, entries):
        self.packs, self.entries = packs, entries
        previous = b""
        for chunk_id, pack, offset, length in struct.iter_unpack("<32sIII", entries):
            ensure(previous <= chunk_id, "malformed", "index records out of order")
            ensure(pack < len(packs), "malformed", "index record with a pack that is not in the list")
            inside = PACK_HEAD <= offset and offset + length <= packs[pack][1]
            ensure(inside, "malformed", "index record outside its pack")
            ensure(MIN_SEALED_CHUNK <= length <= MAX_SEALED_CHUNK, "malformed", "length of an index record")
            previous = chunk_id

    def places(self, chunk_id):
        records = range(len(self.entries) // 44)
        nth = bisect_left(records, chunk_id, key=lambda n: self.entries[44 * n : 44 * n + 32])
        while self.entries[44 * nth : 44 * nth + 32] == chunk_id:
            pack, offset, length = struct.unpack_from("<III", self.entries, 44 * nth + 32)
            yield Place(*self.packs[pack], offset, length)
            nth += 1


def check_records(records, end):
    """The records of a pack footer: ascending, apart, and before the footer, which begins at `end`."""
    free = PACK_HEAD
    for _, offset, length in struct.iter_unpack("<32sII", records):
        ensure(MIN_SEALED_CHUNK <= length <= MAX_SEALED_CHUNK, "malformed", "length in a pack footer")
        ensure(free <= offset and offset + length <= end, "malformed", "pack footer: place of a record")
        free = offset + length


class Pack:
    """One pack, checked as a whole when it is first used."""

    def __init__(self, repository, name, path):
        self.repository, self.name, self.path = repository, name, path
        try:
            with open(self.path, "rb") as file:
                self.length = file.seek(0, os.SEEK_END)
                self.load(file)
        except FileNotFoundError as error:
            raise Refused("missing-object", f"pack {name.hex()}") from error

    def load(self, file):
        ensure(self.length <= MAX_PACK, "too-large", f"pack {self.name.hex()} has more than {MAX_PACK} bytes")
        head = self.head = os.pread(file.fileno(), PACK_HEAD, 0)
        check_header(head, PACK)
        ensure(self.length >= PACK_HEAD + 4, "malformed", "pack ends early")
        file.seek(0)
        digest = blake3()
        while block := file.read(MIB):
            digest.update(block)
        ensure(digest.digest() == self.name, "wrong-hash", f"pack {self.name.hex()} is damaged")
        self.repository.check_seal(head, f"pack {self.name.hex()}")
        (size,) = struct.unpack("<I", os.pread(file.fileno(), 4, self.length - 4))
        ensure(size <= self.length - 4 - PACK_HEAD, "malformed", "pack footer does not fit")
        footer = self.repository.unseal(os.pread(file.fileno(), size, self.length - 4 - size), FOOTER, head[12:44])
        self.records = decode_cbor(footer, FOOTER_SCHEMA, "pack footer")["chunks"]
        check_records(self.records, self.length - 4 - size)
        self.data_key = self.repository.open_data_key(head)

    def chunk(self, chunk_id, place):
        """Footer and index need not be compared: the associated data binds id, offset and so the length."""
        ensure(place.pack_length == self.length, "malformed", "length of a pack in the index")
        with open(self.path, "rb") as file:
            sealed = os.pread(file.fileno(), place.length, place.offset)
        suite, epoch, slot = self.head[6], self.head[8:12], struct.pack("<I", place.offset)
        associated = b"CNTM" + bytes((1, CHUNK, suite, 0)) + self.repository.id + epoch + slot + chunk_id
        what = f"chunk {chunk_id.hex()}"
        chunk = decode_chunk(decrypt(suite, self.data_key, bytes(8) + slot, sealed, associated, what))
        ensure(keyed(self.repository.subkey("chunk id"), chunk) == chunk_id, "wrong-chunk", what)
        return chunk


# --- The repository --------------------------------------------------------------------------------------------


def parse_config(data):
    outer = decode_cbor(open_plain(data, CONFIG, (0,)), CONFIG_SCHEMA, "config")
    body = decode_cbor(outer["body"], CONFIG_BODY, "config body")
    low, average, high = sizes = [body["cutter"][name] for name in ("minimum", "average", "maximum")]
    ensure(all(s > 0 and s & (s - 1) == 0 for s in sizes), "malformed", "cutter sizes are no powers of two")
    ordered = 4 * KIB <= low <= average // 2 and average <= high // 2 and high <= MIB
    ensure(ordered and 16 * KIB <= average <= 512 * KIB, "malformed", "cutter sizes out of range")
    ensure(body["suite"] in CIPHERS, "unknown-suite", f"suite {body['suite']} in the config")
    return outer, body


def open_slot(data, name, repository_id, password):
    """The slot of that name, and the root keys that it wraps, by epoch."""
    slot = decode_cbor(open_plain(data, SLOT, (1, 2)), SLOT_SCHEMA, "key slot")
    ensure(slot["slot"].hex() == name, "wrong-name", f"key slot {name} says {slot['slot'].hex()}")
    kdf = slot["kdf"]
    memory, passes, lanes = kdf["memory_kib"], kdf["passes"], kdf["lanes"]
    affordable = 1 <= lanes <= 16 and 1 <= passes <= 16 and 8 * lanes <= memory <= MIB  # MIB of KiB: 1 GiB
    ensure(affordable, "kdf-too-costly", f"{memory} KiB, {passes} passes, {lanes} lanes")
    argon = Argon2id(salt=kdf["salt"], length=64, iterations=passes, lanes=lanes, memory_cost=memory)
    secret = argon.derive(password)
    ensure(hmac.compare_digest(secret[32:], slot["commitment"]), "wrong-password", f"key slot {name}")
    associated = data[:8] + repository_id + slot["slot"]
    plaintext = decrypt(data[6], secret[:32], ZERO_NONCE, slot["wrapped"], associated, f"key slot {name}")
    roots = decode_cbor(plaintext, PAYLOAD, "key slot payload")["roots"]
    by_epoch = {root["epoch"]: root["root"] for root in roots}
    ensure(len(by_epoch) == len(roots), "malformed", "two root keys of one epoch")
    ensure(1 in by_epoch, "malformed", "no root key of epoch 1")
    return slot, by_epoch


def unlock(path, repository_id, password):
    """Try every slot: a damaged one must not keep the others from opening."""
    failures = []
    for name in names_in(path / "keys", 16):
        try:
            return open_slot(read_object(path / "keys" / name, MAX_PLAIN), name, repository_id, password)[1]
        except Refused as failure:
            failures.append(failure)
    ensure(failures, "missing-object", "no key slots")
    raise min(failures, key=lambda failure: failure.name == "wrong-password")  # damage tells more


class Keys:
    """What sealed objects of one repository are opened with."""

    def __init__(self, repository_id, suite, epoch, roots):
        self.id, self.suite, self.epoch, self.roots = repository_id, suite, epoch, roots

    def subkey(self, use):
        ensure(self.epoch in self.roots, "not-authentic", f"no root key of epoch {self.epoch}")
        return derive(use, self.roots[self.epoch])

    def verify(self, outer, config):
        """Nothing of a config is used before this, but for what opening a slot needs."""
        mac = keyed(self.subkey("config mac"), outer["body"])
        ensure(hmac.compare_digest(mac, outer["mac"]), "not-authentic", "the config was altered")
        public_key = X25519PrivateKey.from_private_bytes(self.subkey("x25519")).public_key()
        ensure(public_key.public_bytes_raw() == config["public_key"], "not-authentic", "public key of the config")

    def database_id(self, name):
        return keyed(self.subkey("database id"), name.encode())[:16]

    def check_seal(self, head, what):
        """Suite and epoch are the config's, whatever the object says."""
        agrees = head[6] == self.suite and head[8:12] == struct.pack("<I", self.epoch)
        ensure(agrees, "not-authentic", f"{what}: suite or epoch other than the config's")

    def unseal(self, data, kind, binding, subkey=None):
        """The CBOR inside a sealed object."""
        ensure(len(data) <= MAX_SEALED, "too-large", f"object type {kind} has more than {MAX_SEALED} bytes")
        check_header(data, kind)
        ensure(len(data) >= MIN_SEALED, "malformed", f"object type {kind} ends early")
        self.check_seal(data, f"object type {kind}")
        key = keyed(subkey or self.subkey(SUBKEY_USE[kind]), data[12:44])
        associated = data[:8] + self.id + data[8:12] + binding
        return strip_padding(decrypt(data[6], key, ZERO_NONCE, data[44:], associated, f"object type {kind}"))

    def index_segment(self, data):
        segment = decode_cbor(self.unseal(data, INDEX, b""), INDEX_SCHEMA, "index segment")
        return Segment([(pack["name"], pack["length"]) for pack in segment["packs"]], segment["entries"])

    def entry(self, data, database_id, sequence):
        """The timeline entry that stands under that name."""
        content = self.unseal(data, TIMELINE, database_id + struct.pack("<Q", sequence))
        entry = decode_cbor(content, ENTRY, "timeline entry")
        ensure(entry["sequence"] == sequence, "wrong-name", f"entry {sequence} says {entry['sequence']}")
        ensure(self.database_id(entry["database"]) == database_id, "wrong-name", "entry of another database")
        if "snapshot" in entry["event"]:
            check_manifest(entry["event"]["snapshot"])
        if "collected" in entry["event"]:
            check_runs(entry["event"]["collected"]["gone"], sequence)
        return entry

    def journal_object(self, data, writer, sequence):
        """The parts of the journal object that stands under that name."""
        content = self.unseal(data, JOURNAL, writer + struct.pack("<Q", sequence))
        parts = decode_cbor(content, JOURNAL_SCHEMA, "journal object")["parts"]
        for part in parts:
            ensure(part["first_commit"] <= part["last_commit"], "malformed", "commits of a journal part out of order")
        return parts

    def verification(self, data):
        return decode_cbor(self.unseal(data, VERIFICATION, b""), VERIFICATION_SCHEMA, "verification")

    def tombstone(self, data):
        """The names of packs that are being deleted."""
        packs = decode_cbor(self.unseal(data, TOMBSTONE, b""), TOMBSTONE_SCHEMA, "tombstone")["packs"]
        ensure(all(a < b for a, b in zip(packs, packs[1:])), "malformed", "packs of a tombstone out of order")
        return packs

    def open_data_key(self, head):
        """HPKE base mode, single shot; the encapsulated key stands before the ciphertext."""
        private = X25519PrivateKey.from_private_bytes(self.subkey("x25519"))
        info = CONTEXT.format("pack data key").encode() + head[:8] + self.id + head[8:12]
        try:
            return Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM).decrypt(head[12:PACK_HEAD], private, info=info)
        except (InvalidTag, ValueError) as error:
            raise Refused("not-authentic", "data key of a pack") from error


class Repository(Keys):
    def __init__(self, path, password):
        self.path = path
        outer, config = parse_config(read_object(path / "config", MAX_PLAIN))
        roots = unlock(path, config["repository"], password)
        super().__init__(config["repository"], config["suite"], config["epoch"], roots)
        self.verify(outer, config)
        self.segments, self.packs = None, {}
        self.chunk = lru_cache(maxsize=8)(self.load_chunk)

    def load_index(self):
        self.segments = []
        for name in names_in(self.path / "index", 64):
            data = read_object(self.path / "index" / name, MAX_SEALED)
            ensure(blake3(data).hexdigest() == name, "wrong-hash", f"index segment {name} is damaged")
            self.segments.append(self.index_segment(data))

    def pack(self, name):
        """The pack of that name; a failure is kept too, as finding it costs a pass over the pack."""
        if name not in self.packs:
            try:
                self.packs[name] = Pack(self, name, self.path / "packs" / name.hex()[:2] / name.hex())
            except Refused as failure:
                self.packs[name] = failure
        if isinstance(self.packs[name], Refused):
            raise self.packs[name]
        return self.packs[name]

    def load_chunk(self, chunk_id):
        """Any place serves; only when none does is the chunk refused, with the first reason met."""
        if self.segments is None:
            self.load_index()
        failures = []
        for place in (place for segment in self.segments for place in segment.places(chunk_id)):
            try:
                return self.pack(place.pack).chunk(chunk_id, place)
            except Refused as failure:
                failures.append(failure)
        raise failures[0] if failures else Refused("missing-object", f"chunk {chunk_id.hex()} is not in the index")

    def timelines(self, database=None):
        """The entries of each database that are not gone, with the hashes of their objects, oldest first."""
        ids = names_in(self.path / "timelines", 32)
        if database is not None:
            ids = [name for name in ids if name == self.database_id(database).hex()]
        for name in ids:
            yield self.timeline(bytes.fromhex(name))

    def timeline(self, database_id):
        folder, entries, gone = self.path / "timelines" / database_id.hex(), {}, None
        for name in reversed(names_in(folder, 16)):
            sequence = int(name, 16)
            # Newest first: the last `collected` says what is gone, and what is gone need not even be readable.
            if gone is not None and is_gone(gone, sequence):
                continue
            data = read_object(folder / name, MAX_SEALED)
            entry = self.entry(data, database_id, sequence)
            if gone is None and "collected" in entry["event"]:
                gone = entry["event"]["collected"]["gone"]
            entries[sequence] = (blake3(data).digest(), entry)
        runs, kept = list(gone or []), []
        expected, previous = 1, bytes(32)
        for sequence, (entry_id, entry) in sorted(entries.items()):
            if runs and runs[0]["first"] == expected:
                run = runs.pop(0)
                expected, previous = run["last"] + 1, run["last_id"]
            ensure(sequence == expected, "missing-entry", f"entry {expected} of timeline {folder.name}")
            ensure(entry["previous"] == previous, "broken-chain", f"entry {sequence} of timeline {folder.name}")
            expected, previous = sequence + 1, entry_id
            kept.append((entry_id, entry))
        return kept

    def snapshots(self, database=None):
        """The snapshots that are not gone: id, entry, what has become of it."""
        for timeline in self.timelines(database):
            yield from standings(timeline)

    def restore_points(self, database=None):
        """The snapshots that are not forgotten: id and entry."""
        for snapshot_id, entry, standing in self.snapshots(database):
            if standing.forgotten is None:
                yield snapshot_id, entry

    def journal_parts(self, database, base):
        """The parts of a database's journal that continue the snapshot `base`, in order."""
        for writer in names_in(self.path / "journal", 32):
            for name in names_in(self.path / "journal" / writer, 16):
                data = read_object(self.path / "journal" / writer / name, MAX_SEALED)
                for part in self.journal_object(data, bytes.fromhex(writer), int(name, 16)):
                    if (part["database"], part["base"]) == (database, base):
                        yield part


def check_runs(runs, sequence):
    """What the schema cannot say of entries that are gone: in order, apart, before the entry that lists them."""
    last = -1
    for run in runs:
        ensure(last + 1 < run["first"] <= run["last"] < sequence, "malformed", "runs that are not ascending, or too late")
        last = run["last"]


def is_gone(runs, sequence):
    return any(run["first"] <= sequence <= run["last"] for run in runs)


class Standing:
    """What has become of a snapshot: until when it is kept if it is forgotten; whether it is held; whether it is damaged."""

    def __init__(self):
        self.forgotten, self.held, self.damaged = None, False, False

    def __str__(self):
        words = ["damaged"] if self.damaged else []
        words += [f"forgotten {utc(self.forgotten)}"] if self.forgotten is not None else []
        return ", ".join(words + (["held"] if self.held else []))


def standings(timeline):
    """The snapshots of a timeline's entries, in order: id, entry, standing."""
    snapshots, lost = {}, set()
    for entry_id, entry in timeline:
        ((event, content),) = entry["event"].items()
        named = content.get("snapshots", [content["snapshot"]] if event in ("held", "released") else [])
        named = [ref for ref in ((ref["sequence"], ref["id"]) for ref in named) if ref in snapshots]
        if event == "snapshot":
            snapshots[entry["sequence"], entry_id] = (entry_id, entry, Standing())
        if event == "damaged":
            lost = set(content["segments"])
        for standing in (snapshots[ref][2] for ref in named):
            if event == "forgotten":
                standing.forgotten = standing.forgotten if standing.held else content["until"]
            elif event == "unforgotten":
                standing.forgotten = None
            else:
                standing.held = event == "held"
                standing.forgotten = None if standing.held else standing.forgotten
    found = list(snapshots.values())
    if found:  # journals continue the last one
        found[-1][2].forgotten = None
    for _, entry, standing in found:
        segments = (layer["segments"] for layer in entry["event"]["snapshot"]["layers"])
        standing.damaged = any(not lost.isdisjoint(of_layer) for of_layer in segments)
    return found


# --- Deltas --------------------------------------------------------------------------------------------------------


class Step(NamedTuple):
    """A step, or a part of it."""

    commit: int
    captured: int
    page_count: int
    low_page_count: int
    root: bytes
    more: bool
    records: list  # page number, kind, content: bytes, or offsets with bytes to XOR


def leb128(data, at):
    """The number at `at`, and where it ends."""
    number = 0
    for nth in range(10):
        ensure(at + nth < len(data), "malformed", "records end early")
        number |= (data[at + nth] & 0x7F) << 7 * nth
        if data[at + nth] < 0x80:
            ensure(number < 1 << 64, "malformed", "number of more than 64 bits")
            return number, at + nth + 1
    raise Refused("malformed", "number of more than 64 bits")


def take_differences(data, at, page_size):
    """Offsets in the page with the bytes that are XORed there, and where they end in `data`."""
    runs, offset = [], 0
    while offset < page_size:
        equal, at = leb128(data, at)
        offset += equal
        if offset >= page_size:
            break
        size, at = leb128(data, at)
        ensure(size > 0, "malformed", "run of no bytes that differ")
        ensure(size <= page_size - offset, "malformed", "differences beyond the page")
        ensure(size <= len(data) - at, "malformed", "records end early")
        runs.append((offset, data[at : at + size]))
        offset, at = offset + size, at + size
    ensure(offset == page_size, "malformed", "differences that do not end at the end of the page")
    return runs, at


def take_record(data, at, page_size):
    """How far the record at `at` is from the one before, its kind, its content, and where it ends."""
    head, at = leb128(data, at)
    distance, kind = head >> 2, head & 3
    ensure(distance > 0, "malformed", "pages out of order")
    ensure(kind < len(KINDS), "malformed", f"record of kind {kind}")
    content = None
    if KINDS[kind] == PLAIN:
        content, at = data[at : at + page_size], at + page_size
        ensure(at <= len(data), "malformed", "records end early")
    elif KINDS[kind] == XOR:
        content, at = take_differences(data, at, page_size)
    return distance, KINDS[kind], content, at


def delta_steps(data, page_size):
    """The steps of a decoded delta segment."""
    segment = decode_cbor(data, DELTA_SEGMENT, "delta segment")
    records, steps, at = segment["records"], [], 0
    for nth, step in enumerate(segment["steps"], start=1):
        ensure(step["low_page_count"] <= step["page_count"], "malformed", "low page count above the page count")
        ensure(not step["more"] or nth == len(segment["steps"]), "malformed", "more before the last step")
        page, taken = 0, []
        for _ in range(step.pop("record_count")):  # ends with the bytes, whatever the count says
            distance, kind, content, at = take_record(records, at, page_size)
            page += distance
            ensure(page <= step["page_count"], "malformed", "record of a page beyond the page count")
            taken.append((page, kind, content))
        steps.append(Step(**step, records=taken))
    ensure(at == len(records), "malformed", "bytes after the last record")
    return steps


def xor(left, right):
    return (int.from_bytes(left, "little") ^ int.from_bytes(right, "little")).to_bytes(len(left), "little")


def changed_page(page, kind, content):
    """What a record makes of a page."""
    if kind == ZERO:
        return bytes(len(page))
    if kind == PLAIN:
        return content
    page = bytearray(page)
    for offset, differing in content:
        end = offset + len(differing)
        page[offset:end] = xor(page[offset:end], differing)
    return page


def layer_steps(repository, layer, page_size):
    """The steps of a delta layer, in order; one that segments part comes in parts."""
    before = None
    for chunk_id in layer["segments"]:
        for step in delta_steps(repository.chunk(chunk_id), page_size):
            goes_on = before is None or not before.more or step[:5] == before[:5]
            ensure(goes_on, "malformed", f"the rest of the step to commit {before and before.commit} is missing")
            yield step
            before = step
    ensure(not before.more, "malformed", f"the rest of the step to commit {before.commit} is missing")


def journal_steps(repository, database, base, manifest):
    """The steps in the journal behind the last snapshot of a timeline, as far as there is no gap."""
    expected = manifest["commit"] + 1
    for part in repository.journal_parts(database, base):
        if part["last_commit"] < expected:
            continue  # it repeats what is known
        missing = f"commit {expected} of {database}: the next part begins with {part['first_commit']}"
        ensure(part["first_commit"] == expected, "missing-journal", missing)
        yield from part_steps(part, manifest["page_size"])
        expected = part["last_commit"] + 1


def part_steps(part, page_size):
    steps = delta_steps(decode_chunk(part["segment"]), page_size)
    commits = steps[0].commit, steps[-1].commit
    ensure(commits == (part["first_commit"], part["last_commit"]), "malformed", "commits of a journal part")
    ensure(not steps[-1].more, "malformed", "unfinished step in a journal")
    return steps


# --- Snapshots ---------------------------------------------------------------------------------------------------


def check_manifest(manifest):
    """What the schema cannot say."""
    layers = manifest["layers"]
    kinds = [layer["kind"] for layer in layers]
    ensure(kinds == ["image"] + ["delta"] * (len(layers) - 1), "malformed", "layers other than an image and deltas")
    for layer in layers:
        ensure(layer["low_page_count"] <= layer["page_count"], "malformed", "low page count above the page count")
        ensure(layer["first_commit"] <= layer["last_commit"], "malformed", "commits of a layer out of order")
    wanted = -(-layers[0]["page_count"] // MANY)
    ensure(len(layers[0]["segments"]) == wanted, "malformed", "number of segments of an image")
    for field, of_layer in (("page_count", "page_count"), ("commit", "last_commit")):
        ensure(layers[-1][of_layer] == manifest[field], "malformed", f"{of_layer} of the last layer")


def segment_runs(data, first_page, page_count):
    """The runs of one layer segment: chunk id (None for zeros), pages of the chunk, first page in it, pages."""
    segment = decode_cbor(data, LAYER_SEGMENT, "layer segment")
    fits = (segment["first_page"], segment["page_count"]) == (first_page, page_count)
    ensure(fits, "malformed", "layer segment of another position")
    chunks, runs = segment["chunks"], list(struct.iter_unpack("<III", segment["runs"]))
    ensure(sum(pages for pages, _, _ in runs) == page_count, "malformed", "runs do not add up to the page count")
    for pages, chunk, first in runs:
        ensure(pages > 0, "malformed", "run of no pages")
        if chunk == ZERO_RUN:
            ensure(first == 0, "malformed", "run of zeros with a page in a chunk")
            yield None, 0, 0, pages
        else:
            ensure(36 * chunk < len(chunks), "malformed", "run with a chunk that is not in the list")
            chunk_id, chunk_pages = struct.unpack_from("<32sI", chunks, 36 * chunk)
            ensure(first + pages <= chunk_pages, "malformed", "run past the pages of its chunk")
            yield chunk_id, chunk_pages, first, pages


def image_runs(repository, layer):
    for nth, chunk_id in enumerate(layer["segments"]):
        page_count = min(MANY, layer["page_count"] - MANY * nth)
        yield from segment_runs(repository.chunk(chunk_id), MANY * nth + 1, page_count)


def pages_of(chunk, page_size, first, pages):
    ensure(len(chunk) % page_size == 0, "malformed", "chunk that holds no whole pages")
    ensure((first + pages) * page_size <= len(chunk), "malformed", "pages past the end of the chunk")
    return memoryview(chunk)[first * page_size : (first + pages) * page_size]


def write_image(repository, layer, page_size, file):
    """Write the pages of an image layer. Zeros are left as holes."""
    for chunk_id, _, first, pages in image_runs(repository, layer):
        if chunk_id is None:
            file.seek(pages * page_size, os.SEEK_CUR)
        else:
            file.write(pages_of(repository.chunk(chunk_id), page_size, first, pages))
    file.truncate(layer["page_count"] * page_size)


def apply_step(file, step, page_size, begins):
    """Lead the state in `file` to the step's. Only its first part cuts: a later one must keep what the first wrote."""
    if begins:
        file.truncate(step.low_page_count * page_size)
        file.truncate(step.page_count * page_size)
    for page, kind, content in step.records:
        below = bytes(page_size)
        if kind == XOR:
            file.seek((page - 1) * page_size)
            below = file.read(page_size)
        file.seek((page - 1) * page_size)
        file.write(changed_page(below, kind, content))


def apply_steps(file, steps, page_size, commit):
    """Apply the steps up to `commit`, and look no further."""
    begins = True
    for step in steps:
        if step.commit > commit:
            return
        apply_step(file, step, page_size, begins)
        begins = not step.more
        if begins and step.commit == commit:
            return


class State(NamedTuple):
    """A restorable state: a snapshot's, or that of a step in its layers or in the journal behind it."""

    manifest: dict
    commit: int
    root: bytes
    journal: Callable = tuple  # what reads the steps behind the manifest's


def write_state(repository, state, file):
    """Write a state and return its hash."""
    page_size, layers = state.manifest["page_size"], state.manifest["layers"]
    write_image(repository, layers[0], page_size, file)
    for steps in [layer_steps(repository, layer, page_size) for layer in layers[1:]] + [state.journal()]:
        apply_steps(file, steps, page_size, state.commit)
    file.seek(LOCK_BYTE)
    ensure(not any(file.read(page_size)), "malformed", "SQLite's lock page is not zeros")
    digest = blake3()
    file.seek(0)
    while block := file.read(MIB):
        digest.update(block)
    return digest.digest()


def restore(repository, state, target):
    """Write beside the target; only an image whose hash is the root takes the target's name."""
    # A log or journal left there by another database would be replayed into the restored one.
    for taken in (f"{target}{suffix}" for suffix in ("", "-wal", "-journal")):
        if os.path.lexists(taken):
            raise Usage(f"{taken} exists")
    descriptor, unproved = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent)
    try:
        with open(descriptor, "w+b") as file:
            root = write_state(repository, state, file)
            file.flush()
            os.fsync(file.fileno())
        ensure(root == state.root, "wrong-root", f"the image has the hash {root.hex()}")
        if os.path.lexists(target):
            raise Usage(f"{target} exists")
        os.rename(unproved, target)
    except BaseException:
        os.unlink(unproved)
        raise


def snapshot_state(manifest):
    return State(manifest, manifest["commit"], manifest["root"])


def find_snapshot(repository, prefix, database):
    """The state of the one snapshot whose id begins so; of a forgotten one, if that is its whole id."""
    found = [
        entry["event"]["snapshot"]
        for snapshot_id, entry, standing in repository.snapshots(database)
        if snapshot_id.hex() == prefix or (standing.forgotten is None and snapshot_id.hex().startswith(prefix))
    ]
    if len(found) != 1:
        raise Usage(f"{prefix}: {'several fit; give more digits' if found else 'no such snapshot'}")
    return snapshot_state(found[0])


def find_latest(repository, database):
    """The newest state of the only database. What a gap in the journal hides is left out."""
    snapshots = snapshots_of_one(repository, database)
    state, steps = snapshot_state(snapshots[-1][1]["event"]["snapshot"]), steps_behind(repository, snapshots)
    try:
        for step in steps():
            state = journal_state(state.manifest, step, steps)
    except Refused as failure:
        if failure.name != "missing-journal":
            raise
        print(f"reader: {failure.name}: {failure.detail}", file=sys.stderr)
    return state


def find_commit(repository, commit, database):
    """The state of that number in the timeline of the only database."""
    snapshots = snapshots_of_one(repository, database)
    manifests = [entry["event"]["snapshot"] for _, entry in snapshots]
    for manifest in manifests:
        if manifest["commit"] == commit:
            return snapshot_state(manifest)
    state = find_in_layers(repository, commit, manifests)
    if state is None and commit > manifests[-1]["commit"]:
        steps = steps_behind(repository, snapshots)
        found = (step for step in steps() if step.commit == commit)
        state = next((journal_state(manifests[-1], step, steps) for step in found), None)
    if state is None:
        raise Usage(f"no state of commit {commit}, or one that was folded with later ones")
    return state


def snapshots_of_one(repository, database):
    """The snapshots of the only database, oldest first."""
    snapshots = list(repository.restore_points(database))
    if len({entry["database"] for _, entry in snapshots}) != 1:
        raise Usage("several databases; give --database" if snapshots else "no snapshots")
    return snapshots


def steps_behind(repository, snapshots):
    """What reads the steps in the journal behind the last of a database's snapshots."""
    base, entry = snapshots[-1]
    return partial(journal_steps, repository, entry["database"], base, entry["event"]["snapshot"])


def journal_state(manifest, step, steps):
    return State(manifest, step.commit, step.root, steps)


def find_in_layers(repository, commit, manifests):
    """The state of a step in the delta layers of some snapshots, or None. Snapshots share layers: each is read once."""
    seen = set()
    for manifest in manifests:
        for layer in manifest["layers"][1:]:
            name = tuple(layer["segments"])
            if name not in seen and layer["first_commit"] <= commit <= layer["last_commit"]:
                for step in layer_steps(repository, layer, manifest["page_size"]):
                    if step.commit == commit:
                        return State(manifest, commit, step.root)
            seen.add(name)
    return None


# --- Test vectors --------------------------------------------------------------------------------------------------


def padme(length):
    if length < 2:
        return length
    exponent = length.bit_length() - 1
    mask = (1 << max(exponent - exponent.bit_length(), 0)) - 1
    return (length + mask) & ~mask


def vector_keys(vector):
    return Keys(bytes.fromhex(vector["repository"]), vector["suite"], vector["epoch"], vector_roots(vector))


def vector_roots(vector):
    return {1: bytes.fromhex(vector["root"])}


def vector_padme(vector):
    return {"padded": padme(vector["length"])}


def vector_derived(vector):
    keys, content = Keys(bytes(16), 1, 1, vector_roots(vector)), bytes.fromhex(vector["bytes"])
    gear = blake3(keys.roots[1], derive_key_context=CONTEXT.format("cutter")).digest(length=2048)
    public_key = X25519PrivateKey.from_private_bytes(keys.subkey("x25519")).public_key()
    return {
        "config_mac": keyed(keys.subkey("config mac"), content),
        "chunk_id": keyed(keys.subkey("chunk id"), content),
        "database_id": keys.database_id(vector["database"]),
        "pack_footer_key": keys.subkey("pack footer"),
        "index_key": keys.subkey("index"),
        "timeline_key": keys.subkey("timeline"),
        "journal_key": keys.subkey("journal"),
        "verification_key": keys.subkey("verification"),
        "tombstone_key": keys.subkey("tombstone"),
        "public_key": public_key.public_bytes_raw(),
        "gear_blake3": blake3(gear).digest(),
    }


def vector_chunk(vector):
    chunk = decode_chunk(bytes.fromhex(vector["encoded"]))
    return {"length": len(chunk), "blake3": blake3(chunk).digest()}


def vector_plain(vector):
    data = bytes.fromhex(vector["object"])
    content = open_plain(data, vector["type"], (0,) if vector["type"] == CONFIG else (1, 2))
    return {"suite": data[6], "cbor": content}


def vector_config(vector):
    outer, config = parse_config(bytes.fromhex(vector["object"]))
    Keys(config["repository"], config["suite"], config["epoch"], vector_roots(vector)).verify(outer, config)
    return config


def vector_key_slot(vector):
    data, repository_id = bytes.fromhex(vector["object"]), bytes.fromhex(vector["repository"])
    slot, roots = open_slot(data, vector["slot"], repository_id, vector["password"].encode())
    return {"created": slot["created"], "label": slot["label"], "root": roots[1]}


def vector_sealed(vector):
    keys = Keys(bytes.fromhex(vector["repository"]), vector["suite"], vector["epoch"], {})
    binding, subkey = bytes.fromhex(vector["binding"]), bytes.fromhex(vector["subkey"])
    return {"cbor": keys.unseal(bytes.fromhex(vector["object"]), vector["type"], binding, subkey)}


def vector_pack(vector):
    data = bytes.fromhex(vector["object"])
    name = blake3(data).digest()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pack"
        path.write_bytes(data)
        pack, chunks = Pack(vector_keys(vector), name, path), []
        for chunk_id, offset, length in struct.iter_unpack("<32sII", pack.records):
            content = pack.chunk(chunk_id, Place(name, len(data), offset, length))
            chunks.append({"id": chunk_id, "offset": offset, "length": length, "bytes": content})
    return {"name": name, "chunks": chunks}


def vector_index(vector):
    segment = vector_keys(vector).index_segment(bytes.fromhex(vector["object"]))
    records = struct.iter_unpack("<32sIII", segment.entries)
    entries = [dict(zip(("id", "pack", "offset", "length"), record)) for record in records]
    return {"packs": [{"name": name, "length": length} for name, length in segment.packs], "entries": entries}


def vector_layer(vector):
    before = MANY * vector["position"]
    data, page_count = bytes.fromhex(vector["segment"]), min(MANY, vector["page_count"] - before)
    runs = segment_runs(data, before + 1, page_count)
    runs = [dict(zip(("chunk", "chunk_pages", "first", "pages"), run)) for run in runs]
    return {"first_page": before + 1, "runs": runs}


def vector_timeline(vector):
    data = bytes.fromhex(vector["object"])
    entry = vector_keys(vector).entry(data, bytes.fromhex(vector["database_id"]), vector["sequence"])
    ((event, content),) = entry.pop("event").items()
    return {"id": blake3(data).digest(), **entry, "event": event, **content}


def decoded_steps(steps, vector):
    """Steps with the hashes of the pages that their records make of the vector's pattern."""
    page_size, pattern = vector["page_size"], bytes.fromhex(vector["below"])
    below = (pattern * page_size)[:page_size]
    decoded = []
    for step in steps:
        records = []
        for page, kind, content in step.records:
            made = changed_page(below if page <= step.low_page_count else bytes(page_size), kind, content)
            records.append({"page": page, "kind": kind, "blake3": blake3(made).digest()})
        decoded.append({**step._asdict(), "records": records})
    return decoded


def vector_delta(vector):
    steps = delta_steps(bytes.fromhex(vector["segment"]), vector["page_size"])
    return {"steps": decoded_steps(steps, vector)}


def vector_journal(vector):
    data, writer = bytes.fromhex(vector["object"]), bytes.fromhex(vector["writer"])
    parts = vector_keys(vector).journal_object(data, writer, vector["sequence"])
    for part in parts:
        part["steps"] = decoded_steps(part_steps(part, vector["page_size"]), vector)
        del part["segment"]
    return {"parts": parts}


def vector_verification(vector):
    return vector_keys(vector).verification(bytes.fromhex(vector["object"]))


def vector_tombstone(vector):
    return {"packs": vector_keys(vector).tombstone(bytes.fromhex(vector["object"]))}


VECTORS = {
    "padme": vector_padme,
    "keys": vector_derived,
    "chunk": vector_chunk,
    "plain": vector_plain,
    "config": vector_config,
    "key_slot": vector_key_slot,
    "sealed": vector_sealed,
    "pack": vector_pack,
    "index": vector_index,
    "layer": vector_layer,
    "timeline": vector_timeline,
    "delta": vector_delta,
    "journal": vector_journal,
    "verification": vector_verification,
    "tombstone": vector_tombstone,
}


def vector_failure(subject, vector):
    """What is wrong with the outcome of a vector, or None."""
    try:
        # As the files have it: hexadecimal for bytes.
        outcome = json.loads(json.dumps(VECTORS[subject](vector), default=lambda content: bytes(content).hex()))
    except Refused as failure:
        outcome = None if failure.name == vector["expect"] else str(failure)
    else:
        outcome = None if vector["expect"] == "ok" and outcome == vector["decoded"] else f"decoded {outcome}"
    return outcome and f"{subject}: {vector['name']}: expected {vector['expect']}, {outcome}"


def run_vectors(folder):
    failures, count = [], 0
    for path in sorted(folder.glob("*.json")):
        file = json.loads(path.read_text(encoding="utf-8"))
        if file["subject"] == "cutter":  # readers never cut
            continue
        failures += [failure for vector in file["vectors"] if (failure := vector_failure(file["subject"], vector))]
        count += len(file["vectors"])
    if not count:
        raise Usage(f"{folder} has no vectors")
    print("\n".join(failures) if failures else f"{count} vectors ok")
    return 3 if failures else 0


# --- The command line ------------------------------------------------------------------------------------------------


def utc(microseconds):
    epoch = datetime.datetime(1970, 1, 1)
    try:
        return (epoch + datetime.timedelta(microseconds=microseconds)).isoformat() + "Z"
    except OverflowError:  # times inform people only: no reason to refuse
        return f"{microseconds}us"


def print_snapshots(repository, database, with_forgotten):
    for snapshot_id, entry, standing in repository.snapshots(database):
        if standing.forgotten is not None and not with_forgotten:
            continue
        manifest = entry["event"]["snapshot"]
        fields = [snapshot_id.hex()[:8], entry["sequence"], entry["database"], manifest["strategy"]]
        fields += [manifest["commit"], utc(manifest["captured"]), manifest["page_size"], manifest["page_count"]]
        fields += [manifest["root"].hex()]
        if with_forgotten:
            fields += [standing]
        print(*fields, sep="\t")


def arguments():
    parser = argparse.ArgumentParser(prog="reader.py", description="Reads a continuum repository.")
    parser.add_argument("repository", type=Path)
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list")
    listing.add_argument("--database")
    listing.add_argument("--forgotten", action="store_true", help="also list those that are forgotten")
    restoring = commands.add_parser("restore")
    restoring.add_argument("snapshot", nargs="?", help="first hexadecimal digits of its id, or latest: the newest state")
    restoring.add_argument("target", type=Path)
    restoring.add_argument("--commit", type=int, metavar="N", help="instead of a snapshot: the state of that number")
    restoring.add_argument("--database")
    return parser.parse_args()


def vectors_folder():
    """The folder of `reader.py vectors DIR`; None for the other commands, which name a repository first."""
    parser = argparse.ArgumentParser(prog="reader.py vectors", description="Runs test vectors.")
    parser.add_argument("folder", type=Path, metavar="DIR")
    return parser.parse_args(sys.argv[2:]).folder if sys.argv[1:2] == ["vectors"] else None


def run(options):
    password = os.environ.get("CONTINUUM_PASSWORD")
    if password is None:
        raise Usage("CONTINUUM_PASSWORD is not set")
    if not options.repository.is_dir():
        raise Usage(f"{options.repository} is no directory")
    repository = Repository(options.repository, os.fsencode(password))
    if options.command == "list":
        print_snapshots(repository, options.database, options.forgotten)
    else:
        if (options.snapshot is None) == (options.commit is None):
            raise Usage("give a snapshot or --commit")
        if options.commit is not None:
            state = find_commit(repository, options.commit, options.database)
        elif options.snapshot == "latest":
            state = find_latest(repository, options.database)
        else:
            state = find_snapshot(repository, options.snapshot, options.database)
        restore(repository, state, options.target)


def main():
    folder = vectors_folder()
    options = None if folder else arguments()
    try:
        if folder:
            return run_vectors(folder)
        run(options)
    except Refused as failure:
        print(f"reader: {failure.name}: {failure.detail}", file=sys.stderr)
        return 3
    except Usage as problem:
        print(f"reader: {problem}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"reader: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
