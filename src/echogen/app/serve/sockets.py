"""The WebSockets of the service: one streams a heart that beats without an end, the other takes a live ECG.

`/api/beat`: the client sends JSON {"type": "start", "question": n, "heart": {...}}, at any time another one instead, and
{"type": "shown", "until_s": t} as it plays; it gets binary parts (`video_stream.Part.to_bytes`), JSON {"type": "end"} after the
last frame of a recorded ECG, and JSON {"type": "error", "error": sentence}. Frames are made a few seconds ahead of what is shown.

`/api/feed/NAME?rate_hz=250&lead=II`: the client sends binary messages of float32 samples in mV as they are recorded.

A token travels as the WebSocket protocol `token.WORD` beside `echogen`, since pages cannot set headers here.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from typing import Annotated, Any

from fastapi import FastAPI, Query, WebSocket, WebSocketDisconnect
from fastapi.responses import JSONResponse
from pydantic import TypeAdapter, ValidationError

from echogen.app.page import SENTENCES, same_token
from echogen.app.serve.ecg_sources import Feed
from echogen.app.serve.job_queue import JobQueue
from echogen.app.serve.limits import Refused
from echogen.app.serve.requests import FeedName, LiveEcg, StreamRequest
from echogen.app.serve.video_stream import VideoStream
from echogen.errors import InputError

PROTOCOL = "echogen"
#: Frames are made at most so far ahead of what is shown; a client that does not take a message is dropped after so long.
AHEAD_S, SENT_WITHIN_S = 5.0, 30.0
MOST_MESSAGE_BYTES = 8 * 1024**2
_TRY_LATER, _GOING_AWAY, _WRONG_DATA = 1013, 1001, 1008
_LEAD = re.compile(r"[A-Za-z0-9-]{1,16}")


async def _welcome(socket: WebSocket, jobs: JobQueue, token: str | None) -> bool:
    """Accept a client that brings the token and does not come too often; others learn why not."""
    offered = socket.scope.get("subprotocols", [])
    given = next((name.removeprefix("token.") for name in offered if name.startswith("token.")), None)
    if not same_token(given or socket.headers.get("X-Token"), token):
        await socket.send_denial_response(JSONResponse({"error": SENTENCES[401]}, 401))
        return False
    try:
        jobs.rate.check(socket.client.host if socket.client else "")
    except Refused as refused:
        headers = {"Retry-After": str(refused.retry_after_s)}
        await socket.send_denial_response(JSONResponse({"error": refused.sentence}, refused.status, headers))
        return False
    await socket.accept(PROTOCOL if PROTOCOL in offered else None)
    return True


async def _refuse(socket: WebSocket, refused: Refused) -> None:
    """Say when to come again, and close. Pages cannot read a refused handshake, so they are told after it."""
    await socket.send_json({"type": "error", "error": refused.sentence, "busy": True, "retry_after_s": refused.retry_after_s})
    await socket.close(_TRY_LATER)


class _Viewer:
    """One client of `/api/beat`: what it asked last, and how far it has shown that."""

    def __init__(self, socket: WebSocket, jobs: JobQueue) -> None:
        self.socket, self.jobs = socket, jobs
        self.asked: StreamRequest | None = None
        self.question, self.order, self.shown_s = 0, 0, float("-inf")
        self.woken = asyncio.Event()

    async def listen(self) -> None:
        """Take messages until the client goes."""
        while True:
            try:
                message = await self.socket.receive_text()
                if len(message) > MOST_MESSAGE_BYTES:
                    raise InputError("This message is too large; send a shorter ECG.")
                self._take(json.loads(message))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                sentence = str(error) if isinstance(error, InputError) else "This message is not understood; reload the page."
                await self._say_error(sentence)
            self.woken.set()

    def _take(self, message: dict[str, Any]) -> None:
        if message["type"] == "start":
            try:
                asked = StreamRequest.model_validate(message["heart"])
            except ValidationError as error:
                first = error.errors()[0]
                where = ".".join(str(part) for part in first["loc"]) or "heart"
                raise InputError(f"{where} cannot be used: {first['msg'].lower()}.") from None
            self.asked, self.question, self.shown_s = asked, int(message.get("question", 0)), float("-inf")
            self.order += 1
        elif message["type"] == "shown":
            self.shown_s = max(self.shown_s, float(message["until_s"]))
        else:
            raise KeyError("type")

    async def show(self) -> None:
        """Make and send parts, a few seconds ahead of what is shown, until the client has not looked for long."""
        limits, began = self.jobs.limits, time.monotonic()
        order, question = 0, 0
        beating: VideoStream | None = None
        feed: Feed | None = None
        while time.monotonic() - began < limits.stream_s:
            if self.asked is not None and order != self.order:
                order, question, asked = self.order, self.question, self.asked
                beating = None
                try:
                    feed = self.jobs.feeds.find(asked.ecg.feed) if isinstance(asked.ecg, LiveEcg) else None
                    beating = await self._begun(asked, feed)
                except InputError as error:
                    await self._say_error(str(error))
                continue
            if beating is None or beating.made_until_s - max(self.shown_s, beating.start_s) > AHEAD_S:
                if not await self._wait(self.woken, limits.idle_s):
                    break
                continue
            if feed is not None and not feed.ended and feed.end_s < beating.needs_s:
                await self._wait_for(feed, limits.idle_s)
                continue
            beating = await self._send_part(beating, question, order)
        await self._say_error("The stream has ended because nobody looked at it for long; press play to go on.")
        await self.socket.close(_GOING_AWAY)

    async def _begun(self, asked: StreamRequest, feed: Feed | None) -> VideoStream:
        while feed is not None and feed.end_s < 1.0 and not feed.ended:
            await self._wait_for(feed, 60.0)
            if self.asked is not asked:
                raise InputError("Another heart was asked for.")
        return await self.jobs.run(lambda: VideoStream(asked, self.jobs.generator, self.jobs.segmenter, feed))

    async def _send_part(self, beating: VideoStream, question: int, order: int) -> VideoStream | None:
        """The next part to the client, unless it has asked for another heart; None where this one has ended."""
        try:
            part = await self.jobs.next_part(beating)
        except InputError as error:
            await self._say_error(str(error))
            return None
        if order != self.order:
            return beating
        async with asyncio.timeout(SENT_WITHIN_S):
            if part is None:
                await self.socket.send_json({"type": "end", "question": question, "until_s": beating.made_until_s})
                return None
            await self.socket.send_bytes(part.to_bytes(question))
        return beating

    async def _say_error(self, sentence: str) -> None:
        async with asyncio.timeout(SENT_WITHIN_S):
            await self.socket.send_json({"type": "error", "error": sentence, "question": self.question})

    async def _wait(self, event: asyncio.Event, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return False
        event.clear()
        return True

    async def _wait_for(self, feed: Feed, seconds: float) -> None:
        """Until more of a live ECG has come, or the client says something."""
        more, woken = (asyncio.ensure_future(event.wait()) for event in (feed.changed, self.woken))
        try:
            await asyncio.wait({more, woken}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            more.cancel()
            woken.cancel()
        self.woken.clear()


def add_sockets(app: FastAPI, jobs: JobQueue, token: str | None) -> None:
    """Add `/api/beat` and `/api/feed/NAME` to an app."""

    @app.websocket("/api/beat")
    async def beat(socket: WebSocket) -> None:
        if not await _welcome(socket, jobs, token):
            return
        try:
            with jobs.streams.one():
                viewer = _Viewer(socket, jobs)
                both = {asyncio.ensure_future(viewer.listen()), asyncio.ensure_future(viewer.show())}
                try:
                    done, _ = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for task in both:
                        task.cancel()
                    await asyncio.gather(*both, return_exceptions=True)
                for task in done:
                    task.result()
        except Refused as refused:
            await _refuse(socket, refused)
        except (WebSocketDisconnect, TimeoutError, RuntimeError):
            return  # the client has gone, and its slot is free

    @app.websocket("/api/feed/{name}")
    async def feed(
        socket: WebSocket,
        name: str,
        rate_hz: Annotated[float, Query(ge=50, le=2000)] = 250.0,
        lead: Annotated[list[str] | None, Query()] = None,
    ) -> None:
        if not await _welcome(socket, jobs, token):
            return
        leads = tuple(lead or ["II"])
        try:
            TypeAdapter(FeedName).validate_python(name)
            if len(leads) > 12 or len(set(leads)) < len(leads) or not all(_LEAD.fullmatch(one) for one in leads):
                raise InputError("Name from one to twelve different leads, such as lead=II.")
            live = jobs.feeds.open(name, rate_hz, leads)
        except Refused as refused:
            await _refuse(socket, refused)
            return
        except (InputError, ValidationError) as error:
            sentence = str(error) if isinstance(error, InputError) else "Name a live ECG with small letters, digits and hyphens."
            await socket.send_json({"type": "error", "error": sentence})
            await socket.close(_WRONG_DATA)
            return
        try:
            await socket.send_json({"type": "ready", "feed": name})
            while True:
                async with asyncio.timeout(jobs.limits.idle_s):
                    live.add(await socket.receive_bytes())
        except (InputError, KeyError) as error:
            sentence = str(error) if isinstance(error, InputError) else "Samples are sent as binary messages."
            await socket.send_json({"type": "error", "error": sentence})
            await socket.close(_WRONG_DATA)
        except (WebSocketDisconnect, TimeoutError, RuntimeError):
            pass
        finally:
            jobs.feeds.close(name)
