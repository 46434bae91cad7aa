"""Stage `publish`: bring the MLflow run level with the files."""
