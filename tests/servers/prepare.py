#!/usr/bin/env python3
"""Makes ready a server of the tests, from the URL and the credentials that the tests will use: makes the bucket or
container, writes an object, reads it back, and tries what every repository stands on: of several clients that create
one object at the same moment, does exactly one win?

usage: prepare.py URL

Prints what it found: `exclusive`, `overwriting` (later creations win, too), or `unknown` (sftp: its command-line client
cannot ask for it). Ends with 1 and a line on standard error if the server does not answer so, or not yet. Uses nothing
but the standard library and, for sftp, OpenSSH's client.
"""

import base64
import concurrent.futures
import datetime
import hashlib
import hmac
import http.client
import json
import os
import subprocess
import sys
import tempfile
import uuid
from email.utils import formatdate
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlsplit

RIVALS = 4
CONTENT = b"the one content of an object"
CREATED = {200, 201}
REFUSED = {409, 412}


class Unready(Exception):
    """What the server answered, or that it did not."""


class Place:
    """A URL, taken apart."""

    def __init__(self, url):
        parts = urlsplit(url)
        self.scheme, self.user, self.port = parts.scheme, parts.username, parts.port
        self.bucket, self.prefix = parts.hostname, unquote(parts.path.strip("/"))
        self.path = unquote(parts.path)
        self.options = dict(parse_qsl(parts.query))
        endpoint = urlsplit(self.options.get("endpoint", ""))
        self.host, self.base = endpoint.netloc, endpoint.path

    def object(self, name):
        return f"/{self.bucket}/{quote(f'{self.prefix}/{name}'.strip('/'))}"

    def send(self, method, path, headers, body=b"", query=""):
        connection = http.client.HTTPConnection(self.host, timeout=10)
        try:
            headers = {**headers, "content-length": str(len(body))}
            connection.request(method, self.base + path + (f"?{query}" if query else ""), body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise Unready(f"{self.host}: {error!r}") from error
        finally:
            connection.close()


class S3:
    """Requests signed with Signature Version 4."""

    def __init__(self, place):
        self.place = place

    def make_bucket(self):
        # Beside it one whose objects can be locked, where the server knows how (tests/object_lock.rs).
        self.send("PUT", f"/{self.place.bucket}-locked", {"x-amz-bucket-object-lock-enabled": "true"})
        return self.send("PUT", f"/{self.place.bucket}", {})

    def create(self, name, body):
        return self.send("PUT", self.place.object(name), {"if-none-match": "*"}, body)

    def read(self, name):
        return self.send("GET", self.place.object(name), {})

    def send(self, method, path, headers, body=b"", query=""):
        own = {name: value for name, value in headers.items() if name.startswith("x-amz-")}
        signed = self.sign(method, path, hashlib.sha256(body).hexdigest(), query, own)
        return self.place.send(method, path, {**headers, **signed}, body, query)

    def sign(self, method, path, digest, query="", own=None):
        """The headers of a request whose body has this digest and whose query is in canonical form; `own` are signed, too."""
        now = datetime.datetime.now(datetime.timezone.utc)
        date, region = now.strftime("%Y%m%d"), self.place.options.get("region", "us-east-1")
        signed = {"host": self.place.host, "x-amz-content-sha256": digest, "x-amz-date": now.strftime("%Y%m%dT%H%M%SZ")}
        signed = dict(sorted({**signed, **(own or {})}.items()))
        names = ";".join(signed)
        lines = "".join(f"{header}:{value}\n" for header, value in signed.items())
        canonical = "\n".join([method, self.place.base + path, query, lines, names, digest])
        scope = f"{date}/{region}/s3/aws4_request"
        hashed = hashlib.sha256(canonical.encode()).hexdigest()
        key = ("AWS4" + os.environ["AWS_SECRET_ACCESS_KEY"]).encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        text = "\n".join(["AWS4-HMAC-SHA256", signed["x-amz-date"], scope, hashed])
        signature = hmac.digest(key, text.encode(), "sha256").hex()
        credential = f"{os.environ['AWS_ACCESS_KEY_ID']}/{scope}"
        authorization = f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={signature}"
        return {**signed, "authorization": authorization}


class Azure:
    """Requests signed with the account's key (SharedKey)."""

    def __init__(self, place):
        self.place = place

    def make_bucket(self):
        return self.send("PUT", f"/{self.place.bucket}", {}, query="restype=container")

    def create(self, name, body):
        headers = {"if-none-match": "*", "x-ms-blob-type": "BlockBlob"}
        return self.send("PUT", self.place.object(name), headers, body)

    def read(self, name):
        return self.send("GET", self.place.object(name), {})

    def send(self, method, path, headers, body=b"", query=""):
        account, key = os.environ["AZURE_STORAGE_ACCOUNT"], os.environ["AZURE_STORAGE_KEY"]
        headers = {**headers, "x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
        own = "".join(f"{name}:{value}\n" for name, value in sorted(headers.items()) if name.startswith("x-ms-"))
        parameter = "\n" + query.replace("=", ":") if query else ""
        resource = f"/{account}{self.place.base}{path}{parameter}"
        # Verb, encoding, language, length, MD5, type, date, four conditions, range.
        fixed = [method, "", "", str(len(body) or ""), "", "", "", "", "", headers.get("if-none-match", ""), "", ""]
        text = "\n".join([*fixed, own + resource])
        signature = base64.b64encode(hmac.digest(base64.b64decode(key), text.encode(), "sha256")).decode()
        headers["authorization"] = f"SharedKey {account}:{signature}"
        return self.place.send(method, path, headers, body, query)


class Gcs:
    """Requests without a signature: the server is a fake."""

    def __init__(self, place):
        self.place = place

    def make_bucket(self):
        return self.place.send("POST", "/storage/v1/b", {}, json.dumps({"name": self.place.bucket}).encode())

    def create(self, name, body):
        query = f"uploadType=media&ifGenerationMatch=0&name={quote(f'{self.place.prefix}/{name}', safe='')}"
        return self.place.send("POST", f"/upload/storage/v1/b/{self.place.bucket}/o", {}, body, query)

    def read(self, name):
        return self.place.send("GET", self.place.object(name), {})


def prepare_bucket(client):
    status, said = client.make_bucket()
    if status not in CREATED | {409}:
        raise Unready(f"making the bucket: status {status}: {said[:300]!r}")
    name = f"prepared-{uuid.uuid4().hex}"
    if not create(client, name):
        raise Unready(f"{name} was there before it was made")
    if client.read(name) != (200, CONTENT):
        raise Unready(f"reading an object back: {client.read(name)!r}")
    if create(client, name):
        return "overwriting"
    contested = f"contested-{uuid.uuid4().hex}"
    with concurrent.futures.ThreadPoolExecutor(RIVALS) as rivals:
        won = sum(rivals.map(lambda _: create(client, contested), range(RIVALS)))
    if won != 1:
        raise Unready(f"of {RIVALS} clients that created one object at once, {won} were told that they did")
    return "exclusive"


def create(client, name):
    """Whether the server says that it made the object because there was none."""
    status, said = client.create(name, CONTENT)
    if status not in CREATED | REFUSED:
        raise Unready(f"creating an object: status {status}: {said[:300]!r}")
    return status in CREATED


def prepare_sftp(place):
    name = f"{place.path}/prepared-{uuid.uuid4().hex}"
    with tempfile.TemporaryDirectory() as folder:
        local, back = Path(folder, "local"), Path(folder, "back")
        local.write_bytes(CONTENT)
        options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "BatchMode=yes", "LogLevel=ERROR"]
        command = ["sftp", "-b", "-", "-F", "none", "-i", place.options["key"], "-P", str(place.port)]
        command += [word for option in options for word in ("-o", option)]
        steps = f'put "{local}" "{name}"\nget "{name}" "{back}"\nrm "{name}"\n'
        target = f"{place.user}@{place.bucket}"
        done = subprocess.run([*command, target], input=steps, capture_output=True, text=True, timeout=30, check=False)
        if done.returncode != 0 or back.read_bytes() != CONTENT:
            raise Unready(f"sftp {target}: {done.stderr.strip()}")
    return "unknown"


def prepare(url):
    place = Place(url)
    if place.scheme == "sftp":
        return prepare_sftp(place)
    return prepare_bucket({"s3": S3, "azblob": Azure, "gs": Gcs}[place.scheme](place))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        print(prepare(sys.argv[1]))
    except Unready as error:
        sys.exit(f"prepare: {error}")
