"""One system a file: its FORMAT says how its arrays are read and written."""
