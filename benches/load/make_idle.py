#!/usr/bin/env python3
"""Makes many small databases that nobody uses, as on a host with a database for each tenant.

usage: make_idle.py DIRECTORY COUNT

They are in WAL mode, their WALs are empty, and no two are equal.
"""

import os
import sqlite3
import sys

ROWS = 200


def main():
    directory, count = sys.argv[1], int(sys.argv[2])
    os.makedirs(directory, exist_ok=True)
    for number in range(count):
        make(os.path.join(directory, "idle-%03d.db" % number), number)


def make(path, number):
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("pragma journal_mode=wal")
    database.execute("pragma synchronous=off")
    database.execute("create table notes(id integer primary key, text text)")
    database.execute("begin")
    for row in range(ROWS):
        text = "database %d, note %d: %s" % (number, row, "x" * (row % 80))
        database.execute("insert into notes values(?,?)", (None, text))
    database.execute("commit")
    database.execute("pragma wal_checkpoint(truncate)")
    database.close()


if __name__ == "__main__":
    main()
