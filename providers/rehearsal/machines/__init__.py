"""Where a simulated cloud's machines come from: containers, process trees, or paper."""
