"""Routes of the runs, launches and chat."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fulgurite.board.metrics import FEWEST, MOST
from fulgurite.board.run_view import describe_details, describe_run
from fulgurite.board.server.chatter import read_conversation
from fulgurite.board.server.events import Event, stream
from fulgurite.board.server.json_http import answer, read_json
from fulgurite.board.server.run_actions import export_run, resume_run, stop_run
from fulgurite.board.server.run_services import RunServices
from fulgurite.board.server.run_start import start_run
from fulgurite.board.server.state import Board
from fulgurite.board.watchers import ListWatcher, RunWatcher
from fulgurite.errors import ConfigError

SOONEST, LATEST = 1.0, 5.0
"""Seconds between two looks at the files of a run, or at all runs, when a page begins to listen, and later on.

A look compares times and sizes. watchfiles would wait for changes instead, but a run writes a row a step, and each of
them would wake the server; several steps are read together here.
"""
CALM = 20.0
"""A page that has listened for so many times a second is sent what is new after that second."""
SHARE = 0.01
"""The part of a processor that looking may take, as long as that is not later than LATEST: many runs take long."""


def list_routes(board: Board) -> list[Route]:
    """Returns the routes, which answer for `board`."""
    services = RunServices(board)
    return [*_list_reading_routes(services), *_list_acting_routes(services)]


def _list_reading_routes(services: RunServices) -> list[Route]:
    def show_runs(request: Request) -> Response:
        return answer(services.list_all())

    def show_run(request: Request) -> Response:
        run = services.catalogue.find_run(request.path_params["id"])
        shown = describe_run(run, services.board.roots) | describe_details(run, services.board.roots)
        return answer(shown | {"output": services.find_output(run)} | services.open_draft(run))

    def show_metrics(request: Request) -> Response:
        run = services.catalogue.find_run(request.path_params["id"])
        return answer(services.read_metrics(run, read_points(request)))

    def follow_run(request: Request) -> Response:
        after = request.headers.get("last-event-id") or request.query_params.get("after", "")
        watcher = RunWatcher(services.catalogue, request.path_params["id"], after, read_points(request))
        watcher.find()  # an unknown run is answered before the stream begins
        return stream(follow(watcher.poll))

    def follow_runs(request: Request) -> Response:
        return stream(follow(ListWatcher(services.catalogue, services.list_busy).poll))

    def show_launch(request: Request) -> Response:
        return answer(services.describe_launch(services.find_launch(request.path_params["id"])))

    return [
        Route("/api/runs", show_runs), Route("/api/runs/{id}", show_run), Route("/api/runs/{id}/metrics", show_metrics),
        Route("/api/runs/{id}/events", follow_run), Route("/api/events", follow_runs),
        Route("/api/launches/{id}", show_launch),
    ]


def _list_acting_routes(services: RunServices) -> list[Route]:
    async def start(request: Request) -> Response:
        body = await read_json(request)
        return answer(await run_in_threadpool(start_run, services, body), 202)

    def act(action: Callable[[RunServices, str, dict[str, Any]], Any]) -> Callable[[Request], Any]:
        async def handle(request: Request) -> Response:
            body = await read_json(request)
            done = await run_in_threadpool(action, services, request.path_params["id"], body)
            return answer(done, 202)

        return handle

    def stop_launch(services: RunServices, launch_id: str, body: dict[str, Any]) -> dict[str, Any]:
        record = services.find_launch(launch_id)
        services.launches.stop(record)
        return {"launch": services.describe_launch(record)}

    async def chat(request: Request) -> Response:
        messages, most = read_conversation(await read_json(request))
        run = await run_in_threadpool(services.catalogue.find_run, request.path_params["id"])
        return stream(services.chatter.answer(run.folder, messages, most))

    actions = {"stop": stop_run, "resume": resume_run, "export": export_run}
    return [
        Route("/api/runs", start, methods=["POST"]), Route("/api/runs/{id}/chat", chat, methods=["POST"]),
        Route("/api/launches/{id}/stop", act(stop_launch), methods=["POST"]),
        *(Route(f"/api/runs/{{id}}/{name}", act(action), methods=["POST"]) for name, action in actions.items()),
    ]


async def follow(poll: Callable[[], Sequence[Event]]) -> AsyncGenerator[Event]:
    """Yields what `poll` finds, which runs in a thread: a slow disk must not hold up the other pages."""
    def look() -> tuple[Sequence[Event], float]:
        before = time.thread_time()
        return poll(), time.thread_time() - before

    begin = time.monotonic()
    while True:
        events, cost = await run_in_threadpool(look)
        for event in events:
            yield event
        await asyncio.sleep(choose_wait(time.monotonic() - begin, cost))


def choose_wait(listened: float, cost: float) -> float:
    """Returns the seconds until the next look for a page that has listened for so many seconds, if the last look took
    `cost` seconds of the processor.

    Whoever has just opened a page waits for the next step; a page that is left open shares the processor with the run.
    """
    return min(LATEST, max(SOONEST, listened / CALM, cost / SHARE))


def read_points(request: Request) -> int:
    """Returns how many points of a curve a page asks for. Raises ConfigError."""
    text = request.query_params.get("points", "800")
    if not (text.isascii() and text.isdecimal() and len(text) < 6 and FEWEST <= int(text) <= MOST):
        raise ConfigError("points must be a whole number from {fewest} to {most}.", fewest=FEWEST, most=MOST)
    return int(text)
