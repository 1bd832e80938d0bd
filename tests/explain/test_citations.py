"""The addresses behind the names that sources go by."""

from __future__ import annotations

import re

from fulgurite.explain.citations import ARXIV, PLACES, find_links


def test_names_in_a_source_have_addresses() -> None:
    assert all(re.fullmatch(r"\d{4}\.\d{5}", number) for number in ARXIV.values())
    assert all(address.startswith("https://") for address in PLACES.values())
    assert find_links("QLoRA 64, TRL's table") == [
        ("QLoRA", "https://arxiv.org/abs/2305.14314"), ("TRL", "https://huggingface.co/docs/trl"),
    ]
    # an address that is spelled out is not looked into for names, and its full stop is not part of it
    assert find_links("See https://huggingface.co/docs/trl/TRL.") == [
        ("huggingface.co/docs/trl/TRL", "https://huggingface.co/docs/trl/TRL"),
    ]
    assert find_links("DPO, https://arxiv.org/abs/2305.18290: beta 0.1")[0][1] == "https://arxiv.org/abs/2305.18290"
    assert find_links("Dr. GRPO 8") == [("Dr. GRPO", "https://arxiv.org/abs/2503.20783")]
    assert find_links("Ours") == []


def test_name_inside_a_word_is_no_citation() -> None:
    assert find_links("LoRA+ and LoRA") == [("LoRA+", "https://arxiv.org/abs/2402.12354")]
    assert find_links("my-TRL, TRL2") == []


def test_address_is_listed_once_and_by_its_own_name_if_it_is_spelled_out() -> None:
    assert find_links("TRL, and TRL again") == [("TRL", "https://huggingface.co/docs/trl")]
    assert find_links("TRL https://huggingface.co/docs/trl") == [
        ("huggingface.co/docs/trl", "https://huggingface.co/docs/trl"),
    ]
