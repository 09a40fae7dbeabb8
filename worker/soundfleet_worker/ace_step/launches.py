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
from .costs import tile_frames
from .denoiser import Denoiser
from .guidance import guide
from .lora import Loras
from .song import Phase, Song, begin
from .tiles import decode, reach_of
from .track import Track

if TYPE_CHECKING:
    import torch

    from .parts import Parts
    from .plan import Plan


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

    def __init__(self, parts: Parts, loras: Path | None, sizes: Sizes) -> None:
        """``loras`` is the folder of LoRAs."""
        self.parts, self.sizes = parts, sizes
        self.reach = reach_of(parts.vae.config.downsampling_ratios)
        self.loras = Loras(parts.transformer, loras)
        self._denoiser = Denoiser(parts.transformer)
        self._launches = 0

    def begin(self, job: EngineJob) -> Song:
        """Lay out a run; raises INVALID_OPTION for what this checkpoint cannot do, a LoRA that is not here too."""
        song = begin(job, self.parts, self._core_of, self.reach)
        if song.plan.song.lora is not None:
            self.loras.check(song.plan.song.lora)
        return song

    def _core_of(self, plan: Plan) -> int:
        rows = plan.opinions * self.slots_of(plan)
        return tile_frames(self.parts, plan.frames, rows, self.sizes.tile_frames)

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

    def slots_of(self, plan: Plan) -> int:
        """Return how many runs share a call of the transformer."""
        tokens = -(-plan.frames // self.parts.transformer.config.patch_size)
        return self.sizes.runs(tokens * plan.opinions)

    # Encode

    def _encode(self, song: Song) -> list[Song]:
        recording = song.pending
        if recording is not None:
            recording.encode_next(self.parts)
            song.current_step += 1
        return [song]

    # Denoise

    def _denoise(self, songs: Sequence[Song]) -> list[Song]:
        slots = self.slots_of(songs[0].plan)
        served = list(songs[:slots])
        for song in served:
            self._prepare(song)
        filled = served + served[:1] * (slots - len(served))
        options = served[0].plan.song
        with self.loras.on(options.lora, options.lora_scale):
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
        """Make what the transformer is told of a run, once."""
        if song.conditions is None:
            song.conditions = conditions_of(
                self.parts,
                self._denoiser,
                song.plan,
                song.words,
                song.plain_words,
                song.latents_of("source"),
                song.latents_of("reference"),
            )
            song.recordings = {}

    def _slopes(self, songs: Sequence[Song]) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return dx/dt, (slots, frames, channels), and the momenta of guidance."""
        import torch

        plan = songs[0].plan
        told = [song.conditions for song in songs if song.conditions is not None]
        opinions = [_stacked([conditions.worded for conditions in told])]
        if plan.guided:
            opinions.append((self._wordless(opinions[0][0]), opinions[0][1]))
        if plan.covered:
            opinions.append(_stacked([conditions.plain for conditions in told if conditions.plain is not None]))
        words, masks = (torch.cat(column) for column in zip(*opinions, strict=True))
        rows = len(opinions)
        x = torch.stack([song.solver.x for song in songs]).to(self.parts.dtype)
        t = torch.tensor([song.solver.t for song in songs], device=x.device).to(x.dtype)
        context = torch.stack([conditions.context for conditions in told])
        said = self._denoiser(x.repeat(rows, 1, 1), context.repeat(rows, 1, 1), t.repeat(rows), words, masks)
        worded, *others = said.chunk(rows)
        slopes, momenta = worded, None
        if plan.guided:
            slopes, momenta = self._guided(songs, worded, others[0])
        if plan.covered:
            strength = _column([song.plan.song.cover_strength for song in songs], slopes)
            slopes = strength * slopes + (1.0 - strength) * others[-1]
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
        for song, _ in taken:
            if song.track is None:
                song.track = Track(song.job.scratch, song.plan.samples)
        tiles = [song.tiles[index] for song, index in taken]
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
