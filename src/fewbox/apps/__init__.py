"""What is built on top: the annotation page, the HTTP service, runs over many photos, export for OpenVINO."""
