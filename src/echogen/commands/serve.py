"""`echogen serve`: a page that shows a beating heart beside its ECG, and an HTTP API for programs."""

from __future__ import annotations

import contextlib
import importlib.util
from typing import Annotated

import typer

from echogen.errors import InputError


def serve(
    model: Annotated[str, typer.Option("--model", metavar="NAME|DIR", help="A shipped model, or a folder.")] = "phantom-128",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes any free one.")] = 8000,
    host: Annotated[str, typer.Option("--host", help="Any other than this computer needs --token.")] = "127.0.0.1",
    token: Annotated[
        str | None, typer.Option("--token", metavar="WORD", help="Only who opens the page with this word may use it.")
    ] = None,
    streams: Annotated[int, typer.Option("--streams", min=1, max=200, help="Hearts that may beat at a time.")] = 4,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Show a beating heart beside its ECG on a page of this computer, with an HTTP API for programs.

    Choose rhythm and rate, upload an ECG or feed a live one; move the ejection fraction; compare two hearts; export what you see.
    Everything shown is synthetic and not for diagnosis. Nothing that is uploaded is kept. The API is described at /openapi.json.
    """
    missing = [name for name in ("fastapi", "uvicorn", "websockets") if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"The page needs {' and '.join(missing)}, not installed here; run: pip install 'echogen[serve]'.")
    from echogen.app.page import address_of, allowed_hosts, listen
    from echogen.app.page import serve as serve_page

    hosts = allowed_hosts(host, token)
    with listen(host, port) as waiting:
        from echogen.app.serve.job_queue import JobQueue, Limits
        from echogen.app.serve.server import create_app
        from echogen.app.serve.sockets import MOST_MESSAGE_BYTES
        from echogen.generators.base import Generator
        from echogen.measurement import load_segmenter

        jobs = JobQueue(Generator.from_pretrained(model, device), load_segmenter(), Limits(streams=streams))
        app = create_app(jobs, token=token, hosts=hosts)
        address = address_of(waiting, host, token)
        with contextlib.suppress(KeyboardInterrupt):
            serve_page(
                app,
                waiting,
                lambda: typer.echo(f"The heart beats at {address} until Ctrl-C."),
                ws_max_size=MOST_MESSAGE_BYTES,
                ws_per_message_deflate=False,
                timeout_graceful_shutdown=3,
            )
