"""Training losses over the stages of a model, one file per domain."""
