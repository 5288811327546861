#!/usr/bin/env python3
"""Changes a database of make_database.py as an application would: N small transactions.

usage: mutate.py PATH N SEED [checkpoint]

Each transaction updates three random concepts and adds a message; every tenth deletes a message.
The rows are chosen by SEED alone; timestamps are the clock's. With `checkpoint` the WAL is empty at
the end.
"""

import random
import sqlite3
import sys
import time

DELETE_EVERY = 10


def main():
    path, transaction_count, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    checkpoint = len(sys.argv) > 4 and sys.argv[4] == "checkpoint"
    rnd = random.Random(seed)
    database = sqlite3.connect(path, isolation_level=None, timeout=30)
    database.execute("pragma synchronous=normal")
    last_message = database.execute("select max(id) from messages").fetchone()[0]
    concepts = [row[0] for row in database.execute("select id from concepts limit 200000")]
    for number in range(transaction_count):
        transact(database, rnd, concepts, last_message, number)
    if checkpoint:
        database.execute("pragma wal_checkpoint(truncate)")


def transact(database, rnd, concepts, last_message, number):
    database.execute("begin immediate")
    for _ in range(3):
        database.execute(
            "update concepts set importance=?,updated_at=? where id=?",
            (rnd.random(), int(time.time()), rnd.choice(concepts)),
        )
    session = "s%06d" % rnd.randrange(5000)
    content = "hello %d %s" % (number, "x" * rnd.randrange(300))
    database.execute(
        "insert into messages values(?,?,?,?,?)",
        (None, session, "user", content, int(time.time())),
    )
    if number % DELETE_EVERY == 0:
        database.execute("delete from messages where id=?", (rnd.randrange(1, last_message),))
    database.execute("commit")


if __name__ == "__main__":
    main()
