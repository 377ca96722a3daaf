"""A model folder: card, weights, and where it is found."""
