"""The MLflow run of a training."""
