"""``generate``: music from a prompt."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from soundfleet_schemas import (
    CATALOG,
    BackendType,
    GenerationRequest,
    OutputFormat,
    Priority,
    SamplingOptions,
    SchedulerType,
    SongOptions,
    Task,
    error,
    new_id,
)
from soundfleet_schemas.errors import ErrorCode, show
from soundfleet_schemas.music import TRACKS

from ..settings import Settings
from . import options as o
from .publish import Following, publish

SONG, SAMPLING, AUDIO = "The song (ACE-Step)", "The draw (MusicGen)", "Audio to start from"


def _song(text: str, *names: str, metavar: str | None = None) -> Any:
    return typer.Option(*names, rich_help_panel=SONG, help=text, metavar=metavar)


def _draw(text: str, *names: str) -> Any:
    return typer.Option(*names, rich_help_panel=SAMPLING, help=text)


def generate(
    context: typer.Context,
    prompt: Annotated[
        str, typer.Argument(metavar="PROMPT", help="What the music should be, in words.", show_default=False)
    ],
    duration: Annotated[int, typer.Option("--duration", "-d", metavar="SEC", help="Length of the music.")] = 30,
    backend: Annotated[
        str | None,
        typer.Option("--backend", "-b", metavar="NAME", help="Which model; SOUNDFLEET_DEFAULT_BACKEND by default."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="The same seed gives the same music; follows from the job's id by default.")
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option(
            help="How much the prompt counts, 1 to 30; by default 3 on MusicGen, 7 on ACE-Step but for turbo (off)."
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(rich_help_panel=AUDIO, metavar="SOURCE", help="To go on from (MusicGen), or to work on (--task)."),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=AUDIO,
            metavar="SOURCE",
            help="Whose melody (Melody) or sound (ACE-Step) to follow.",
        ),
    ] = None,
    steps: Annotated[int | None, _song("Diffusion steps, 1 to 200.")] = None,
    scheduler: Annotated[str | None, _song("ODE/SDE solver.", metavar="|".join(SchedulerType))] = None,
    shift: Annotated[float | None, _song("Of the timesteps towards the noisy end, 1 to 10.")] = None,
    lyrics: Annotated[str | None, _song("Words to sing, with marks like \\[verse].", metavar="TEXT")] = None,
    lyrics_file: Annotated[
        typer.FileText | None, _song("The same from a file; - is standard input.", metavar="FILE")
    ] = None,
    language: Annotated[str, _song("Of the lyrics.", metavar="CODE")] = "en",
    bpm: Annotated[int | None, _song("Beats per minute, 30 to 300.")] = None,
    key: Annotated[str | None, _song("Like 'C major' or 'F# minor'.")] = None,
    time_signature: Annotated[str | None, _song("Beats per bar: 2, 3, 4 or 6.", metavar="BEATS")] = None,
    task: Annotated[Task, _song("What to do with the source.")] = Task.text2music,
    tracks: Annotated[str | None, _song(f"Of extract, lego and complete: {', '.join(TRACKS)}.", metavar="A,B")] = None,
    repaint_start: Annotated[float | None, _song("Of repaint: where the new part begins.", metavar=o.SECONDS)] = None,
    repaint_end: Annotated[float | None, _song("Where it ends.", metavar=o.SECONDS)] = None,
    cover_strength: Annotated[float, _song("Of cover: how much of the source stays, 0 to 1.")] = 1.0,
    lora: Annotated[str | None, _song("A LoRA beside the checkpoint.", metavar="NAME")] = None,
    lora_scale: Annotated[float, _song("How much the LoRA counts, 0 to 2.")] = 1.0,
    top_k: Annotated[int, _draw("Among so many codes; 0 for all.")] = 250,
    top_p: Annotated[float, _draw("Among the likeliest with this probability together; 0 is off.")] = 0.0,
    temperature: Annotated[float, _draw("0 takes the likeliest code, 2 is the wildest.")] = 1.0,
    output_format: o.Format = OutputFormat.wav,
    bit_depth: o.Bits = None,
    bitrate: o.Bitrate = None,
    priority: o.PriorityOption = Priority.Normal,
    client: o.Client = None,
    expires_in: o.ExpiresIn = None,
    time_limit: o.TimeLimit = None,
    cache: o.Cache = True,
    job_id: o.JobId = None,
    then: o.Then = None,
    watch: o.Watch = False,
    out_dir: o.Out = None,
    timeout: o.Timeout = None,
    as_json: o.Json = False,
) -> int:
    """Generate music from a prompt.

    Example: soundfleet generate "warm lofi with rain" --duration 60 --out ./music
    """
    if lyrics is not None and lyrics_file is not None:
        raise typer.BadParameter("give --lyrics or --lyrics-file")
    draws = _draws(backend)
    song = SongOptions(
        lyrics=lyrics_file.read() if lyrics_file is not None else lyrics or "",
        language=language,
        bpm=bpm,
        key=key,
        time_signature=time_signature,
        shift=shift,
        task=task,
        tracks=() if tracks is None else tuple(track.strip() for track in tracks.split(",")),
        repaint_start_sec=repaint_start,
        repaint_end_sec=repaint_end,
        cover_strength=cover_strength,
        lora=lora,
        lora_scale=lora_scale,
    )
    usual = SamplingOptions()
    sampling = SamplingOptions(
        guidance=usual.guidance if guidance is None or not draws else guidance,
        top_k=top_k,
        top_p=top_p,
        temperature=temperature,
    )
    request = GenerationRequest(
        id=job_id or new_id(),
        prompt=prompt,
        duration_sec=duration,
        backend=backend,
        seed=seed,
        inference_steps=steps,
        scheduler=_solver(scheduler),
        guidance_scale=None if draws else guidance,
        sampling=None if sampling == usual else sampling,
        song=None if song == SongOptions() else song,
        source=source,
        reference=reference,
        output_format=output_format,
        bit_depth=bit_depth,
        bitrate_kbps=bitrate,
        priority=priority,
        client=client,
        expires_at=o.expires_at(expires_in),
        time_limit_sec=time_limit,
        use_cache=cache,
    )
    return publish(context, request, Following(watch, out_dir, timeout, as_json), then)


def _draws(backend: str | None) -> bool:
    """Whether the backend is a MusicGen, whose guidance is an option of the draw."""
    spec = CATALOG.get(backend or Settings.load().default_backend)
    return spec is not None and spec.type == BackendType.MusicGen


def _solver(name: str | None) -> SchedulerType | None:
    """Read the name of a solver, whose mistakes have a code of their own; raises INVALID_SCHEDULER."""
    if name is not None and name not in list(SchedulerType):
        raise error(ErrorCode.INVALID_SCHEDULER, f"scheduler is {show(name)}")
    return None if name is None else SchedulerType(name)
