"""A scratch directory without space is said in one clear sentence, wherever it is met, and is tried again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import structlog

from soundfleet_producer.queue.verbs import Claim, Reply, Token
from soundfleet_schemas import DEFAULT_LIMITS, ErrorCode, ErrorInfo, Keys, OutputFormat, encode, error, new_id
from soundfleet_worker.audio.encode import encode as encode_audio
from soundfleet_worker.audio.sandbox import decode_in_process
from soundfleet_worker.backends.contract import Output
from soundfleet_worker.engine.output import write_output
from soundfleet_worker.supervisor import clock, lifecycle
from soundfleet_worker.supervisor.meter import Meter
from soundfleet_worker.supervisor.run import Run
from soundfleet_worker.supervisor.scratch import Scratch
from soundfleet_worker.supervisor.tools import Tools

SILENCE = np.zeros((2, 200_000), np.float32)
FULL = Path("/dev/full")
pytestmark = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")


async def _decode(directory: Path) -> None:
    song = directory / "song.wav"
    encode_audio(SILENCE, song, 44_100, OutputFormat.wav)
    (directory / "decoded.npy.part").symlink_to(FULL)
    await decode_in_process(song, directory / "decoded.npy", 44_100, DEFAULT_LIMITS)


async def _encode(directory: Path) -> None:
    (directory / "track.wav").symlink_to(FULL)
    encode_audio(SILENCE, directory / "track.wav", 44_100, OutputFormat.wav)


async def _fetch(directory: Path) -> None:
    (directory / "source").symlink_to(FULL)
    (directory / "source").write_bytes(b"x")


async def _save(directory: Path) -> None:
    (directory / "track.npy").symlink_to(FULL)
    write_output(Output(audio={"track": SILENCE}, sample_rate=44_100, parameters={}), directory)


@pytest.mark.parametrize("fill", [_decode, _encode, _fetch, _save])
async def test_a_full_disk_has_a_code_and_tells_no_path(
    fill: Callable[[Path], Awaitable[None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decoding, encoding, fetching and the engine's output end alike: retryable, with what to do."""
    settled: list[list[Any]] = []

    class Server:
        def perform(self, exchange: Any) -> Awaitable[Reply]:
            settled.append(list(exchange.args))
            return asyncio.sleep(0, Reply.ok)

    async def prepare(*_: object) -> None:
        await fill(tmp_path)

    monkeypatch.setattr(lifecycle, "prepare", prepare)
    claim = Claim(Token(new_id(), "w", 1), tries=1, crashes=0, raw_request=b"", created_at_ms=0)
    run = Run(claim, clock.now(), DEFAULT_LIMITS, Scratch(str(tmp_path)), structlog.get_logger())
    meter = Meter()
    tools = SimpleNamespace(keys=Keys("test"), batcher=Server(), limits=DEFAULT_LIMITS, meter=meter)
    await lifecycle.live(run, cast(Tools, tools))
    expected: ErrorInfo = error(ErrorCode.SCRATCH_FULL, "the worker's scratch directory has no space left").info
    assert expected.retryable
    assert encode(expected) in settled[-1]
