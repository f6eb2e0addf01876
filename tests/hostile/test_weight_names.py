"""Arrays of any name, shape and dtype: a layout is recognised, or the file is told to have none."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitjax import weights
from vitjax.core.errors import UserError
from vitjax.weights.formats import files

_DTYPES = ("float32", "float16", "int64", "uint8", "bool", "complex64", "bfloat16")
# Parts of the names that layouts know, which lead further into them than random ones do.
_PARTS = (
    *("blocks", "0", "1", "7", "999999", "attn", "qkv", "proj", "mlp", "fc1", "norm", "weight"),
    *("bias", "cls_token", "pos_embed", "patch_embed", "head", "fc", "conv1", "layer1", "layer4"),
    *("bn1", "running_mean", "downsample", "embeddings", "encoder", "layer", "features", "kernel"),
    *("Transformer", "encoderblock_0", "MlpBlock_3", "Dense_0", "embedding", "root_block", "inc"),
    *("double_conv", "down1", "outc", "params", "batch_stats", "conv", "conv4", "classifier", "a²"),
)
_names = st.lists(
    st.one_of(st.sampled_from(_PARTS), st.text(max_size=4)), min_size=1, max_size=6
).flatmap(lambda parts: st.sampled_from("./").map(lambda separator: separator.join(parts)))
_shapes = st.one_of(
    st.lists(st.integers(0, 4), max_size=5).map(tuple),
    st.sampled_from(
        [(), (0,), (1,) * 10, (3, 0, 3), (768, 1), (1, 5, 4), (4, 3, 2, 2), (64, 3, 7, 7)]
    ),
)


def array(shape, dtype):
    return np.ones(shape, np.dtype(getattr(ml_dtypes, dtype, dtype)))


_arrays = st.dictionaries(
    _names, st.builds(array, _shapes, st.sampled_from(_DTYPES)), min_size=1, max_size=8
)


def told(path):
    """Opens a file; it is read, or an error that names it says why not."""
    message = str(path)
    try:
        weights.open_weights(path, say=lambda words: None)
    except UserError as error:
        message = str(error)
    assert message.startswith(str(path))


def test_any_arrays_are_recognised_or_told(tmp_path_factory, fuzz):
    path = tmp_path_factory.mktemp("names") / "w.npz"

    @settings(max_examples=60 * fuzz)
    @given(_arrays)
    def whatever(arrays):
        try:
            files.write(path, arrays)
        except UserError:
            return  # a name that no terminal shows
        told(path)

    whatever()


@pytest.mark.parametrize(
    "name", ["timm_v2_basic", "exported_vit", "unet", "learn2learn_pooled", "resnet12_mean", "smp"]
)
def test_a_network_with_odd_arrays_is_recognised_or_told(name, tmp_path_factory, fuzz, request):
    """A valid file of which a few arrays have another shape, dtype or name, or are missing."""
    fixtures = request.config.rootpath / "tests" / "weights" / "fixtures"
    valid = files.read(fixtures / f"{name}.safetensors")
    path = tmp_path_factory.mktemp("odd") / "w.npz"
    changes = st.lists(
        st.tuples(
            st.sampled_from(sorted(valid)),
            st.sampled_from(["shape", "dtype", "name", "missing", "transposed", "number"]),
            _shapes,
            st.sampled_from(_DTYPES),
            _names,
        ),
        min_size=1,
        max_size=3,
    )

    @settings(max_examples=12 * fuzz)
    @given(changes)
    def whatever(changes):
        arrays = dict(valid)
        for place, what, shape, dtype, other in changes:
            found = arrays.pop(place, np.ones(1, np.float32))
            if what == "number":
                place = "".join("99999" if part.isdigit() else part for part in place)
            replaced = {
                "shape": array(shape, "float32"),
                "dtype": array(found.shape, dtype),
                "transposed": found.T,
            }
            if what != "missing":
                arrays[other if what == "name" else place] = replaced.get(what, found)
        try:
            files.write(path, arrays)
        except UserError:
            return
        told(path)

    whatever()
