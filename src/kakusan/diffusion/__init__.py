"""The derivation: tensors in, tensors out. No file, no clock, no hidden randomness."""
