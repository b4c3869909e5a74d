"""Draw boxes in a browser page, served to this machine alone. Only ``learning.py`` imports torch."""
