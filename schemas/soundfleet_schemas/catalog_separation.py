"""The Demucs models of the catalogue."""

from __future__ import annotations

from .enums import BackendType, Kind
from .spec import BackendSpec

STEMS = ("drums", "bass", "other", "vocals")
"""Order of Demucs' sources."""
LONGEST_SEC = 10_800.0
"""Three hours: a stem of more would not fit into a wav of floats. The fleet's own limit is far lower by default."""
SIX_STEMS = (*STEMS, "guitar", "piano")
MUSDB_HQ = "MUSDB18-HQ, test songs"
MDX_HIDDEN = "Music Demixing Challenge 2021, hidden songs"


def _demucs(
    model: str,
    name: str,
    segment_sec: float,
    *,
    stems: tuple[str, ...] = STEMS,
    memory_mb: int = 2048,
    licence: str = "for scientific purposes (the author's words)",
    repository: str = "",
    sdr_db: float | None = None,
    sdr_on: str = MUSDB_HQ,
) -> BackendSpec:
    """Return the spec of a Demucs model.

    The ratios are their makers': htdemucs 8.80, htdemucs_ft 9.00 and hdemucs_mmi (Hybrid Demucs with the same 800 extra
    songs) 8.34 dB are those of table 1 in Rouard, Massa and Defossez, "Hybrid Transformers for Music Source
    Separation" (arXiv:2211.08553); the 9.20 dB there are of a sparse model that was not released. mdx 7.33 and
    mdx_extra 8.11 dB are of the challenge's hidden songs, in the submission's README (adefossez/mdx21_demucs, both
    branches): MUSDB's test songs are among those that mdx_extra learned from. Nobody published one of htdemucs_6s
    and of the quantised models.
    """
    return BackendSpec(
        backend=model,
        kind=Kind.separate,
        type=BackendType.Demucs,
        name=name,
        model_version=f"{model}-1",
        sample_rate=44_100,
        licence=licence,
        min_duration_sec=0.1,
        max_duration_sec=LONGEST_SEC,
        stems=stems,
        memory_mb=memory_mb,
        sdr_db=sdr_db,
        sdr_on="" if sdr_db is None else sdr_on,
        repository=repository,
        homepage="" if not repository else "https://github.com/adefossez/demucs",
        segment_sec=segment_sec,
    )


SEPARATION = (
    _demucs("htdemucs_mini", "HTDemucs-Mini", 3.0, memory_mb=256, licence="MIT"),
    _demucs("htdemucs", "HTDemucs", 7.8, repository="adefossez/HTDemucs", sdr_db=8.8),
    _demucs("htdemucs_ft", "HTDemucs-FT", 7.8, memory_mb=4096, repository="adefossez/HTDemucs-ft", sdr_db=9.0),
    _demucs("htdemucs_6s", "HTDemucs-6S", 7.8, stems=SIX_STEMS, repository="adefossez/HTDemucs-6s"),
    _demucs("hdemucs_mmi", "HDemucs-MMI", 44.0, repository="adefossez/Demucs-hdemucs_mmi", sdr_db=8.34),
    _demucs("mdx", "MDX", 44.0, memory_mb=4096, repository="adefossez/Demucs-mdx", sdr_db=7.33, sdr_on=MDX_HIDDEN),
    _demucs(
        "mdx_extra",
        "MDX-Extra",
        44.0,
        memory_mb=4096,
        repository="adefossez/Demucs-mdx_extra",
        sdr_db=8.11,
        sdr_on=MDX_HIDDEN,
    ),
    _demucs("mdx_q", "MDX-Q", 44.0, memory_mb=4096, repository="adefossez/Demucs-mdx_q"),
    _demucs("mdx_extra_q", "MDX-Extra-Q", 44.0, memory_mb=4096, repository="adefossez/Demucs-mdx_extra_q"),
)
