"""Photos and their boxes. Nothing in this folder imports torch."""
