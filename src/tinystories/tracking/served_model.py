"""The model as `mlflow models serve` and `mlflow models predict` load it: prompts in, stories out.

MLflow copies this file next to each model that is logged, and runs it from there ("models from code"), so nothing of
ours is pickled. It needs the package `tinystories` in the environment that serves.
"""

import re

import mlflow
from mlflow.exceptions import MlflowException

import tinystories


class StoryTeller(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Continue each prompt to the end of its story."""

    _skip_type_hint_validation = True  # else MLflow warns each time that `predict` has none

    def load_context(self, context):  # type: ignore[no-untyped-def]
        """Load the checkpoint. MLflow calls it once, before the first prompt."""
        self._model = tinystories.load(context.artifacts["checkpoint"])

    # With annotations, MLflow would make a signature of them, and leave out the one that has the parameters.
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """Return each prompt with its story. `model_input`: a table whose column `prompt` has the beginnings."""
        values = {name: value for name, value in (params or {}).items() if value is not None}
        if "max_new_tokens" in values:
            values["length"] = values.pop("max_new_tokens")
        prompts = list(model_input["prompt"])
        for prompt in prompts:
            if not isinstance(prompt, str):
                raise MlflowException.invalid_parameter_value(f"a prompt is {prompt!r}; it should be text")
        try:
            return [prompt + self._model.generate(prompt, **values) for prompt in prompts]
        except tinystories.UserError as error:  # answered with 400 and this line; another would come with a traceback
            said = re.sub(r"\Alength is", "max_new_tokens is", str(error))
            raise MlflowException.invalid_parameter_value(said) from None


mlflow.models.set_model(StoryTeller())
