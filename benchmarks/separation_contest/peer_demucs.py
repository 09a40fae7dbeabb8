"""demucs' own API in a process of its own: ``peer_demucs.py REPOSITORY MODEL DEVICE OUT SONG...`` prints JSON.

Seconds from a song's file to its four encoded stems, one song after the other; the model is loaded and warm. And the
seconds of all cores together, which other work on the machine changes little.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch
from demucs.api import Separator, save_audio


def separate(separator: Separator, song: Path, out: Path) -> float:
    """Separate a file to 16-bit wav files, as demucs' command line does by default; return the seconds."""
    began = time.perf_counter()
    _, stems = separator.separate_audio_file(song)
    for stem, audio in stems.items():
        save_audio(audio, out / f"{song.stem}-{stem}.wav", separator.samplerate)
    return time.perf_counter() - began


def main() -> None:
    repository, model, device, out, *songs = sys.argv[1:]
    separator = Separator(model, repo=Path(repository), device=device, shifts=1, overlap=0.25)
    separator.separate_tensor(torch.randn(2, separator.samplerate))
    before = time.process_time()
    seconds = [separate(separator, Path(song), Path(out)) for song in songs]
    busy = time.process_time() - before
    print(json.dumps({"alone_sec": seconds[0], "backlog_sec": sum(seconds), "backlog_core_sec": busy}))


if __name__ == "__main__":
    main()
