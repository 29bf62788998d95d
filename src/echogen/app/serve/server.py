"""The service of `echogen serve`: its page and its HTTP API. The WebSockets are in `serve_sockets`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field

from echogen.app.page import SENTENCES, explain_mistakes, protect, token_check
from echogen.app.serve.clips import measured, plain
from echogen.app.serve.job_queue import JobQueue
from echogen.app.serve.limits import Refused
from echogen.app.serve.requests import FORMATS, LONGEST_CLIP_S, ClipRequest, encoded
from echogen.app.serve.sockets import add_sockets
from echogen.app.serve.uploads import MOST_BYTES, Upload, read_upload
from echogen.generators.settings_file import NAMES_ON_DISK
from echogen.measurement import load_segmenter
from echogen.measurement.apical import apical_doubt
from echogen.phantom.rhythm import FASTEST_BPM, RHYTHMS, SLOWEST_BPM
from echogen.records import VIEWS

STATIC = Path(__file__).parents[1] / "static" / "serve"
#: A generate request holds at most a minute of ECG and a picture.
MOST_ASKED_BYTES = 8 * 1024**2
_ABOUT = """Echocardiogram video from an electrocardiogram. Everything it makes is **synthetic** and not for diagnosis.

Uploads are the raw bytes of a file, its name in the query (`?name=beat.mp4`); of several files, such as a WFDB header and its
data, repeat `name` and `size` and send the bytes one after the other. A mistake is answered with `{"error": "one sentence"}`.
Where the service asks for a token, send it as the header `X-Token`. Too many requests: 429 or 503 with `Retry-After` in seconds.
"""


class Mistake(BaseModel):
    """Every answer that is not 200."""

    error: str = Field(description="One plain sentence: what was wrong and what to do.")


class FirstFrame(BaseModel):
    """A picture as the API takes it."""

    first_frame: str = Field(description="Base64 of 128 x 128 grey bytes, for `first_frame` of a request.")
    note: str | None = Field(description="A doubt, if it does not look like an apical view.")


_WRONG: dict[int | str, dict[str, Any]] = {
    status: {"model": Mistake, "description": what}
    for status, what in {
        400: "what was sent cannot be used",
        401: "the token is missing or wrong",
        413: "too large",
        422: "not understood",
        429: "too many requests; see Retry-After",
        503: "busy; see Retry-After",
    }.items()
}
_BYTES = {
    "requestBody": {"required": True, "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
}

Names = Annotated[
    list[Annotated[str, Field(max_length=255)]],
    Query(alias="name", min_length=1, max_length=4, description="The file's name; readers look at its suffix."),
]
Sizes = Annotated[
    list[Annotated[int, Field(ge=0, le=MOST_BYTES)]] | None,
    Query(alias="size", max_length=4, description="Bytes of each file, where there are several."),
]
RateHz = Annotated[float | None, Query(ge=20, le=100_000, description="Samples per second, where an ECG file does not say.")]
Unit = Annotated[Literal["mV", "uV", "V"] | None, Query(description="Where an ECG file does not say.")]
Fps = Annotated[float | None, Query(ge=1, le=240, description="Frames per second, instead of what an echo file says.")]


def create_app(jobs: JobQueue, *, token: str | None = None, hosts: tuple[str, ...] = ("*",)) -> FastAPI:
    """The page at /, the API under /api and its description at /openapi.json.

    token: what the header X-Token (or the WebSocket protocol `token.WORD`) must say, if anything. hosts: names that it may be
    reached by.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        jobs.close()

    app = FastAPI(
        title="echogen",
        version=version("echogen"),
        description=_ABOUT,
        docs_url=None,
        redoc_url=None,
        max_body_size=MOST_BYTES,
        lifespan=lifespan,
    )
    protect(app, hosts)
    explain_mistakes(app, "The request is not understood; see /openapi.json for what it may hold.", SENTENCES)

    @app.exception_handler(Refused)
    async def _refused(_: Request, refused: Refused) -> JSONResponse:
        headers = {"Retry-After": str(refused.retry_after_s)} if refused.retry_after_s else {}
        return JSONResponse({"error": refused.sentence}, refused.status, headers)

    def check_rate(request: Request) -> None:
        jobs.rate.check(request.client.host if request.client else "")

    checked = [Depends(token_check(token)), Depends(check_rate)]

    async def read(kind: str, request: Request, names: list[str], sizes: list[int] | None, **options: Any) -> Any:
        given = {name: value for name, value in options.items() if value is not None}
        return await read_upload(kind, Upload(names, sizes or [], given), request.stream())

    @app.get("/api/status", dependencies=checked[:1], responses={401: _WRONG[401]}, summary="Model, limits, choices")
    def status() -> dict[str, Any]:
        """Describe the service: its model, the choices it offers, and its load."""
        generator, limits = jobs.generator, jobs.limits
        return {
            "version": app.version,
            "model": generator.name,
            "weights_hash": generator.weights_hash,
            "fps": generator.native_fps,
            "takes": sorted(generator.takes | {NAMES_ON_DISK[name] for name in generator.takes & NAMES_ON_DISK.keys()}),
            "ef_range_percent": list(generator.ef_range),
            "rhythms": list(RHYTHMS),
            "heart_rate_range_bpm": [SLOWEST_BPM, FASTEST_BPM],
            "views": list(VIEWS),
            "formats": list(FORMATS),
            "live": jobs.feeds.names,
            "streams": {"now": jobs.streams.taken, "most": limits.streams},
            "longest_clip_s": LONGEST_CLIP_S,
            "most_upload_bytes": MOST_BYTES,
        }

    @app.post("/api/info", dependencies=checked, responses=_WRONG, openapi_extra=_BYTES, summary="What a file holds")
    async def info(
        request: Request, names: Names, sizes: Sizes = None, rate_hz: RateHz = None, unit: Unit = None, fps: Fps = None
    ) -> dict[str, Any]:
        """Describe an ECG or echo file as `echogen info --json` does."""
        with jobs.requests.one():
            facts, _ = await read("info", request, names, sizes, rate_hz=rate_hz, unit=unit, fps=fps)
        return dict(plain(facts))

    @app.post("/api/ecg", dependencies=checked, responses=_WRONG, openapi_extra=_BYTES, summary="Read an ECG file")
    async def ecg(
        request: Request, names: Names, sizes: Sizes = None, rate_hz: RateHz = None, unit: Unit = None
    ) -> dict[str, Any]:
        """The first minute of an ECG as `ecg` (for other requests), `facts` with the verdict on its quality, and how it was read.

        `summary` is what `echogen ecg --json` says of it, `summary.said` its lines; `picture` is base64 of its picture, a PNG.
        """
        with jobs.requests.one():
            facts, arrays = await read("ecg", request, names, sizes, rate_hz=rate_hz, unit=unit)
        signal = encoded(arrays["signal_mv"].astype("<f4"))
        own = {key: facts[key] for key in ("rate_hz", "lead_names", "start_s")}
        summary, picture = plain(facts.pop("summary")), encoded(arrays["picture"])
        return {
            "ecg": {"kind": "recorded", **own, "signal_mv": signal},
            "facts": plain(facts),
            "summary": summary,
            "picture": picture,
        }

    @app.post("/api/first-frame", dependencies=checked, responses=_WRONG, openapi_extra=_BYTES, summary="Read a picture")
    async def picture(request: Request, names: Names, sizes: Sizes = None) -> FirstFrame:
        """The first frame of an echo still or video, cut to its sector, as requests take it."""
        with jobs.requests.one():
            _, arrays = await read("first-frame", request, names, sizes)
            frame = arrays["frame"]
            doubt = await jobs.run(lambda: apical_doubt(frame[None], load_segmenter()))
        return FirstFrame(first_frame=encoded(frame.astype(np.uint8)), note=doubt)

    @app.post("/api/measure", dependencies=checked, responses=_WRONG, openapi_extra=_BYTES, summary="Measure an echo video")
    async def measure(request: Request, names: Names, sizes: Sizes = None, fps: Fps = None) -> dict[str, Any]:
        """Ejection fraction, heart rate and beats of an apical video of at most a minute, as `echogen measure --json` says it."""
        with jobs.requests.one():
            facts, arrays = await read("video", request, names, sizes, fps=fps)
            found = await jobs.run(lambda: measured(facts, arrays))
        return dict(plain(found))

    kinds: dict[str, Any] = {kind: {} for kind in dict.fromkeys(FORMATS.values())}
    pictures: dict[int | str, dict[str, Any]] = {200: {"description": "the clip", "content": kinds}}

    @app.post(
        "/api/generate", dependencies=checked, responses={**_WRONG, **pictures}, response_class=Response, summary="Make a clip"
    )
    async def generate(asked: ClipRequest) -> Response:
        """A synthetic echo video that beats with an ECG, as a file. The same request makes the same clip."""
        with jobs.requests.one():
            data = await jobs.clip(asked)
        suffix = "zip" if asked.format == "dcm" else asked.format
        headers = {"Content-Disposition": f'attachment; filename="echogen-synthetic-{asked.seed}.{suffix}"'}
        return Response(data, media_type=FORMATS[asked.format], headers=headers)

    add_sockets(app, jobs, token)
    app.mount("/", StaticFiles(directory=STATIC, html=True))
    return app
