"""The rules of a generation, said alike by the library, the command line and the workers: code, sentence, advice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.commandline import CommandLine
from tests.fleet import Fleet
from tests.waiting import wait_until

from soundfleet_producer import GenerationRequest, Producer
from soundfleet_producer.queue import verbs
from soundfleet_producer.queue.exchange import Exchange, perform
from soundfleet_schemas import (
    ErrorCode,
    ErrorInfo,
    EventType,
    InvalidRequest,
    JobStatus,
    SamplingOptions,
    SchedulerType,
    encode,
)

LONGEST = "雨" * 512
RULES: list[tuple[dict[str, Any], tuple[str, ...], ErrorCode, str]] = [
    ({"prompt": LONGEST + "雨"}, (), ErrorCode.INVALID_PROMPT, "the prompt has 513 characters, over 512."),
    (
        {"duration_sec": 4},
        ("--duration", "4"),
        ErrorCode.INVALID_DURATION,
        "duration_sec is 4; musicgen makes 5 to 120 seconds.",
    ),
    (
        {"backend": "ace_step", "duration_sec": 241},
        ("--duration", "241"),
        ErrorCode.INVALID_DURATION,
        "duration_sec is 241; ace_step makes 5 to 240 seconds.",
    ),
    (
        {"backend": "ace_step", "inference_steps": 201},
        ("--steps", "201"),
        ErrorCode.INVALID_INFERENCE_STEPS,
        "inference_steps is 201.",
    ),
    (
        {"backend": "ace_step", "guidance_scale": 30.5},
        ("--guidance", "30.5"),
        ErrorCode.INVALID_GUIDANCE_SCALE,
        "guidance_scale is 30.5.",
    ),
    (
        {"inference_steps": 60},
        ("--steps", "60"),
        ErrorCode.INVALID_OPTION,
        "inference_steps does not act on backend musicgen.",
    ),
    (
        {"scheduler": SchedulerType.Euler},
        ("--scheduler", "euler"),
        ErrorCode.INVALID_OPTION,
        "scheduler does not act on backend musicgen.",
    ),
    (
        {"backend": "ace_step", "sampling": SamplingOptions(top_k=5)},
        ("--top-k", "5"),
        ErrorCode.INVALID_OPTION,
        "sampling does not act on backend ace_step; it is for MusicGen.",
    ),
    (
        {"backend": "ACE-Step/ACE-Step-v1-3.5B"},
        (),
        ErrorCode.INVALID_BACKEND,
        "ACE-Step/ACE-Step-v1-3.5B cannot be served: ACE-Step v1-3.5B has no checkpoint that a loader here reads;"
        " ace_step is ACE-Step 1.5.",
    ),
]
IDS = [f"{code}-{number}" for number, (_, _, code, _) in enumerate(RULES)]


def request_of(**fields: Any) -> GenerationRequest:
    return GenerationRequest(**{"prompt": "warm lofi", "duration_sec": 10, "backend": "musicgen", "seed": 1, **fields})


def refusal(producer: Producer, fields: dict[str, Any]) -> ErrorInfo:
    """What the library says of a request."""
    with pytest.raises(InvalidRequest) as caught:
        producer.submit(request_of(**fields))
    return caught.value.info


def publish(fleet: Fleet, document: bytes, request: GenerationRequest) -> None:
    """Submit a document as a publisher does that checks nothing, to the lane of ``request``."""
    exchange = verbs.submit(fleet.stack.keys, request, None, fleet.stack.settings.limits)
    args = [document if arg == encode(request) else arg for arg in exchange.args]
    assert document in args
    perform(fleet.stack.redis, Exchange(exchange.script, exchange.keys, args, exchange.read))


@pytest.mark.parametrize(("fields", "options", "code", "message"), RULES, ids=IDS)
def test_the_library_and_the_command_line_refuse_alike(
    producer: Producer,
    soundfleet: CommandLine,
    fields: dict[str, Any],
    options: tuple[str, ...],
    code: str,
    message: str,
) -> None:
    """One line, or one document, on stderr; exit code 2; nothing is queued."""
    info = refusal(producer, fields)
    assert (info.code, info.message, info.retryable) == (code, message, False)
    assert info.action.endswith((".", "soundfleet backends"))
    asked = request_of(**fields)
    words = ("generate", asked.prompt, "--duration", "10", "--backend", str(asked.backend), *options)
    said = soundfleet(*words)
    assert (said.code, said.out, said.err.strip()) == (2, "", f"error {info}")
    assert msgspec.json.decode(soundfleet(*words, "--json").err, type=ErrorInfo) == info
    assert producer.jobs() == []


def test_a_worker_says_the_same_of_what_nobody_has_checked(fleet: Fleet, music_models: Path) -> None:
    """At once and for good, with the library's own words; no model is loaded for it."""
    fleet.start(SOUNDFLEET_ONLY="generate.musicgen,generate.ace_step", SOUNDFLEET_MODEL_DIR=str(music_models))
    expected = {}
    for fields, *_ in RULES:
        served = "ace_step" if fields.get("backend") == "ace_step" else "musicgen"
        request = request_of(backend=served)
        wrong = request_of(**fields, id=request.id)
        publish(fleet, encode(wrong), request)
        expected[request.id] = refusal(fleet.producer, fields)
    request = request_of(backend="ace_step")
    document = json.loads(encode(request)) | {"scheduler": "ddim"}
    publish(fleet, json.dumps(document).encode(), request)
    for job_id, info in expected.items():
        job, letter = fleet.ended(job_id), fleet.producer.dead_letter(job_id)
        assert (job.status, job.error, job.attempt) == (JobStatus.failed, info, 1)
        assert (letter.error, letter.reason, letter.attempts) == (info, "permanent", 1)
        assert [event.type for event in fleet.events(job_id)] == [EventType.claimed, EventType.failed]
    key = fleet.stack.keys.job(request.id)
    wait_until(lambda: fleet.stack.redis.hget(key, "state") == b"failed", "what no client can decode to fail")
    solver = fleet.producer.dead_letter(request.id).error
    assert (solver.code, solver.action) == (ErrorCode.INVALID_SCHEDULER, "Use euler, heun or pingpong.")


