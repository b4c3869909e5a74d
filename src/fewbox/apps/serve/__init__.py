"""Serve detectors over HTTP: photos in, detections out."""
