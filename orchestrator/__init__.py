"""When a job runs and how much it may cost. Knows providers and jobs; neither knows it."""
