"""What runs an exported detector: photos in, boxes out. No torch here."""
