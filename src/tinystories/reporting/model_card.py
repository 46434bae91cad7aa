"""model_card.md: what somebody who gets the model should know, from the files of the earlier stages.

`publish` puts it beside the weights as README.md, where model hubs look for it. It holds no times and no machine: the
same training has the same card.
"""

from tinystories.common import paths
from tinystories.common.artifacts import EpochRow, Evaluation, Manifest, Parent, Run, TrainMetrics
from tinystories.common.files import write_text
from tinystories.common.params import Params
from tinystories.reporting.markdown import flatten, table
from tinystories.reporting.report import data_section, run_title, scores

_OFFICIAL = "roneneldan/TinyStories"  # on the Hugging Face hub
_LICENCES = {
    "tinystories": f"The stories are those of [TinyStories](https://huggingface.co/datasets/{_OFFICIAL}) (Eldan & Li "
    "2023, arXiv 2305.07759), written by GPT-4 and in edition v1 by GPT-3.5 too, under the Community Data License "
    "Agreement, Sharing, version 1.0 (CDLA-Sharing-1.0). That is the data's licence; under which one the model is "
    "passed on, its maker decides.",
    "embedded": "The stories come from this project's own generator, so nobody else has rights in them.",
    "files": "The documents are the user's own. Whoever passes the model on has to know what their licence allows.",
}


def write_model_card(params: Params) -> None:
    """Write `reports/model_card.md`. Errors: UserError where a file of an earlier stage is missing or damaged."""
    source, train = Manifest.read().source, TrainMetrics.read()
    hub = ["library_name: transformers", "pipeline_tag: text-generation"]
    if source == "tinystories":
        hub += ["datasets:", f"- {_OFFICIAL}"]
    config = params.model_dump(mode="json")
    shown = {name: config[name] for name in ("seed", "tokenizer", "model", "train")}
    parts = [
        "\n".join(["---", *hub, "---"]),
        f"# {run_title(params)}",
        f"A language model of {train.parameters:,} parameters that continues a text, made to write short stories. Its "
        f"architecture is Qwen3's, {_origin(Run.read().parent)}.",
        "## Use",
        _use(params),
        "## Results",
        _results(params, train),
        "## Limits",
        _limits(params.model.context_length),
        "## Data and licence",
        _LICENCES.get(source, ""),
        data_section(),
        "## Configuration",
        table(("key", "value"), flatten(shown)),
    ]
    write_text(paths.MODEL_CARD, "\n\n".join(filter(None, parts)) + "\n")


def _origin(parent: Parent | None) -> str:
    if parent is None:
        return "its weights were trained from nothing"
    return (
        f"its training went on from another model, `{parent.init_from}` (sha256 of its weights {parent.sha256[:16]}), "
        "whose stories and licence count as well"
    )


def _results(params: Params, train: TrainMetrics) -> str:
    evaluation, epochs = Evaluation.read(), EpochRow.read_table()
    text = f"Validation {scores(evaluation.of(params.publish.model))}. It saw "
    if params.publish.model == "last" or evaluation.best_epoch == len(epochs):
        return f"{text}{train.tokens:,} tokens in {train.steps:,} steps."
    (row,) = (row for row in epochs if row.epoch == evaluation.best_epoch)
    return (
        f"{text}{row.tokens:,} tokens in {row.step:,} steps: of {len(epochs):,} epochs this is epoch {row.epoch:,}, "
        f"which had the lowest validation loss; the training went on to {train.tokens:,} tokens."
    )


def _use(params: Params) -> str:
    prompt = params.sample.prompts[0] if params.sample.prompts else "Once upon a time"
    return f"""```python
from transformers import pipeline

story = pipeline("text-generation", "{paths.published(params.publish.model)}")  # or where this directory lies
print(story({prompt!r})[0]["generated_text"])
```

Its sampling settings are in generation_config.json. In llama.cpp and what is built on it: `tinystories export gguf`
writes one file; `tinystories serve` is a server with OpenAI's API. vLLM's CPU attention takes head sizes from 32."""


def _limits(context: int) -> str:
    return f"""- It knows the stories it was trained on and nothing else. It follows no instructions: a chat is one text
  that goes on. What it writes may resemble its training stories, and may be unfit for children all the same.
- It sees {context:,} tokens at once. `max_length` in generation_config.json ends a text there. Beyond, `transformers`
  goes on with positions that no training had, and the text decays; this project's own code reads the later half again
  instead, so the two part there; llama.cpp stops.
- Every text begins with `<|endoftext|>`, which the tokenizer puts there by itself, and a story ends with it."""
