"""Sizes that files only claim: in notes, cards, names and shapes, and in the config of a run."""

import contextlib
import json
import tempfile
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from claiming_files import CLAIMS, HONEST, HUGE, VIT, claiming, honest
from damaging import MOST_BYTES, run
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vitjax import models, weights
from vitjax.core.errors import ConfigError, UserError
from vitjax.training import claimed
from vitjax.training import experiment as experiments
from vitjax.training.workdir import WorkdirError
from vitjax.weights import loading, notes
from vitjax.weights.errors import WeightsError
from vitjax.weights.formats import files

MOST_SECONDS = 5


def quiet(words):
    pass


def names_of(claims):
    return [f"{kind}-{'-'.join(changes)}-{number}" for number, (kind, changes, _) in claims]


@pytest.mark.parametrize(
    ("kind", "changes", "words"), CLAIMS, ids=names_of(list(enumerate(CLAIMS)))
)
def test_a_note_that_claims_other_sizes_is_reported(kind, changes, words, tmp_path):
    path = claiming(tmp_path / "w.safetensors", kind, changes)
    assert path.stat().st_size < 10**6
    started = time.process_time()
    with pytest.raises(UserError) as caught:
        weights.convert(path, None, say=quiet)
    assert time.process_time() - started < MOST_SECONDS
    message = str(caught.value)
    assert words in message
    assert str(path) in message.splitlines()[0]


@pytest.mark.parametrize("kind", ["vit", "resnet", "conv4", "mlp", "unet", "encoder"])
def test_an_honest_note_is_believed(kind, tmp_path):
    path = claiming(tmp_path / "w.safetensors", kind, {})
    done = weights.convert(path, None, say=quiet)
    module, _, shape = honest(kind)
    assert done.module == module
    assert done.input_shape == shape


SIZES = [0, 1, 2, 3, 4, 7, 16, 100, 9_999, 2**20, 10**8, HUGE, 10**12, 2**63, 10**30, -1, -HUGE]
OTHERS = [1.5, 0.0, 1e300, True, None, "", "12", "mean", "group", [], {}, {"name": "vit_ti16"}]
VALUES = st.sampled_from(SIZES) | st.sampled_from(OTHERS)


@st.composite
def changes_of_notes(draw):
    kind = draw(st.sampled_from(list(HONEST)))
    fields = st.sampled_from([*honest(kind)[0].described_fields(), "input_shape"])
    lists = st.lists(VALUES, max_size=4)
    return kind, draw(st.dictionaries(fields, VALUES | lists, min_size=1, max_size=3))


@given(changes_of_notes())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_any_note_is_read_or_answered_in_words(claim):
    kind, changes = claim
    with tempfile.TemporaryDirectory() as folder:
        path = claiming(Path(folder) / "w.safetensors", kind, changes)
        started = time.process_time()
        with contextlib.suppress(UserError):
            weights.convert(path, None, say=quiet)
        assert time.process_time() - started < MOST_SECONDS


