"""Draw boxes in a browser page, served to this machine alone. Only :mod:`.learning` imports torch."""
