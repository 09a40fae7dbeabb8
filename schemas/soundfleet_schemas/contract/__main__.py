"""``python -m soundfleet_schemas.contract [DIRECTORY]``: write the generated contract (PyYAML, of the dev extra).

The directory is ``schemas`` when none is given: run it in the repository's root.
"""

from __future__ import annotations

import sys
from pathlib import Path

from .write import write

write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("schemas"))
