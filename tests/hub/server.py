"""A Hub on loopback, of the standard library: push, pull and revisions as huggingface_hub speaks them, and failures.

Requests for files are counted in `HubServer.downloads`, bodies only. `failure` makes the next requests for files fail.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

STATUS = {"unauthorized": 401, "forbidden": 403, "gated": 403, "absent": 404, "broken": 500}
CODE = {"gated": "GatedRepo", "absent": "RepoNotFound"}
LARGE = (".safetensors", ".onnx")


@dataclass
class Repository:
    private: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def commit(self, branch: str, files: dict[str, bytes]) -> str:
        files = self.commits.get(self.refs.get(branch, ""), {}) | files
        state = json.dumps([len(self.commits), *((name, hashlib.sha256(files[name]).hexdigest()) for name in files)])
        sha = hashlib.sha1(state.encode()).hexdigest()
        self.commits[sha] = files
        self.refs[branch] = sha
        return sha


class HubServer(ThreadingHTTPServer):
    """Attributes: repositories by id; `failure` a key of STATUS, "truncated" or "altered"; `downloads`."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, Repository] = {}
        self.large: dict[str, bytes] = {}
        self.failure: str | None = None
        self.downloads: list[str] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def serving() -> Iterator[HubServer]:
    server = HubServer()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self._get()

    def do_GET(self):
        self._get()

    def _get(self):
        path = urlsplit(self.path).path
        if found := re.fullmatch(r"/(.+)/resolve/([^/]+)/(.+)", path):
            self._file(*map(unquote, found.groups()))
        elif found := re.fullmatch(r"/api/models/(.+)/revision/([^/]+)", path):
            repo, revision = map(unquote, found.groups())
            sha = self.server.repositories[repo].refs.get(revision, revision)
            files = self.server.repositories[repo].commits[sha]
            self._json({"id": repo, "sha": sha, "siblings": [{"rfilename": name} for name in files]})
        else:
            self._error("absent")

    def _file(self, repo_id, revision, name):
        failure = self.server.failure
        if failure in STATUS:
            return self._error(failure)
        repo = self.server.repositories.get(repo_id)
        if repo is None:
            return self._error("absent")
        sha = repo.refs.get(revision, revision)
        if sha not in repo.commits:
            return self._error("absent", "RevisionNotFound")
        headers = {"X-Repo-Commit": sha}
        if name not in repo.commits[sha]:
            return self._error("absent", "EntryNotFound", headers)
        body = repo.commits[sha][name]
        etag = hashlib.sha256(body).hexdigest()
        headers |= {"ETag": f'"{etag}"'}
        if name.endswith(LARGE):
            headers |= {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(body))}
        if self.command == "GET":
            self.server.downloads.append(name)
            if failure == "truncated":
                body = body[: len(body) // 2]
            elif failure == "altered" and name.endswith(LARGE):
                body = body[:-1] + bytes([body[-1] ^ 1])
        return self._send(200, body, headers)

    def do_POST(self):
        body = (
            self.rfile.read(int(self.headers["Content-Length"])) if "Content-Length" in self.headers else self._chunks()
        )
        path = unquote(urlsplit(self.path).path)
        if self.server.failure in STATUS:
            self._error(self.server.failure)
        elif path == "/api/repos/create":
            asked = json.loads(body)
            repo_id = "/".join(filter(None, (asked.get("organization"), asked["name"])))
            if repo_id in self.server.repositories:
                self._json({"error": "exists", "url": f"{self.server.endpoint}/{repo_id}"}, 409)
            else:
                self.server.repositories[repo_id] = Repository(private=asked.get("visibility") == "private")
                self.server.repositories[repo_id].commit("main", {})
                self._json({"url": f"{self.server.endpoint}/{repo_id}"})
        elif path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif re.fullmatch(r"/api/models/(.+)/preupload/(.+)", path):
            files = [file["path"] for file in json.loads(body)["files"]]
            modes = [{"path": p, "uploadMode": "lfs" if p.endswith(LARGE) else "regular"} for p in files]
            self._json({"files": [mode | {"shouldIgnore": False} for mode in modes]})
        elif path.endswith(".git/info/lfs/objects/batch"):
            objects = json.loads(body)["objects"]
            self._json({"transfer": "basic", "objects": [self._place(o["oid"], o["size"]) for o in objects]})
        elif found := re.fullmatch(r"/api/models/(.+)/(commit|branch|tag)/(.+)", path):
            self._change(*found.groups(), body)
        else:
            self._error("absent")

    def _place(self, oid, size):
        upload = {"href": f"{self.server.endpoint}/upload/{oid}"}
        return {"oid": oid, "size": size, "actions": {"upload": upload}}

    def _change(self, repo_id, what, revision, body):
        repo = self.server.repositories[repo_id]
        if what == "branch":
            repo.refs.setdefault(revision, repo.refs["main"])
            return self._json({})
        if what == "tag":
            if (tag := json.loads(body)["tag"]) in repo.refs:
                return self._json({"error": "Tag reference exists already"}, 409)
            repo.refs[tag] = repo.refs.get(revision, revision)
            return self._json({})
        files = {}
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.large[value["oid"]]
        sha = repo.commit(revision, files)
        url = f"{self.server.endpoint}/{repo_id}/commit/{sha}"
        return self._json({"success": True, "commitOid": sha, "commitUrl": url, "hookOutput": ""})

    def do_PUT(self):
        body = (
            self.rfile.read(int(self.headers["Content-Length"])) if "Content-Length" in self.headers else self._chunks()
        )
        oid = hashlib.sha256(body).hexdigest()
        if oid != self.path.rpartition("/")[2]:
            self._error("broken")
        else:
            self.server.large[oid] = body
            self._send(200, b"", {})

    def _chunks(self):
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _json(self, content, status=200):
        self._send(status, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _error(self, failure, code=None, headers=None):
        code = code or CODE.get(failure)
        self._send(STATUS[failure], b"", (headers or {}) | ({"X-Error-Code": code} if code else {}))

    def _send(self, status, body, headers):
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