ANY = st.recursive(
    VALUES | st.text(max_size=3) | st.just("x" * 10_000) | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
WHOLE = st.fixed_dictionaries(
    {},
    optional={
        "model": st.sampled_from(["ViT", "ResNet", "vit_ti16", "Model", ["ViT"]]) | ANY,
        "fields": st.dictionaries(st.sampled_from(["depth", "width", "x" * 10_000]), ANY) | ANY,
        "input_shape": st.lists(st.integers(-1, 10**30), max_size=4) | ANY,
        "more": ANY,
    },
)
UNREAD = [
    {"model": ["x"], "fields": {}, "input_shape": None},
    {"model": {"x": 1}, "fields": {}, "input_shape": None},
    {"model": "x" * 10**7, "fields": {}, "input_shape": None},
    {"model": ["x"] * 10**6, "fields": {}, "input_shape": None},
    {"model": "ViT", "fields": {"x" * 10**7: 1}, "input_shape": None},
    {"model": "ViT", "fields": {"depth": "x" * 10**7}, "input_shape": None},
    {"model": "ViT", "fields": {"pooling": "\x1b[31m" * 10**5}, "input_shape": None},
    {"model": "ViT", "fields": {f"{i}": 1 for i in range(10**5)}, "input_shape": None},
    {"model": "ViT", "fields": {"patch_size": [1] * 10**6}, "input_shape": None},
    {"model": "ViT", "fields": {}, "input_shape": ["x"] * 10**6},
    {"model": "ViT", "fields": {}, "input_shape": "x" * 10**6},
    {"model": "ViT", "fields": {}, "input_shape": [10**4000] * 3},
]


@given(WHOLE | ANY)
@example(UNREAD[0])
@settings(max_examples=150, deadline=None, derandomize=True)
def test_a_note_of_anything_is_read_or_answered_in_words(note):
    _, variables, _ = honest("plain vit")
    with contextlib.suppress(UserError):
        notes.read({notes.KEY: json.dumps(note)}, loading.flat(variables), "w.safetensors")


@pytest.mark.parametrize("number", range(len(UNREAD)))
def test_the_answer_to_a_long_note_is_short(number):
    with pytest.raises(UserError) as caught:
        notes.read({notes.KEY: json.dumps(UNREAD[number])}, {}, "w.safetensors")
    assert str(caught.value).startswith("w.safetensors: the note of vitjax in it ")
    assert len(str(caught.value)) < 2_100
    assert str(caught.value).isprintable()


def test_a_number_that_no_array_can_hold_is_reported(tmp_path):
    path = claiming(tmp_path / "w.safetensors", "encoder", {"norm_epsilon": 10**30})
    with pytest.raises(UserError, match=r"norm_epsilon is|cannot build this model"):
        weights.convert(path, None, say=quiet)


def test_no_claim_needs_memory(tmp_path):
    """All files in one process, since memory that it returns is not counted."""
    program = Path(__file__).parents[1] / "helpers" / "reading_claims.py"
    ended = run(program, tmp_path, environment={"PYTHONPATH": str(Path(__file__).parents[2])})
    assert ended.status == 0, ended
    assert ended.output.split() == [str(len(CLAIMS))] * 2
    assert ended.peak_bytes < MOST_BYTES


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"depth": HUGE}, "depth is 1000000000; it must be at most 10,000"),
        ({"depth": 9_999}, "its note says that depth = 9999, but its arrays have 2"),
        ({"num_classes": 10**8}, "its note says that num_classes = 100000000, but its arrays have"),
        ({"patch_size": 1_024}, "4 patches; a grid of 0 x 0"),
        ({"width": 2**20}, "its note says that width = 1048576, but its arrays have 16"),
        ({"registers": 9_999}, "its note says that registers = 9999, but its arrays have 0"),
        ({"input_shape": [16_384, 16_384, 3]}, "images of 16384 x 16384 pixels"),
        ({"input_shape": [4_096, 4_096, 3]}, "positions"),
        ({"input_shape": [8, 8, 10_000]}, "its arrays are for 3 channels"),
    ],
)
@pytest.mark.parametrize("format", ["timm", "torchvision"])
def test_a_note_in_a_file_of_another_project_is_compared_too(format, changes, words, tmp_path):
    module = models.create("vit_ti16", **VIT)
    _, variables, shape = honest("plain vit")
    path = tmp_path / "w.safetensors"
    weights.save(variables, module, path, format, input_shape=shape, say=quiet)
    note = json.loads(files.metadata(path)["vitjax"])
    changes = dict(changes)
    note["input_shape"] = changes.pop("input_shape", note["input_shape"])
    note["fields"] |= changes
    files.write(path, files.read(path), metadata={"vitjax": json.dumps(note)})
    with pytest.raises(UserError) as caught:
        weights.convert(path, None, say=quiet)
    assert words in str(caught.value)


def transformers_vit(folder, config, **arrays):
    """A file with the names of transformers, and its ``config.json``."""
    _, variables, shape = honest("plain vit")
    module = models.create("vit_ti16", **VIT)
    weights.save(variables, module, folder / "w.safetensors", "timm", input_shape=shape, say=quiet)
    found = {**files.read(folder / "w.safetensors"), **arrays}
    (folder / "w.safetensors").unlink()
    files.write(folder / "model.safetensors", found)
    (folder / "config.json").write_text(json.dumps(config))
    return folder / "model.safetensors"


