"""From a model's name to a file in the store: which road leads there, and the way itself."""
