"""TRL's trainers on problems of a few tokens: a completion is one token, so a response is a token.

Everything is built here, nothing is fetched. `tabular_model` is a GPT-2 without layers whose hidden state is the
prompt, one-hot: its head is a table of logits, and a step of SGD on the head is a step of our tabular policy.
`small_model` is an ordinary GPT-2 of one layer. trl is imported by the functions that need it.
"""

import importlib.util
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sim.world.arrays import Array

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when trl is imported
Rewards = Callable[..., list[float]]


def available() -> bool:
    """Return whether trl is installed."""
    return importlib.util.find_spec("trl") is not None


def tabular_model(folder: Path, logits: Array) -> Path:
    """Write a model whose prompts are its first P tokens and whose head is the table of logits [P, K], P <= K.

    The embedding of prompt p is the p-th unit vector, and the scale and shift of the final norm undo that norm.
    """
    prompts, responses = logits.shape
    model = _gpt2(folder, responses, prompt_length=1, width=prompts, layers=0)
    model.requires_grad_(False)
    model.transformer.wpe.weight.zero_()
    model.transformer.wte.weight.copy_(torch.eye(responses, prompts))
    final = model.transformer.ln_f
    final.weight.fill_((1 / prompts * (1 - 1 / prompts) + final.eps) ** 0.5)
    final.bias.fill_(1 / prompts)
    model.lm_head.weight.copy_(torch.as_tensor(logits.T, dtype=torch.float32))
    model.save_pretrained(folder)
    return folder


def small_model(folder: Path, responses: int, prompt_length: int, width: int = 32) -> Path:
    """Write a GPT-2 of one layer with random weights, and return its folder."""
    _gpt2(folder, responses, prompt_length, width, layers=1).save_pretrained(folder)
    return folder


def _gpt2(folder: Path, responses: int, prompt_length: int, width: int, layers: int) -> Any:
    """Return a GPT-2 over `responses` tokens, named a, b, c, ..., and write its tokenizer to the folder."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    names = {chr(ord("a") + token): token for token in range(responses)}
    tokenizer = Tokenizer(models.WordLevel(names, unk_token="a"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    # Padding and end of text are ordinary tokens: with completions of one token neither ever shows.
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="a", eos_token="a").save_pretrained(folder)
    torch.manual_seed(0)
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=responses, n_positions=prompt_length + 1, n_embd=width, n_layer=layers, n_head=1,
            tie_word_embeddings=False,
            embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0, bos_token_id=0, eos_token_id=0, pad_token_id=0,
        )
    )  # fmt: skip


def prompt_names(prompts: int, responses: int) -> list[str]:
    """Return a text for each prompt, in as few tokens as tell them apart."""
    length = max(1, int(np.ceil(np.log(max(prompts, 2)) / np.log(responses))))
    digits = np.arange(prompts)[:, None] // responses ** np.arange(length) % responses
    return [" ".join(chr(ord("a") + digit) for digit in row) for row in digits]


def by_token(table: Array) -> Rewards:
    """Return a reward function that looks up [P, K] by the prompt's row and the token."""

    def look_up(completion_ids: list[list[int]], row: list[int], **_: object) -> list[float]:
        return [float(table[at, tokens[0]]) for at, tokens in zip(row, completion_ids, strict=True)]

    return look_up


def make_trainer(
    model: Path,
    prompts: Sequence[str],
    rewards: Sequence[Rewards],
    *,
    kind: str = "GRPO",
    group: int = 8,
    only_head: bool = False,
    **settings: Any,
) -> Any:
    """Return a trainer whose steps each draw a group for every prompt.

    Args:
        model: folder of `tabular_model` or `small_model`.
        prompts: texts of the tokens a, b, c, ...; a prompt may stand there several times.
        rewards: one function for each signal.
        kind: "GRPO" or "RLOO".
        group: completions of each prompt.
        only_head: train nothing but the head.
        settings: of GRPOConfig or RLOOConfig; all else as TRL has it, but for files, logs and the GPU.
    """
    import trl
    from datasets import Dataset
    from transformers import AutoTokenizer, PrinterCallback
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    quiet = {
        "report_to": "none", "logging_strategy": "no", "save_strategy": "no", "disable_tqdm": True, "use_cpu": True,
        "bf16": False, "gradient_checkpointing": False, "max_grad_norm": 0.0, "lr_scheduler_type": "constant",
    }  # fmt: skip
    config = getattr(trl, f"{kind}Config")(
        output_dir=str(model / "out"), max_completion_length=1, num_generations=group, shuffle_dataset=False,
        per_device_train_batch_size=len(prompts) * group, **(quiet | settings),
    )  # fmt: skip
    trainer = getattr(trl, f"{kind}Trainer")(
        model=str(model),
        reward_funcs=list(rewards),
        args=config,
        train_dataset=Dataset.from_dict({"prompt": list(prompts), "row": range(len(prompts))}),
        processing_class=AutoTokenizer.from_pretrained(model),
    )
    trainer.remove_callback(PrinterCallback)
    if only_head:
        trainer.model.requires_grad_(False)
        trainer.model.lm_head.requires_grad_(True)
    return trainer


def head(trainer: Any) -> Array:
    """Return the head of a tabular model, its logits [P, K]."""
    return np.array(trainer.model.lm_head.weight.detach().T.double().numpy())


def train_head(trainer: Any) -> Array:
    """Train, and return the head at the start and after each update, [updates + 1, P, K]."""
    from transformers import TrainerCallback

    path = [head(trainer)]

    class Watch(TrainerCallback):  # type: ignore[misc]
        """Notes the head after each update."""

        def on_step_end(self, *_: Any, **__: Any) -> None:
            path.append(head(trainer))

    trainer.add_callback(Watch())
    trainer.train()
    return np.array(path)
