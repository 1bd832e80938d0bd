"""Keys of every kind are refused for every parameter; usual words, paths and hashes are not."""

from __future__ import annotations

import pytest

from fulgurite.config.guard import refuse_secret
from fulgurite.config.override_checks import prepare
from fulgurite.errors import ConfigError

LETTERS = "aB3dE6gH9jK2mN5pQ8rS1tU4vW7xY0zA3bC6dE9f"
SECRETS = [
    f"hf_{LETTERS[:34]}", f"wandb_v1_{LETTERS}", f"sk-{LETTERS}", f"sk-ant-api03-{LETTERS}", f"sk-proj-{LETTERS}",
    "AKIAIOSFODNN7EXAMPLE",
    "ASIAIOSFODNN7EXAMPLE", f"ghp_{LETTERS[:36]}", f"gho_{LETTERS[:36]}", f"github_pat_{LETTERS[:22]}_{LETTERS}",
    f"glpat-{LETTERS[:20]}",
    f"xoxb-123456789012-{LETTERS[:24]}", f"AIza{LETTERS[:35]}", f"r8_{LETTERS[:37]}", f"sk_live_{LETTERS[:24]}",
    f"npm_{LETTERS[:36]}",
    f"SG.{LETTERS[:22]}.{LETTERS}", f"gsk_{LETTERS}", "0123456789abcdef0123456789abcdef01234567",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N", "-----BEGIN RSA PRIVATE KEY-----",
    "-----BEGIN PRIVATE KEY-----",
    "https://me:pw@example.org/x", "postgresql://me:pw@db/x", "redis://:pw@db", "mysql://db/x?user=me&password=pw",
    "https://x.org/?api_key=abc",
    "https://x.org/?access_token=abc", "https://x.org/a?X-Amz-Signature=abc",
]
HARMLESS = [
    "sft-lora-smollm2_135m", "HuggingFaceTB/SmolLM2-360M-Instruct", "/data/models/v1",
    "/cache/models--a--b/snapshots/" + "0a" * 20,
    "/cache/snapshots/" + "0a" * 20 + "/model.safetensors", "sk-learn", "ghp_notes", "hub:tatsu-lab/alpaca",
    "hub:owner/name@main",
    "sqlite:////tmp/study.db", "postgresql://me@db/study", "postgresql:///test", "http://localhost:6006/?tab=scalars",
    "AIza", "xoxo-love",
    "What is a password=? Do tokens=words?", "https://arxiv.org/abs/2310.12036", "me@example.org", "regex:^[a-z]+:.*@$",
    "r8_small",
    "token=1",
    "eyJ", "-----BEGIN CERTIFICATE-----", "first:10 frozen", "<|im_end|>", "C:\\data\\x.jsonl", "time 12:30@noon",
    "npm_run", "0a" * 16,
]


@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_is_refused_for_every_parameter(secret: str) -> None:
    for name in ("name", "run_dir", "model.path", "data.path", "stage.prompts", "logger.wandb.project", "sweep.storage",
        "optim.lr"):
        for word in (f"{name}='{secret}'", f"+{name}=['a {secret} b']", f"++{name}=\"{secret}\""):
            with pytest.raises(ConfigError) as caught:
                prepare([word])
            assert secret not in str(caught.value)
            assert "looks like a secret" in str(caught.value) or "holds a password" in str(caught.value)


@pytest.mark.parametrize("word", HARMLESS)
def test_usual_words_paths_and_addresses_are_no_secrets(word: str) -> None:
    refuse_secret("model.path", word)
    refuse_secret("model.path", f"model.path='{word}'")


def test_a_commit_is_a_revision() -> None:
    refuse_secret("model.revision", "model.revision=" + "0a" * 20)
    with pytest.raises(ConfigError, match="looks like a secret"):
        refuse_secret("model.revision", f"ghp_{LETTERS[:36]}")
