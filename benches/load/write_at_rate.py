#!/usr/bin/env python3
"""Writes to a database of make_database.py at a steady rate, as a busy application.

usage: write_at_rate.py PATH N PER_SECOND

Prints the latencies of its N transactions as the application saw them, from `begin` to the end of
`commit`: what a continuous backup beside it costs the application shows here.
"""

import random
import sqlite3
import sys
import time

SEED = 5


def main():
    path, transaction_count, per_second = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    rnd = random.Random(SEED)
    database = sqlite3.connect(path, isolation_level=None, timeout=30)
    database.execute("pragma synchronous=normal")
    concepts = [row[0] for row in database.execute("select id from concepts limit 200000")]
    started = time.time()
    latencies = []
    for number in range(transaction_count):
        before = time.time()
        transact(database, rnd, concepts, number)
        latencies.append(time.time() - before)
        wait_until(started + (number + 1) / per_second)
    report(latencies, time.time() - started)


def transact(database, rnd, concepts, number):
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
    database.execute("insert into ledger values(?,?,?)", (None, int(time.time() * 1000), "h"))
    database.execute("commit")


def wait_until(moment):
    left = moment - time.time()
    if left > 0:
        time.sleep(left)


def report(latencies, elapsed):
    latencies.sort()
    count = len(latencies)
    print("tx", count, "in", round(elapsed, 2), end=" ")
    for percent in (50, 95, 99):
        print("p%d" % percent, latencies[count * percent // 100] * 1e3, end=" ")
    print("max", latencies[-1] * 1e3, "ms")


if __name__ == "__main__":
    main()
