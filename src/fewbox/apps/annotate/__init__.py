"""Draw boxes in a browser page, served to this machine alone. Torch is for bases that need it to learn."""
