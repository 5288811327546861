"""Load for the watch tests: what other processes do to a database while an application writes to it, at seeded moments, until killed.

Each ACTION is one of passive, full, restart, truncate (checkpoints), vacuum, reconnect, read (a long read transaction).

usage: interfering.py DATABASE SEED MEAN_PAUSE_S ACTION...
"""

import random
import sqlite3
import sys
import time

BUSY_TIMEOUT_S = 10


def connect(path):
    return sqlite3.connect(path, isolation_level=None, timeout=BUSY_TIMEOUT_S)


def act(connection, action, rng):
    if action == "vacuum":
        connection.execute("VACUUM")
    elif action == "read":
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        time.sleep(rng.random() * 0.3)
        connection.execute("COMMIT")
    else:
        connection.execute(f"PRAGMA wal_checkpoint({action})").fetchall()


def main():
    path, seed, pause_s, actions = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4:]
    rng = random.Random(seed)
    connection = connect(path)
    while True:
        time.sleep(rng.random() * 2 * pause_s)
        action = rng.choice(actions)
        try:
            if action == "reconnect":
                connection.close()
                connection = connect(path)
            else:
                act(connection, action, rng)
        except sqlite3.OperationalError:  # locked by another process
            if connection.in_transaction:
                connection.execute("ROLLBACK")


if __name__ == "__main__":
    main()
