"""The backends that the project knows, with their ranges, licences and defaults.

A job names a *backend*: ``sketch``, ``musicgen``, ``ace_step``, or a Demucs model. Foreign backends are not
listed here; their workers publish the same ``BackendSpec`` to Redis (``keys.backends``).
"""

from __future__ import annotations

from .catalog_generation import GENERATION
from .catalog_separation import SEPARATION
from .spec import BackendSpec

CATALOG: dict[str, BackendSpec] = {spec.backend: spec for spec in (*GENERATION, *SEPARATION)}
"""Known backends by the word that requests use."""

_V1 = "ACE-Step v1-3.5B has no checkpoint that a loader here reads; ace_step is ACE-Step 1.5"
REFUSED: dict[str, str] = dict.fromkeys(("ace_step_v1", "ace_step_v1_3_5b", "ace_step_3_5b"), _V1)
"""Models that people ask for by name, in the spelling of a backend's word, and why no backend serves them."""
_OWNER = "ace_step/"
_SPELLING = str.maketrans("-. ", "___")


def why_refused(name: str) -> str | None:
    """Say why no backend serves a model, however its name is spelt; None of a name that is not known."""
    return REFUSED.get(name.lower().translate(_SPELLING).removeprefix(_OWNER))
