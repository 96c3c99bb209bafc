"""The terminal: progress, signals, standard streams. For the command line and for Python."""
