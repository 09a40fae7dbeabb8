"""Files to samples and back: ``probe``, ``decode``, ``sandbox`` (decode in a bound process), ``encode``, ``levels``."""
