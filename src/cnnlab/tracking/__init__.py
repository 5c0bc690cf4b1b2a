"""MLflow: runs, the queue of records, the registry and the pages of its UI."""
