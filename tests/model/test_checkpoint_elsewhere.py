"""A checkpoint as others use it: pipelines, batches, chats, fine-tuning; and what they save, loaded back.

Needs transformers; peft and accelerate for fine-tuning.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

from tinystories.common.errors import UserError
from tinystories.common.params import ModelConfig
from tinystories.inference.generate import generate
from tinystories.model.checkpoint import load_checkpoint, save_checkpoint
from tinystories.model.gpt import GPT
from tinystories.model.stored_weights import SHARDS, WEIGHTS
from tinystories.tokenization.tokenizer import is_standard, load_tokenizer

pytestmark = pytest.mark.filterwarnings("default")  # those of other libraries

PROMPTS = ["One day, Lily", "Tom", "One day, the dragon 🐉 saw a big tree."]


@pytest.fixture(scope="module")
def model(random_model: Callable[..., GPT]) -> GPT:
    return random_model(ModelConfig(context_length=48, embedding_size=24, layers=3, heads=2))


@pytest.fixture(scope="module")
def checkpoint(model: GPT, tokenizer_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For reading only."""
    path = tmp_path_factory.mktemp("models") / "checkpoint"
    save_checkpoint(model, tokenizer_file, path)
    return path


@pytest.fixture(scope="module")
def their_pipeline(checkpoint: Path) -> Any:
    return pipeline("text-generation", model=str(checkpoint))


@pytest.fixture
def greedy(model: GPT, checkpoint: Path) -> Callable[[str], str]:
    tokenizer = load_tokenizer(checkpoint / "tokenizer.json")

    def continuation(prompt: str) -> str:
        ids = [0, *tokenizer.encode(prompt).ids]
        (new,) = generate(model, [ids], max_new_tokens=12, temperature=1.0, top_k=1, seeds=[0])
        text: str = tokenizer.decode(new)
        return text

    return continuation


def test_every_file_is_readable_by_others(checkpoint, tmp_path):
    (tmp_path / "new").touch()
    assert {path.stat().st_mode for path in checkpoint.iterdir()} == {(tmp_path / "new").stat().st_mode}


def test_tokenizer_puts_end_of_text_first(checkpoint):
    theirs = AutoTokenizer.from_pretrained(checkpoint)
    ours = load_tokenizer(checkpoint / "tokenizer.json")
    ids = [theirs(prompt).input_ids for prompt in PROMPTS]
    assert ids == [[0, *ours.encode(prompt).ids] for prompt in PROMPTS]
    assert is_standard(ours), "ours puts nothing anywhere"
    batch = theirs(PROMPTS, padding=True)
    longest = max(map(len, ids))
    assert batch.input_ids == [[0] * (longest - len(each)) + each for each in ids]
    assert theirs("Tom", "Lily").input_ids == [0, *ours.encode("Tom").ids, *ours.encode("Lily").ids]
    assert theirs.decode(ids[0], skip_special_tokens=True) == PROMPTS[0]


def test_pipeline_greedy_equals_ours_also_in_batches(their_pipeline, greedy):
    options = {"do_sample": False, "max_new_tokens": 12, "return_full_text": False}
    batch = their_pipeline(PROMPTS, batch_size=3, **options)
    assert [text["generated_text"] for (text,) in batch] == [greedy(prompt) for prompt in PROMPTS]


def test_pipeline_samples_by_default_up_to_the_context(their_pipeline, checkpoint):
    settings = json.loads((checkpoint / "generation_config.json").read_text())
    assert settings == {
        "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0,
        "do_sample": True, "temperature": 0.8, "top_k": 40, "max_length": 48,
    }  # fmt: skip
    assert len({their_pipeline("Tom", max_new_tokens=12)[0]["generated_text"] for _ in range(4)}) > 1
    theirs = AutoModelForCausalLM.from_pretrained(checkpoint)
    assert theirs.generate(torch.tensor([[0, 40]]), eos_token_id=999).shape[1] == 48


def test_chat_is_one_text_that_goes_on(their_pipeline, greedy):
    messages = [{"role": "user", "content": "One day,"}, {"role": "assistant", "content": " Tom"}]
    messages.append({"role": "user", "content": " saw"})
    (answer,) = their_pipeline(messages, do_sample=False, max_new_tokens=12)
    assert answer["generated_text"][-1] == {"role": "assistant", "content": greedy("One day, Tom saw")}


