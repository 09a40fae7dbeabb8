"""One launch: which runs share it, and what it does with them.

Runs share a launch when their group is the same: the same phase and shapes, whatever their progress. A launch of a
group always has the same size, which follows from the shapes alone; slots that no run fills repeat the first. So the
kernels, and with them the samples of a run, do not depend on who else is there. Among groups, and among the runs of
one, those go first that were served longest ago.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from soundfleet_schemas import Stage

from ..backends.contract import EngineJob
from .conditions import Opinion, conditions_of
from .costs import SMALLEST_TILE, Costs
from .denoiser import Denoiser
from .forecast import Leg, Rest, foretell
from .guidance import guide
from .lora import Loras
from .song import Phase, Song, begin
from .speed import Speed, Timer, timer_of
from .tiles import Tile, decode, reach_of
from .track import Track

if TYPE_CHECKING:
    import torch

    from .parts import Parts
    from .plan import Plan

WARM_SEC = 10
"""Of music, in the first call of the transformer that is made."""
WARM_WORDS = 256


class Sizes:
    """How many runs or tiles a launch takes; halved by ``shrink``, doubled by ``grow``."""

    def __init__(self, tokens: int, most: int, tiles: int, tile_frames: int) -> None:
        """``tokens`` fill the device, by one run at least and ``most`` at most; ``tiles`` share a launch of the VAE.

        ``tile_frames`` latent frames are kept of a tile at most.
        """
        self._tokens, self.most, self._tiles, self.tile_frames = tokens, most, tiles, tile_frames
        self.halvings = 0

    @property
    def smallest(self) -> bool:
        return max(self.most, self._tiles) >> self.halvings <= 1

    def runs(self, tokens_per_run: int) -> int:
        """Of a call of the transformer."""
        return max(1, min(self.most, self._tokens // tokens_per_run) >> self.halvings)

    @property
    def tiles(self) -> int:
        return max(1, self._tiles >> self.halvings)


class Launcher:
    """Advances runs, a launch at a time."""

    def __init__(self, parts: Parts, loras: Path | None, sizes: Sizes, timer: Timer | None = None) -> None:
        """``loras`` is the folder of LoRAs; ``timer`` is the device's own unless another is given."""
        self.parts, self.sizes = parts, sizes
        self.speed = Speed(timer or timer_of(parts.device))
        self._costs = Costs(parts)
        self.reach = reach_of(parts.vae.config.downsampling_ratios)
        self.loras = Loras(parts.transformer, loras)
        self._denoiser = Denoiser(parts.transformer)
        self._launches = 0

    def begin(self, job: EngineJob) -> Song:
        """Lay out a run; raises INVALID_OPTION for what this checkpoint cannot do, a LoRA that is not here too."""
        song = begin(job, self.parts, self._core_of, self.reach)
        if song.plan.song.lora is not None:
            song.lora = self.loras.find(song.plan.song.lora)
        self._foretell([song])
        return song

    def _core_of(self, plan: Plan) -> int:
        rows = plan.opinions * self.slots_of(plan)
        return self._costs.tile_frames(plan.frames, rows, self.sizes.tile_frames)

    def advance(self, songs: Sequence[Song]) -> None:
        """Make one launch; when it raises, every run is as it was, or further."""
        import torch

        waiting = sorted(songs, key=lambda song: song.served)  # stable: equals in the order given
        together = [song for song in waiting if song.group == waiting[0].group]
        with torch.inference_mode():
            match together[0].phase:
                case Phase.encode:
                    served = self._encode(together[0])
                case Phase.denoise:
                    served = self._denoise(together)
                case Phase.decode:
                    served = self._decode(together)
        self._launches += 1
        for song in served:
            song.served = self._launches
        self._foretell(songs)

    def warm(self) -> None:
        """Make a call of the transformer and a launch of tiles, and time them once they are at speed."""
        import torch

        with torch.inference_mode():
            for _ in range(2):  # most of the first is what comes only once
                self._warm_up()

    def _warm_up(self) -> None:
        import torch

        parts = self.parts
        frames, opinions = parts.frames_of(WARM_SEC * parts.sample_rate), 2 - parts.turbo
        rows = opinions * self.sizes.runs(opinions * -(-frames // parts.transformer.config.patch_size))
        x, context, words = (
            torch.zeros((rows, *shape), device=parts.device, dtype=parts.dtype)
            for shape in (
                (frames, parts.channels),
                (frames, 2 * parts.channels),
                (WARM_WORDS, int(parts.transformer.config.hidden_size)),
            )
        )
        with self.speed.timing(Phase.denoise, self._costs.call(frames, rows)):
            self._denoiser(x, context, torch.ones_like(x[:, 0, 0]), words, None)
        window = min(frames, SMALLEST_TILE + 2 * self.reach)
        with self.speed.timing(Phase.decode, self._costs.frame * window * self.sizes.tiles):
            decode(parts.vae, [x[0]], [Tile(0, window, 0, window)], self.sizes.tiles)

    def _foretell(self, songs: Sequence[Song]) -> None:
        """Say when songs will end, as far as is known how long launches take."""
        rests = [self._rest(song) for song in songs]
        known = [rest for rest in rests if rest is not None]
        foretell(known)
        for song, rest in zip(songs, rests, strict=True):
            song.left_sec = None if rest is None else rest.ends_sec

    def _rest(self, song: Song) -> Rest | None:
        rows = song.plan.opinions * self.slots_of(song.plan)
        tiles = self.sizes.tiles
        kinds = [
            (Phase.encode, self._encode_size(song), 1, song.tiles_to_encode),
            (Phase.denoise, self._costs.call(song.plan.frames, rows), self.slots_of(song.plan), song.calls_left),
            (Phase.decode, self._tiles_size(song), tiles, len(song.tiles) - song.decoded),
        ]
        legs = []
        for phase, size, places, left in kinds:
            if left:
                launch_sec = self.speed.launch_sec(phase, size)
                if launch_sec is None:
                    return None
                legs.append(Leg(song.group_in(phase), launch_sec, places, phase is Phase.decode, left))
        return Rest(legs, song.served)

    def _tiles_size(self, song: Song) -> int:
        return self._costs.frame * song.tiles[0].length * self.sizes.tiles

    def _encode_size(self, song: Song) -> int:
        recording = song.pending
        return self._costs.frame * recording.tiles[0].length if recording else 0

    def slots_of(self, plan: Plan) -> int:
        """Return how many runs share a call of the transformer."""
        tokens = -(-plan.frames // self.parts.transformer.config.patch_size)
        return self.sizes.runs(tokens * plan.opinions)

    # Encode

    def _encode(self, song: Song) -> list[Song]:
        recording = song.pending
        if recording is not None:
            with self.speed.timing(Phase.encode, self._encode_size(song)):
                recording.encode_next(self.parts)
            song.current_step += 1
        return [song]

    # Denoise

    def _denoise(self, songs: Sequence[Song]) -> list[Song]:
        slots = self.slots_of(songs[0].plan)
        served = list(songs[:slots])
        filled = served + served[:1] * (slots - len(served))
        with self.loras.on(served[0].lora, served[0].plan.song.lora_scale):  # the same of all: they are of one group
            for song in served:
                self._prepare(song)
            slopes, momenta = self._slopes(filled)
        for index, song in enumerate(served):
            repeats = song.solver.repeats
            song.solver.advance(slopes[index])
            if momenta is not None and not repeats:
                song.momentum = momenta[index]
            song.current_step += 1
            if song.solver.done:
                song.stage = Stage.decode
        return served

    def _prepare(self, song: Song) -> None:
        """Make what the transformer is told of a run, once; and see whether there is room for what it will make."""
        if song.track is None:
            song.track = Track(song.job.scratch, song.plan.samples)
        if song.conditions is None:
            song.conditions = conditions_of(
                self.parts,
                self._denoiser,
                song.plan,
                song.words,
                song.plain_words,
                song.latents_of("source"),
                song.latents_of("reference"),
                shared=self.sizes.most > 1,
            )
            song.recordings = {}

    def _slopes(self, songs: Sequence[Song]) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return dx/dt, (slots, frames, channels), and the momenta of guidance.

        A GPU has ended the launch before when this one begins: what a launch takes, and what goes wrong in it, is this
        model's, and it is behind by one call at most.
        """
        import torch

        plan = songs[0].plan
        told = [song.conditions for song in songs if song.conditions is not None]
        heard = [conditions.worded for conditions in told]
        others = [conditions.plain for conditions in told if conditions.plain is not None]
        opinions = [_stacked(heard)]
        if plan.guided:
            opinions.append((self._wordless(opinions[0][0]), opinions[0][1]))
        if plan.covered:
            opinions.append(_stacked(others))
        words, masks = (torch.cat(column) for column in zip(*opinions, strict=True))
        mask = None if all(opinion.whole for opinion in (*heard, *others)) else masks
        rows = len(opinions)
        x = torch.stack([song.solver.x for song in songs]).to(self.parts.dtype)
        t = torch.tensor([song.solver.t for song in songs], device=x.device).to(x.dtype)
        context = torch.stack([conditions.context for conditions in told])
        with self.speed.timing(Phase.denoise, self._costs.call(plan.frames, rows * len(songs))):
            said = self._denoiser(x.repeat(rows, 1, 1), context.repeat(rows, 1, 1), t.repeat(rows), words, mask)
        worded, *besides = said.chunk(rows)
        slopes, momenta = worded, None
        if plan.guided:
            slopes, momenta = self._guided(songs, worded, besides[0])
        if plan.covered:
            strength = _column([song.plan.song.cover_strength for song in songs], slopes)
            slopes = strength * slopes + (1.0 - strength) * besides[-1]
        return slopes, momenta

    def _guided(
        self, songs: Sequence[Song], worded: torch.Tensor, wordless: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        import torch

        none = torch.zeros_like(worded[0])
        momentum = torch.stack([none if song.momentum is None else song.momentum for song in songs])
        return guide(worded, wordless, _column([song.plan.guidance_scale for song in songs], worded), momentum)

    def _wordless(self, words: torch.Tensor) -> torch.Tensor:
        null = self.parts.condition_encoder.null_condition_emb.to(words.dtype)
        return self._denoiser.embed(null).expand_as(words)

    # Decode

    def _decode(self, songs: Sequence[Song]) -> list[Song]:
        """Decode the next tiles, of each run in turn until the launch is full."""
        taken: list[tuple[Song, int]] = []
        for ahead in range(self.sizes.tiles):
            for song in songs:
                if len(taken) < self.sizes.tiles and song.decoded + ahead < len(song.tiles):
                    taken.append((song, song.decoded + ahead))
        tiles = [song.tiles[index] for song, index in taken]
        with self.speed.timing(Phase.decode, self._tiles_size(taken[0][0])):
            pieces = decode(self.parts.vae, [song.solver.x for song, _ in taken], tiles, self.sizes.tiles)
        for (song, _), tile, piece in zip(taken, tiles, pieces, strict=True):
            if song.track is not None:
                song.track.write(tile.keep_from * self.parts.hop, piece.numpy())
            song.decoded += 1
            song.current_step += 1
        return list({id(song): song for song, _ in taken}.values())


def _stacked(opinions: Sequence[Opinion]) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    return torch.stack([o.words for o in opinions]), torch.stack([o.mask for o in opinions])


def _column(values: Sequence[float], like: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.tensor(values, device=like.device, dtype=like.dtype)[:, None, None]
