"""``python -m soundfleet_producer.cli``."""

from . import main

main()
