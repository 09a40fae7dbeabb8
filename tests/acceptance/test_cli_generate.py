"""Every rule of a generation on the command line: its own code, its own sentence, and nothing queued."""

from __future__ import annotations

import pytest
from tests.commandline import CommandLine

from soundfleet_producer import Producer

MUSICGEN, ACE_STEP = ("--backend", "musicgen"), ("--backend", "ace_step")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("", *MUSICGEN), "INVALID_PROMPT: the prompt holds nothing that can be seen."),
        (("x" * 513, *MUSICGEN), "INVALID_PROMPT: the prompt has 513 characters, over 512."),
        (("雨" * 513, *ACE_STEP), "INVALID_PROMPT: the prompt has 513 characters, over 512."),
        (("x", "-d", "4", *MUSICGEN), "INVALID_DURATION: duration_sec is 4; musicgen makes 5 to 120 seconds."),
        (("x", "-d", "121", *MUSICGEN), "INVALID_DURATION: duration_sec is 121; musicgen makes 5 to 120 seconds."),
        (("x", "-d", "241", *ACE_STEP), "INVALID_DURATION: duration_sec is 241; ace_step makes 5 to 240 seconds."),
        (("x", "--steps", "0", *ACE_STEP), "INVALID_INFERENCE_STEPS: inference_steps is 0. Give 1 to 200 steps."),
        (("x", "--steps", "201", *ACE_STEP), "INVALID_INFERENCE_STEPS: inference_steps is 201. Give 1 to 200 steps."),
        (("x", "--guidance", "0.9", *ACE_STEP), "INVALID_GUIDANCE_SCALE: guidance_scale is 0.9."),
        (("x", "--guidance", "31", *ACE_STEP), "INVALID_GUIDANCE_SCALE: guidance_scale is 31."),
        (("x", "--guidance", "nan", *ACE_STEP), "INVALID_GUIDANCE_SCALE: guidance_scale is nan."),
        (
            ("x", "--scheduler", "ddim", *ACE_STEP),
            "INVALID_SCHEDULER: scheduler is 'ddim'. Use euler, heun or pingpong.",
        ),
        (("x", "--seed", str(2**64), *MUSICGEN), "INVALID_SEED: seed is 18446744073709551616."),
        (("x", "--steps", "8", *MUSICGEN), "INVALID_OPTION: inference_steps does not act on backend musicgen."),
        (("x", "--scheduler", "heun", *MUSICGEN), "INVALID_OPTION: scheduler does not act on backend musicgen."),
        (("x", "--guidance", "31", *MUSICGEN), "INVALID_OPTION: sampling.guidance is 31.0; it takes 1 to 30."),
        (("x", "--backend", "nobody"), "INVALID_BACKEND: no backend that can generate is called 'nobody'"),
        (("x", "--backend", "ace_step_v1"), "INVALID_BACKEND: ace_step_v1 cannot be served: ACE-Step v1-3.5B has no"),
    ],
)
def test_each_rule_has_its_code_and_its_sentence(
    soundfleet: CommandLine, producer: Producer, arguments: tuple[str, ...], sentence: str
) -> None:
    """In one line, before anything is submitted."""
    said = soundfleet("generate", *arguments)
    assert said.code == 2
    assert sentence in said.err
    assert len(said.err.strip().splitlines()) == 1
    assert producer.jobs() == []
