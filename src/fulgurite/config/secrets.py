"""What secrets look like: forms of keys that their issuers document, private keys, and passwords inside addresses."""

# After GitHub's list of supported secret scanning patterns, and the rules of gitleaks and detect-secrets.
# Keys without a form of their own (32 digits, say) look like hashes and names, and are not searched for.

from __future__ import annotations

import re

KEYS = {
    "Hugging Face": r"hf_[A-Za-z0-9]{16,}",
    "Weights & Biases": r"wandb_v1_[A-Za-z0-9_]{20,}",
    "OpenAI, Anthropic": r"sk-[A-Za-z0-9_-]{20,}",
    "AWS": r"(?:AKIA|ASIA)[0-9A-Z]{16}",
    "GitHub": r"gh[pousr]_[A-Za-z0-9]{16,}",
    "GitHub, fine-grained": r"github_pat_[A-Za-z0-9_]{16,}",
    "GitLab": r"gl(?:pat|dt|rt|cbt|ptt|ft|imt|agent|oas)-[A-Za-z0-9_.-]{16,}",
    "Slack": r"xox[abeoprs]-[A-Za-z0-9-]{10,}|xapp-[A-Za-z0-9-]{20,}",
    "Google": r"AIza[A-Za-z0-9_-]{30,}|ya29\.[A-Za-z0-9_-]{20,}",
    "Replicate": r"r8_[A-Za-z0-9]{20,}",
    "Stripe": r"[rs]k_(?:live|test)_[A-Za-z0-9]{16,}",
    "npm, PyPI": r"npm_[A-Za-z0-9]{30,}|pypi-[A-Za-z0-9_-]{40,}",
    "DigitalOcean": r"do[opr]_v1_[0-9a-f]{40,}",
    "SendGrid": r"SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}",
    "Groq, xAI, NVIDIA, Perplexity, Together": r"gsk_[A-Za-z0-9]{30,}|xai-[A-Za-z0-9]{30,}|nvapi-[A-Za-z0-9_-]{30,}"
    r"|pplx-[A-Za-z0-9]{30,}|tgp_v1_[A-Za-z0-9_-]{20,}",
    "JSON web token": r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*",
}
KEY = re.compile(r"(?<![A-Za-z0-9_])(?:" + "|".join(KEYS.values()) + r")(?![A-Za-z0-9_])")
PRIVATE = re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY")
HASH = re.compile(r"(?<![\w/.-])[0-9a-f]{40}(?![\w/.-])")
"""An older key of Weights & Biases; also a commit, which is one where a path or a revision holds it."""
PASSWORD = re.compile(
    r"://[^/\s:@?#]*:[^/\s@]+@"  # https://me:pw@host
    r"|[?&;](?:[\w.-]*(?:password|passwd|passphrase|secret|token|api[_-]?key|signature)|pwd|pass|sig)=[^&\s'\"]",
    re.IGNORECASE,
)


def has_key(text: str, commit: bool = False) -> bool:
    """Whether a text holds a key; with `commit`, 40 hexadecimal digits are a commit's hash and none."""
    return (
        KEY.search(text) is not None
        or PRIVATE.search(text) is not None
        or (not commit and HASH.search(text) is not None)
    )


def has_password(text: str) -> bool:
    """Whether a text holds an address with a password in it."""
    return PASSWORD.search(text) is not None
