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

_V1 = "ACE-Step v1-3.5B has no checkpoint that its loader reads; ace_step is ACE-Step 1.5"
REFUSED: dict[str, str] = {"ace_step_v1": _V1, "ace_step_v1_3.5b": _V1}
"""Models that people ask for by name, and why no backend serves them."""
