"""Points, keys, expansion of overrides, predictions, warnings and the code hash."""
