"""Adapting: the later layers learn from what the frozen ones gave, once, for many views."""
