"""Floor 0: the mathematics. Tensors in, tensors out; no file, no clock, no hidden randomness."""