def test_response_is_what_follows_the_chat(checkpoint):
    """As `transformers serve` and others take it from what the model writes."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    prompt = "One day, Tom"
    answer = tokenizer.parse_response(" saw a tree.<|endoftext|>", prefix=f"<|endoftext|>{prompt}")
    assert answer == {"role": "assistant", "content": "saw a tree."}


def saved_back(checkpoint: Path, directory: Path, dtype: torch.dtype = torch.float32, **options: Any) -> Path:
    theirs, tokenizer = (
        AutoModelForCausalLM.from_pretrained(checkpoint, dtype=dtype),
        AutoTokenizer.from_pretrained(checkpoint),
    )
    tokenizer(PROMPTS, padding=True, truncation=True, max_length=4)
    theirs.save_pretrained(directory, **options)
    tokenizer.save_pretrained(directory)
    return directory


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", ["5GB", "20KB"])
def test_load_checkpoint_takes_what_transformers_saves(checkpoint, model, tmp_path, tokenizer_file, dtype, size):
    path = saved_back(checkpoint, tmp_path, dtype, max_shard_size=size)
    assert (path / SHARDS).exists() == (size == "20KB") != (path / WEIGHTS).exists()
    loaded = load_checkpoint(path)
    assert loaded.config == model.config
    for name, weight in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weight.to(dtype).float()), name
    assert load_tokenizer(path / "tokenizer.json").to_str() == load_tokenizer(tokenizer_file).to_str()


def test_load_checkpoint_saves_again_what_transformers_saved(checkpoint, tmp_path):
    """As an own checkpoint: with its checksum, and the same bytes as the first."""
    path = saved_back(checkpoint, tmp_path / "theirs")
    save_checkpoint(load_checkpoint(path), path / "tokenizer.json", tmp_path / "ours")
    for file in checkpoint.iterdir():
        assert (tmp_path / "ours" / file.name).read_bytes() == file.read_bytes(), file.name


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("model_type", "gpt2", "model_type is 'gpt2', expected 'qwen3'"),
        ("model_type", None, "model_type is None, expected 'qwen3'"),
        ("rope_parameters", {"rope_type": "default", "rope_theta": 1e6}, "rope_parameters"),
        ("rope_theta", 1e6, "rope_theta"),
        ("rope_scaling", {"rope_type": "linear", "factor": 2.0}, "rope_scaling"),
        ("attention_bias", True, "attention_bias"),
        ("tie_word_embeddings", False, "tie_word_embeddings"),
        ("use_sliding_window", True, "use_sliding_window"),
        ("layer_types", ["sliding_attention"] * 3, "layer_types"),
        ("head_dim", 128, "head_dim"),
        ("num_key_value_heads", 1, "num_key_value_heads"),
        ("rms_norm_eps", 1e-5, "rms_norm_eps"),
    ],
)
def test_load_checkpoint_refuses_other_models_of_others(checkpoint, tmp_path, key, value, words):
    path = saved_back(checkpoint, tmp_path) / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(UserError, match=rf"config.json: not a model of the kind that train makes \({words}\)"):
        load_checkpoint(tmp_path)


def test_load_checkpoint_takes_older_spellings(checkpoint, model, tmp_path):
    """transformers 4 had `rope_theta` on top, and `torch_dtype`; other tools leave out more."""
    path = saved_back(checkpoint, tmp_path) / "config.json"
    values = json.loads(path.read_text())
    for key in ("rope_parameters", "dtype", "checksum", "transformers_version", "attention_bias", "layer_types"):
        del values[key]
    path.write_text(json.dumps({**values, "rope_theta": 10_000, "rope_scaling": None}))
    assert load_checkpoint(tmp_path).config == model.config


@pytest.mark.parametrize("shards", [{"a": "../elsewhere.safetensors"}, {"a": 5}, {"a": []}, [], None, {}])
def test_load_checkpoint_refuses_shards_that_are_none(checkpoint, tmp_path, shards):
    path = saved_back(checkpoint, tmp_path, max_shard_size="20KB")
    (path / SHARDS).write_text(json.dumps({"weight_map": shards}))
    with pytest.raises(UserError, match="does not name files of this directory|tensors are not those of config.json"):
        load_checkpoint(path)


def test_load_checkpoint_names_missing_shard(checkpoint, tmp_path):
    path = saved_back(checkpoint, tmp_path, max_shard_size="20KB")
    first = min(path.glob("model-*.safetensors"))
    first.unlink()
    with pytest.raises(UserError, match=f"{first.name}: no such file"):
        load_checkpoint(path)


def test_load_checkpoint_refuses_adapter_alone(checkpoint, tmp_path):
    peft = pytest.importorskip("peft")
    theirs = AutoModelForCausalLM.from_pretrained(checkpoint)
    peft.get_peft_model(theirs, peft.LoraConfig(target_modules="all-linear")).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"config.json: no such file"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("lora", [False, True])
def test_trainer_goes_on_from_a_checkpoint(checkpoint, model, stories, tmp_path, lora):
    """Its first loss is ours; what it saves, merged, loads here and has learned."""
    pytest.importorskip("accelerate")
    peft = pytest.importorskip("peft")
    from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

    theirs, tokenizer = AutoModelForCausalLM.from_pretrained(checkpoint), AutoTokenizer.from_pretrained(checkpoint)
    tokens = [tokenizer(text, truncation=True).input_ids for text in stories[:8]]
    if lora:
        theirs = peft.get_peft_model(theirs, peft.LoraConfig(r=4, target_modules="all-linear"))
    data = [{"input_ids": ids} for ids in tokens]
    arguments = TrainingArguments(
        output_dir=str(tmp_path / "trainer"), max_steps=4, per_device_train_batch_size=8, per_device_eval_batch_size=1,
        learning_rate=0.01, use_cpu=True, report_to=[], save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    trainer = Trainer(
        model=theirs, args=arguments, train_dataset=data, eval_dataset=data,
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
    )  # fmt: skip

    def our_loss(model: GPT) -> float:
        with torch.no_grad():
            losses = [model.loss(torch.tensor([ids[:-1]]), torch.tensor([ids[1:]])).item() for ids in tokens]
        return sum(losses) / len(losses)

    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    after = trainer.evaluate()["eval_loss"]
    (trainer.model.merge_and_unload() if lora else trainer.model).save_pretrained(tmp_path / "tuned")
    assert before > after + 0.1
    print(before, our_loss(model), after, our_loss(load_checkpoint(tmp_path / "tuned")))
    assert after == pytest.approx(our_loss(load_checkpoint(tmp_path / "tuned")), abs=2e-3)
