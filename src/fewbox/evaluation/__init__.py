"""How good a detector is: COCO's numbers, curves, mistakes, and a report to look at."""
