"""The lesson, computed: its examples, networks and classic methods, as a report in the course's order."""
