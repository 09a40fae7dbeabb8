"""Training of `htdemucs_mini`, the small HTDemucs that separates sketches: `python -m soundfleet_worker.training`."""
