"""Generates answers with vLLM, in this process, from the policy's current weights.

The stage scores the answers with its own pass, and stops if the two disagree (train/sampling_gap), so each rollout
checks that vLLM has the right weights.
"""

from __future__ import annotations

import os
import random
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from fulgurite.errors import ConfigError
from fulgurite.language.library_errors import translate_error
from fulgurite.language.message import message
from fulgurite.method.merge import merge_weights
from fulgurite.model.unwrap import unwrap_model
from fulgurite.stage.rollout import Drawn
from fulgurite.text.console import say

ENVIRONMENT = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
"""vLLM's environment unless it is set already: no log, no usage statistics, and no binding of threads."""
BLOCK = 128
"""Tokens of vLLM's largest block of keys and values; the last block of each answer may be nearly empty."""


class VllmRollouts:
    """vLLM's engine with room for `batch` answers of `longest` tokens, prompts with them. No top-p, no top-k.

    It is built for the first answer, and has a copy of the weights in `dtype`.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        stop_ids: Sequence[int],
        *,
        max_new_tokens: int,
        temperature: float,
        batch: int,
        longest: int,
        dtype: torch.dtype,
    ) -> None:
        self._model, self._stops, self._new, self._temperature = model, list(stop_ids), max_new_tokens, temperature
        self._batch, self._longest, self._dtype = batch, longest, dtype
        self._engine: Any = None

    def generate(self, prompts: Sequence[Sequence[int]], seed: Sequence[int], first: int = 0) -> Drawn:
        """Generates answers; `seed` and an answer's number make its seed. Raises ConfigError if vLLM cannot run the
        model.
        """
        drawn = Drawn()
        with _isolate_seeds():
            engine = self._engine = self._engine or self._made()
            from vllm import SamplingParams  # imported after the environment is set

            # At each rollout: the policy has taken steps since the last one.
            engine.collective_rpc("reload_weights", kwargs={"weights_iterator": merge_weights(self._model)})
            engine.reset_prefix_cache()  # its keys and values belong to other weights
            asked = [
                SamplingParams(
                    temperature=self._temperature,
                    max_tokens=self._new,
                    stop_token_ids=self._stops,
                    # Only the stop tokens above end an answer, as with transformers.
                    ignore_eos=True,
                    # 0 asks for the log-probability of the chosen token alone.
                    logprobs=0,
                    detokenize=False,
                    seed=int(np.random.SeedSequence([*seed, first + n]).generate_state(1, np.uint64)[0]) >> 1,
                )
                for n in range(len(prompts))
            ]
            found = engine.generate([{"prompt_token_ids": list(ids)} for ids in prompts], asked, use_tqdm=False)
        for answer in (request.outputs[0] for request in found):
            tokens = list(answer.token_ids)
            drawn.tokens.append(tokens)
            drawn.log_probs.append([place[token].logprob for place, token in zip(answer.logprobs, tokens, strict=True)])
            drawn.stopped.append(answer.finish_reason == "stop")
        return drawn

    def close(self) -> None:
        """Shuts the engine down. At the interpreter's exit it would look for a process group that Lightning has
        ended."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.llm_engine.engine_core.shutdown()

    def _made(self) -> Any:
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # weights are handed over, not sent
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from vllm import LLM, SamplingParams

        causal = unwrap_model(self._model)
        # vLLM chooses its implementation by this name, which a config that was changed in memory may lack.
        shape = type(causal.config).from_dict(causal.config.to_dict() | {"architectures": [type(causal).__name__]})
        engine: Any = None
        try:
            with tempfile.TemporaryDirectory() as folder:
                shape.save_pretrained(folder)
                engine = LLM(
                    model=folder,
                    skip_tokenizer_init=True,
                    # The folder has a config and no weights, which are handed over at each rollout.
                    load_format="dummy",
                    dtype=str(self._dtype).removeprefix("torch."),
                    max_model_len=self._longest,
                    max_num_seqs=self._batch,
                    kv_cache_memory_bytes=self._cache(shape.get_text_config()),
                    # After the division by the temperature, as the stage computes them.
                    logprobs_mode="processed_logprobs",
                    generation_config="vllm",
                    disable_log_stats=True,
                    enforce_eager=True,
                    # a share that must be free at the start; the size of the cache is given in bytes
                    gpu_memory_utilization=0.01,
                )
            # One token at once: kernels that the machine lacks are found here, and not at the first rollout.
            engine.generate([{"prompt_token_ids": [1]}], SamplingParams(max_tokens=1, detokenize=False), use_tqdm=False)
        except Exception as error:  # of vLLM, of its config, of its kernels: each has its own
            if engine is not None:
                engine.llm_engine.engine_core.shutdown()
            why = translate_error(error, 300)
            raise ConfigError(
                "vLLM cannot run this {name}: {reason}. Use stage.engine=transformers.",
                name=type(causal).__name__, reason=why,
            ) from error
        say(message("rollouts by vLLM, {batch} answers at a time, {dtype}", batch=self._batch, dtype=self._dtype))
        return engine

    def _cache(self, shape: Any) -> int:
        """Returns the bytes of the keys and values of a batch of answers."""
        heads = getattr(shape, "num_key_value_heads", None) or shape.num_attention_heads
        width = getattr(shape, "head_dim", None) or shape.hidden_size // shape.num_attention_heads
        # Whole blocks for each answer, rounded up, and one more.
        tokens = self._batch * (-(-self._longest // BLOCK) + 1) * BLOCK
        # 2: keys and values.
        return int(tokens * shape.num_hidden_layers * 2 * heads * width * self._dtype.itemsize)


@contextmanager
def _isolate_seeds() -> Iterator[None]:
    """Restores the random states that vLLM sets when it starts, and hides its warnings."""
    states = random.getstate(), np.random.get_state()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else []
    with warnings.catch_warnings(), torch.random.fork_rng(devices=devices), torch.autocast("cpu", enabled=False):
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
