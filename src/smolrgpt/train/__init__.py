"""Training: recipes, the stages of a run, ablations, and the plan of a run's cost."""
