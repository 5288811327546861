#!/usr/bin/env python3
"""A small Google Cloud Storage for tests: what a client that writes whole objects, reads ranges, lists and deletes
asks of the JSON and XML interfaces, with generations and preconditions as the real service has them.

usage: fake_gcs.py PORT

Listens on loopback, keeps everything in memory, checks no credentials. A condition is checked and the change made
under one lock, so that of many writers with `ifGenerationMatch=0` exactly one is told that it made the object. A
condition that is not understood is refused (501) rather than ignored. Not here: versions of an object that are past,
access control, compose, notifications.
"""

import base64
import dataclasses
import hashlib
import itertools
import json
import re
import sys
import threading
import time
import uuid
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, quote, unquote, urlsplit

PAGE_ITEMS = 1000
"""The most that one page of a listing holds, as with the real service."""


class Refusal(Exception):
    """A request that ends with an error status."""

    def __init__(self, status, reason):
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclasses.dataclass(frozen=True)
class Condition:
    """What must hold of an object's generation, which is 0 while there is no object."""

    generation_match: int | None = None
    generation_not_match: int | None = None

    @classmethod
    def of(cls, query, headers):
        """The condition of a request: the JSON interface has it in the query, the XML interface in a header."""
        known = {"ifGenerationMatch", "ifGenerationNotMatch"}
        unknown = {name for name in query if name.startswith("if")} - known
        unknown |= {name for name in headers if name.lower() in ("if-match", "if-none-match")}
        if unknown:
            raise Refusal(501, f"conditions not implemented: {', '.join(sorted(unknown))}")
        match = query.get("ifGenerationMatch", headers.get("x-goog-if-generation-match"))
        not_match = query.get("ifGenerationNotMatch")
        return cls(*(None if value is None else int(value) for value in (match, not_match)))

    def check(self, generation):
        """Refuses unless the condition holds."""
        if self.generation_match not in (None, generation) or self.generation_not_match == generation:
            raise Refusal(412, "conditionNotMet")


@dataclasses.dataclass(frozen=True)
class Stored:
    """An object as it was written once; it never changes, only its place in the bucket does."""

    data: bytes
    content_type: str
    generation: int
    updated: str

    @property
    def etag(self):
        return f"E{self.generation}"

    def resource(self, bucket, name):
        """The document that describes it."""
        return {
            "kind": "storage#object",
            "id": f"{bucket}/{name}/{self.generation}",
            "bucket": bucket,
            "name": name,
            "generation": str(self.generation),
            "metageneration": "1",
            "contentType": self.content_type,
            "size": str(len(self.data)),
            "md5Hash": base64.b64encode(hashlib.md5(self.data).digest()).decode(),
            "etag": self.etag,
            "timeCreated": self.updated,
            "updated": self.updated,
            "storageClass": "STANDARD",
        }


class Buckets:
    """All objects. Every method is one step that no other comes between."""

    def __init__(self):
        self._lock = threading.Lock()
        self._buckets = {}
        self._generations = itertools.count(time.time_ns() // 1000)

    def make(self, bucket):
        with self._lock:
            if bucket in self._buckets:
                raise Refusal(409, "conflict")
            self._buckets[bucket] = {}

    def get(self, bucket, name, condition):
        with self._lock:
            found = self._objects(bucket).get(name)
        if found is None:
            raise Refusal(404, "notFound")
        if condition.generation_not_match == found.generation:
            raise Refusal(304, "notModified")
        condition.check(found.generation)
        return found

    def put(self, bucket, name, data, content_type, condition):
        now = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
        with self._lock:
            objects = self._objects(bucket)
            self._check(objects, name, condition)
            made = Stored(data, content_type or "application/octet-stream", next(self._generations), now)
            objects[name] = made
        return made

    def delete(self, bucket, name, condition):
        with self._lock:
            objects = self._objects(bucket)
            if name not in objects:
                raise Refusal(404, "notFound")
            self._check(objects, name, condition)
            del objects[name]

    def check(self, bucket, name, condition):
        """Refuses at once what would be refused when it is written now."""
        with self._lock:
            self._check(self._objects(bucket), name, condition)

    def all(self, bucket):
        """Names and objects, in the order of a listing: that of the names' bytes."""
        with self._lock:
            return sorted(self._objects(bucket).items(), key=lambda item: item[0].encode())

    def _objects(self, bucket):
        if bucket not in self._buckets:
            raise Refusal(404, "notFound")
        return self._buckets[bucket]

    @staticmethod
    def _check(objects, name, condition):
        condition.check(objects[name].generation if name in objects else 0)


@dataclasses.dataclass
class Session:
    """A resumable upload (JSON interface): what has arrived, and the object once it is whole."""

    bucket: str
    name: str
    content_type: str | None
    condition: Condition
    arrived: bytearray = dataclasses.field(default_factory=bytearray)
    finished: Stored | None = None
    lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)


