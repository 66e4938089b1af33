"""AsymRnR (arXiv 2412.11706): fewer queries, keys and values inside attention, without training."""
