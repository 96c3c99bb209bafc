"""The explanation: thirteen equations in symbols, in the numbers of one image, and by the names of their functions."""
