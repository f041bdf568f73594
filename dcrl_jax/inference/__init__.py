"""Use of trained networks: detection in memory and in files, export, publishing, benchmark."""
