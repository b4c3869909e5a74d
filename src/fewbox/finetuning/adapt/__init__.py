"""Adapting: neck, towers and heads learn from what the frozen backbone gave, once, for many views."""
