#!/usr/bin/env python3
"""Makes a realistic SQLite database: text rows, float32 embeddings, a ledger, indexes.

usage: make_database.py PATH MEBIBYTES [SEED]

The text is cut at random from the documentation that is installed on this machine. The same seed
and the same texts give the same database, byte for byte: every random number is drawn in a fixed
order, so don't reorder the calls. The database is in WAL mode, and its WAL is empty at the end.
"""

import array
import glob
import os
import random
import sqlite3
import sys
import uuid

SCHEMA = """
create table concepts(id text primary key, name text not null, description text, importance real, created_at integer, updated_at integer);
create table entities(id integer primary key, name text, kind text, attrs text);
create table relations(src integer, dst integer, kind text, weight real, primary key(src,dst,kind)) without rowid;
create table messages(id integer primary key, session text, role text, content text, ts integer);
create index messages_session on messages(session,ts);
create table embeddings(concept_id text primary key, model text, vec blob);
create table ledger(txid integer primary key, ts integer, h text);
"""

CONCEPTS_PER_TRANSACTION = 2000
MESSAGES_PER_CONCEPT = 3
EMBEDDING_DIMENSIONS = 384
FIRST_TIMESTAMP = 1_700_000_000


def main():
    path = sys.argv[1]
    target_bytes = int(sys.argv[2]) * 1024 * 1024
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    texts = Texts(random.Random(seed), read_corpus())
    print("text", len(texts.corpus))

    if os.path.exists(path):
        os.remove(path)
    database = create(path)
    concept_count = 0
    while size_bytes(path) < target_bytes:
        database.execute("begin")
        for _ in range(CONCEPTS_PER_TRANSACTION):
            insert_concept(database, texts, concept_count)
            concept_count += 1
        database.execute("commit")
    database.execute("pragma wal_checkpoint(truncate)")
    print(concept_count, os.path.getsize(path))


class Texts:
    """Pieces of the corpus, chosen at random."""

    def __init__(self, rnd, corpus):
        self.rnd = rnd
        self.corpus = corpus

    def piece(self, length):
        start = self.rnd.randrange(0, len(self.corpus) - length)
        return self.corpus[start : start + length]


def read_corpus():
    """Everything readable in the installed documentation and Python's own modules."""
    texts = []
    for path in corpus_paths():
        if not os.path.isfile(path) or path.endswith((".gz", ".png", ".db")):
            continue
        try:
            with open(path, encoding="utf8", errors="ignore") as file:
                texts.append(file.read())
        except OSError:
            continue
    return "".join(texts)


def corpus_paths():
    return (
        sorted(glob.glob("/usr/share/doc/**/*", recursive=True))
        + sorted(glob.glob("/usr/share/perl/**/*.pod", recursive=True))
        + sorted(glob.glob(os.path.dirname(os.__file__) + "/*.py"))
    )


def create(path):
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("pragma journal_mode=wal")
    database.execute("pragma synchronous=normal")
    database.executescript(SCHEMA)
    return database


def size_bytes(path):
    """The database and its WAL together."""
    files = [path, path + "-wal"]
    return sum(os.path.getsize(file) for file in files if os.path.exists(file))


def insert_concept(database, texts, number):
    """One concept and all that belongs to it, in each table."""
    rnd, piece = texts.rnd, texts.piece
    concept = str(uuid.UUID(int=rnd.getrandbits(128), version=4))
    now = FIRST_TIMESTAMP + number
    database.execute(
        "insert into concepts values(?,?,?,?,?,?)",
        (concept, piece(24), piece(rnd.randrange(80, 600)), rnd.random(), now, now),
    )
    vector = array.array("f", [rnd.gauss(0, 0.05) for _ in range(EMBEDDING_DIMENSIONS)])
    database.execute(
        "insert into embeddings values(?,?,?)", (concept, "minilm", vector.tobytes())
    )
    database.execute("insert into entities values(?,?,?,?)", entity(rnd, piece))
    database.execute("insert or ignore into relations values(?,?,?,?)", relation(rnd, number))
    for _ in range(MESSAGES_PER_CONCEPT):
        session = "s%06d" % rnd.randrange(number // 50 + 1)
        role = rnd.choice(["user", "assistant"])
        database.execute(
            "insert into messages values(?,?,?,?,?)",
            (None, session, role, piece(rnd.randrange(50, 900)), now),
        )


def entity(rnd, piece):
    name = piece(16)
    kind = rnd.choice(["person", "place", "org", "thing"])
    attributes = '{"a":"%s","n":%d}' % (piece(40).replace('"', ""), rnd.randrange(10**6))
    return (None, name, kind, attributes)


def relation(rnd, number):
    source = rnd.randrange(1, number + 2)
    destination = rnd.randrange(1, number + 2)
    kind = rnd.choice(["is", "has", "likes", "part_of"])
    return (source, destination, kind, rnd.random())


if __name__ == "__main__":
    main()
