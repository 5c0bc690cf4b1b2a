"""The page that answers the two questions of the homework."""