class Uploads:
    """Uploads that have begun and not ended, by id: resumable sessions, and the parts of multipart uploads."""

    def __init__(self):
        self._lock = threading.Lock()
        self._begun = {}

    def begin(self, upload):
        upload_id = uuid.uuid4().hex
        with self._lock:
            self._begun[upload_id] = upload
        return upload_id

    def get(self, upload_id):
        with self._lock:
            if upload_id not in self._begun:
                raise Refusal(404, "notFound")
            return self._begun[upload_id]

    def end(self, upload_id):
        with self._lock:
            return self._begun.pop(upload_id, None)


BUCKETS = Buckets()
UPLOADS = Uploads()


@dataclasses.dataclass
class Answer:
    """What a request gets: bytes, or a document that is sent as JSON."""

    status: int = 200
    body: bytes | dict = b""
    content_type: str = "application/json"
    headers: dict = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Request:
    """A request with its query and body taken apart."""

    method: str
    path: str
    query: dict
    headers: Message
    body: bytes

    @property
    def condition(self):
        return Condition.of(self.query, self.headers)


# The JSON interface.


def make_bucket(request):
    name = json.loads(request.body)["name"]
    BUCKETS.make(name)
    return Answer(body={"kind": "storage#bucket", "name": name})


def list_objects(request, bucket):
    """One page. A name with the delimiter behind the prefix counts for all that share its beginning."""
    query = request.query
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    most = min(int(query.get("maxResults", PAGE_ITEMS)), PAGE_ITEMS)
    entries = {}
    for name, stored in BUCKETS.all(bucket):
        if not name.startswith(prefix) or name.encode() < query.get("startOffset", "").encode():
            continue
        head, found, _ = name[len(prefix) :].partition(delimiter) if delimiter else (name, "", "")
        if found:
            entries[prefix + head + delimiter] = None
        else:
            entries[name] = stored
    after = base64.urlsafe_b64decode(query.get("pageToken", ""))
    left = [(name, stored) for name, stored in entries.items() if name.encode() > after]
    page = left[:most]
    answer = {"kind": "storage#objects"}
    answer["items"] = [stored.resource(bucket, name) for name, stored in page if stored]
    answer["prefixes"] = [name for name, stored in page if not stored]
    if len(left) > most:
        answer["nextPageToken"] = base64.urlsafe_b64encode(page[-1][0].encode()).decode()
    return Answer(body=answer)


def object_by_json(request, bucket, name):
    condition = request.condition
    if request.method == "DELETE":
        BUCKETS.delete(bucket, name, condition)
        return Answer(204)
    stored = BUCKETS.get(bucket, name, condition)
    if request.query.get("alt") == "media":
        return content(stored, request.headers.get("range"))
    return Answer(body=stored.resource(bucket, name))


def content(stored, byte_range):
    """The bytes of an object, or those of a range of it."""
    headers = {"etag": stored.etag, "x-goog-generation": str(stored.generation)}
    size = len(stored.data)
    bounds = re.fullmatch(r"bytes=(\d*)-(\d*)", byte_range or "")
    if not bounds or bounds.groups() == ("", ""):
        return Answer(200, stored.data, stored.content_type, headers)
    first, last = bounds.groups()
    if first == "":
        start, end = max(size - int(last), 0), size
    else:
        start, end = int(first), min(int(last) + 1, size) if last else size
    if start >= end:
        return Answer(416, b"", stored.content_type, {"content-range": f"bytes */{size}"})
    headers["content-range"] = f"bytes {start}-{end - 1}/{size}"
    return Answer(206, stored.data[start:end], stored.content_type, headers)


