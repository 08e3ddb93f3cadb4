"""fwlocal/parallel: many prompts decoded together."""
