"""The fixtures of the MLflow tests."""

from tests.support.mlflow_fixtures import faulty_server, files, fresh_database, root

__all__ = ["faulty_server", "files", "fresh_database", "root"]
