"""From annotated photos and a base model to a detector; ``api.py`` is where to begin."""
