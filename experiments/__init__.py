"""Commands; the only place that prints. Each file opens with its question."""
