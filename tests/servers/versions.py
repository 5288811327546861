#!/usr/bin/env python3
"""What somebody can do to a bucket with object lock who has its keys, and how what is left is brought back.

usage: versions.py destroy|revive|count URL

`destroy` deletes every object below the URL, then every version of it that the service lets go. `revive` takes away
what hides versions, so that the newest one of each object is there again. `count` prints how many objects are there.
Uses nothing but the standard library.
"""

import sys
import xml.etree.ElementTree as tree
from urllib.parse import quote

from prepare import S3, Place

SPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"


def request(client, method, path, query):
    status, said = client.send(method, path, {}, query=query)
    if status >= 400 and status != 403:
        raise SystemExit(f"{method} {path}?{query}: status {status}: {said[:300]!r}")
    return status, said


def versions(client):
    """Of every version and every marker that hides one: key, id, whether it is the newest, whether it is a marker."""
    marker, found = "", []
    while True:
        prefix = quote(client.place.prefix, safe="")
        query = f"key-marker={quote(marker, safe='')}&prefix={prefix}&versions="
        _, said = request(client, "GET", f"/{client.place.bucket}", query)
        page = tree.fromstring(said)
        for name in ("Version", "DeleteMarker"):
            for item in page.iter(SPACE + name):
                key, version, latest = (item.findtext(SPACE + part) for part in ("Key", "VersionId", "IsLatest"))
                found.append((key, version, latest == "true", name == "DeleteMarker"))
        marker = page.findtext(SPACE + "NextKeyMarker") or ""
        if page.findtext(SPACE + "IsTruncated") != "true":
            return found


def delete(client, key, version=None):
    query = f"versionId={quote(version, safe='')}" if version else ""
    status, _ = request(client, "DELETE", f"/{client.place.bucket}/{quote(key)}", query)
    return status != 403


def main(action, url):
    client = S3(Place(url))
    found = versions(client)
    there = {key for key, _, latest, is_marker in found if latest and not is_marker}
    if action == "destroy":
        gone = [delete(client, key) for key in sorted(there)]
        refused = [not delete(client, key, version) for key, version, _, is_marker in found if not is_marker]
        print(f"{sum(gone)} objects deleted; {sum(refused)} versions of them refused to go")
    elif action == "revive":
        markers = [(key, version) for key, version, latest, is_marker in found if is_marker and latest]
        for key, version in markers:
            delete(client, key, version)
        print(f"{len(markers)} objects brought back")
    else:
        print(len(there))


if __name__ == "__main__":
    main(*sys.argv[1:])
