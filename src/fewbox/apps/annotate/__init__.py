"""Drawing boxes in a browser page, served to this machine alone. Nothing in this folder imports torch."""
