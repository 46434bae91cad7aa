"""report.md has every figure of the files, and no credentials."""

import re

from tests.support.report_files import epoch_rows, sample_page, write_run
from tinystories.common import paths
from tinystories.common.artifacts import Evaluation, HistoryRow, Manifest, Run
from tinystories.common.params import Params
from tinystories.common.story_figures import StoryFigures
from tinystories.reporting.report import loss_table, run_title, write_report


def report(params: Params) -> str:
    write_report(params)
    return paths.REPORT.read_text()


def test_write_report_has_every_figure(run, params):
    text = report(params)
    for part in (
        "# GPT, 8.9 M parameters, on own documents · 163.8 K tokens\n",
        "**Validation loss 1.2346, perplexity 3.44, 0.4322 bits per byte.** A GPT of 8,912,345 parameters saw 163,840 "
        "tokens in 40 steps; on EPYC_9\\|24 \\*Core\\* that took 1:02:05.",
        "on the 4,999 validation tokens that it predicts, all but the first, an end-of-text: loss 1.2346, ",
        "](plot.png)",
        "### Prompt 1\n\n> Once.\n\n| epoch | goes on           |\n",
        "| 1     | Story of epoch 1. |\n| 2     | Story of epoch 2. |\n\n### Prompt 2\n\n> Once.\n",
        "> One end.",
        "> Another end.",
        "2026-11-22 17:01:02 UTC",
        "1:02:05, of which training 2:03",
        "3,913 tokens per second (median), after a start-up of 1:23",
        "9f" * 20,
        "odd-name",
        "2.13.0+cpu",
        "2,000,000",
        "3.900",  # bytes a token
        "abab" * 3,
        'AutoModelForCausalLM.from_pretrained("models/checkpoint")',
        "dvc repro",
    ):
        assert part in text
    assert text.count("| second section |") == 2  # of each epoch
    assert "abab" * 4 not in text


def test_write_report_names_the_best_epoch(run, params):
    assert "bits per byte. No epoch before had a lower validation loss.\n" in report(params)
    best = {"best_epoch": 1, "best_valid_loss": 1.2, "best_valid_ppl": 3.3201, "best_valid_bits_per_byte": 0.42}
    Evaluation.read().model_copy(update=best).write()
    text = report(params)
    figures = "loss 1.2000, perplexity 3.32, 0.4200 bits per byte"
    assert f"Epoch 1 had the lowest: {figures}; its weights are in models/best." in text
    assert "is the model of epoch 2.\n" in text and text.count("**Validation loss 1.2346") == 1
    published = params.model_copy(update={"publish": params.publish.model_copy(update={"model": "best"})})
    text = report(published)
    assert f"**Validation {figures}, after epoch 1.**" in text and "is the model of epoch 1.\n" in text
    assert 'from_pretrained("models/best")' in text


def test_write_report_shows_the_checks(run, params):
    write_report(params)
    text = paths.REPORT.read_text()
    assert "87.0% are longer than the context and 0.4% copies of another one; 0.1% of the validation" in text
    assert re.search(r"\| +in 90 % of them \| +91 to 412 \| +91 to 412 \|", text)


def test_write_report_explains_the_slice_where_it_is_drawn(run, params):
    words = "(`valid_slice_loss` in history.csv)"
    assert words not in report(params)
    first, *rows = HistoryRow.read_table()
    HistoryRow.write_table([first, rows[0].model_copy(update={"valid_slice_loss": 3.0}), *rows[1:]])
    assert words in report(params)


def test_write_report_hides_a_clock_set_back(run, params):
    Run.read().model_copy(update={"ended": "2026-11-21T00:00:00+00:00"}).write()
    text = report(params)
    assert "2026-11-21" not in text
    assert text.count("2026-11-22 17:01:02 UTC") == 2


def test_write_report_has_every_parameter_once(run, params):
    text = report(params)
    table = text.split("## Configuration")[1].split("##")[0]
    keys = [re.sub(r"\\", "", line.split("|")[1].strip()) for line in table.strip().split("\n")[2:]]
    expected = [
        f"{section}.{key}" for section, values in params.model_dump().items() if section != "seed" for key in values
    ]
    tops = [re.sub(r"^(data\.(?:files|tinystories|embedded)|sample\.prompts)\..*", r"\1", key) for key in keys]
    assert set(tops) == {"seed", *expected}
    assert len(set(keys)) == len(keys)
    assert "train.learning_rate" in table
    assert f"{params.train.embedding_learning_rate}" in table


def test_loss_table_has_a_row_for_each_epoch(run, params):
    lines = loss_table(epoch_rows(2)).split("\n")
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    names = ["epoch", "train loss", "train PPL", "valid loss", "valid PPL", "bits/byte", "tokens", "time"]
    assert cells[0] == names
    assert all(cell.endswith("-:") for cell in cells[1])
    assert cells[2] == ["1", "3.1000", "22.20", "2.9000", "1,234.50", "0.4912", "81,920", "1:01"]
    assert cells[3] == ["2", "1.5500", "22.20", "1.4500", "1,234.50", "0.4912", "163,840", "2:03"]
    assert len({len(line) for line in lines}) == 1
    assert loss_table(epoch_rows(2)) in report(params)


