"""Where weights come from: files of several formats behind one kind of source."""
