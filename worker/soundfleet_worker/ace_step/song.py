"""One run: a song on its way from noise, words and recordings to a track."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import TYPE_CHECKING

from soundfleet_schemas import Task

from ..backends.contract import EngineJob, Run
from .plan import Plan, plan_of
from .recordings import Recording, open_audio, recording_of, reference_audio, source_audio
from .solvers import Solver, calls_of, solver_of
from .tiles import Tile, tiles_of
from .words import Words, words_of

if TYPE_CHECKING:
    import torch

    from .conditions import Conditions
    from .lora import Lora
    from .parts import Parts
    from .track import Track


class Phase(Enum):
    """What the next unit of a run is."""

    encode = "encode"
    """A tile of a recording."""
    denoise = "denoise"
    """A call of the transformer."""
    decode = "decode"
    """A tile of the track."""


class Song(Run):
    """A run's whole state; ``launches`` moves it on."""

    def __init__(
        self,
        job: EngineJob,
        plan: Plan,
        words: tuple[Words, Words | None],
        solver: Solver,
        recordings: dict[str, Recording],
        tiles: Sequence[Tile],
    ) -> None:
        self.job, self.plan, self.solver, self.recordings, self.tiles = job, plan, solver, recordings, tiles
        self.words, self.plain_words = words
        self.conditions: Conditions | None = None
        self.momentum: torch.Tensor | None = None
        self.lora: Lora | None = None
        """As its files were when the run began."""
        self.track: Track | None = None
        self.decoded = 0
        self.served = 0
        """The launch that advanced it last."""
        self._calls = calls_of(plan.scheduler, plan.steps)
        self.total_steps = self.tiles_to_encode + self._calls + len(tiles)

    @property
    def done(self) -> bool:
        return self.current_step >= self.total_steps

    @property
    def pending(self) -> Recording | None:
        """The recording whose next tile is to be encoded."""
        return next((recording for recording in self.recordings.values() if not recording.encoded), None)

    @property
    def tiles_to_encode(self) -> int:
        """How many tiles of its recordings are left."""
        return sum(len(recording.tiles) - len(recording.said) for recording in self.recordings.values())

    @property
    def calls_left(self) -> int:
        """How often the transformer will be called for it."""
        return max(0, min(self._calls, self.total_steps - len(self.tiles) - self.current_step))

    @property
    def phase(self) -> Phase:
        if self.pending is not None:
            return Phase.encode
        return Phase.decode if self.solver.done else Phase.denoise

    @property
    def words_length(self) -> int:
        """Tokens of its words, padded."""
        return max(self.words.length, self.plain_words.length if self.plain_words else 0)

    @property
    def group(self) -> tuple[object, ...]:
        """Runs with the same one may share a launch."""
        return self.group_in(self.phase)

    def group_in(self, phase: Phase) -> tuple[object, ...]:
        """Return what the group is in a phase."""
        song = self.plan.song
        if phase is Phase.encode:
            return phase, self.job.job_id, id(self)
        if phase is Phase.decode:
            return phase, self.tiles[0].length
        lora = (self.lora, song.lora_scale) if self.lora else None
        return phase, self.plan.frames, self.words_length, self.plan.guided, self.plan.covered, lora

    @property
    def warnings(self) -> tuple[str, ...]:
        return self.plan.warnings + self.words.warnings

    def latents_of(self, name: str) -> torch.Tensor | None:
        """Return the latents of a recording, (frames, channels); None without it."""
        recording = self.recordings.get(name)
        return recording.latents() if recording else None


def begin(job: EngineJob, parts: Parts, core_of: Callable[[Plan], int], reach: int) -> Song:
    """Lay out a run, in tiles of ``core_of`` its plan: all that it draws comes from its own generator, noise first."""
    import torch

    audio = {name: open_audio(path) for name, path in job.inputs.items()}
    plan = plan_of(job, parts, audio["source"].shape[-1] if "source" in audio else None)
    core = core_of(plan)
    plain = words_of(parts.tokenizer, plan, Task.text2music) if plan.covered else None
    generator = torch.Generator().manual_seed(plan.seed)

    def draw() -> torch.Tensor:
        return torch.randn((plan.frames, parts.channels), generator=generator)

    solver = solver_of(plan.scheduler, draw().to(parts.device), plan.steps, plan.shift, draw)
    heard = {}
    if "source" in audio:
        heard["source"] = source_audio(audio["source"], plan.samples, parts, plan.frames)
    if "reference" in audio:
        heard["reference"] = reference_audio(audio["reference"], parts)
    recordings = {name: recording_of(sound, parts, core, reach, generator) for name, sound in heard.items()}
    words = words_of(parts.tokenizer, plan), plain
    needed = parts.frames_of(plan.samples)
    tiles = [tile for tile in tiles_of(plan.frames, core, reach) if tile.keep_from < needed]
    return Song(job, plan, words, solver, recordings, tiles)
