"""Archives made on the spot, and a server on this machine that hands them out and can be told to misbehave."""

import contextlib
import gzip
import hashlib
import http.server
import io
import tarfile
import threading
import zipfile


class Site:
    """Files by path, how to serve them, and what was asked for: (path, first byte)."""

    def __init__(self):
        self.files, self.asked = {}, []
        self.ranges = True
        self.break_at = {}  # path: list of numbers of bytes after which to break off, one for each request
        self.errors = {}  # path: list of HTTP statuses to answer with first
        self.slow = set()  # paths whose second half comes only when `go` is set
        self.go = threading.Event()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        site, path = self.server.site, self.path.lstrip("/")
        if path.startswith("moved/"):
            self.send_response(302)
            self.send_header("Location", "/" + path.removeprefix("moved/"))
            self.end_headers()
            return None
        wanted = self.headers.get("Range") if site.ranges else None
        first = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        site.asked.append((path, first))
        if site.errors.get(path):
            return self.send_error(site.errors[path].pop(0))
        if path not in site.files:
            return self.send_error(404)
        content = site.files[path]
        if first and first >= len(content):
            return self.send_error(416)
        body = content[first:]
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(OSError):
            if site.break_at.get(path):
                self.wfile.write(body[: site.break_at[path].pop(0)])
            elif path in site.slow:
                self.wfile.write(body[: len(body) // 2])
                self.wfile.flush()
                site.go.wait(20)
                self.wfile.write(body[len(body) // 2 :])
            else:
                self.wfile.write(body)
        return None

    def log_message(self, *words):
        pass


@contextlib.contextmanager
def serve():
    """A ``Site`` with its address, ``url``, while it is served."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.site = site = Site()
    site.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield site
    finally:
        site.go.set()
        server.shutdown()
        thread.join()
        server.server_close()


def tar(members, compress=gzip.compress):
    """A compressed tar of name -> bytes, or name -> TarInfo for what is no file."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in members.items():
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = 0 if info is content else len(content)
            archive.addfile(info, None if info is content else io.BytesIO(content))
    return compress(out.getvalue())


def zip_(members):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def noise(seed, count=50000):
    return hashlib.shake_128(str(seed).encode()).digest(count)
