"""Every pair of method, compute type and optimizer: it trains, resumes bit for bit and exports, or says why not.

A run has one of each, so that runs which cover the pairs of methods and optimizers, with the compute type going round,
cover the other pairs as well; a test counts that they do. The live tensors of each run are counted against the
declared bytes.
"""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.end_to_end.runs import RATES, SMALL, copy_until, rows, tiny, tiny_experiment, weights
from tests.method.models import METHODS, stored_bytes
from torch import nn

from fulgurite.config.run import load_options
from fulgurite.errors import ConfigError
from fulgurite.explain import bytes_per_weight as sizes
from fulgurite.explain.compatibility import GROUPS, find_refusal, list_names, list_pairs
from fulgurite.export.model import export_main
from fulgurite.optim.param_groups import find_hidden_matrices
from fulgurite.train.experiment import Experiment

load_options()
HERE = [p for p in sizes.list_compute_types() if p != "fp16"]
"""fp16 needs a GPU, see tests/precision."""
SHARED = ("qmap1", "qmap2")
"""bitsandbytes' code tables: one of each for all parameters."""


def triples() -> list[tuple[str, str, str]]:
    found = []
    for m, method in enumerate(list_names("method")):
        for o, optim in enumerate(list_names("optim")):
            if find_refusal(method=method, optim=optim) is None:
                order = [HERE[(m + o + k) % len(HERE)] for k in range(len(HERE))]
                found.append(
                    (
                        method,
                        next(p for p in order if find_refusal(method=method, optim=optim, precision=p) is None),
                        optim,
                    )
                )
    return found


def test_the_runs_below_cover_every_pair_that_is_not_refused() -> None:
    covered = {frozenset(pair) for t in triples() for pair in combinations(zip(GROUPS, t, strict=True), 2)}
    every = [(frozenset(pair.items()), said) for pair, said in list_pairs()]
    working = {pair for pair, said in every if said is None and ("precision", "fp16") not in pair}
    assert covered == working
    refused = [said for _, said in every if said is not None]
    assert (len(every), len(refused), len(triples())) == (192, 22, 88)
    assert all(said.endswith(".") and ("use " in said or "take " in said) for said in refused)


def test_fp16_is_refused_on_a_cpu() -> None:
    with pytest.raises(ConfigError, match="precision=fp16 needs a GPU"):
        tiny(Path("nowhere"), "precision=fp16")


def held(value: Any) -> int:
    """Bytes of the tensors in an optimizer's state of one parameter."""
    if isinstance(value, torch.Tensor):
        return value.nbytes
    if isinstance(value, dict):
        return sum(held(item) for key, item in value.items() if key not in SHARED)
    return held(value.ortho_matrix) if hasattr(value, "ortho_matrix") else 0


def count(trained: Experiment) -> None:
    """Hold every live tensor against its declared size."""
    run, stage, optimizer = trained.config, trained.module, trained.trainer.optimizers[0]
    hidden = find_hidden_matrices(stage)
    for name, parameter in stage.named_parameters():
        shape = tuple(parameter.shape)
        if not parameter.requires_grad:
            state = getattr(parameter, "quant_state", None)
            if state is not None:
                assert stored_bytes(parameter) == sizes.count_frozen_bytes(
                    run.method, run.precision, tuple(state.shape)
                ), name
            else:
                assert parameter.nbytes == parameter.numel() * sizes.WIDTH[run.precision.frozen], name
            continue
        assert parameter.nbytes == parameter.numel() * sizes.count_weight_bytes(run.precision), name
        if parameter.grad is not None:
            assert parameter.grad.nbytes == parameter.numel() * sizes.count_gradient_bytes(run.precision), name
        if optimizer.state.get(parameter):
            declared = sizes.count_state_bytes(run.optim, run.precision, shape, id(parameter) in hidden)
            assert held(dict(optimizer.state[parameter])) == declared, name
    live = sum(isinstance(p, nn.Parameter) and bool(optimizer.state.get(p)) for p in stage.parameters())
    assert live > 0


def choose_cells() -> list[tuple[str, str, str]]:
    """Few triples that have every method, compute type and optimizer: each next one has the most that none had."""
    every, seen = triples(), set[str]()
    found = []
    while missing := set().union(*every) - seen:
        found.append(max(every, key=lambda triple: len(missing & set(triple))))
        seen |= set(found[-1])
    return found


def list_cells() -> list[Any]:
    """The triples as parameters: a few that have every method, compute type and optimizer; the rest is the matrix."""
    chosen = choose_cells()
    return [
        pytest.param(*triple, id="-".join(triple), marks=() if triple in chosen else pytest.mark.matrix)
        for triple in triples()
    ]


def test_the_chosen_cells_have_everything() -> None:
    assert set().union(*choose_cells()) == set().union(*triples())


@pytest.mark.slow
@pytest.mark.parametrize(("method", "precision", "optim"), list_cells())
def test_the_triple_trains_resumes_and_exports(
    tmp_path: Path, method: str, precision: str, optim: str
) -> None:
    words = [f"method={method}", *METHODS[method], f"precision={precision}", f"optim={optim}", *SMALL.get(optim, [])]
    words += [
        f"optim.lr={float(RATES[optim]) / 10}", "scheduler=constant", "trainer.save_every=1",
        "trainer.keep_checkpoints=5",
    ]
    words += ["data.max_samples=24", "trainer.micro_batch_size=2"]
    whole, part = tmp_path / "whole", tmp_path / "part"
    trained = tiny_experiment(whole, *words)
    trained.fit()
    count(trained)
    resumed = tiny_experiment(copy_until(whole, part, 1), *words)
    resumed.fit()
    count(resumed)
    assert resumed.trainer.global_step == 2
    assert rows(part) == rows(whole)
    assert weights(part).keys() == weights(whole).keys()
    for name, tensor in weights(whole).items():
        assert torch.equal(weights(part)[name], tensor), name
    assert export_main([f"run={whole}", f"out={tmp_path / 'out'}"]) == 0
