"""A trained pruner as a folder for others: weights, card, and the scorer as graphs that need nothing of ours."""