def upload(request, bucket):
    """An object in one request, with or without a document before it, or the begin of a resumable session."""
    kind, content_type = request.query.get("uploadType"), request.headers.get("content-type")
    name, condition, data = request.query.get("name"), request.condition, request.body
    if kind == "resumable":
        content_type = request.headers.get("x-upload-content-type")
        # The real service looks at the condition now as well as in the end.
        BUCKETS.check(bucket, name, condition)
        upload_id = UPLOADS.begin(Session(bucket, name, content_type, condition))
        base = f"http://{request.headers['host']}{request.path}"
        query = f"uploadType=resumable&name={quote(name, safe='')}&upload_id={upload_id}"
        return Answer(headers={"location": f"{base}?{query}"})
    if kind == "multipart":
        document, (_, data) = parts_of(data, content_type)
        described = json.loads(document[1])
        name, content_type = described.get("name", name), described.get("contentType")
    elif kind != "media":
        raise Refusal(400, f"uploadType {kind}")
    return Answer(body=BUCKETS.put(bucket, name, data, content_type, condition).resource(bucket, name))


def upload_session(request, bucket):
    """The next bytes of a resumable session, a question how far it is, or its end."""
    upload_id = request.query["upload_id"]
    if request.method == "DELETE":
        UPLOADS.end(upload_id)
        return Answer(499)
    session = UPLOADS.get(upload_id)
    told = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)", request.headers.get("content-range", ""))
    if not told:
        raise Refusal(400, "a resumable upload needs a content-range")
    first, _, total = told.groups()
    with session.lock:
        if session.finished is None:
            if first is not None and int(first) > len(session.arrived):
                raise Refusal(400, f"bytes {len(session.arrived)} to {first} are missing")
            if first is not None:
                # What has arrived already is not looked at again.
                session.arrived += request.body[len(session.arrived) - int(first) :]
            if total == "*" or len(session.arrived) < int(total):
                here = {"range": f"bytes=0-{len(session.arrived) - 1}"} if session.arrived else {}
                return Answer(308, headers=here)
            data = bytes(session.arrived)
            session.finished = BUCKETS.put(bucket, session.name, data, session.content_type, session.condition)
        return Answer(body=session.finished.resource(bucket, session.name))


def rewrite(request, from_bucket, from_name, to_bucket, to_name):
    """A copy, in one step however large it is."""
    source = BUCKETS.get(from_bucket, from_name, Condition())
    if request.query.get("sourceGeneration", str(source.generation)) != str(source.generation):
        raise Refusal(404, "notFound")
    made = BUCKETS.put(to_bucket, to_name, source.data, source.content_type, request.condition)
    size, resource = str(len(source.data)), made.resource(to_bucket, to_name)
    answer = {"kind": "storage#rewriteResponse", "done": True, "totalBytesRewritten": size, "objectSize": size}
    return Answer(body={**answer, "resource": resource})


def batch(request):
    """Deletions, many in one request; each has a status of its own."""
    answers = []
    for headers, inner in parts_of(request.body, request.headers["content-type"]):
        line = re.match(rb"DELETE (\S+) HTTP", inner)
        target = urlsplit(line[1].decode()) if line else None
        named = target and re.fullmatch(r"/storage/v1/b/([^/]+)/o/(.+)", target.path)
        if not named:
            raise Refusal(501, "only deletions are implemented in a batch")
        status = "204 No Content"
        try:
            query = dict(parse_qsl(target.query))
            BUCKETS.delete(named[1], unquote(named[2]), Condition.of(query, {}))
        except Refusal as refusal:
            status = f"{refusal.status} {refusal.reason}"
        number = headers.get("content-id", "").strip("<>")
        answers.append(
            "--batch\r\nContent-Type: application/http\r\n"
            f"Content-ID: <response-{number}>\r\n\r\nHTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n\r\n"
        )
    return Answer(200, "".join([*answers, "--batch--\r\n"]).encode(), "multipart/mixed; boundary=batch")


def parts_of(body, content_type):
    """Headers and bytes of each part of a multipart body."""
    boundary = re.search(r'boundary="?([^";]+)', content_type or "")
    if not boundary:
        raise Refusal(400, "a multipart body needs a boundary")
    # Each part stands between `--boundary CRLF` and `CRLF --boundary`.
    pieces = (b"\r\n" + body).split(b"\r\n--" + boundary[1].encode())[1:-1]
    parts = []
    for piece in pieces:
        head, _, data = piece.partition(b"\r\n\r\n")
        lines = (line.partition(":") for line in head.decode().split("\r\n") if line)
        parts.append(({name.strip().lower(): value.strip() for name, _, value in lines}, data))
    return parts


# The XML interface.


