"""The protocol on Redis: verbs as values, one Lua script each, and the reading of records."""
