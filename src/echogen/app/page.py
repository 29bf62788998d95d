"""Shared parts of the pages: access control, headers, mistakes in one sentence, and the address to listen at."""

from __future__ import annotations

import hmac
import socket
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.datastructures import Headers
from fastapi.exceptions import RequestValidationError, StarletteHTTPException
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.responses import JSONResponse, PlainTextResponse

from echogen.errors import InputError

LOOPBACK = ("127.0.0.1", "::1", "localhost")
#: Shorter tokens can be guessed.
LEAST_TOKEN = 8
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; media-src 'self' blob:; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
SENTENCES = {
    401: "The address of this page is not complete; open it with the word that you were given.",
    404: "There is nothing at this address; open the page anew.",
    405: "This address takes no such request; open the page anew.",
    413: "This is more than the page takes; send less.",
}


def allowed_hosts(host: str, token: str | None) -> tuple[str, ...]:
    """The names by which a page at `host` may be reached: those of this computer alone, else any, since strangers lack the token.

    Raises `InputError` for a host that others reach without a token, and for a token that is easily guessed or mistyped.
    """
    if host not in LOOPBACK and token is None:
        raise InputError(f"Others could open the page at {host}; give them a word with --token, or leave out --host.")
    if token is not None and not (len(token) >= LEAST_TOKEN and token.isascii() and token.isalnum()):
        raise InputError(f"The token must be {LEAST_TOKEN} or more letters a..z and digits.")
    return ("127.0.0.1", "[::1]", "localhost") if host in LOOPBACK else ("*",)


def same_token(given: str | None, token: str | None) -> bool:
    """True if the token is the right one, compared in constant time; without a token everything is right."""
    return token is None or hmac.compare_digest((given or "").encode(), token.encode())


def token_check(token: str | None) -> Callable[[Request], None]:
    """A dependency that answers 401 unless the header X-Token holds the token."""

    def check(request: Request) -> None:
        if not same_token(request.headers.get("X-Token"), token):
            raise HTTPException(401)

    return check


class Guard:
    """ASGI: refuses what a page of another site asks for (403), WebSockets included, and adds `HEADERS` to every answer."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower():
            await PlainTextResponse("This page answers only itself.", 403)(scope, receive, send)
            return

        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                own = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message.get("headers", []), *own]
            await send(message)

        await self.app(scope, receive, send_with_headers)


def protect(app: FastAPI, hosts: Iterable[str]) -> None:
    """Let an app answer only by these names, to itself, and with `HEADERS`."""
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)
    app.add_middleware(Guard)


def explain_mistakes(app: FastAPI, not_understood: str, sentences: Mapping[int, str] = SENTENCES) -> None:
    """Answer every mistake with {"error": one sentence}: by status (`not_understood` for any other), 400 for `InputError`."""

    @app.exception_handler(StarletteHTTPException)
    async def _one_sentence(_: Request, error: StarletteHTTPException) -> JSONResponse:
        return JSONResponse({"error": sentences.get(error.status_code, not_understood)}, error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def _not_understood(_: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"error": not_understood}, 422)

    @app.exception_handler(InputError)
    async def _mistake(_: Request, error: InputError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, 400)


def listen(host: str, port: int) -> socket.socket:
    """A socket that waits for readers. Raises `InputError` where the port is taken or the host is not of this machine."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        waiting = socket.socket(family, kind, protocol)
        try:
            waiting.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            waiting.bind(address)
            waiting.listen(128)
        except OSError:
            waiting.close()
            raise
    except OSError as error:
        raise InputError(
            f"The page cannot be put at {host}, port {port} ({error.strerror or error}); choose another --port or --host."
        ) from error
    return waiting


def address_of(waiting: socket.socket, host: str, token: str | None) -> str:
    """Address of the page, with its token, as one types it into a browser."""
    shown_host = f"[{host}]" if ":" in host else host
    return f"http://{shown_host}:{waiting.getsockname()[1]}/" + (f"#{token}" if token else "")


def serve(app: FastAPI, waiting: socket.socket, started: Callable[[], None] = lambda: None, **settings: Any) -> None:
    """Serve the page until Ctrl-C or a signal to end; `started` is called just before. settings: further ones of uvicorn."""
    started()
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, **settings))
    server.run(sockets=[waiting])
