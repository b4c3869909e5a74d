"""Answering HTTP requests: what the annotation page's server and the service share; no torch."""
