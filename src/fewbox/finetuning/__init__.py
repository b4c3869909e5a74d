"""The heart: frozen features computed once per photo, then heads fitted on them."""