TIMM = {"architecture": "vit_tiny_patch16_224", "model_args": {"num_heads": 2}}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"num_heads": HUGE}, "num_heads is 1000000000; it must be at most 4,096"),
        ({"num_heads": 0}, "num_heads is 0; it should be a whole number above 0"),
        ({"num_heads": 10**300}, "num_heads is 1000000000000"),
        ({"num_heads": 2, "img_size": [HUGE, 8]}, "4 patches; a grid of 250000000 x 2"),
        ({"num_heads": 2, "img_size": -4}, "image_size is -4"),
        ({"num_heads": 2, "img_size": [8, 8, 8]}, "image_size is [8, 8, 8]"),
    ],
)
def test_a_card_that_claims_other_sizes_is_reported(arguments, words, tmp_path):
    path = transformers_vit(tmp_path, {**TIMM, "model_args": arguments})
    with pytest.raises(UserError) as caught:
        weights.convert(path, None, say=quiet)
    assert words in str(caught.value)


@pytest.mark.parametrize("number", ["7", "9" * 9, "9" * 30, "9" * 900])
@pytest.mark.parametrize("name", ["blocks.{}.norm1.weight", "blocks.0.{}.norm1.weight"])
def test_numbers_in_names_make_no_layers(name, number, tmp_path):
    added = {name.format(number): np.zeros(16, np.float32)}
    path = transformers_vit(tmp_path, TIMM, **added)
    started = time.process_time()
    with pytest.raises(WeightsError):
        weights.convert(path, None, say=quiet)
    assert time.process_time() - started < MOST_SECONDS


@pytest.mark.parametrize("name", ["head.weight", "pos_embed", "reg_token", "blocks.0.attn.x"])
@pytest.mark.parametrize("shape", [(10**6, 0), (1, 10**6, 0), (0, 10**6, 16)])
def test_an_array_without_numbers_states_no_size(name, shape, tmp_path):
    path = transformers_vit(tmp_path, TIMM, **{name: np.zeros(shape, np.float32)})
    with pytest.raises(WeightsError, match=f"{name} of shape .* holds no numbers"):
        weights.convert(path, None, say=quiet)


def test_stacked_blocks_have_a_largest_number(tmp_path):
    kernels = {
        f"Transformer/encoderblock/{layer}": np.zeros((20_000, 1, 1, 1), np.int8)
        for layer in ("MlpBlock_0/Dense_0/kernel", "MultiHeadDotProductAttention_0/query/kernel")
    }
    files.write(tmp_path / "w.npz", {"embedding/kernel": np.zeros((4, 4, 3, 1)), **kernels})
    with pytest.raises(WeightsError, match="stacks too many blocks"):
        weights.open_weights(tmp_path / "w.npz", say=quiet)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"image_size": 10**6}, "images of 1000000 x 1000000 pixels"),
        ({"image_size": (10**9, 4)}, "images of 1000000000 x 4 pixels"),
        ({"image_size": 8, "channels": 10**6}, "with 1000000 channels"),
        ({"image_size": 8, "channels": -1}, "channels is -1"),
        ({**VIT, "num_classes": 10**8, "representation_size": 2**20}, "and this machine has"),
        ({"depth": 9_999}, "has 41 arrays, too few for a ViT with depth=9999"),
    ],
)
def test_sizes_that_a_person_gives_for_a_file_are_checked(arguments, words, tmp_path):
    path = claiming(tmp_path / "w.safetensors", "plain vit", {})
    started = time.process_time()
    with pytest.raises(UserError, match=words):
        weights.load(path, "vit_ti16", say=quiet, **arguments)
    assert time.process_time() - started < MOST_SECONDS


@pytest.mark.parametrize("format", ["onnx", "safetensors"])
def test_no_file_is_written_for_images_of_absurd_size(format, tmp_path):
    module, variables, _ = honest("resnet")
    with pytest.raises(WeightsError, match=r"input_shape: images of 1000000 x 1000000 pixels"):
        weights.save(
            variables, module, tmp_path / "w", format, input_shape=(10**6, 10**6, 3), say=quiet
        )
    assert not any(tmp_path.iterdir())


