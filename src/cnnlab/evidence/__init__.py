"""What finished runs show: metrics, intervals, figures, reports."""
