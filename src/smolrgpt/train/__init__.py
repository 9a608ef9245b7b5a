"""Training: recipes, the stages of a run, ablations, and the plan of what a run costs."""
