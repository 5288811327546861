#!/usr/bin/env python3
"""Holds a database of make_database.py open, as an application that never closes its connection.

usage: hold_open.py PATH N SEED

Prints `open` when its connection has written and read. For the first line on standard input it
commits N transactions (those of mutate.py) and prints `committed`. Then it stays, with its
connection, until standard input ends. It never checkpoints, so all it commits is in the WAL.
"""

import random
import sqlite3
import sys

from mutate import transact

WARM_UP_TRANSACTIONS = 3


def main():
    path, transaction_count, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    rnd = random.Random(seed)
    database = sqlite3.connect(path, isolation_level=None, timeout=30)
    database.execute("pragma synchronous=normal")
    database.execute("pragma wal_autocheckpoint=0")
    last_message = database.execute("select max(id) from messages").fetchone()[0]
    concepts = [row[0] for row in database.execute("select id from concepts limit 200000")]

    # A WAL that is in use: what an application at work looks like.
    commit(database, rnd, concepts, last_message, WARM_UP_TRANSACTIONS)
    say("open")
    if sys.stdin.readline():
        commit(database, rnd, concepts, last_message, transaction_count)
        say("committed")
        sys.stdin.read()


def commit(database, rnd, concepts, last_message, transaction_count):
    for number in range(transaction_count):
        transact(database, rnd, concepts, last_message, number)


def say(word):
    print(word, flush=True)


if __name__ == "__main__":
    main()
