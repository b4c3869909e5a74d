"""Networks, what they are made of, and how official checkpoints are read."""
