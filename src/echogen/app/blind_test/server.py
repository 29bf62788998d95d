"""The page of a blind test: it hands out clips under names that tell nothing, and keeps the answers."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import Body, Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles

from echogen.app.blind_test.session import (
    ANSWERS_GLOB,
    GRADES,
    MOST_READERS,
    Answer,
    BlindTest,
    answers_path,
    append_answer,
    read_answers,
    reader_name,
    showing_id,
    showings,
)
from echogen.app.page import explain_mistakes, protect, token_check
from echogen.errors import InputError

STATIC = Path(__file__).parents[1] / "static" / "blind_test"
MOST_BODY_BYTES = 4096


class Desk:
    """Order of clips and answers of all readers; safe to call from several threads.

    videos: the clips in the order of `test.clips`. show_result: whether a reader learns the own accuracy at the end.
    """

    def __init__(self, test: BlindTest, videos: tuple[bytes, ...], folder: Path, *, show_result: bool = False) -> None:
        self.test, self.folder, self.show_result = test, folder, show_result
        self._videos = videos
        self._lock = threading.Lock()
        self._shown: dict[str, tuple[str, int]] = {}

    def next(self, given_name: str) -> dict[str, Any]:
        """State of a reader's page: reader, done, total and the id of the next clip, or at the end the result.

        Raises `InputError` for an empty name, and when more than `MOST_READERS` take part.
        """
        reader = reader_name(given_name)
        with self._lock:
            return self._state(reader)

    def answer(self, showing: str, said_real: bool, confidence: int, quality: int, seconds: float) -> dict[str, Any]:
        """Keep an answer and say what is next; a clip that was answered before keeps its first answer.

        Raises `InputError` for an id that was never handed out.
        """
        with self._lock:
            reader, position = self._find(showing)
            if position not in self._answered(reader):
                index, repeat = showings(self.test, reader)[position]
                clip = self.test.clips[index]
                now = datetime.now(UTC).isoformat(timespec="seconds")
                name = f"{'real' if clip.real else 'generated'}/{clip.name}"
                append_answer(
                    self.folder,
                    Answer(reader, position, name, repeat, clip.real, said_real, confidence, quality, round(seconds, 2), now),
                )
            return self._state(reader)

    def video(self, showing: str) -> bytes:
        """The MP4 behind an id. Raises `InputError` for an id that was never handed out."""
        with self._lock:
            reader, position = self._find(showing)
        return self._videos[showings(self.test, reader)[position][0]]

    def _find(self, showing: str) -> tuple[str, int]:
        if showing not in self._shown:
            raise InputError("This clip is not part of your test; reload the page and give the same name to go on.")
        return self._shown[showing]

    def _answered(self, reader: str) -> dict[int, Answer]:
        return {answer.position: answer for answer in read_answers(answers_path(self.folder, reader))}

    def _state(self, reader: str) -> dict[str, Any]:
        known = answers_path(self.folder, reader).exists()
        if not known and len(list(self.folder.glob(ANSWERS_GLOB))) >= MOST_READERS:
            raise InputError(f"{MOST_READERS} readers take part already; that is the most a blind test has.")
        answered, total = self._answered(reader), len(showings(self.test, reader))
        state: dict[str, Any] = {"reader": reader, "done": len(answered), "total": total}
        open_positions = [position for position in range(total) if position not in answered]
        if open_positions:
            showing = showing_id(self.test, reader, open_positions[0])
            self._shown[showing] = (reader, open_positions[0])
            state["clip"] = showing
        elif self.show_result:
            first = [answer for answer in answered.values() if not answer.repeat]
            state["result"] = {"right": sum(answer.right for answer in first), "of": len(first)}
        return state


Grade = Annotated[int, Body(strict=True, ge=GRADES[0], le=GRADES[1])]


def create_app(desk: Desk, *, token: str | None = None, allowed_hosts: tuple[str, ...] = ("*",)) -> FastAPI:
    """The page and its three calls: what is next, a clip, an answer.

    token: what the header X-Token must say, if anything. allowed_hosts: names that the page may be reached by.
    """
    app = FastAPI(title="Blind test", docs_url=None, redoc_url=None, openapi_url=None, max_body_size=MOST_BODY_BYTES)
    protect(app, allowed_hosts)
    explain_mistakes(app, "The answer is not complete; choose one of each and send it again.")
    check_token = token_check(token)

    @app.exception_handler(OSError)
    async def _not_stored(_: Request, error: OSError) -> JSONResponse:
        return JSONResponse({"error": "The answer could not be stored; tell whoever runs this test, and send it again."}, 507)

    @app.post("/api/next", dependencies=[Depends(check_token)])
    def _next(reader: Annotated[str, Body(embed=True, max_length=200)]) -> dict[str, Any]:
        return desk.next(reader)

    @app.get("/api/clips/{clip}", dependencies=[Depends(check_token)])
    def _clip(clip: str) -> Response:
        return Response(desk.video(clip), media_type="video/mp4")

    @app.post("/api/answers", dependencies=[Depends(check_token)])
    def _answer(
        clip: Annotated[str, Body(max_length=64)],
        answer: Annotated[Literal["real", "generated"], Body()],
        confidence: Grade,
        quality: Grade,
        seconds: Annotated[float, Body(ge=0, le=86_400, allow_inf_nan=False)],
    ) -> dict[str, Any]:
        return desk.answer(clip, answer == "real", confidence, quality, seconds)

    app.mount("/", StaticFiles(directory=STATIC, html=True))
    return app
