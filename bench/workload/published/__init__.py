"""The catalogue of published traces and their download."""
