"""Figures of a trained model: the variational bound, distances, pictures of them."""
