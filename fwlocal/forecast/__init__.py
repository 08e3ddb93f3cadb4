"""What a model would do on this machine or another: plans of every level, and how fast each is."""
