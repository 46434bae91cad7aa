"""The fixtures of the MLflow tests."""

from tests.support.mlflow_fixtures import bad_server, files, fresh_database, root

__all__ = ["bad_server", "files", "fresh_database", "root"]
