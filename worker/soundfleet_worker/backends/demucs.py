"""The Demucs backends: separation in batches of windows gathered from all runs.

A launch is ``slots`` windows of one sub-model, always of the same size: an empty slot is silence. So the kernels, and
with them the samples of a run, do not depend on which other runs take part. They do depend on the device, the number of
threads and the number of slots: the same request gives the same bytes on the same kind of machine with the same number
of threads, unless memory ran out; elsewhere they differ by rounding, far below what can be heard. A light model on a
CPU has a core for each window instead (``separation.side_by_side``), and depends on none of these.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

import msgspec

from soundfleet_schemas import (
    SOURCE,
    BackendSpec,
    BackendStatus,
    ErrorCode,
    Precision,
    SeparationPlan,
    SeparationRequest,
    error,
    plan_separation,
)

from ..separation.files import Found, find
from .contract import BackendFactory, EngineJob, Model, ModelConfig, Output, Report, Run

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from demucs.apply import BagOfModels

    from ..separation.accumulator import Accumulator
    from ..separation.mix import Mix
    from ..separation.side_by_side import SideBySide
    from ..separation.windows import Window, Windows

SLOTS = {"cpu": 1, "cuda": 8}
"""Windows per launch: on a CPU more only use more memory (but see ``side_by_side``), a GPU is filled by several."""
LIGHT_PARAMETERS = 10_000_000
"""Below this a model is so quick on a CPU that runs may share it."""
RUNS_OF_A_LIGHT_MODEL = 4
WORKSPACE_BYTES = 64
"""Of activations, per slot, sample of a window and channel of the first layer: the most that HTDemucs' module takes.

Written out for a CPU, the shape of htdemucs takes 39 in float32 and 25 in bfloat16.
"""
MODULES = ("torch", "demucs", "numpy", "yaml")


class DemucsFactory(BackendFactory):
    """One Demucs model of the catalogue."""

    def __init__(self, spec: BackendSpec, source: ModelConfig) -> None:
        self.spec = spec
        self._source = source

    def status(self) -> tuple[BackendStatus, str | None]:
        """Ready when the libraries and the model's files are here."""
        if missing := [name for name in MODULES if importlib.util.find_spec(name) is None]:
            return BackendStatus.NotInstalled, f"{', '.join(missing)} is missing: pip install 'soundfleet[worker]'"
        found = find(self.spec.backend, self._source)
        return (BackendStatus.Ready, None) if isinstance(found, Found) else (BackendStatus.NotInstalled, found.reason)

    def load(self, device: str, report: Report) -> Model:  # noqa: ARG002 - files are here, or status() said so
        """Load the model; raises BACKEND_NOT_READY or MODEL_LOAD_FAILED."""
        from ..separation.loading import load

        bag, weights = load(self.spec, self._source)
        return DemucsModel(self.spec, bag, device, weights=weights, precision=self._source.precision)


class Separation(Run):
    """One mix being separated."""

    def __init__(
        self, job: EngineJob, plan: SeparationPlan, mix: Mix, windows: Windows, blends: torch.Tensor, sums: Accumulator
    ) -> None:
        self.job, self.plan, self.mix, self.windows, self.blends, self.sums = job, plan, mix, windows, blends, sums
        self.total_steps = len(windows)
        self.served = 0

    @property
    def done(self) -> bool:
        return self.current_step >= self.total_steps


