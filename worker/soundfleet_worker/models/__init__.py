"""The files of published models: which there are, whether they are here, and how they come here.

A backend whose weights are on a model hub names their ``repository`` in the catalogue, and its family says in
``published`` which files there it needs, by patterns, and which Python modules. Everything else is written once:

  * ``snapshot(name)`` is the folder in the hub's cache that holds all of the model's files, or None. It asks nobody.
    A backend's ``status()`` says NotInstalled without it, and its ``load`` reads from it, never from the network.
  * ``pull(name, config, told)`` brings the files here and returns the folder. It goes on where an earlier attempt
    was cut off; every file is checked against the hub's hash before it gets its name; the folder becomes the model's
    only when it is complete. Several processes may pull the same model: one downloads, the others wait for it.
  * ``told`` hears a ``Fetched`` per file begun and as bytes come: the component, and the bytes of all files together.
  * ``obtainable(name, config)`` says whether this machine may and can pull the model. What is obtainable, a worker
    offers before it is here: ``supervisor/installer.py`` runs ``pull`` in a process of its own when the first job
    needs it, and publishes Downloading with a percentage meanwhile.

The cache is the hub's own (``HF_HOME``), in its own layout: other programs find there what was pulled here, and the
other way round. Nothing of torch is imported.
"""

from __future__ import annotations

from .published import PUBLISHED, Published, obtainable, snapshot
from .pull import Fetched, pull

__all__ = ["PUBLISHED", "Fetched", "Published", "obtainable", "pull", "snapshot"]
