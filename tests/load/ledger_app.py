"""An application for the live tests of which every committed state is known beforehand, and what tells whether a database is one.

What transaction `seq` changes is a function of the seed and `seq`. Each one adds to a table `ledger` the hash of all changes up to it.
After a commit the line "seq hash" is appended to `DATABASE.acks`: what the application was told is durable. `verify` makes the changes
again in memory, so that a database passes only if it is exactly the state after some transaction: every row of both tables.

usage: ledger_app.py run DATABASE SEED JOURNAL_MODE AUTOCHECKPOINT [HANG_AT]    until it is killed
       ledger_app.py verify SEED DATABASE...                                    prints the last seq of each database

With HANG_AT the application stops in the middle of that transaction, when pages of it were written already, and prints "hanging".
"""

import hashlib
import os
import random
import sqlite3
import sys
import time

KEYS = 400
BUSY_TIMEOUT_S = 60
# Small, so that pages are written before the commit.
CACHE_PAGES = 8
CHANGES_BEFORE_HANGING = 60

SCHEMA = """
CREATE TABLE IF NOT EXISTS ledger(seq INTEGER PRIMARY KEY, hash TEXT);
CREATE TABLE IF NOT EXISTS kv(key INTEGER PRIMARY KEY, seq INTEGER, value BLOB);
CREATE INDEX IF NOT EXISTS kv_by_seq ON kv(seq);
"""


def changes(seed, seq, count=None):
    """The changes of a transaction: pairs of a key and its new value, or of a key and None, which deletes it."""
    rng = random.Random(f"{seed}/{seq}")
    for _ in range(count or rng.randrange(1, 12)):
        key = rng.randrange(KEYS)
        yield key, None if rng.random() < 0.1 else rng.randbytes(rng.randrange(10, 3000))


def chain(previous, seq, changed):
    """The ledger's hash after a transaction."""
    digest = hashlib.sha256(f"{previous}/{seq}".encode())
    for key, value in changed:
        digest.update(b"%d:%d:" % (key, -1 if value is None else len(value)))
        digest.update(value or b"")
    return digest.hexdigest()


def apply(connection, seq, changed):
    for key, value in changed:
        if value is None:
            connection.execute("DELETE FROM kv WHERE key = ?", (key,))
        else:
            connection.execute("INSERT OR REPLACE INTO kv VALUES (?, ?, ?)", (key, seq, value))


def run(path, seed, journal_mode, autocheckpoint, hang_at=None):
    connection = sqlite3.connect(path, isolation_level=None, timeout=BUSY_TIMEOUT_S)
    connection.execute(f"PRAGMA journal_mode = {journal_mode}")
    connection.execute("PRAGMA synchronous = normal")
    connection.execute(f"PRAGMA cache_size = {CACHE_PAGES}")
    connection.execute(f"PRAGMA wal_autocheckpoint = {autocheckpoint}")
    connection.executescript(SCHEMA)
    seq, last = connection.execute("SELECT seq, hash FROM ledger ORDER BY seq DESC LIMIT 1").fetchone() or (0, "")
    acks = os.open(path + ".acks", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    whims = random.Random()
    while True:
        connection.execute("BEGIN IMMEDIATE")
        if seq + 1 == hang_at:
            apply(connection, -1, changes("never committed", seq, CHANGES_BEFORE_HANGING))
            print("hanging", flush=True)
            time.sleep(3600)
        if whims.random() < 0.05:
            apply(connection, -1, changes("rolled back", seq))
            connection.execute("ROLLBACK")
            continue
        seq += 1
        changed = list(changes(seed, seq))
        last = chain(last, seq, changed)
        apply(connection, seq, changed)
        connection.execute("INSERT INTO ledger VALUES (?, ?)", (seq, last))
        connection.execute("COMMIT")
        os.write(acks, f"{seq} {last}\n".encode())
        time.sleep(whims.choice([0, 0, 0.001, 0.01]))


def read(path):
    """All rows of both tables, after SQLite found the file sound."""
    connection = sqlite3.connect(path)
    checked = connection.execute("PRAGMA integrity_check").fetchall()
    assert checked == [("ok",)], f"{path}: {checked}"
    ledger = connection.execute("SELECT seq, hash FROM ledger ORDER BY seq").fetchall()
    rows = {key: (seq, value) for key, seq, value in connection.execute("SELECT key, seq, value FROM kv")}
    connection.close()
    return ledger, rows


def verify(seed, paths):
    found = {path: read(path) for path in paths}
    by_length = {}
    for path, (ledger, _) in found.items():
        by_length.setdefault(len(ledger), []).append(path)
    ledger, rows = [], {}
    for seq in range(max(by_length) + 1):
        if seq > 0:
            changed = list(changes(seed, seq))
            ledger.append((seq, chain(ledger[-1][1] if ledger else "", seq, changed)))
            for key, value in changed:
                rows.pop(key, None)
                if value is not None:
                    rows[key] = (seq, value)
        for path in by_length.get(seq, []):
            assert found[path][0] == ledger, f"{path}: the ledger is not that after transaction {seq}"
            assert found[path][1] == rows, f"{path}: the rows are not those after transaction {seq}"
    for path in paths:
        print(len(found[path][0]))


def main():
    command, arguments = sys.argv[1], sys.argv[2:]
    if command == "run":
        path, seed, journal_mode, autocheckpoint, *hang_at = arguments
        run(path, seed, journal_mode, int(autocheckpoint), *map(int, hang_at))
    else:
        verify(arguments[0], arguments[1:])


if __name__ == "__main__":
    main()
