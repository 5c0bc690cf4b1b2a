"""Using a trained network: which one, what it tells of pictures, files for other programs, a server, a page."""
