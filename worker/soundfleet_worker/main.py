"""The worker's process: builds its parts, listens to signals, and returns an exit code."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from soundfleet_producer.connections import aconnect
from soundfleet_producer.settings import Settings
from soundfleet_producer.storage import Storage
from soundfleet_schemas import FETCH_WEB, ErrorCode, Keys, SoundfleetError, error

from .engine.config import EngineConfig
from .fetch import FetchPolicy, VideoPolicy, read_hosts, read_networks
from .logging import Event, Log, configure, get_log
from .supervisor.batcher import Batcher
from .supervisor.cache import Cache
from .supervisor.engine_process import Command
from .supervisor.installer import Installer
from .supervisor.keeper import Keeper
from .supervisor.meter import Meter
from .supervisor.pace import Pace
from .supervisor.scratch import Scratch
from .supervisor.tools import Tools
from .supervisor.worker import Worker, name_worker

EXIT_OK = 0
EXIT_FAILED = 1
MOST_STEMS = 7
"""The input and six stems: the most audio that a run holds in scratch."""
STORAGE_READ_SEC = 20.0
"""A storage server that says nothing for so long is tried again: a thread that waits for it delivers nothing else."""
THREADS_END_SEC = 2.0
"""For threads to end when all is settled; those that hang in a call are left to the end of the process."""


def run(settings: Settings) -> int:
    """Run one worker until SIGTERM or SIGINT, and return the process's exit code: 0 after a drain.

    A second signal hands the running jobs back at once. When threads still hang in storage after all is settled, the
    process ends here, with that code. Raises INVALID_SETTING.
    """
    configure(settings)
    if FETCH_WEB in settings.services and not settings.fetch_slots:
        raise error(ErrorCode.INVALID_SETTING, f"only names {FETCH_WEB}, and fetch_slots is 0")
    code = asyncio.run(_serve(settings))
    if _threads_hang():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # the interpreter's own end would wait for them
    return code


def _threads_hang() -> bool:
    """Whether threads that the interpreter would wait for outlive a short patience."""
    until = time.monotonic() + THREADS_END_SEC
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join(max(0.0, until - time.monotonic()))
            if thread.is_alive():
                return True
    return False


async def _serve(settings: Settings) -> int:
    worker_id = name_worker()
    log = get_log(worker=worker_id)
    scratch = Scratch(settings.scratch_dir, _room_bytes(settings))
    if removed := scratch.sweep():
        log.warning(Event.swept, directories=removed)
    async with AsyncExitStack() as parts:
        tools = _tools(settings, log, parts)
        worker = Worker(worker_id, settings, tools, scratch, log)
        drain, hurry = _signals()
        try:
            await worker.run(drain, hurry)
        except SoundfleetError as exc:
            log.error(Event.engine_failed, error=str(exc))
            return EXIT_FAILED
    return EXIT_OK


def _tools(settings: Settings, log: Log, parts: AsyncExitStack) -> Tools:
    keys = Keys(settings.namespace)
    redis, verbs = aconnect(settings.redis_url), aconnect(settings.redis_url)
    verbs.set_retry(Retry(NoBackoff(), 0))  # a claim that is silently repeated would orphan what the first one took
    parts.push_async_callback(redis.aclose)
    parts.push_async_callback(verbs.aclose)
    batcher, cache = Batcher(verbs), Cache(redis, keys)
    parts.push_async_callback(batcher.close)
    parts.push_async_callback(cache.close)
    storage = Storage.from_settings(settings, read_timeout_sec=STORAGE_READ_SEC)
    parts.callback(storage.close)
    keeper = Keeper(_engine_command(settings), log)
    fetch_policy = FetchPolicy(read_networks(settings.fetch_networks))
    cookies = Path(settings.video_cookies).expanduser() if settings.video_cookies else None
    cores = os.cpu_count() or 1
    return Tools(
        settings=settings,
        keys=keys,
        redis=redis,
        batcher=batcher,
        cache=cache,
        storage=storage,
        keeper=keeper,
        installer=Installer(keeper, settings, log),
        preparers=_pool(min(8, settings.slots), "prepare", parts),
        fetchers=_pool(max(1, min(8, settings.fetch_slots)), "fetch", parts),
        deliverers=_pool(min(16, 2 * cores + 2), "deliver", parts),
        decoding=asyncio.Semaphore(cores),
        fetch_policy=fetch_policy,
        video_policy=VideoPolicy(read_hosts(settings.video_hosts), cookies, fetch_policy),
        videos=asyncio.Semaphore(max(1, settings.fetch_slots)),
        pace=Pace(),
        meter=Meter(lambda: keeper.pid, lambda: keeper.device),
    )


def _pool(threads: int, name: str, parts: AsyncExitStack) -> ThreadPoolExecutor:
    """Threads that nobody waits for in the end: by then every run is settled, and one may hang in a call."""
    pool = ThreadPoolExecutor(threads, name)
    parts.callback(pool.shutdown, wait=False, cancel_futures=True)
    return pool


def _engine_command(settings: Settings) -> Command:
    config = EngineConfig(
        device=settings.device,
        threads=settings.threads,
        memory_mb=settings.memory_mb,
        model_dir=settings.model_dir,
        ace_step_dir=settings.ace_step_model_dir,
        offline=settings.offline,
        precision=settings.precision,
        foreign=settings.backends,
        only=tuple(service for service in settings.services if service != FETCH_WEB),
    )
    document = msgspec.json.encode(config).decode()
    return lambda fd: [sys.executable, "-m", "soundfleet_worker.engine", "--fd", str(fd), "--config", document]


def _room_bytes(settings: Settings) -> int:
    """What the longest song that is accepted takes in scratch: float32, two channels, 48 kHz; or its file alone."""
    if settings.fetches_only:
        return settings.limits.max_file_bytes * MOST_STEMS
    return round(settings.limits.max_audio_sec * 48_000 * 2 * 4 * MOST_STEMS)


def _signals() -> tuple[asyncio.Event, asyncio.Event]:
    """Two events: the first SIGTERM or SIGINT drains, the second makes haste."""
    drain, hurry = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (hurry if drain.is_set() else drain).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    return drain, hurry
