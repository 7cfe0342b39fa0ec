"""The harness: configuration, plan, isolated points, rows, and what is made of rows."""
