"""Detectors served over HTTP: photos in, detections out."""