def test_write_report_shows_some_of_many_epochs(tmp_path, monkeypatch, params):
    monkeypatch.chdir(tmp_path)
    write_run(epochs=120)
    text = report(params)
    shown = [int(epoch) for epoch in re.findall(r"^\| (\d+) +\| Story of", text, re.MULTILINE)]
    assert len(shown) == 6
    assert shown[0] == 1
    assert shown[-1] == 120
    rows = re.findall(r"^\| +(\d+) \| +\d", text, re.MULTILINE)
    assert len(rows) == 50
    assert rows[0] == "1"
    assert rows[-1] == "120"
    assert "50 of 120 epochs" in text


def test_write_report_has_no_credentials(run, params):
    """Also such as params.yaml may not hold: the report does not lean on that."""
    train = "https://me:secret@host.example/train.txt?token=secret#secret"
    files = params.data.files.model_copy(update={"train": train, "valid": "s3://me@bucket/valid.txt"})
    uri = "postgresql://me:secret@db.example:5432/runs?password=secret"
    sections = {
        "data": params.data.model_copy(update={"files": files}),
        "mlflow": params.mlflow.model_copy(update={"tracking_uri": uri}),
    }
    text = report(params.model_copy(update=sections))
    assert "secret" not in text
    assert "me@" not in text
    assert "https://host.example/train.txt " in text
    assert "https://host.example/a_b.txt\n" in text  # the manifest's
    assert "postgresql://db.example:5432/runs " in text


def test_run_title_names_the_source(run, params):
    Manifest.read().model_copy(update={"source": "tinystories"}).write()
    assert "on TinyStories V2 ·" in run_title(params)


def test_write_report_has_every_heading_of_a_page(run, params):
    paths.FINAL_SAMPLES.write_text(sample_page("Final", "Once.", ["One end."]) + sample_page("", None, ["A start."]))
    text = report(params)
    assert "#### Prompt 1\n\n**Prompt**\n\n> Once." in text
    assert "#### Unprompted\n\n**Continuation**\n\n> A start." in text


def test_write_report_names_documents_or_stories(run, params):
    """As the corpus is: in the title, the table, and the notes below samples, but not in what the model wrote."""
    own = "> One day, the story ended.\n\n(ended where the story ended)\n"
    paths.FINAL_SAMPLES.write_text(f"# Final\n\n## Unprompted sample\n\n**Continuation**\n\n{own}")
    text = report(params)
    assert " documents | " in text and "own documents" in text and " stories |" not in text
    assert "> One day, the story ended.\n\n(ended where the document ended)" in text
    Manifest.read().model_copy(update={"source": "tinystories"}).write()
    text = report(params)
    assert " stories | " in text and "(ended where the story ended)" in text
    assert "document" not in text.replace("data.files.documents", "")


def test_write_report_begins_stories_in_the_table(run, params):
    """A long one breaks off between words, one of one word anywhere, and of an empty one the note stands there."""
    stories = ["word " * 100, "龙" * 300, "First line.\n\nSecond | line."]
    page = sample_page("S", "Once.", stories).replace("## Prompt 3\n\n**Prompt**\n\n> Once.", "## Unprompted sample")
    page += "\n## Prompt 4\n\n**Prompt**\n\n> Twice.\n\n**Continuation**\n\n(the story ended at once)\n"
    paths.epoch_samples(1).write_text(page)
    text = report(params)
    assert f"| {'word ' * 40}… |" in text.replace("  ", "")
    assert f"| {'龙' * 200} … " in text
    assert "### Unprompted\n\n| epoch |" in text and r"| First line. Second \| line. |" in text
    assert re.search(r"### Prompt 4\n\n> Twice\.\n\n.*\n.*\n\| 1 +\| \(the document ended at once\) \|", text)


def test_write_report_shortens_a_long_list_of_files(run, params):
    detail = {"train": [{"path": f"my/{number}.txt", "stories": 1} for number in range(500)]}
    Manifest.read().model_copy(update={"detail": detail}).write()
    text = report(params)
    assert "my/19.txt\n- train.19.documents: 1\n" in text and "my/20.txt" not in text
    assert "- 960 lines more: data/raw/manifest.json\n" in text


def test_write_report_shows_the_judged_stories_beside_real_ones(run, params):
    text = report(params)
    assert "### The documents, judged" in text
    assert re.search(r"\|  +\| unprompted \| prompted \|  real \|", text)
    assert re.search(r"\| +ended, and with a sentence \| +50.0% \| +93.8% \| +93.8% \|", text)
    assert re.search(r"\| +words never seen in training \| +0.31% \| +– \| +0.31% \|", text)
    assert re.search(r"\| +names that stay \| +– \| +– \| +– \|", text)
    assert "Compared with 499,998 training tokens." in text
    StoryFigures().write()
    assert "judged" not in report(params)
