"""The default recipe: logistic regression on what the frozen base says of every anchor."""
