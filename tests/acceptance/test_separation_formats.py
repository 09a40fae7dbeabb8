"""Fifty files of as many formats through a real fleet: every stem as long as its input, and in time with it.

How long an input is, each format says in its own way, and ``tests/formats.py`` holds the rule: mp3, flac, wav, alac,
opus and ogg state it to the sample; an MP4 of FFmpeg's states it in milliseconds; a stream of bare frames is as long as
its frames, the encoder's delay included.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.fleet import Fleet
from tests.formats import SONGS, Song
from tests.listening import lag, read, snr_db, stereo

from soundfleet_producer import SeparationRequest, Submitted
from soundfleet_schemas import CATALOG, Job, StemSeparationOptions

MINI = StemSeparationOptions(model="htdemucs_mini", shifts=0)
RATE = CATALOG["htdemucs_mini"].sample_rate


def _complaints(fleet: Fleet, song: Song, job: Job) -> list[str]:
    """What is wrong with the stems of a song; nothing, where all is right."""
    if job.error is not None:
        return [str(job.error)]
    wanted = round(song.held * RATE / song.rate)
    stems = {name: read(fleet.stack.storage.get_bytes(stem.path)) for name, stem in job.result.stems.items()}
    wrong = [f"{name} has {stem.shape}, not {wanted}" for name, stem in stems.items() if stem.shape != (2, wanted)]
    wrong += [
        f"{name} says {stem.duration} s" for name, stem in job.result.stems.items() if stem.duration != wanted / RATE
    ]
    if set(stems) != set(CATALOG["htdemucs_mini"].stems) or wrong:
        return wrong or [f"the stems are {', '.join(stems)}"]
    return _out_of_time(song, sum(stems.values(), np.zeros((2, wanted), np.float32)))


def _out_of_time(song: Song, total: np.ndarray) -> list[str]:
    """Whether the sum of the stems is the song, at its place to the sample."""
    truth = stereo(song.audio, song.rate)
    if not truth.any():
        return [] if not total.any() else ["silence has become sound"]
    late = round(song.late * RATE / song.rate)
    if (found := lag(truth, total)) != late:
        return [f"the sum of the stems is {found - late} samples late"]
    both = min(truth.shape[1], total.shape[1] - late)
    level = snr_db(truth[:, :both], total[:, late : late + both])
    return [] if level >= song.snr_db else [f"the sum of the stems is {level:.1f} dB from the song"]


@pytest.mark.timeout(240)
def test_every_format_is_separated_in_full_and_in_time(fleet: Fleet, tmp_path: Path) -> None:
    """All are submitted together, and each is taken in one attempt."""
    songs = {name: make(tmp_path) for name, make in SONGS.items()}
    assert len({song.path.read_bytes() for song in songs.values()}) == len(songs) >= 40
    fleet.start(SOUNDFLEET_ONLY="separate.htdemucs_mini", SOUNDFLEET_SLOTS="8")
    answers = fleet.producer.submit_many(
        SeparationRequest(source=str(song.path), options=MINI) for song in songs.values()
    )
    ids = [answer.id for answer in answers if isinstance(answer, Submitted)]
    assert len(ids) == len(songs), answers
    jobs = [fleet.ended(job_id, timeout=180) for job_id in ids]
    wrong = {
        name: complaints
        for (name, song), job in zip(songs.items(), jobs, strict=True)
        if (complaints := _complaints(fleet, song, job))
    }
    assert not wrong
    assert {job.attempt for job in jobs} == {1}
