"""How good a separation is: measured against references where there are some, estimated where there are none.

    assess(stems, mix, references, ...) -> QualityMetrics

Pure numpy, deterministic, on excerpts of at most 24 s (estimates) or the whole (references). See docs/quality.md.
"""

from .judge import assess

__all__ = ["assess"]
