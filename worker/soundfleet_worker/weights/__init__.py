"""Model weights that travel with the package, and the way to load them.

The folder has the layout of one of Demucs' own repositories on the model hub: `<name>.yaml` names the bag's
signatures, `<signature>.safetensors` holds the tensors and, as metadata, the class and its arguments. Demucs
reads such files with `demucs.hf.load_safetensors_model`; `demucs.pretrained.get_model(name, repo=folder)` does
not: of a local folder it accepts pickled `.th` files only.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from demucs.apply import BagOfModels

FOLDER = Path(__file__).parent
CLASSES = ("demucs.htdemucs.HTDemucs", "demucs.hdemucs.HDemucs", "demucs.demucs.Demucs")
"""What a file's metadata may ask to be built: its reader would import and call anything."""


def load_bag(name: str, folder: Path) -> BagOfModels:
    """Return the Demucs bag `name` from a local folder in the hub's layout, on the CPU, in eval mode.

    Raises FileNotFoundError when a file of the bag is missing and ValueError when one names a class that is no
    Demucs model. Never touches the network or unpickles.
    """
    import yaml
    from demucs.apply import BagOfModels
    from demucs.hf import load_safetensors_model
    from safetensors import safe_open

    bag = yaml.safe_load((folder / f"{name}.yaml").read_text(encoding="utf-8"))
    files = [folder / f"{signature}.safetensors" for signature in bag["models"]]
    if missing := [file.name for file in files if not file.is_file()]:
        raise FileNotFoundError(f"{name} needs {', '.join(missing)} in {folder}: restore the file(s)")
    for file in files:
        with safe_open(str(file), framework="pt") as opened:
            if (named := (opened.metadata() or {}).get("klass")) not in CLASSES:
                raise ValueError(f"{file.name} names the class {named!r}: expected one of {', '.join(CLASSES)}")
    models = [load_safetensors_model(file) for file in files]
    return BagOfModels(models, bag.get("weights"), bag.get("segment")).eval()


def load_htdemucs_mini() -> BagOfModels:
    """Return the packaged `htdemucs_mini`: 44,100 Hz, stereo, sources drums, bass, other, vocals."""
    return load_bag("htdemucs_mini", FOLDER)
