"""Detection with trained networks: in memory, in files, exported and published, and its speed."""
