"""Images as bytes: lossless compression by the model of a run, at the length of its bound.

stack: an ANS coder | bins: Gaussians as whole frequencies | calibration: how wrong guesses are | plan: few steps,
and which | chain: bits back | container: the file | packing: images of a run to a file and back.
"""
