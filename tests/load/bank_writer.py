"""Load for the live tests: transfers between accounts, whose balances always add up to the same sum.

Between transfers the database is checkpointed, vacuumed and reconnected to now and then, so that the WAL is restarted, truncated and
deleted under a snapshot's feet. Several writers may work on one database.

usage: bank_writer.py DATABASE SEED SECONDS AUTOCHECKPOINT
"""

import random
import sqlite3
import sys
import time

ACCOUNTS = 300
BUSY_TIMEOUT_S = 10


def connect(path, autocheckpoint):
    connection = sqlite3.connect(path, isolation_level=None, timeout=BUSY_TIMEOUT_S)
    connection.execute(f"PRAGMA wal_autocheckpoint = {autocheckpoint}")
    connection.execute("PRAGMA synchronous = off")
    return connection


def transfer(connection, rng):
    """One transaction of a few transfers, seldom of many."""
    connection.execute("BEGIN IMMEDIATE")
    for _ in range(rng.choice([1, 1, 3, 40])):
        payer, payee = rng.randrange(ACCOUNTS), rng.randrange(ACCOUNTS)
        connection.execute(
            "UPDATE accounts SET balance = balance - 1, padding = randomblob(?) WHERE id = ?",
            (rng.randint(10, 200), payer),
        )
        connection.execute("UPDATE accounts SET balance = balance + 1 WHERE id = ?", (payee,))
    connection.execute("COMMIT")


def maintain(connection, rng):
    """What applications do seldom. Returns whether to reconnect."""
    chance = rng.random()
    if chance < 0.004:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    elif chance < 0.006:
        connection.execute("PRAGMA wal_checkpoint(RESTART)")
    elif chance < 0.0075:
        connection.execute("VACUUM")
    return 0.0075 <= chance < 0.0095


def main():
    path, seed, seconds, autocheckpoint = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    rng = random.Random(seed)
    connection = connect(path, autocheckpoint)
    committed = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            transfer(connection, rng)
            committed += 1
            if maintain(connection, rng):
                connection.close()
                connection = connect(path, autocheckpoint)
        except sqlite3.OperationalError:  # locked by another writer
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        time.sleep(rng.choice([0, 0.002, 0.01, 0.05]))
    print(committed)


if __name__ == "__main__":
    main()
