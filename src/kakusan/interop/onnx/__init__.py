"""Models in ONNX, with the coefficients that a sampler needs."""