def object_by_xml(request, bucket, name):
    if "uploads" in request.query or "uploadId" in request.query:
        return multipart(request, bucket, name)
    condition = request.condition
    if request.method == "PUT":
        made = BUCKETS.put(bucket, name, request.body, request.headers.get("content-type"), condition)
        return Answer(headers={"etag": f'"{made.etag}"', "x-goog-generation": str(made.generation)})
    if request.method == "DELETE":
        BUCKETS.delete(bucket, name, condition)
        return Answer(204)
    return content(BUCKETS.get(bucket, name, condition), request.headers.get("range"))


def multipart(request, bucket, name):
    """An upload in parts that come in any order, several at once."""
    method, upload_id = request.method, request.query.get("uploadId")
    if method == "POST" and upload_id is None:
        begun = UPLOADS.begin({})
        names = f"<Bucket>{bucket}</Bucket><Key></Key><UploadId>{begun}</UploadId>"
        return xml(f"<InitiateMultipartUploadResult>{names}</InitiateMultipartUploadResult>")
    if method == "PUT":
        UPLOADS.get(upload_id)[int(request.query["partNumber"])] = request.body
        return Answer(headers={"etag": f'"{hashlib.md5(request.body).hexdigest()}"'})
    if method == "DELETE":
        UPLOADS.end(upload_id)
        return Answer(204)
    parts = UPLOADS.get(upload_id)
    numbers = [int(number) for number in re.findall(rb"<PartNumber>(\d+)</PartNumber>", request.body)]
    if missing := [number for number in numbers if number not in parts]:
        raise Refusal(400, f"parts {missing} were not uploaded")
    data = b"".join(parts[number] for number in numbers)
    made = BUCKETS.put(bucket, name, data, None, request.condition)
    UPLOADS.end(upload_id)
    answer = xml(f'<CompleteMultipartUploadResult><ETag>"{made.etag}"</ETag></CompleteMultipartUploadResult>')
    answer.headers = {"etag": f'"{made.etag}"', "x-goog-generation": str(made.generation)}
    return answer


def xml(text):
    return Answer(200, f'<?xml version="1.0"?>{text}'.encode(), "application/xml")


ROUTES = [
    (r"POST", r"/storage/v1/b", make_bucket),
    (r"GET", r"/storage/v1/b/([^/]+)/o", list_objects),
    (r"POST", r"/storage/v1/b/([^/]+)/o/([^/]+)/rewriteTo/b/([^/]+)/o/([^/]+)", rewrite),
    (r"GET|HEAD|DELETE", r"/storage/v1/b/([^/]+)/o/(.+)", object_by_json),
    (r"POST", r"/upload/storage/v1/b/([^/]+)/o", upload),
    (r"PUT|DELETE", r"/upload/storage/v1/b/([^/]+)/o", upload_session),
    (r"POST", r"/batch/storage/v1", batch),
    (r"GET|HEAD|PUT|POST|DELETE", r"/(?!storage/|upload/|batch/)([^/]+)/(.+)", object_by_xml),
]
"""Methods, path and function of each request that is understood; the path's groups are the function's arguments."""


def respond(request):
    for methods, pattern, function in ROUTES:
        named = re.fullmatch(pattern, request.path)
        if named and request.method in methods.split("|"):
            return function(request, *(unquote(group) for group in named.groups()))
    raise Refusal(501, f"not implemented: {request.method} {request.path}")


class Handler(BaseHTTPRequestHandler):
    """HTTP, and nothing of the service."""

    protocol_version = "HTTP/1.1"
    # Answers go out in two writes; the second must not wait until the first is acknowledged.
    disable_nagle_algorithm = True

    def handle_one(self):
        url = urlsplit(self.path)
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        request = Request(self.command, url.path, query, self.headers, self.read_body())
        try:
            answer = respond(request)
        except Refusal as refusal:
            error = {"code": refusal.status, "message": refusal.reason, "errors": [{"reason": refusal.reason}]}
            answer = Answer(refusal.status, {"error": error})
        except (KeyError, TypeError, ValueError) as error:
            answer = Answer(400, {"error": {"code": 400, "message": repr(error)}})
        self.send(answer)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_one

    def read_body(self):
        if "chunked" not in self.headers.get("transfer-encoding", ""):
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        body = bytearray()
        while length := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(length)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return bytes(body)

    def send(self, answer):
        body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        bodiless = answer.status in (204, 304)
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if not bodiless:
            self.send_header("content-type", answer.content_type)
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD" and not bodiless:
            self.wfile.write(body)

    def log_message(self, *_):
        """Says nothing: tests make many requests."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
