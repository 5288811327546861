#!/usr/bin/env python3
"""What a measurement needs of an S3 server beside the tools that are measured.

usage: s3.py make URL            an empty bucket; what is in one of this name is removed
       s3.py remove URL          the bucket and all that is in it
       s3.py list URL            every object under the prefix: its length and its key, one a line
       s3.py put URL BYTES       so many bytes in objects of 16 MiB, by 4 clients at once; prints a JSON document

URL: s3://BUCKET/PREFIX?endpoint=http://HOST:PORT&region=REGION; credentials are in the environment. The `seconds` that
`put` tells of are those of the requests alone: the clients are connected and hold their bytes when the clock starts, and
they do not hash them. So it is the least that this server takes to store that much. The bytes are random, as encrypted
ones are to a server.
"""

import http.client
import json
import os
import queue
import sys
import threading
import time
import xml.etree.ElementTree
from pathlib import Path
from urllib.parse import quote

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests/servers"))
from prepare import S3, Place  # noqa: E402 (it is in another folder)

OBJECT_BYTES = 16 << 20
CLIENTS = 4
TIMEOUT_S = 600
NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"


class Client(S3):
    """One connection, which is kept."""

    def __init__(self, place):
        super().__init__(place)
        self.connection = http.client.HTTPConnection(place.host, timeout=TIMEOUT_S)
        self.connection.connect()

    def ask(self, method, path, expected, body=b"", query=""):
        headers = self.sign(method, path, "UNSIGNED-PAYLOAD", query)
        target = self.place.base + path + (f"?{query}" if query else "")
        self.connection.request(method, target, body, headers)
        answer = self.connection.getresponse()
        said = answer.read()
        if answer.status not in expected:
            raise SystemExit(f"s3.py: {method} {path}: status {answer.status}: {said[:300]!r}")
        return answer.status, said


def make(place):
    remove(place)
    Client(place).ask("PUT", f"/{place.bucket}", {200})


def remove(place):
    client = Client(place)
    for key, _ in list(objects_in(client, "")):
        client.ask("DELETE", f"/{place.bucket}/{quote(key)}", {200, 204, 404})
    client.ask("DELETE", f"/{place.bucket}", {200, 204, 404})


def show(place):
    for key, length in objects_in(Client(place), f"{place.prefix}/"):
        print(length, key)


def objects_in(client, prefix):
    """Keys and lengths; none if there is no such bucket."""
    token = None
    while True:
        query = {"list-type": "2", "prefix": prefix}
        if token:
            query["continuation-token"] = token
        text = "&".join(f"{name}={quote(value, safe='')}" for name, value in sorted(query.items()))
        status, said = client.ask("GET", f"/{client.place.bucket}", {200, 404}, query=text)
        if status == 404:
            return
        answer = xml.etree.ElementTree.fromstring(said)
        for entry in answer.findall(f"{NAMESPACE}Contents"):
            yield entry.findtext(f"{NAMESPACE}Key"), int(entry.findtext(f"{NAMESPACE}Size"))
        token = answer.findtext(f"{NAMESPACE}NextContinuationToken")
        if not token:
            return


def put(place, total_bytes):
    lengths = [OBJECT_BYTES] * (total_bytes // OBJECT_BYTES)
    if total_bytes % OBJECT_BYTES:
        lengths.append(total_bytes % OBJECT_BYTES)
    left = queue.SimpleQueue()
    for number, length in enumerate(lengths):
        left.put((f"{place.prefix}/{number:06}", length))
    clients = [(Client(place), os.urandom(OBJECT_BYTES)) for _ in range(CLIENTS)]
    failed = []
    threads = [threading.Thread(target=put_all, args=(*client, left, failed)) for client in clients]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.monotonic() - started
    if failed:
        raise SystemExit(f"s3.py: {failed[0]}")
    document = {"bytes": total_bytes, "objects": len(lengths), "seconds": seconds}
    print(json.dumps(document, separators=(",", ":")))


def put_all(client, content, left, failed):
    """Puts objects until none are left."""
    content = memoryview(content)
    try:
        while True:
            key, length = left.get_nowait()
            client.ask("PUT", f"/{client.place.bucket}/{quote(key)}", {200}, content[:length])
    except queue.Empty:
        pass
    except (SystemExit, OSError, http.client.HTTPException) as error:
        failed.append(error)


def main(words):
    match words:
        case ["make", url]:
            make(Place(url))
        case ["remove", url]:
            remove(Place(url))
        case ["list", url]:
            show(Place(url))
        case ["put", url, total_bytes]:
            put(Place(url), int(total_bytes))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
