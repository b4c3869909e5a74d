"""A fine-tuned detector at work. No training code here."""
