"""What a finished run says of its figures."""

import types

import pytest

from vitjax.training import summary


@pytest.mark.parametrize("drawn", [True, False])
def test_the_folder_of_figures_is_named_if_there_is_one(tmp_path, monkeypatch, drawn):
    def curves(records, path, declarations):
        if not drawn:
            raise ValueError("no ink")
        path.parent.mkdir()
        path.touch()

    monkeypatch.setattr(summary.figures, "curves", curves)
    task = types.SimpleNamespace(report=lambda *arguments: None)
    experiment = types.SimpleNamespace(
        declarations={}, task=task, objective=types.SimpleNamespace(task="own")
    )
    evaluator = types.SimpleNamespace(experiment=experiment)
    (tmp_path / summary.workdir.METRICS).touch()
    said = []
    summary._draw(evaluator, {}, {}, tmp_path, said.append)
    if drawn:
        assert said == [f"Figures: {tmp_path / 'figures'}"]
    else:
        assert said == ["warning: figures (curves) are missing: ValueError: no ink"]