class DemucsModel(Model):
    """A loaded bag of Demucs models."""

    def __init__(
        self,
        spec: BackendSpec,
        bag: BagOfModels,
        device: str,
        slots: int | None = None,
        weights: Sequence[str] = (),
        precision: Precision = Precision.Float32,
    ) -> None:
        """``weights`` name the files of the bag's models, for the result; BACKEND_NOT_READY for a precision."""
        import torch

        from ..separation.network import Network
        from ..separation.pace import Pace
        from ..separation.precision import choose

        self.spec = spec
        self._device = torch.device(device)
        self.precision = choose(precision, self._device, list(bag.models))
        self._models = [Network(model, self._device, self.precision) for model in bag.models]
        self._parameters = sum(model.parameters for model in self._models)
        self._side_by_side = self._threads() if slots is None else None
        self._most_slots = self._slots = slots or self._usual_slots()
        self._pace = Pace(self._device)
        self._launches = 0
        self.max_runs = self._room()
        self._counts = [[float(weight) for weight in row] for row in bag.weights]
        """What each sub-model counts for each stem."""
        self._weights = list(weights)

    def _threads(self) -> SideBySide | None:
        """Of a light model on a CPU, which has nothing to share out among several cores."""
        import torch

        from ..separation.side_by_side import MOST, SideBySide

        light = self._parameters < LIGHT_PARAMETERS and all(model.is_fast for model in self._models)
        threads = min(torch.get_num_threads(), MOST)
        return SideBySide(threads) if light and threads > 1 else None

    def _usual_slots(self) -> int:
        return SLOTS[self._device.type] if self._side_by_side is None else self._side_by_side.threads

    @property
    def memory_bytes(self) -> int:  # type: ignore[override]  # it falls when the model shrinks
        """The weights, and what one launch needs."""
        samples = round((self.spec.segment_sec or 0.0) * self.spec.sample_rate)
        launch = self._slots * samples * max(model.channels for model in self._models) * WORKSPACE_BYTES
        return launch + sum(model.weight_bytes for model in self._models)

    def _room(self) -> int:
        """As many runs as a launch has slots.

        Where that is one, sharing gains nothing and stretches every run, against its time limit: runs of a heavy
        model come one after the other. A light one is shared, so that a short song does not wait for a long one.
        """
        return max(self._slots, RUNS_OF_A_LIGHT_MODEL if self._parameters < LIGHT_PARAMETERS else 1)

    def memory_of(self, job: EngineJob) -> int:
        """Every stem and the mix, float32 stereo; the rest beside a stem comes when the others are gone."""
        from ..separation.mix import open_mix

        return (len(self.spec.stems) + 1) * open_mix(_input_of(job)).nbytes

    def begin(self, job: EngineJob) -> Run:
        """Lay out the windows and reserve the stems."""
        import torch

        from ..separation.accumulator import Accumulator
        from ..separation.mix import Mix
        from ..separation.windows import Windows, grid

        plan = plan_separation(cast(SeparationRequest, job.request).options, self.spec)
        mix = Mix(_input_of(job), self._device)
        models = self._needed(plan)
        layout = grid(plan.segment_sec, plan.overlap, self.spec.sample_rate)
        windows = Windows(
            mix.samples, layout, models, plan.shifts, plan.seed, self.spec.sample_rate, self._window_length(plan)
        )
        gains = self._gains(models, plan)
        sums = Accumulator(self.spec.stems, mix.samples, gains, job.scratch, self._device)
        return Separation(job, plan, mix, windows, torch.from_numpy(layout.blends).to(self._device), sums)

    def _needed(self, plan: SeparationPlan) -> tuple[int, ...]:
        """Which sub-models must run: those that count for a wanted stem, all when every one of them does."""
        columns = [self.spec.stems.index(stem) for stem in plan.computed]
        return tuple(i for i, row in enumerate(self._counts) if any(row[column] for column in columns))

    def _gains(self, models: Sequence[int], plan: SeparationPlan) -> dict[int, list[float]]:
        """What one output of each sub-model counts: its weight in the bag over all shifts; 0 for a stem left out."""
        totals = [sum(column) for column in zip(*self._counts, strict=True)]
        whole = len(models) == len(self._models)
        covered = [whole or sum(self._counts[i][k] for i in models) == total for k, total in enumerate(totals)]
        passes = max(plan.shifts, 1)
        return {
            i: [
                w / total / passes if ok else 0.0 for w, total, ok in zip(self._counts[i], totals, covered, strict=True)
            ]
            for i in models
        }

    def _window_length(self, plan: SeparationPlan) -> Callable[[int, int], int]:
        """Say what a sub-model wants to see of a segment: HTDemucs a fixed length, Demucs one that fits its strides."""
        segment = int(plan.segment_sec * self.spec.sample_rate)
        return lambda index, kept: self._models[index].window_length(segment, kept)

    def step(self, runs: Sequence[Run]) -> None:
        """Separate one launch of windows, gathered from the given runs in turn."""
        from ..separation.batch import gather

        batch = gather(cast(Sequence[Separation], runs), self._slots)
        outputs = self._infer(batch)
        self._launches += 1
        for (run, window), output in zip(batch, outputs, strict=False):  # slots that were not filled give nothing
            run.sums.add(window, output, run.blends[window.blend], run.mix.std)
            run.current_step += 1
            run.served = self._launches
        self._pace.keep()

    def _infer(self, batch: Sequence[tuple[Separation, Window]]) -> Sequence[torch.Tensor]:
        """Return the outputs of one sub-model, (sources, 2, window length) per slot."""
        import torch

        shape = batch[0][1]
        slots = self._slots if self._side_by_side is None else len(batch)
        inputs = torch.zeros((slots, 2, shape.length), dtype=torch.float32, device=self._device)
        for slot, (run, window) in enumerate(batch):
            run.mix.read(window.start, inputs[slot])
        network = self._models[shape.model]
        return list(network(inputs)) if self._side_by_side is None else self._side_by_side(network, inputs)

    def shrink(self) -> bool:
        """Halve the slots; other kernels may then round the last bit differently."""
        if self._slots == 1:
            return False
        self._slots //= 2
        return True

    def grow(self) -> bool:
        """Double the slots, up to what they were."""
        if self._slots == self._most_slots:
            return False
        self._slots = min(2 * self._slots, self._most_slots)
        return True

    def finish(self, run: Run) -> Output:
        """Return the wanted stems, which add up to the mix (see ``separation.stems``)."""
        from ..separation import stems as rule

        done = cast(Separation, run)
        plan, mix = done.plan, done.mix
        audio = done.sums.take(mix.mean)
        whole = len(audio) == len(self.spec.stems)
        if whole:
            rule.share_residual(audio, mix.audio)
        audio = done.sums.keep(audio, plan.computed)
        if plan.rest is not None:
            audio[plan.rest] = rule.take_rest(audio[plan.computed[0]], mix.audio, done.sums.room(plan.rest))
            audio = done.sums.keep(audio, plan.stems)
        gain = rule.normalise(audio) if plan.normalize else 1.0
        parameters = {
            **msgspec.to_builtins(plan),
            "weights": self._weights,
            "precision": str(self.precision),
            "gain": gain,
            "residual": "shared" if whole else "left out: only the wanted stems were computed",
        }
        return Output(done.sums.deliver(audio), self.spec.sample_rate, parameters)

    def close(self) -> None:
        """Let the models go."""
        self._models.clear()
        if self._side_by_side is not None:
            self._side_by_side.close()


def _input_of(job: EngineJob) -> Path:
    path = job.inputs.get(SOURCE)
    if path is None:
        raise error(ErrorCode.INTERNAL_ERROR, f"separation {job.job_id} came to the engine without decoded audio")
    return path
