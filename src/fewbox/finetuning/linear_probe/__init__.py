"""The default recipe: logistic regression on frozen features; ``recipe.py`` is where to begin."""