def test_an_example_of_a_file_is_not_allocated(tmp_path):
    """The largest images that are accepted, of 0.8 GB, are only traced."""
    path = claiming(tmp_path / "w.safetensors", "resnet", {"input_shape": [8_192, 8_192, 3]})
    weights.convert(path, None, say=quiet)
    tracemalloc.start()
    try:
        weights.convert(path, None, say=quiet)
        assert tracemalloc.get_traced_memory()[1] < 10**7
    finally:
        tracemalloc.stop()


def checkpoint_of(folder, names):
    """The list of arrays of a checkpoint with parameters of these names, as Orbax writes it."""
    listed = {
        str(path): {"key_metadata": [{"key": key, "key_type": 2} for key in path]}
        for path in (("params", *name.split("/")) for name in names)
    }
    state = folder / "checkpoints" / "2" / "state"
    state.mkdir(parents=True)
    (state / "_METADATA").write_text(json.dumps({"tree_metadata": listed}))


BLOCKS = [f"encoder/block_{number}/norm1/scale" for number in range(2)]
STAGES = ["stage1_block1/conv1/kernel", "stage2_block1/conv1/kernel"]


@pytest.mark.parametrize(
    ("model", "names", "words"),
    [
        ({"name": "vit_ti16", "depth": 9_999}, BLOCKS, "depth of config.model is 9999"),
        ({"name": "resnet18", "stage_sizes": [9, 99]}, STAGES, r"stage_sizes .* is \(9, 99\)"),
        (
            {"name": "unet_encoder", "encoder": {"name": "vit_ti16", "depth": 9_999}},
            [f"encoder/{name}" for name in BLOCKS],
            "depth of config.model is 9999",
        ),
    ],
)
def test_the_depth_in_a_workdir_is_compared_with_its_checkpoint(model, names, words, tmp_path):
    checkpoint_of(tmp_path, names)
    with pytest.raises(WorkdirError, match=f"config.json: {words}.* checkpoint has 2 blocks"):
        claimed.check_layers(tmp_path, {"model": model})


@pytest.mark.parametrize(
    "config",
    [
        {"model": {"name": "vit_ti16", "depth": 65}},
        {"model": {"name": "vit_ti16", "depth": 3}},
        {"model": {"name": "vit_ti16", "depth": HUGE}},  # building it reports this
        {"model": {"name": "of someone else"}},
        {"model": {"name": ["vit_ti16"]}},
        {"model": "vit_ti16"},
        {},
    ],
)
def test_other_workdirs_are_left_to_those_who_read_them(config, tmp_path):
    claimed.check_layers(tmp_path, config)
    checkpoint_of(tmp_path, [f"encoder/block_{number}/norm1/scale" for number in range(65)])
    claimed.check_layers(tmp_path, config)
    (tmp_path / "checkpoints/2/state/_METADATA").write_bytes(b"[" * 10_000)
    claimed.check_layers(tmp_path, config)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"depth": HUGE}, "config.model.depth is 1000000000; it must be at most 10,000"),
        ({"depth": 10_000, "width": 10**5, "num_heads": 10}, "config.model: this model of 1,200,"),
        ({"mlp_width": 2**20, "width": 2**20, "num_heads": 1}, "config.model: what a run keeps"),
        ({"num_classes": 10**8, "width": 2**20, "num_heads": 1}, "config.model: what a run keeps"),
        ({"registers": -2}, "config.model.registers is -2; it must be at least 0"),
    ],
)
def test_the_config_of_a_run_builds_no_absurd_model(model, words):
    config = {
        "model": {"name": "vit_ti16", "patch_size": 4, **model},
        "data": {"source": "digits", "batch_size": 8},
        "optimizer": {"name": "adam", "learning_rate": 0.1},
        "train": {"steps": 1},
    }
    started = time.process_time()
    with pytest.raises(ConfigError) as caught:
        experiments.build(config)
    assert time.process_time() - started < MOST_SECONDS
    assert str(caught.value).startswith(words)
