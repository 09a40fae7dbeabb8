"""MusicGen's decode loop: many pieces at once, each in a slot of its own, none of which hears the others."""
