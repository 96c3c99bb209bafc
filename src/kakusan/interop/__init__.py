"""Other people's formats: their models in, ours out. One file each; nothing of theirs is ever run."""
