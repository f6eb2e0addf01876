"""Files that vitjax exported before its rooms were rearranged, with the notes of then.

They were written by commit b4c8c1c: two networks of random weights and what they computed, and
the note of every registered model.
"""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest
from reference_files import FIXTURES

from vitjax import models, weights
from vitjax.weights import notes
from vitjax.weights.formats import files

NOTES = json.loads((FIXTURES / "exported_notes.json").read_text())


@pytest.mark.parametrize("name", ["vit", "resnet"])
def test_an_exported_file_is_read_and_computes_the_same(name):
    path = FIXTURES / f"exported_{name}.safetensors"
    opened = weights.open_weights(path, say=pytest.fail)
    assert opened.format == "safetensors"
    assert opened.description.input_shape == (8, 8, 3)
    module = weights.module_of(opened, say=pytest.fail)
    variables = weights.fit(opened, module, say=pytest.fail)
    assert files.read(path).keys() == weights.loading.flat(variables).keys()
    with np.load(FIXTURES / "exported.npz") as expected:
        found = jax.jit(module.apply)(variables, expected["images"])
        np.testing.assert_allclose(found, expected[name], atol=1e-5)


@pytest.mark.parametrize("name", NOTES)
def test_a_note_describes_the_model_that_it_described(name):
    note = notes.read({notes.KEY: json.dumps(NOTES[name])}, {}, name)
    assert note.model(**note.fields) == models.create(name)


@pytest.mark.parametrize("name", NOTES)
def test_a_note_is_written_as_before(name):
    model = models.create(name)
    now = json.loads(notes.text(model, NOTES[name]["input_shape"]))
    # Rates of training were left out of notes before, but for one of ResNet-12.
    rates = model.regularising_fields
    kept = {field: value for field, value in NOTES[name]["fields"].items() if field not in rates}
    assert {field: now["fields"].get(field) for field in kept} == kept
    assert now["model"] == NOTES[name]["model"]