@pytest.mark.parametrize(
    "name", ["ACE-Step-v1-3.5B", "ace-step-v1-3.5b", "ace_step_v1", "ACE_STEP_V1", "ACE-Step-3.5B"]
)
def test_the_first_ace_step_is_refused_with_the_reason_however_it_is_spelt(
    producer: Producer, soundfleet: CommandLine, name: str
) -> None:
    """Where it is asked for, where it is the default, and where its files are."""
    info = refusal(producer, {"backend": name})
    assert (info.code, info.message.partition(" cannot be served: ")[0]) == (ErrorCode.INVALID_BACKEND, name)
    pulled = soundfleet("backends", "pull", name)
    assert (pulled.code, info.message in pulled.err) == (2, True)


def test_a_name_that_only_resembles_it_is_unknown(producer: Producer) -> None:
    """With the names that there are."""
    info = refusal(producer, {"backend": "ace_step_v2"})
    assert "no backend that can generate is called 'ace_step_v2'; there are ace_step, " in info.message


@pytest.mark.parametrize("backend", ["musicgen", "musicgen_melody", "sketch"])
@pytest.mark.parametrize(
    ("field", "value"), [("inference_steps", 60), ("scheduler", SchedulerType.Heun), ("guidance_scale", 15.0)]
)
def test_what_the_data_model_has_for_ace_step_alone_is_refused_elsewhere(
    producer: Producer, backend: str, field: str, value: object
) -> None:
    """Rather than ignored: the defaults of the data model too, when they are named."""
    info = refusal(producer, {"backend": backend, field: value})
    said = (info.code, info.message, info.action)
    assert said == (ErrorCode.INVALID_OPTION, f"{field} does not act on backend {backend}.", f"Leave {field} out.")
