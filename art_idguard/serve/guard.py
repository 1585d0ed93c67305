"""What is refused before the page does anything: strangers' requests, uploads without end."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from art_idguard.serve.address import in_brackets
from art_idguard.serve.sessions import SessionFiles

MAX_UPLOAD = 50 << 20
"""Bytes of a photo."""

MAX_REQUEST = 1 << 20
"""Bytes of any other request, and of what is around a photo in an upload."""

_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_ALL_ADDRESSES = ("0.0.0.0", "[::]")


@contextmanager
def without_proxies() -> Iterator[None]:
    """The environment's proxies do not count: Gradio asks its own server whether it is there."""
    kept = {name: os.environ.pop(name) for name in list(os.environ) if name.lower().endswith("_proxy")}
    try:
        yield
    finally:
        os.environ.update(kept)


def guards(host: str, files: SessionFiles) -> list[Middleware]:
    """The middleware of a page.

    A site that lets its own name point to this computer (DNS rebinding) would be the page's own origin to a browser, so
    requests need a loopback name or `host` as their host; any where `host` stands for all addresses.
    """
    hosts = ("*",) if in_brackets(host) in _ALL_ADDRESSES else (*_LOOPBACK, in_brackets(host))
    trusted = Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)
    return [trusted, Middleware(BoundedRequests, files=files), Middleware(UnstoredPictures)]


class UnstoredPictures:
    """Has browsers keep no picture that they show.

    Args:
        app: answers the requests.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and say so in the answer."""

        async def send_unstored(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Cache-Control"] = "no-store"
            await send(message)

        is_picture = "/file=" in scope.get("path", "")
        await self.app(scope, receive, send_unstored if is_picture else send)


class BoundedRequests:
    """Refuses requests that are too large or do not say how large they are, and uploads while there is no room.

    Args:
        app: gets the other requests.
        files: knows whether there is room.
    """

    def __init__(self, app: ASGIApp, files: SessionFiles) -> None:
        self.app, self.files = app, files

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] == "http" and (refused := await self._refused(scope)):
            await refused(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _refused(self, scope: Scope) -> PlainTextResponse | None:
        if scope["method"] in ("GET", "HEAD", "OPTIONS"):
            return None
        is_upload = scope["path"].rstrip("/").endswith("/upload")
        length = Headers(scope=scope).get("content-length", "")
        if not length.isdecimal():
            return PlainTextResponse("expected a Content-Length", 411)
        if int(length) > MAX_REQUEST + MAX_UPLOAD * is_upload:
            return PlainTextResponse("the request is too large", 413)
        if is_upload and not await run_in_threadpool(self.files.have_room):
            return PlainTextResponse("too many photos are here; try again in a minute", 503)
        return None
