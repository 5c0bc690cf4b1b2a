"""Reports: documents, figures, and the languages that they are written in."""
