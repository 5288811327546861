"""Load for the live tests, a step for each line of standard input: rewrite the rounds and checkpoint all of it; cut the WAL to nothing.

A reader that begins between the two finds everything in the database file and pins no frame of the WAL, so that the WAL is cut while it
reads. The rounds are the last pages of the file, which are read last. All of a committed state are the same. After each step a line is printed: "checkpointed", then "cut" or "refused".

usage: truncating_writer.py DATABASE
"""

import sqlite3
import sys

FILLER_ROWS = 3000
ROUNDS = 50


def main():
    connection = sqlite3.connect(sys.argv[1], isolation_level=None)
    connection.execute("PRAGMA journal_mode = wal")
    connection.execute("PRAGMA synchronous = off")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("CREATE TABLE filler(id INTEGER PRIMARY KEY, body BLOB)")
    connection.execute(f"{numbers(FILLER_ROWS)} INSERT INTO filler SELECT i, zeroblob(4000) FROM n")
    connection.execute("CREATE TABLE rounds(id INTEGER PRIMARY KEY, round INTEGER, body BLOB)")
    connection.execute(f"{numbers(ROUNDS)} INSERT INTO rounds SELECT i, -1, randomblob(3000) FROM n")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    print("ready", flush=True)
    # A reader is not waited for.
    connection.execute("PRAGMA busy_timeout = 0")
    for step, _ in enumerate(sys.stdin):
        # Every second cut is followed by a transaction at once, so that the WAL's place is taken by new frames.
        if step % 2 == 0:
            rewrite(connection, step)
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
            print("checkpointed", flush=True)
        else:
            busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            if step % 4 == 3:
                rewrite(connection, step)
            print("refused" if busy else "cut", flush=True)


def numbers(count):
    return f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})"


def rewrite(connection, number):
    connection.execute("UPDATE rounds SET round = ?, body = randomblob(3000)", (number,))


if __name__ == "__main__":
    main()
